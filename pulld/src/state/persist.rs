//! Files that survive a crash at any moment: whole and old, or whole and new, never torn.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

use crate::service::events;

/// Most bytes that are read of a file of the agent's own.
const MAX_STATE: u64 = 4 << 20;

/// Puts `content` at `path` so that it is there whole after a power cut, or what was there before is.
///
/// # Errors
/// When the directory can't be written to, as on a full disk. What was at `path` is still there then.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, Lasting::Always, None)
}

/// The same for what everybody may read, as systemd wants unit files to be: their mode survives the power cut with them.
pub(crate) fn write_for_everybody(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, Lasting::Always, Some(0o644))
}

/// Puts `content` at `path` for whoever reads it before the next boot: whole, whatever dies meanwhile, but not synced. After a
/// power cut it may be there or not, or torn, or what was there before: the reader has to see that.
pub(crate) fn write_for_this_boot(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, content, Lasting::ThisBoot, None)
}

/// How long a change is to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasting {
    /// Until it is changed again.
    Always,
    /// As long as the power does.
    ThisBoot,
}

fn replace(path: &Path, content: &[u8], lasting: Lasting, mode: Option<u32>) -> Result<()> {
    let failed = || format!("could not write `{}`", path.display());
    let directory = path.parent().unwrap_or(Path::new("/"));
    fail_point!("persist.write({}).begin", crate::failpoint::file(path));
    create_directory(directory)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory).with_context(failed)?;
    file.write_all(content).with_context(failed)?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(fs::Permissions::from_mode(mode)).with_context(failed)?;
    }
    if lasting == Lasting::Always {
        file.as_file().sync_all().with_context(failed)?;
    }
    file.persist(path).with_context(failed)?;
    if lasting == Lasting::Always {
        sync_directory(directory).with_context(failed)?;
    }
    fail_point!("persist.write({}).end", crate::failpoint::file(path));
    Ok(())
}

/// Creates a directory and those above it, as far as they are missing, each durable in the one above it.
pub(crate) fn create_directory(directory: &Path) -> Result<()> {
    let failed = || format!("could not create `{}`", directory.display());
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        create_directory(parent)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(failed),
        // Also when somebody else made it just now: they may not have synced it yet.
        _ => {}
    }
    sync_directory(directory.parent().unwrap_or(Path::new("/"))).with_context(failed)
}

/// Gives the finished file at `from` the name `to`; both in directories of the same file system.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("could not rename `{}` to `{}`", from.display(), to.display());
    fail_point!("persist.rename({}).begin", crate::failpoint::file(to));
    fs::rename(from, to).with_context(failed)?;
    sync_directory(to.parent().unwrap_or(Path::new("/"))).with_context(failed)?;
    fail_point!("persist.rename({}).end", crate::failpoint::file(to));
    Ok(())
}

/// Removes a file; that it is gone already is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    remove_for(path, Lasting::Always)
}

/// Removes a file that means nothing after the next boot, when it may be there again.
pub(crate) fn remove_for_this_boot(path: &Path) -> Result<()> {
    remove_for(path, Lasting::ThisBoot)
}

fn remove_for(path: &Path, lasting: Lasting) -> Result<()> {
    let failed = || format!("could not remove `{}`", path.display());
    fail_point!("persist.remove({}).begin", crate::failpoint::file(path));
    match fs::remove_file(path) {
        Ok(()) if lasting == Lasting::ThisBoot => {}
        Ok(()) => sync_directory(path.parent().unwrap_or(Path::new("/"))).with_context(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(failed),
    }
    fail_point!("persist.remove({}).end", crate::failpoint::file(path));
    Ok(())
}

/// The content of a small file, if there is one.
///
/// # Errors
/// When it is there but can't be read, or has more than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = || format!("could not read `{}`", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(failed),
    };
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).with_context(failed)?;
    anyhow::ensure!(content.len() as u64 <= limit, "`{}` has more than {limit} bytes", path.display());
    Ok(Some(content))
}

/// What a file of the agent's own says, as JSON. Nothing while there is none; nor when it can't be read, which the
/// journal then has with `loss`, what that means for this server.
pub(crate) fn load<T: DeserializeOwned + Default>(path: &Path, loss: &str) -> T {
    let content = read(path, MAX_STATE).and_then(|content| match content {
        Some(content) => Ok(serde_json::from_slice(&content)?),
        None => Ok(T::default()),
    });
    content.unwrap_or_else(|error| {
        tracing::warn!(message_id = events::STATE_LOST, path = %path.display(), "{loss}: {error:#}");
        T::default()
    })
}

/// Writes what [`load`] reads.
pub(crate) fn save(path: &Path, state: &impl Serialize) -> Result<()> {
    write(path, &serde_json::to_vec_pretty(state)?)
}

/// Makes durable which files are in a directory.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}
