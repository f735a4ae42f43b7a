//! An object's content on its way, from either backend.

use bytes::Bytes;

use crate::{Error, Generation, file::FileDownload, gcs::GcsDownload};

/// An object's content on its way: [`Download::chunk`] until it gives `None`.
#[derive(Debug)]
pub struct Download {
    /// The generation that all chunks are of.
    pub generation: Generation,
    /// The size of the whole object in bytes, however far in the download began.
    pub size: u64,
    source: DownloadSource,
}

#[derive(Debug)]
enum DownloadSource {
    Gcs(Box<GcsDownload>),
    File(FileDownload),
}

impl Download {
    /// The next piece of the content, `None` at the end.
    ///
    /// A cut connection is resumed inside, a bounded number of times. The sum of the pieces is exactly what was
    /// promised: a shorter or longer body is [`Error::Unavailable`]. The content isn't verified here: the caller
    /// hashes what it wrote.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match &mut self.source {
            DownloadSource::Gcs(download) => download.chunk().await,
            DownloadSource::File(download) => download.chunk().await,
        }
    }
}

impl From<GcsDownload> for Download {
    fn from(download: GcsDownload) -> Self {
        let (generation, size) = (download.generation, download.size);
        Self { generation, size, source: DownloadSource::Gcs(Box::new(download)) }
    }
}

impl From<FileDownload> for Download {
    fn from(download: FileDownload) -> Self {
        Self { generation: download.generation, size: download.size, source: DownloadSource::File(download) }
    }
}
