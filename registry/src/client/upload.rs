//! A blob on its way to a registry: streamed, so that its size costs no memory.

use std::{
    io::Read as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream, TryStreamExt as _};
use reqwest::{
    Body, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};
use tokio::{fs::File, io::AsyncReadExt as _, task::spawn_blocking, time::Instant};

use super::{
    Client,
    blob::{fewest, longest},
    failure::{Failure, within},
    header,
    http::expect,
    session::Scope,
};
use crate::{
    Descriptor, Repository,
    image::{Origin, Part},
};

/// How much of a file is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// The longest that a registry may take to put away what it has, in multiples of the time without an answer.
const PUTTING_AWAY: u32 = 10;

/// Where the bytes of a blob are.
#[derive(Debug, Clone, Copy)]
pub enum BlobSource<'a> {
    /// In memory.
    Bytes(&'a Bytes),
    /// In a file.
    File(&'a Path),
    /// In a part of a file.
    Part(&'a Part),
    /// In a repository; of the same registry it is mounted, if that can be, and nothing is transferred.
    Repository(&'a Repository),
}

impl<'a> From<&'a Origin> for BlobSource<'a> {
    fn from(origin: &'a Origin) -> Self {
        match origin {
            Origin::Bytes(bytes) => Self::Bytes(bytes),
            Origin::Part(part) => Self::Part(part),
            Origin::Repository(repository) => Self::Repository(repository),
        }
    }
}

impl Client {
    /// One attempt to have a blob in a repository: it is there already, is mounted, or is sent.
    pub(super) async fn upload(
        &self,
        to: &Repository,
        blob: &Descriptor,
        source: BlobSource<'_>,
    ) -> Result<(), Failure> {
        let session = self.session(to.host())?;
        let mut start = session.url(&format!("{}/blobs/uploads/", to.path()))?;
        let mut scope = Scope::push(to.path());
        if let BlobSource::Repository(from) = source
            && from.host() == to.host()
        {
            start.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from.path());
            scope = Scope::mount(to.path(), from.path());
        }
        let started = async {
            let post = |http: &reqwest::Client| http.post(start.clone()).header(CONTENT_LENGTH, 0);
            let (answer, header) = session.send_first(&self.http, &scope, post).await?;
            let is_mounted = answer.status() == StatusCode::CREATED;
            let answer = if is_mounted { answer } else { expect(answer, StatusCode::ACCEPTED).await? };
            Ok::<_, Failure>((answer, header, is_mounted))
        };
        let timeout = self.options.timeout;
        let (started, credential, is_mounted) = within(timeout, started).await?;
        if is_mounted {
            return Ok(());
        }
        let place = header(started.headers(), &LOCATION);
        let place = place.ok_or_else(|| Failure::transient("the registry does not say where to upload to"))?;
        let mut place = session.own(place)?;
        place.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        let body = self.body(blob, source).await?.inspect_ok(move |chunk| {
            counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        });
        let request = self.http.named().put(place).header(CONTENT_TYPE, "application/octet-stream");
        let request = request.header(CONTENT_LENGTH, blob.size).body(Body::wrap_stream(body));
        let put = async {
            let answer = session.send_second(&scope, credential, request).await?;
            expect(answer, StatusCode::CREATED).await.map(drop)
        };
        tokio::select! {
            put = put => put,
            failure = stall(&sent, blob.size, timeout) => Err(failure),
        }
    }

    async fn body(
        &self,
        blob: &Descriptor,
        source: BlobSource<'_>,
    ) -> Result<std::pin::Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>, Failure> {
        Ok(match source {
            BlobSource::Bytes(bytes) => Box::pin(stream::iter([Ok(bytes.clone())])),
            BlobSource::File(path) => {
                let opened = File::open(path).await;
                let file = opened
                    .map_err(|error| Failure::lasting(format!("could not open `{}`: {error}", path.display())))?;
                Box::pin(stream::try_unfold(file, |mut file| async {
                    let mut chunk = BytesMut::with_capacity(CHUNK);
                    let length = file.read_buf(&mut chunk).await?;
                    Ok((length > 0).then(|| (chunk.freeze(), file)))
                }))
            }
            BlobSource::Part(part) => Box::pin(stream::try_unfold(part.reader(), |mut reader| async {
                let read = spawn_blocking(move || {
                    let mut chunk = vec![0; CHUNK];
                    let length = reader.read(&mut chunk)?;
                    chunk.truncate(length);
                    Ok::<_, std::io::Error>((chunk, reader))
                });
                let (chunk, reader) = read.await.map_err(std::io::Error::other)??;
                Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), reader)))
            })),
            BlobSource::Repository(from) => {
                let opened = self.open_blob(from, blob).await?;
                Box::pin(stream::try_unfold(opened, |mut opened| async {
                    // A wrong digest cuts the upload off, before the registry has to find it.
                    let chunk = opened.next().await.map_err(|failure| std::io::Error::other(failure.reason))?;
                    Ok(chunk.map(|chunk| (chunk, opened)))
                }))
            }
        })
    }
}

/// Ends when hardly anything was sent in the whole time, or the registry takes longer than it may for what it has, or all in all.
async fn stall(sent: &AtomicU64, size: u64, timeout: Duration) -> Failure {
    let until = Instant::now() + longest(size, timeout);
    let (mut before, mut slow) = (0, 0);
    loop {
        tokio::time::sleep(timeout).await;
        let now = sent.load(Ordering::Relaxed);
        let is_slow = if now < size { now - before < fewest(timeout) } else { now == before };
        slow = if is_slow { slow + 1 } else { 0 };
        let patience = if now < size { 1 } else { PUTTING_AWAY };
        if slow >= patience || now < size && Instant::now() > until {
            return Failure::transient(format!("upload stalled after {now} of {size} bytes"));
        }
        before = now;
    }
}
