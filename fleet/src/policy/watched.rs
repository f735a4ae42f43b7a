//! The policy file, read anew when it changes.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::OFlags;

use super::{read::MAX_BYTES, rules::Policy};

/// The rules of a file as they are now.
#[derive(Debug)]
pub struct Watched {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    policy: Arc<Policy>,
    stamp: Option<Stamp>,
    problem: Option<String>,
}

/// What tells one content of the file from the next, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Watched {
    /// The rules of a file, or no rules.
    ///
    /// # Errors
    /// When the file can't be read or has mistakes: nothing begins with rules that aren't those meant.
    pub fn open(file: Option<PathBuf>) -> Result<Self> {
        let mut state = State { policy: Arc::default(), stamp: None, problem: None };
        if let Some(file) = &file {
            let (stamp, policy) = load(file)?;
            (state.stamp, state.policy) = (Some(stamp), Arc::new(policy));
        }
        Ok(Self { file, state: Mutex::new(state) })
    }

    /// The rules as they are now, and what is wrong with the file if they are those from before it was changed.
    pub fn get(&self) -> (Arc<Policy>, Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.file {
            let stamp = std::fs::metadata(file).ok().map(|metadata| Stamp::of(&metadata));
            if stamp.is_none() || stamp != state.stamp {
                match load(file) {
                    Ok((stamp, policy)) => {
                        *state = State { policy: Arc::new(policy), stamp: Some(stamp), problem: None };
                    }
                    Err(error) => (state.stamp, state.problem) = (stamp, Some(format!("{error:#}"))),
                }
            }
        }
        (state.policy.clone(), state.problem.clone())
    }
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { inode: metadata.ino(), size: metadata.size(), changed: (metadata.ctime(), metadata.ctime_nsec()) }
    }
}

/// Reads the rules of a file.
///
/// # Errors
/// When it can't be read, or everything that is wrong with it, a line each.
pub fn load_policy(file: &Path) -> Result<Policy> {
    load(file).map(|(_, policy)| policy)
}

/// The text of a policy file.
///
/// # Errors
/// When it isn't a file of text, can't be read, or is too large.
pub fn read_text(file: &Path) -> Result<String> {
    read(file).map(|(_, text)| text)
}

fn read(file: &Path) -> Result<(Stamp, String)> {
    let name = file.display();
    // A pipe that nobody writes to must not hold us.
    let opened = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(file);
    let mut opened = opened.with_context(|| format!("could not read the policy file `{name}`"))?;
    let metadata = opened.metadata().with_context(|| format!("could not read the policy file `{name}`"))?;
    ensure!(metadata.is_file(), "the policy file `{name}` is not a regular file");
    let mut text = String::new();
    let read = Read::by_ref(&mut opened).take(MAX_BYTES + 1).read_to_string(&mut text);
    read.with_context(|| format!("could not read the policy file `{name}`"))?;
    ensure!(text.len() as u64 <= MAX_BYTES, "the policy file `{name}` is larger than {MAX_BYTES} bytes");
    Ok((Stamp::of(&metadata), text))
}

fn load(file: &Path) -> Result<(Stamp, Policy)> {
    let (stamp, text) = read(file)?;
    let name = file.display();
    match Policy::parse(&name.to_string(), &text) {
        Ok(policy) => Ok((stamp, policy)),
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(|problem| format!("{name}:{problem}")).collect();
            bail!("invalid policy file: {}", lines.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_keeps_the_rules_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("skiapush.conf");
        let write = |text: &str| {
            std::fs::write(directory.path().join("new"), text).unwrap();
            std::fs::rename(directory.path().join("new"), &file).unwrap();
        };
        write("{ Groups: { prod: { Servers: ['web-1'] } } }");
        let watched = Watched::open(Some(file.clone())).unwrap();
        let groups = || watched.get().0.groups().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(groups(), ["prod"]);
        write("{ Groups: { prod: { Server: ['web-1'] } } }");
        assert_eq!(groups(), ["prod"]);
        let problem = watched.get().1.unwrap();
        assert!(problem.contains("skiapush.conf:1:21: ") && problem.contains("`Servers`"), "{problem}");
        std::fs::remove_file(&file).unwrap();
        assert!(watched.get().1.unwrap().contains("could not read"));
        assert_eq!(groups(), ["prod"]);
        write("{ Groups: { other: { Servers: ['web-1'] } } }");
        assert_eq!((groups(), watched.get().1), (vec!["other".to_owned()], None));
    }

    #[test]
    fn what_is_no_file_is_neither_read_without_end_nor_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        for file in [pipe.as_path(), Path::new("/dev/zero")] {
            assert!(read_text(file).unwrap_err().to_string().contains("is not a regular file"), "{}", file.display());
        }
    }

    #[test]
    fn nothing_begins_with_a_bad_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Watched::open(Some(directory.path().join("missing"))).is_err());
        assert!(Watched::open(Some(directory.path().to_owned())).is_err());
    }
}
