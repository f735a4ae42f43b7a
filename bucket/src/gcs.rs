//! A bucket of Google Cloud Storage.

use std::path::Path;

use bytes::Bytes;

use crate::{BucketOptions, Download, Error, Fetched, Generation, Metadata, ObjectInfo, ObjectPath, Page, PageToken};

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone)]
pub struct GcsBucket;

#[derive(Debug)]
pub(crate) struct GcsDownload;

impl GcsDownload {
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        todo!()
    }
}

impl GcsBucket {
    pub(crate) async fn open(name: &str, options: &BucketOptions) -> Result<Self, Error> {
        todo!()
    }
    pub(crate) async fn get_if_changed(
        &self,
        path: &ObjectPath,
        seen: Option<Generation>,
        limit: u64,
    ) -> Result<Fetched<Bytes>, Error> {
        todo!()
    }
    pub(crate) async fn head(&self, path: &ObjectPath) -> Result<Option<ObjectInfo>, Error> {
        todo!()
    }
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<ObjectInfo>, Error> {
        todo!()
    }
    pub(crate) async fn list_directories(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<String>, Error> {
        todo!()
    }
    pub(crate) async fn create(
        &self,
        path: &ObjectPath,
        content: Bytes,
        metadata: &Metadata,
    ) -> Result<Generation, Error> {
        todo!()
    }
    pub(crate) async fn create_from_file(
        &self,
        path: &ObjectPath,
        source: &Path,
        metadata: &Metadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        todo!()
    }
    pub(crate) async fn replace(
        &self,
        path: &ObjectPath,
        content: Bytes,
        metadata: &Metadata,
        seen: Generation,
    ) -> Result<Generation, Error> {
        todo!()
    }
    pub(crate) async fn download(
        &self,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<Option<Download>, Error> {
        todo!()
    }
    pub(crate) async fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Error> {
        todo!()
    }
}
