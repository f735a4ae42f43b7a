//! Files of a stage that are kept in the bucket.

use anyhow::{Context as _, Result, bail};
use bucket::{ArtifactPath, ArtifactPlace, Error, KeptArtifact, SourceFile};
use console::{count, note, safe, size};
use futures_util::FutureExt as _;

use crate::run::{files::Found, limits::Unfinished, running::Running};

/// Most bytes of one file.
const MAX_SIZE: u64 = 1 << 30;
/// Most bytes of all files of a run.
const MAX_TOTAL: u64 = 10 << 30;
/// Most files of a run.
const MAX_FILES: usize = 1000;

/// How much of a run is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    files: usize,
    bytes: u64,
}

impl Kept {
    /// One more file, if it may be.
    fn add(&mut self, path: &str, bytes: u64) -> Result<()> {
        if bytes > MAX_SIZE {
            bail!("`{path}` has {}, and {} is the most that is kept of a file", size(bytes), size(MAX_SIZE));
        }
        if self.files >= MAX_FILES {
            bail!("a run keeps at most {}, and `{path}` would be one more", count(MAX_FILES, "file"));
        }
        if self.bytes + bytes > MAX_TOTAL {
            bail!("a run keeps at most {}, and with `{path}` it would be more", size(MAX_TOTAL));
        }
        (self.files, self.bytes) = (self.files + 1, self.bytes + bytes);
        Ok(())
    }
}

/// Uploads files of a stage.
pub(super) async fn archive(running: &mut Running, found: &[Found]) -> Result<(), Unfinished> {
    let (shared, made_by) = (running.shared.clone(), running.made_by()?);
    for Found { file, to } in found {
        let shown = safe(&to.to_string_lossy());
        let path: ArtifactPath = match to.to_str().map(str::parse) {
            Some(Ok(path)) => path,
            Some(Err(error)) => return Err(Unfinished::Failed(format!("`{shown}` cannot be kept: {error}"))),
            None => return Err(Unfinished::Failed(format!("`{shown}` cannot be kept: its name is not UTF-8"))),
        };
        if running.artifacts.iter().any(|kept| kept.path == path) {
            return Err(Unfinished::Failed(format!("`{shown}` would be kept twice: give one another `destination`")));
        }
        let bytes = std::fs::metadata(file).with_context(|| format!("could not look at `{shown}`"))?.len();
        shared.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&shown, bytes)?;
        let source = {
            let (file, shown) = (file.clone(), shown.clone());
            let read = move || SourceFile::read(&file).with_context(|| format!("could not read `{shown}`"));
            running.blocking(read).await?
        };
        let place = ArtifactPlace {
            run: made_by.run.clone(),
            pipeline: made_by.pipeline.clone(),
            stage: made_by.stage.clone(),
            path: path.clone(),
        };
        let upload = async {
            let bucket = shared.bucket().await?;
            if let Some(new) = bucket.mark().await.context("could not mark the bucket")? {
                note(new);
            }
            match bucket.upload_artifact(&place, &source, &|_| ()).await {
                // Its answer was lost: no other stage has this path.
                Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
                Err(error) => Err(anyhow::Error::new(error).context(format!("could not keep `{shown}`")).into()),
            }
        };
        running.limits().within(upload.boxed()).await?;
        running.artifacts.push(KeptArtifact { stage: place.stage, path, size: source.size, sha256: source.sha256 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut kept = Kept::default();
        assert!(kept.add("big", MAX_SIZE + 1).unwrap_err().to_string().contains("is the most that is kept of a file"));
        for _ in 0..10 {
            kept.add("x", MAX_SIZE).unwrap();
        }
        assert!(kept.add("one", 1).unwrap_err().to_string().contains("with `one` it would be more"));
        for _ in 10..MAX_FILES {
            kept.add("empty", 0).unwrap();
        }
        assert!(kept.add("last", 0).unwrap_err().to_string().contains("`last` would be one more"));
    }
}
