//! The SHA-256 of files: what a `.deb` is known by, from its download until dpkg gets it.

use std::{fs, io::Read, path::Path};

use anyhow::{Context, Result};
use bucket::Sha256;
use sha2::Digest;

/// The SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    hash_into(path, &mut hasher)?;
    Ok(Sha256::from(<[u8; 32]>::from(hasher.finalize())))
}

/// Adds a file to a hash and gives its length.
pub(crate) fn hash_into(path: &Path, hasher: &mut sha2::Sha256) -> Result<u64> {
    let failed = || format!("could not read `{}`", path.display());
    let mut file = fs::File::open(path).with_context(failed)?;
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer).with_context(failed)?;
        if read == 0 {
            return Ok(length);
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
    }
}
