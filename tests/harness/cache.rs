//! Where images are kept between runs, and what a run leaves behind while it lasts.
//!
//! Everything is below one directory: `target/machines`, or `$XDG_CACHE_HOME/push-machines` for programs that run
//! from elsewhere. What belongs to one process is named after its pid and start time, so that whoever comes next can
//! tell what a killed process left and remove it: never by the name of a command.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, TryLockError},
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Most scenarios that run at once, over all processes: each boots a Debian.
const SLOTS: u32 = 3;

/// Longest time for outrunning what writes into a tree that is being removed.
const WRITERS: Duration = Duration::from_secs(10);

/// The directory of everything, made if it isn't there.
pub(crate) fn root() -> Result<&'static Path> {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(root) = ROOT.get() {
        return Ok(root);
    }
    let exe = env::current_exe()?;
    // Cargo marks its target directory with this file.
    let target = exe.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
    let root = match (target, env::var_os("XDG_CACHE_HOME"), env::home_dir()) {
        (Some(target), _, _) => target.join("machines"),
        (None, Some(cache), _) => PathBuf::from(cache).join("push-machines"),
        (None, None, Some(home)) => home.join(".cache/push-machines"),
        (None, None, None) => anyhow::bail!("there is no place for images: set XDG_CACHE_HOME"),
    };
    for directory in ["run", "slots"] {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).with_context(|| format!("could not make `{}`", directory.display()))?;
    }
    let root = ROOT.get_or_init(|| root);
    remove_leftovers(&root.join("run"));
    Ok(root)
}

/// The path of a directory that stays for the next run, made if it isn't there.
pub fn kept_directory(name: &str) -> Result<PathBuf> {
    let path = root()?.join(name);
    fs::create_dir_all(&path).with_context(|| format!("could not make `{}`", path.display()))?;
    Ok(path)
}

/// Opens (and makes) a file that is only there to be locked.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    open.with_context(|| format!("could not open `{}`", path.display()))
}

/// The right to run one scenario, until dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its lock")] File);

impl Slot {
    /// Waits for a free slot.
    pub fn take() -> Result<Self> {
        let directory = root()?.join("slots");
        let files = (0..SLOTS).map(|n| lock_file(&directory.join(n.to_string()))).collect::<Result<Vec<_>>>()?;
        loop {
            for file in &files {
                match file.try_lock() {
                    Ok(()) => return Ok(Self(file.try_clone()?)),
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => return Err(error).context("could not lock a slot"),
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A directory of this process, removed when dropped, or by a later process when this one is killed.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes an empty directory.
    pub fn new() -> Result<Self> {
        let path = root()?.join("run").join(own_name());
        fs::create_dir(&path).with_context(|| format!("could not make `{}`", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            eprintln!("could not remove `{}`: {error:#}", self.0.display());
        }
    }
}

/// Lets Ctrl-C, and being asked to end, leave nothing behind: without it, the next process would clean up.
///
/// # Errors
/// When signals can't be waited for.
pub fn clean_up_when_interrupted() -> Result<()> {
    let run = root()?.join("run");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _context = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(|kind| (kind.as_raw_value(), signal(kind)))
    };
    thread::spawn(move || {
        let [one, two, three] = &mut signals;
        let number = runtime.block_on(async {
            tokio::select! {
                () = received(one) => one.0,
                () = received(two) => two.0,
                () = received(three) => three.0,
            }
        });
        let own = format!("{}-", own_name().rsplit_once('-').expect("a name has dashes").0);
        for entry in fs::read_dir(run).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&own) {
                // The machines' own mounts aren't seen from here, and end with this process.
                drop(remove_tree(&entry.path()));
            }
        }
        std::process::exit(128 + number);
    });
    Ok(())
}

async fn received((_, signal): &mut (i32, io::Result<Signal>)) {
    match signal {
        Ok(signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// A name that no other process and no other call has: `{pid}-{start time}-{count}`.
pub(crate) fn own_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let started = start_time(pid).unwrap_or_default();
    format!("{pid}-{started}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether `name` was made by [`own_name`] in a process that is no more.
pub(crate) fn is_orphan(name: &str) -> bool {
    let mut parts = name.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(started)), Some(Ok(_)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    u32::try_from(pid).ok().and_then(start_time) != Some(started)
}

/// When a process started, in clock ticks since boot (proc(5), `/proc/pid/stat` field 22); with the pid it is unique.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name in parentheses may hold anything, also `)`.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn remove_leftovers(run: &Path) {
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_orphan)) {
        if let Err(error) = remove_tree(&entry.path()) {
            eprintln!("could not remove the leftover `{}`: {error:#}", entry.path().display());
        }
    }
}

/// Removes a directory and all below it, unless it is gone already. What is mounted there is unmounted and never walked
/// into: it may be the host's own `/proc`. What still writes there is outrun.
///
/// # Errors
/// When something is mounted there that can't be unmounted, with the command that does; or for the usual reasons.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("could not read `/proc/self/mountinfo`")?;
    // The last ones first: they may lie below, or on, earlier ones.
    for mount in mounts_below(&mounts, path).iter().rev() {
        unmount(mount, UnmountFlags::NOFOLLOW).with_context(|| {
            let (mount, path) = (mount.display(), path.display());
            format!("`{mount}` is mounted and in use: end what uses it, then run `umount --recursive '{path}'`")
        })?;
    }
    let deadline = Instant::now() + WRITERS;
    loop {
        match fs::remove_dir_all(path) {
            // Two processes may sweep at once.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A machine that still runs wrote a report into a directory that was just emptied.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && Instant::now() < deadline => {}
            result => return Ok(result?),
        }
    }
}

/// The mount points at and below `path`, in the order of mounting (proc(5), `/proc/pid/mountinfo`).
fn mounts_below(mountinfo: &str, path: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    points.filter(|point| point.starts_with(path)).collect()
}

/// Takes back what the kernel does to spaces, tabs, newlines and backslashes: `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        let (byte, after) = match code {
            Some(code) if first == b'\\' => (code, &after[3..]),
            _ => (first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, atomic::AtomicBool};

    use rustix::mount::mount_bind;

    use super::*;

    #[test]
    fn only_names_of_dead_processes_are_orphans() {
        let own = own_name();
        assert!(!is_orphan(&own), "{own} is this process");
        let (_, rest) = own.split_once('-').expect("a name has dashes");
        assert!(is_orphan(&format!("4194305-{rest}")), "no pid is that high");
        assert!(is_orphan(&format!("{}-1-0", std::process::id())), "another process had this pid");
        for foreign in ["", "bucket", "1-2", "1-2-3-4", "1-x-3"] {
            assert!(!is_orphan(foreign), "{foreign:?} isn't ours to remove");
        }
    }

    #[test]
    fn mounts_are_found_below_a_path_and_nowhere_else() {
        let mountinfo = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 0:21 / /srv/a\\040b/proc rw - proc proc rw
41 27 0:22 / /srv/a\\040b/sys rw shared:7 - sysfs sysfs rw
42 27 0:23 / /srv/a\\040bc rw - tmpfs tmpfs rw
";
        let found = mounts_below(mountinfo, Path::new("/srv/a b"));
        assert_eq!(found, [PathBuf::from("/srv/a b/proc"), PathBuf::from("/srv/a b/sys")]);
    }

    #[test]
    fn removing_a_tree_never_reaches_what_is_mounted_in_it() {
        let (tree, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        fs::write(elsewhere.path().join("precious"), "").unwrap();
        let [one, two] = ["proc", "proc two"].map(|name| tree.path().join("partial").join(name));
        for point in [&one, &two] {
            fs::create_dir_all(point).unwrap();
            mount_bind(elsewhere.path(), point).unwrap();
        }
        // In use, it is named with the command that helps; nothing is removed then.
        let busy = File::open(two.join("precious")).unwrap();
        let error = format!("{:#}", remove_tree(tree.path()).unwrap_err());
        assert!(error.contains("umount --recursive '") && error.contains("proc two"), "{error}");
        assert!(one.join("precious").exists());
        drop(busy);
        remove_tree(tree.path()).unwrap();
        assert!(!tree.path().exists());
        assert!(elsewhere.path().join("precious").exists(), "what was mounted is as it was");
    }
    #[test]
    fn a_tree_is_removed_while_something_writes_there() {
        let tree = TempDir::new().unwrap();
        let directory = tree.path().join("reports");
        fs::create_dir(&directory).unwrap();
        let begun = Barrier::new(2);
        let over = AtomicBool::new(false);
        let removed = thread::scope(|scope| {
            scope.spawn(|| {
                fs::write(directory.join("0"), "").unwrap();
                begun.wait();
                let mut numbers = 1_u32..;
                while !over.load(Ordering::Relaxed) {
                    // Fails once the directory is gone.
                    drop(fs::write(directory.join(numbers.next().unwrap().to_string()), ""));
                    thread::sleep(Duration::from_millis(1));
                }
            });
            begun.wait();
            let removed = remove_tree(tree.path());
            over.store(true, Ordering::Relaxed);
            removed
        });
        removed.unwrap();
        assert!(!tree.path().exists());
    }
}
