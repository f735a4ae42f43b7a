//! The bucket as the agent uses it: the verbs that it needs, and a fail point at the begin and the end of each.

use bucket::{
    BucketOptions, BucketUrl, Download, Error, Fetched, Generation, Release, ReleaseName, ServerDocument, ServerName,
    Status,
};

/// The bucket of this server. Nothing else in the agent has another one.
#[derive(Debug, Clone)]
pub(crate) struct Bucket(bucket::Bucket);

impl Bucket {
    /// See [`bucket::Bucket::open_marked`].
    pub(crate) async fn open_marked(url: &BucketUrl, options: &BucketOptions) -> Result<Self, Error> {
        Ok(Self(bucket::Bucket::open_marked(url, options).await?))
    }

    /// See [`bucket::Bucket::is_marked`].
    pub(crate) async fn is_marked(&self) -> Result<bool, Error> {
        between_fail_points!(self.0.is_marked().await, "bucket.is_marked")
    }

    /// See [`bucket::Bucket::server_document`].
    pub(crate) async fn server_document(
        &self,
        server: &ServerName,
    ) -> Result<Option<(Generation, ServerDocument)>, Error> {
        between_fail_points!(self.0.server_document(server).await, "bucket.server_document")
    }

    /// See [`bucket::Bucket::server_document_if_changed`].
    pub(crate) async fn server_document_if_changed(
        &self,
        server: &ServerName,
        seen: Generation,
    ) -> Result<Fetched<ServerDocument>, Error> {
        between_fail_points!(self.0.server_document_if_changed(server, seen).await, "bucket.server_document_if_changed")
    }

    /// See [`bucket::Bucket::release`].
    pub(crate) async fn release(&self, name: &ReleaseName) -> Result<Option<Release>, Error> {
        between_fail_points!(self.0.release(name).await, "bucket.release({})", name.app())
    }

    /// See [`bucket::Bucket::open_release`].
    pub(crate) async fn open_release(&self, name: &ReleaseName) -> Result<Option<(Release, Download)>, Error> {
        between_fail_points!(self.0.open_release(name).await, "bucket.open_release({})", name.app())
    }

    /// See [`bucket::Bucket::download_release`].
    pub(crate) async fn download_release(&self, release: &Release, offset: u64) -> Result<Option<Download>, Error> {
        between_fail_points!(
            self.0.download_release(release, offset).await,
            "bucket.download_release({})",
            release.name.app()
        )
    }

    /// See [`bucket::Bucket::status`].
    pub(crate) async fn status(&self, server: &ServerName) -> Result<Option<(Generation, Status)>, Error> {
        between_fail_points!(self.0.status(server).await, "bucket.status")
    }

    /// See [`bucket::Bucket::status_generation`].
    pub(crate) async fn status_generation(&self, server: &ServerName) -> Result<Option<Generation>, Error> {
        between_fail_points!(self.0.status_generation(server).await, "bucket.status_generation")
    }

    /// See [`bucket::Bucket::write_status`].
    pub(crate) async fn write_status(&self, status: &Status, seen: Option<Generation>) -> Result<Generation, Error> {
        between_fail_points!(self.0.write_status(status, seen).await, "bucket.write_status")
    }
}
