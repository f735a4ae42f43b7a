//! What machines boot from: read-only directories, made once and cached.
//!
//! They are made below a [`Keeper`] too: whatever ends the making, no process and no mount of it stays behind.
//! The lowest layer is a small Debian (or Ubuntu) of the host's own release, so that programs built here find the
//! libraries they were built against. On it can lie a layer with pulld installed the way a base image has it.

use std::{
    collections::hash_map::DefaultHasher,
    fs::{self, File},
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    cache, command,
    keeper::{Keeper, Network},
};

/// What a machine has beyond Essential packages and apt. The client of Google's storage wants roots of trust even for http.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,init-system-helpers,ca-certificates";

/// What makes it a machine of ours. Logs outlast a reboot; nothing but the tests uses dpkg; names and DNS are not the host's.
const CUSTOMIZE: &str = r#"
    mkdir -p "$1/var/log/journal"
    rm -f "$1/etc/hostname" "$1/etc/resolv.conf"
    for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do
        ln -sf /dev/null "$1/etc/systemd/system/$timer.timer"
    done
"#;

/// Installs the packages `$4`… into the root `$1`, and copies what changed (it is in `$2`) to `$3`.
const APT: &str = r#"
    root=$1 disk=$2 layer=$3
    shift 3
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    chroot "$root" apt-get --quiet update
    chroot "$root" apt-get install --quiet --yes --no-install-recommends "$@"
    chroot "$root" apt-get clean
    rm -rf "$root/etc/resolv.conf" "$root"/var/lib/apt/lists/*
    cp -a "$disk/upper" "$layer"
"#;

/// Longest time that making a layer may take: packages come from the distribution's mirror.
const PATIENCE: Duration = Duration::from_mins(15);

/// Disk that installing packages into a layer may fill, in bytes.
const LAYER_DISK: u64 = 2 << 30;

/// What a machine boots from.
#[derive(Debug)]
pub struct Image {
    /// Names of directories in the cache, topmost first.
    layers: Vec<String>,
    /// Shared locks on the layers: what nobody holds may be removed.
    in_use: Vec<File>,
}

impl Image {
    /// A small Debian with systemd, dpkg and D-Bus, and nothing of ours. Making it takes about a minute, once.
    pub fn debian() -> Result<Self> {
        let suite = suite()?;
        let mut recipe = DefaultHasher::new();
        (PACKAGES, CUSTOMIZE).hash(&mut recipe);
        let nothing = Self { layers: Vec::new(), in_use: Vec::new() };
        nothing.with_layer(&format!("debian-{suite}"), recipe.finish(), |_, path| make_debian(&suite, path))
    }

    /// This image with a package installed as a base image has it: by dpkg, while no systemd runs.
    ///
    /// The package is only built (by `build`, which gives its path) when there is no such layer for `ingredients` yet.
    pub fn with_package(self, ingredients: &impl Hash, build: impl FnOnce() -> Result<PathBuf>) -> Result<Self> {
        let mut recipe = DefaultHasher::new();
        (&self.layers, ingredients).hash(&mut recipe);
        self.with_layer("package", recipe.finish(), |image, path| image.install(&build()?, path))
    }

    /// This image with packages of the distribution, and nothing of their configuration changed.
    pub fn with_debian_packages(self, names: &[&str]) -> Result<Self> {
        let mut recipe = DefaultHasher::new();
        (&self.layers, names, APT).hash(&mut recipe);
        self.with_layer(&format!("apt-{}", names.join("-")), recipe.finish(), |image, path| {
            let keeper = image.keeper(LAYER_DISK, Network::Host)?;
            let mut install = keeper.command("sh");
            install.args(["-euc", APT, "install"]).arg(keeper.root());
            install.arg(keeper.directory().join("disk")).arg(path).args(names);
            set_environment(&mut install);
            let shown = format!("apt-get install {}", names.join(" "));
            command::run(install, &shown, b"", PATIENCE)?.ok().map(drop).context("could not install into an image")
        })
    }

    /// This image with the layer `{kind}-{recipe}` on it, from the cache or else by `make`.
    fn with_layer(mut self, kind: &str, recipe: u64, make: impl FnOnce(&Self, &Path) -> Result<()>) -> Result<Self> {
        let name = format!("{kind}-{recipe:016x}");
        let path = cache::root()?.join(&name);
        let in_use = cache::lock_file(&path.with_added_extension("lock"))?;
        in_use.lock_shared().with_context(|| format!("could not lock `{name}`"))?;
        make_once(&path, |partial| {
            remove_old_layers(kind, &name)?;
            make(&self, partial)
        })?;
        self.layers.insert(0, name);
        self.in_use.push(in_use);
        Ok(self)
    }

    /// Installs a package on this image and keeps what changed as the layer `path`.
    fn install(&self, deb: &Path, path: &Path) -> Result<()> {
        let keeper = self.keeper(LAYER_DISK, Network::Own)?;
        let root = keeper.root();
        fs::copy(deb, keeper.path(&root).join("package.deb"))?;
        let script = r#"chroot "$1" dpkg --install /package.deb; rm "$1/package.deb"; cp -a "$2/upper" "$3""#;
        let mut install = keeper.command("sh");
        install.args(["-euc", script, "install"]).arg(&root).arg(keeper.directory().join("disk")).arg(path);
        set_environment(&mut install);
        let shown = format!("dpkg --install {}", deb.display());
        command::run(install, &shown, b"", PATIENCE)?.ok().map(drop).context("could not install into an image")
    }

    /// The keeper of a machine on this image, with a disk of `disk` bytes.
    pub(crate) fn keeper(&self, disk: u64, network: Network) -> Result<Keeper> {
        let layers: Vec<_> = self.layers.iter().map(String::as_str).collect();
        Keeper::start(&layers, disk, network)
    }

    /// The same image, for another machine.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        let in_use = self.in_use.iter().map(File::try_clone).collect::<Result<_, _>>()?;
        Ok(Self { layers: self.layers.clone(), in_use })
    }
}

/// What is installed into an image asks nothing, and knows nothing of this machine's own directories.
fn set_environment(install: &mut Command) {
    install.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8").env_remove("TMPDIR");
}

/// Makes a small Debian with systemd, dpkg and D-Bus in the directory `path`.
fn make_debian(suite: &str, path: &Path) -> Result<()> {
    let keeper = Keeper::start(&[], 0, Network::Host)?;
    fs::create_dir(path).with_context(|| format!("could not make `{}`", path.display()))?;
    // mmdebstrap and apt take no path with a colon or a comma, and there may be one above.
    let script = r#"mount --bind "$1" /mnt; shift; exec mmdebstrap "$@" /mnt"#;
    let mut mmdebstrap = keeper.command("sh");
    mmdebstrap.args(["-euc", script, "mmdebstrap"]).arg(path).env("SOURCE_DATE_EPOCH", "0");
    mmdebstrap.args(["--variant=minbase", "--include", PACKAGES, "--customize-hook", CUSTOMIZE, suite]);
    let made = command::run(mmdebstrap, "mmdebstrap", b"", PATIENCE)?.ok();
    made.map(drop).context("could not make a Debian: `tests/setup` installs what that needs")
}

/// Makes the directory `path` unless it is there; other processes wait meanwhile, and never see half of it.
pub(crate) fn make_once(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let lock = cache::lock_file(&cache::root()?.join("making.lock"))?;
    lock.lock().context("could not lock the images")?;
    if path.is_dir() {
        return Ok(());
    }
    let partial = path.with_added_extension("partial");
    if partial.exists() {
        cache::remove_tree(&partial)
            .with_context(|| format!("could not remove the unfinished `{}`", partial.display()))?;
    }
    make(&partial)?;
    fs::rename(&partial, path).with_context(|| format!("could not keep `{}`", path.display()))
}

/// Removes layers of a kind that nobody uses any more: each build of what is tested makes another.
fn remove_old_layers(kind: &str, new: &str) -> Result<()> {
    for entry in fs::read_dir(cache::root()?)?.flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        if !name.starts_with(kind) || name == new || !path.is_dir() {
            continue;
        }
        // The lock's file stays: removed, it could be locked twice, by its old inode and by its new one.
        if cache::lock_file(&path.with_added_extension("lock"))?.try_lock().is_ok() {
            cache::remove_tree(&path).with_context(|| format!("could not remove the old `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// The distribution's release that this host runs, or Debian's stable one when it is another distribution.
fn suite() -> Result<String> {
    let os = fs::read_to_string("/etc/os-release").context("could not read `/etc/os-release`")?;
    let value = |key: &str| {
        let line = os.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    match (value("ID").as_deref(), value("VERSION_CODENAME")) {
        (Some("debian" | "ubuntu"), Some(codename)) => Ok(codename),
        _ => Ok("stable".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
        thread,
        time::Instant,
    };

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::{TempDir, clean_up_when_interrupted};

    /// Tells this very test to make a Debian in the directory of this name below one of its own, until it is interrupted.
    const MAKER: &str = "PUSH_TEST_MAKE_A_DEBIAN";

    /// Pids of those who see something mounted below `path`.
    fn who_sees_mounts(path: &str) -> Vec<String> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let seeing = processes.filter(|process| {
            fs::read_to_string(process.path().join("mountinfo")).is_ok_and(|mounts| mounts.contains(path))
        });
        seeing.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
    }

    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_debian_whose_making_is_interrupted_leaves_neither_mounts_nor_processes_nor_directories() -> Result<()> {
        if std::env::var_os(MAKER).is_some() {
            clean_up_when_interrupted()?;
            let directory = TempDir::new()?;
            let path = directory.path().join("debian.partial");
            println!("\nmaking {}", path.display());
            return make_debian(&suite()?, &path);
        }
        let mut maker = Command::new(std::env::current_exe()?)
            .args(["--exact", "image::tests::a_debian_whose_making_is_interrupted_leaves_neither_mounts_nor_processes_nor_directories"])
            .args(["--nocapture"])
            .env(MAKER, "1")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(maker.stdout.take().context("stdout is piped")?).lines().map_while(Result::ok);
        let path = lines.find_map(|line| line.strip_prefix("making ").map(str::to_owned)).context("it says where")?;
        wait_until("something is mounted in what is being made", || !who_sees_mounts(&path).is_empty());
        let own = fs::read_to_string("/proc/self/mountinfo")?;
        assert!(!own.contains(&path), "the host sees a mount of it:\n{own}");

        let pid = i32::try_from(maker.id()).ok().and_then(Pid::from_raw).context("a pid is positive")?;
        kill_process(pid, Signal::INT)?;
        assert_eq!(maker.wait()?.code(), Some(130));
        wait_until("all who saw a mount of it are gone", || who_sees_mounts(&path).is_empty());
        let directory = Path::new(&path).parent().context("it is in a directory")?;
        // What was written while it was being removed is the next one's to remove.
        cache::remove_tree(directory)?;
        assert!(!directory.exists());
        Ok(())
    }
}
