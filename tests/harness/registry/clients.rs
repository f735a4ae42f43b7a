//! containerd and Docker, which pull images: each with all of its own in a directory, and with nothing of this machine's.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::packages::Debian;
use crate::{Output, command};

/// Longest time until one listens, and for one command.
const PATIENCE: Duration = Duration::from_mins(1);

/// What both need, of one download: 65 MB. Docker looks for runc before it listens.
pub(super) const PACKAGES: [&str; 4] = ["containerd", "docker.io", "libdevmapper1.02.1", "runc"];

/// Runs Docker's daemon `$3`… with a copy of the directory `$2` as its `/etc/docker/certs.d`, over a file system in `$1`: what it
/// reads is that, and what it may write of `/etc` is gone with it.
const WITH_CERTIFICATES: &str = r#"
    over=$1 certificates=$2
    shift 2
    mount -t tmpfs tmpfs "$over"
    mkdir "$over/upper" "$over/work"
    mount -t overlay -o "lowerdir=/etc,upperdir=$over/upper,workdir=$over/work" overlay /etc
    rm -rf /etc/docker
    mkdir /etc/docker
    cp -r "$certificates" /etc/docker/certs.d
    exec "$@"
"#;

/// containerd, which runs.
#[derive(Debug)]
pub struct Containerd(Daemon);

/// Docker's daemon, which runs.
#[derive(Debug)]
pub struct Docker(Daemon);

/// A daemon in namespaces of its own: when it is dropped, all that it started ends.
#[derive(Debug)]
struct Daemon {
    process: Child,
    root: PathBuf,
    /// Its path is short enough for the sockets in it.
    directory: TempDir,
}

impl Containerd {
    /// Starts one.
    ///
    /// # Errors
    /// When its package can't be had, or it doesn't start: nothing is skipped.
    pub fn start() -> Result<Self> {
        let daemon = Daemon::start(|directory, root| {
            let path = |name: &str| directory.join(name).display().to_string();
            let written = format!(
                "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
                path("data"),
                path("state"),
                path("socket"),
                path("ttrpc")
            );
            fs::write(path("config.toml"), written)?;
            let mut containerd = vec![root.join("usr/bin/containerd").into_os_string(), "--config".into()];
            containerd.push(path("config.toml").into());
            Ok(containerd)
        })?;
        Ok(Self(daemon))
    }

    /// Pulls an image and unpacks it, with the registries that are described in a directory.
    ///
    /// # Errors
    /// When it can't be run; that it failed is in what is returned.
    pub fn pull(&self, image: &str, hosts: &Path) -> Result<Output> {
        let mut pull = self.0.command("ctr");
        pull.arg("--address").arg(self.0.path("socket"));
        pull.args(["images", "pull", "--snapshotter", "native", "--hosts-dir"]).arg(hosts).arg(image);
        command::run(pull, &format!("ctr images pull {image}"), b"", PATIENCE)
    }

    /// The digest of what an image's name names.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn digest(&self, image: &str) -> Result<String> {
        let mut list = self.0.command("ctr");
        list.arg("--address").arg(self.0.path("socket")).args(["images", "list", &format!("name=={image}")]);
        let list = command::run(list, &format!("ctr images list {image}"), b"", PATIENCE)?.ok()?;
        let digest = list.split_whitespace().find(|word| word.starts_with("sha256:"));
        Ok(digest.with_context(|| format!("no digest: {list}"))?.to_owned())
    }
}

impl Docker {
    /// Starts one with the configuration in a directory: `daemon.json`, `certs.d`, and `config.json` for its command. It is in the
    /// network of whoever starts it, and makes none.
    ///
    /// # Errors
    /// When its package can't be had, or it doesn't start: nothing is skipped.
    pub fn start(configuration: &Path) -> Result<Self> {
        let daemon = Daemon::start(|directory, root| {
            let path = |name: &str| directory.join(name);
            fs::create_dir(path("etc"))?;
            let mut docker: Vec<_> = ["sh", "-euc", WITH_CERTIFICATES, "docker"].map(Into::into).into();
            docker.extend([path("etc"), configuration.join("certs.d"), root.join("usr/sbin/dockerd")].map(Into::into));
            for (option, value) in [
                ("--config-file", configuration.join("daemon.json")),
                ("--data-root", path("data")),
                ("--exec-root", path("exec")),
                ("--pidfile", path("pid")),
                ("--host", PathBuf::from(format!("unix://{}", path("socket").display()))),
                ("--storage-driver", "vfs".into()),
                ("--bridge", "none".into()),
            ] {
                docker.extend([option.into(), value.into_os_string()]);
            }
            docker.extend(["--iptables=false", "--ip6tables=false", "--ip-forward=false"].map(Into::into));
            Ok(docker)
        })?;
        Ok(Self(daemon))
    }

    /// Runs its command with the configuration in a directory.
    ///
    /// # Errors
    /// When it can't be run; that it failed is in what is returned.
    pub fn run(&self, configuration: &Path, arguments: &[&str]) -> Result<Output> {
        let mut docker = self.0.command("docker");
        docker.env("DOCKER_HOST", format!("unix://{}", self.0.path("socket").display()));
        docker.env("DOCKER_CONFIG", configuration).args(arguments);
        command::run(docker, &format!("docker {}", arguments.join(" ")), b"", PATIENCE)
    }
}

impl Daemon {
    /// Starts what `command` says of the daemon's directory and of where its programs are; it listens at `socket` there.
    fn start(command: impl FnOnce(&Path, &Path) -> Result<Vec<std::ffi::OsString>>) -> Result<Self> {
        let (root, directory) = (Debian::Twelve.unpacked(&PACKAGES)?, tempfile::tempdir()?);
        let words = command(directory.path(), &root)?;
        // It ends with the thread that started it, and all that it started with it.
        let mut serve = Command::new("setpriv");
        serve.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--"]);
        serve.args(words);
        environment(&mut serve, &root, directory.path());
        let log = File::create(directory.path().join("log"))?;
        serve.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = serve.spawn().context("could not run `setpriv`")?;
        let mut daemon = Self { process, root, directory };
        daemon.wait_until_it_listens()?;
        Ok(daemon)
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let (started, socket) = (Instant::now(), self.path("socket"));
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            if started.elapsed() > PATIENCE || self.process.try_wait()?.is_some() {
                bail!("it does not listen:\n{}", fs::read_to_string(self.path("log"))?);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.root.join("usr/bin").join(name));
        environment(&mut command, &self.root, self.directory.path());
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Nothing of whoever runs this: the programs of a directory, and a home of their own.
fn environment(command: &mut Command, root: &Path, home: &Path) {
    let [bin, sbin] = ["usr/bin", "usr/sbin"].map(|directory| root.join(directory).display().to_string());
    let libraries = ["usr/lib", "lib"].map(|directory| root.join(directory).join("x86_64-linux-gnu"));
    let libraries = libraries.map(|directory| directory.display().to_string()).join(":");
    command.env_clear().env("PATH", format!("{bin}:{sbin}:/usr/sbin:/usr/bin:/sbin:/bin"));
    command.env("LD_LIBRARY_PATH", libraries).env("HOME", home).env("TMPDIR", home).env("XDG_RUNTIME_DIR", home);
}
