//! The process that a machine hangs on.
//!
//! It has mounts, cgroup and, for a machine, network of its own, and a child that is PID 1 of a PID namespace of its own.
//! The container runs inside. That child's stdin is a pipe that only we hold. So when we end, however that comes about,
//! it reads the end of the pipe and ends too; the kernel then kills everything in the namespace, the keeper removes the
//! cgroup, and the mounts go with the keeper.
//! What is left are empty directories: ours are removed on drop, those of killed processes by the next keeper.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    cache::{self, TempDir},
    command,
};

/// Begins the name of every machine's cgroup.
const CGROUP: &str = "push-machine-";

/// Longest time for listing the control groups.
const LIST: Duration = Duration::from_secs(10);

/// Which network a keeper's processes are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// One of their own, with nothing but a loopback.
    Own,
    /// The host's, with its way to the package registries.
    Host,
}

#[derive(Debug)]
pub(crate) struct Keeper {
    /// The script; it ends when PID 1 in the namespace has ended, and then cleans up.
    script: Child,
    /// PID 1 of the namespace, by the pid it has out here.
    pid: u32,
    cgroup: String,
    directory: TempDir,
}

impl Keeper {
    /// Sets up mounts, network and cgroup of a machine over `layers`, which are names in the cache (topmost first), with a
    /// disk of `disk` bytes. Without layers there are neither root nor disk.
    pub(crate) fn start(layers: &[&str], disk: u64, network: Network) -> Result<Self> {
        let directory = TempDir::new()?;
        for name in ["disk", "root"] {
            fs::create_dir(directory.path().join(name))?;
        }
        let base = cache::root()?;
        let relative = directory.path().strip_prefix(base).context("a machine's directory is in the cache")?;
        let name = directory.path().file_name().and_then(|name| name.to_str()).context("a name of ours is UTF-8")?;
        let cgroup = format!("{CGROUP}{name}");
        let trouble = directory.path().join("keeper.err");
        let (namespaces, network): (&[&str], _) = match network {
            Network::Own => (&["--mount", "--net"], "own"),
            Network::Host => (&["--mount"], "host"),
        };
        let mut script = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-euc", include_str!("keeper.sh"), "keeper"])
            .args([base, relative])
            .args([disk.to_string(), layers.join(":"), cgroup.clone(), network.to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&trouble)?)
            // A Ctrl-C on the terminal is for us; the keeper follows when we are gone.
            .process_group(0)
            .spawn()
            .context("could not run `unshare`")?;
        let mut answer = String::new();
        BufReader::new(script.stdout.take().context("a piped stdout is there")?).read_line(&mut answer)?;
        if answer != "ready\n" {
            script.wait()?;
            let trouble = fs::read_to_string(&trouble).unwrap_or_default();
            bail!(
                "could not set up a machine (root and permission to mount are needed):\n{}",
                indent(if trouble.is_empty() { "`unshare` failed" } else { &trouble })
            );
        }
        let pid = only_child(script.id()).and_then(only_child).context("the keeper ended at once")?;
        let keeper = Self { script, pid, cgroup, directory };
        keeper.remove_leftover_cgroups();
        Ok(keeper)
    }

    /// The machine's directory on the host: for logs, and the mount points.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the machine's root directory is, in the keeper's own mounts.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// The way into the keeper's mounts from out here.
    pub(crate) fn path(&self, inside: &Path) -> PathBuf {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(relative)
    }

    /// PID 1 of its namespaces, by the pid it has out here.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The machine's network namespace.
    pub(crate) fn network(&self) -> Result<File> {
        let path = format!("/proc/{}/ns/net", self.pid);
        File::open(&path).with_context(|| format!("could not open `{path}`"))
    }

    /// A command in the keeper's namespaces and the machine's cgroup.
    pub(crate) fn command(&self, program: &str) -> Command {
        let procs = self.path(Path::new("/sys/fs/cgroup")).join(&self.cgroup).join("cgroup.procs");
        let mut command = Command::new("sh");
        command
            .args(["-euc", "echo $$ > \"$1\"; shift; exec \"$@\"", "keeper"])
            .arg(procs)
            .args(["nsenter", "--mount", "--net", "--pid", "--target", &self.pid.to_string(), "--", program])
            .process_group(0);
        command
    }

    fn remove_leftover_cgroups(&self) {
        let root = self.path(Path::new("/sys/fs/cgroup"));
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().and_then(|name| name.strip_prefix(CGROUP)).is_some_and(cache::is_orphan) {
                // Of a keeper that was killed itself. Still busy when its processes are only just dying: then the next
                // keeper gets it.
                drop(remove_cgroup(&entry.path()));
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Ends `cat`, and with it whatever still runs.
        drop(self.script.stdin.take());
        if let Err(error) = self.script.wait() {
            eprintln!("could not wait for the end of a machine's keeper: {error}");
        }
    }
}

/// Names of the control groups of machines that the process `pid` made, seen as unified ones whatever the host uses.
///
/// # Errors
/// When they can't be mounted.
pub fn control_groups_of(pid: u32) -> Result<Vec<String>> {
    let mut list = Command::new("unshare");
    list.args(["--mount", "sh", "-euc", "mount -t cgroup2 cgroup2 /mnt && ls /mnt"]);
    let names = command::run(list, "ls of the control groups", b"", LIST)?.ok()?;
    let prefix = format!("{CGROUP}{pid}-");
    Ok(names.lines().filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect())
}

/// Removes a cgroup and all below it, the deepest first; fails as long as one has processes.
fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// The child of a process that has just one, if it has one by now.
pub(crate) fn only_child(parent: u32) -> Option<u32> {
    let mut pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| parent_of(*pid) == Some(parent))
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
