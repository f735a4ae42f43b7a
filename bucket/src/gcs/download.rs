//! An object's content as a stream that goes on after a cut.

use std::sync::Arc;

use bytes::Bytes;
use google_cloud_storage::{model_ext::ReadRange, read_object::ReadObjectResponse};

use super::{
    attempt::{Failure, USER_AGENT, within},
    connection::{Connection, ensure_plain},
};
use crate::{Error, Generation, ObjectPath};

/// How often a download is resumed after a cut connection without having got a byte in between.
const MAX_RESUMES: u32 = 5;

/// An object's content on its way.
#[derive(Debug)]
pub(crate) struct GcsDownload {
    connection: Arc<Connection>,
    path: ObjectPath,
    pub(crate) generation: Generation,
    pub(crate) size: u64,
    offset: u64,
    /// `None` after a cut.
    body: Option<ReadObjectResponse>,
    /// Cuts since the last byte.
    cuts: u32,
}

impl GcsDownload {
    /// Starts a download; see [`crate::Bucket::download`].
    pub(super) async fn begin(
        connection: &Arc<Connection>,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<Option<Self>, Error> {
        let opened = connection.patiently(|| open_body(connection, path, pinned, offset)).await;
        let (generation, size, body) = match opened {
            Ok(body) => {
                let object = body.object();
                let size = u64::try_from(object.size).unwrap_or_default();
                (Generation(object.generation), size, Some(body))
            }
            Err(failure) if failure.is_absent() && pinned.is_none() => return Ok(None),
            Err(failure) if failure.is_absent() => return Err(Error::Gone { object: path.to_string() }),
            // No byte from there on: right at the end, or beyond.
            Err(failure) if failure.status == Some(416) => match connection.find(path).await?.map(|found| found.info) {
                Some(info) if pinned.is_some_and(|pinned| pinned != info.generation) => {
                    return Err(Error::Gone { object: path.to_string() });
                }
                Some(info) if info.size == offset => (info.generation, info.size, None),
                Some(_) => return Err(connection.error(failure, "read", path)),
                None => return Ok(None),
            },
            Err(failure) => return Err(connection.error(failure, "read", path)),
        };
        if offset > size {
            let reason = format!("requested byte {offset} of an object with {size} bytes");
            return Err(connection.error(Failure::transient(reason), "read", path));
        }
        let (connection, path) = (connection.clone(), path.clone());
        Ok(Some(Self { connection, path, generation, size, offset, body, cuts: 0 }))
    }

    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let left = self.size - self.offset;
            let next = match &mut self.body {
                Some(body) => {
                    within(self.connection.timeout, async { body.next().await.transpose().map_err(Failure::from) })
                        .await
                }
                None if left == 0 => return Ok(None),
                None => Err(Failure::transient("connection was cut")),
            };
            let failure = match next {
                Ok(Some(chunk)) if chunk.len() as u64 > left => {
                    Failure::transient(format!("received more than the promised {} bytes", self.size))
                }
                Ok(Some(chunk)) => {
                    self.offset += chunk.len() as u64;
                    self.cuts = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) if left == 0 => {
                    self.body = None;
                    return Ok(None);
                }
                Ok(None) => Failure::transient(format!("response ended {left} bytes early")),
                Err(failure) => failure,
            };
            self.resume(failure).await?;
        }
    }

    /// Goes on after a cut, on the same generation.
    async fn resume(&mut self, failure: Failure) -> Result<(), Error> {
        self.body = None;
        self.cuts += 1;
        // All bytes came, and still it failed: the checksum is wrong. More of the same wouldn't mend it.
        if self.cuts > MAX_RESUMES || self.offset == self.size {
            return Err(self.connection.error(failure, "read", &self.path));
        }
        tracing::info!(path = %self.path, offset = self.offset, reason = failure.reason, "resuming download after the connection was cut");
        let generation = self.generation;
        let opened =
            self.connection.patiently(|| open_body(&self.connection, &self.path, Some(generation), self.offset)).await;
        match opened {
            Ok(body) => {
                self.body = Some(body);
                Ok(())
            }
            Err(failure) if failure.is_absent() => Err(Error::Gone { object: self.path.to_string() }),
            Err(failure) => Err(self.connection.error(failure, "read", &self.path)),
        }
    }
}

async fn open_body(
    connection: &Connection,
    path: &ObjectPath,
    pinned: Option<Generation>,
    offset: u64,
) -> Result<ReadObjectResponse, Failure> {
    let Connection { storage, resource, .. } = connection;
    let mut request = storage.read_object(resource, path.as_str()).with_user_agent(USER_AGENT);
    if let Some(pinned) = pinned {
        request = request.set_generation(pinned.0);
    }
    if offset > 0 {
        request = request.set_read_range(ReadRange::offset(offset));
    }
    let body = Box::pin(request.send()).await?;
    let object = body.object();
    ensure_plain(&object)?;
    // Something in between may not know the parameter, and bytes of two generations must never be joined.
    if let Some(Generation(asked)) = pinned.filter(|pinned| pinned.0 != object.generation) {
        let reason = format!("received generation {} instead of {asked}", object.generation);
        return Err(Failure::transient(reason));
    }
    Ok(body)
}
