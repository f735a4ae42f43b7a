//! A disposable Debian server with systemd as PID 1.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Image, Output, Response, command,
    command::quote,
    keeper::{self, Keeper, Network},
    network::{self, Relay},
};

/// Longest time from starting the container until systemd says that all is up; under half a second on an idle machine.
const BOOT: Duration = Duration::from_mins(1);

/// Longest time for a command in the machine, unless said otherwise.
const COMMAND: Duration = Duration::from_mins(1);

/// Size of a machine's disk, in bytes, unless said otherwise. It is a tmpfs: only what is written takes memory.
const DISK: u64 = 1 << 30;

/// What must hold of a machine when it is dropped.
pub(crate) struct Judge(pub(crate) Box<Rules>);

/// Says what does not.
type Rules = dyn Fn(&Machine) -> Result<()> + Send;

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

/// A machine about to be booted.
#[derive(Debug)]
pub struct MachineOptions {
    name: String,
    image: Image,
    disk: u64,
    shared: Vec<(PathBuf, String)>,
    files: Vec<(String, String)>,
    ports: Vec<u16>,
    network: Network,
    judge: Option<Judge>,
}

impl MachineOptions {
    /// Gives it a disk of `bytes`: what it writes goes there, and it is full when that is.
    #[must_use]
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk = bytes;
        self
    }

    /// Makes a directory of the host appear at `inside`, writable.
    #[must_use]
    pub fn share(mut self, directory: &Path, inside: &str) -> Self {
        self.shared.push((directory.to_owned(), inside.to_owned()));
        self
    }

    /// Makes a port of the host's loopback answer on the machine's own.
    #[must_use]
    pub fn reach(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// Puts it on the host's network, with its way to the package registries, instead of one of its own.
    ///
    /// # Errors
    /// When the host's way to name servers and roots of trust can't be read.
    pub fn on_hosts_network(mut self) -> Result<Self> {
        self.network = Network::Host;
        for path in ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"] {
            let content = fs::read_to_string(path).with_context(|| format!("could not read `{path}`"))?;
            self.files.push((path.to_owned(), content));
        }
        Ok(self)
    }

    /// Writes a file before the first boot.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str) -> Self {
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }

    /// Has it judged when it is dropped.
    #[must_use]
    pub(crate) fn judged_by(mut self, judge: Judge) -> Self {
        self.judge = Some(judge);
        self
    }

    /// Boots it and waits until systemd says that all is up.
    pub fn boot(self) -> Result<Machine> {
        let keeper = self.image.keeper(self.disk, self.network)?;
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
        let own = [("/etc/hostname".to_owned(), format!("{}\n", self.name)), ("/etc/machine-id".to_owned(), id)];
        let root = keeper.path(&keeper.root());
        for (path, content) in own.iter().chain(&self.files) {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
            fs::write(&path, content).with_context(|| format!("could not write `{}`", path.display()))?;
        }
        let network = keeper.network()?;
        let relays = self.ports.iter().map(|port| Relay::inwards(&network, *port)).collect::<Result<_>>()?;
        let Self { name, image, shared, judge, .. } = self;
        let (is_given_up, last_error) = (Cell::new(false), RefCell::default());
        let relays = RefCell::new(relays);
        let database = fs::read_to_string(root.join("var/lib/dpkg/status"));
        let foreign = foreign_packages(&database.context("could not read dpkg's database")?);
        let mut machine =
            Machine { name, shared, container: None, relays, keeper, image, foreign, judge, is_given_up, last_error };
        machine.start()?;
        Ok(machine)
    }
}

/// A disposable Debian server with systemd as PID 1, real dpkg and real D-Bus; gone when dropped.
///
/// Methods that fail say what the machine was doing: see [`Machine::diagnostics`].
#[derive(Debug)]
pub struct Machine {
    name: String,
    shared: Vec<(PathBuf, String)>,
    container: Option<Container>,
    /// Held as long as it lives.
    relays: RefCell<Vec<Relay>>,
    keeper: Keeper,
    image: Image,
    foreign: Vec<String>,
    /// Who judges it when it is dropped.
    judge: Option<Judge>,
    /// Whether something was waited for in vain: that is what its test fails with.
    is_given_up: Cell<bool>,
    /// What a command that failed said last: it is the cause, perhaps, of how the story ends.
    last_error: RefCell<Option<String>>,
}

/// A running container.
#[derive(Debug)]
struct Container {
    /// `nsenter`, which waits for `systemd-nspawn`, which waits for the leader.
    nspawn: Child,
    /// The container's PID 1, by the pid it has out here.
    leader: u32,
}

impl Machine {
    /// A machine called `name`, to be booted from `image`.
    pub fn options(name: &str, image: &Image) -> Result<MachineOptions> {
        let image = image.try_clone()?;
        let (name, shared, files, ports) = (name.to_owned(), Vec::new(), Vec::new(), Vec::new());
        let (network, judge) = (Network::Own, None);
        Ok(MachineOptions { name, image, disk: DISK, shared, files, ports, network, judge })
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process out here that it hangs on: it ends when that does.
    pub fn keeper_pid(&self) -> u32 {
        self.keeper.pid()
    }

    /// The image it was booted from.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The packages that it was first booted with and that come from no release.
    pub(crate) fn foreign_packages(&self) -> &[String] {
        &self.foreign
    }

    /// Runs a shell command as root, to its end.
    ///
    /// # Errors
    /// When the machine is off or the command takes more than a minute. Its exit status is for the caller to look at.
    pub fn run(&self, script: &str) -> Result<Output> {
        self.run_with(script, b"", COMMAND)
    }

    /// Runs a shell command as root that must exit with 0, and gives what it wrote to stdout.
    pub fn sh(&self, script: &str) -> Result<String> {
        let printed = self.run(script)?.ok().with_context(|| format!("on `{}`", self.name));
        if let Err(error) = &printed {
            *self.last_error.borrow_mut() = Some(format!("{error:#}"));
        }
        printed
    }

    /// Like [`Machine::run`], with something to read and a time limit.
    pub fn run_with(&self, script: &str, stdin: &[u8], limit: Duration) -> Result<Output> {
        let Some(container) = &self.container else {
            bail!("`{}` is off: it can't run `{script}`", self.name);
        };
        command::run(container.command(script), script, stdin, limit).with_context(|| format!("on `{}`", self.name))
    }

    /// What a person types on the host, as root, to run a command here.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn typed(&self, command: &str) -> Result<String> {
        let container = self.container.as_ref().with_context(|| format!("`{}` is off", self.name))?;
        Ok(format!("nsenter --target {} --all --root --wd {command}", container.leader))
    }

    /// The content of a file.
    pub fn read(&self, path: &str) -> Result<String> {
        self.sh(&format!("cat -- {}", quote(path)))
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let path = quote(path);
        let script = format!("mkdir -p \"$(dirname -- {path})\" && cat > {path}");
        self.run_with(&script, content.as_bytes(), COMMAND)?.ok().map(drop)
    }

    /// Makes a port of the machine's loopback answer on the host's, at the port that it returns.
    pub fn expose(&self, port: u16) -> Result<u16> {
        let (relay, outside) = Relay::outwards(self.keeper.network()?, port)?;
        self.relays.borrow_mut().push(relay);
        Ok(outside)
    }

    /// Takes away its ways to and from the host: what [`MachineOptions::reach`] and [`Machine::expose`] made.
    pub fn cut_off(&self) {
        self.relays.borrow_mut().clear();
    }

    /// Asks an HTTP server on the machine's loopback.
    pub fn http(&self, port: u16, path: &str) -> Result<Response> {
        network::get(&self.keeper.network()?, port, path)
    }

    /// Cuts the power: `kill -9` of PID 1, and of everything with it. The disk stays as it was written.
    pub fn kill(&mut self) -> Result<()> {
        let Some(container) = self.container.take() else {
            bail!("`{}` is off already", self.name);
        };
        container.kill()
    }

    /// Shuts down in good order.
    pub fn poweroff(&mut self) -> Result<()> {
        self.run("systemctl poweroff")?.ok()?;
        let mut container = self.container.take().context("a machine that runs commands is on")?;
        let deadline = Instant::now() + COMMAND;
        while container.nspawn.try_wait()?.is_none() {
            if Instant::now() > deadline {
                container.kill()?;
                bail!("`{}` was still shutting down after {COMMAND:?}", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Boots from the disk as it is.
    pub fn start(&mut self) -> Result<()> {
        if self.container.is_some() {
            bail!("`{}` is on already", self.name);
        }
        let deadline = Instant::now() + BOOT;
        let container = Container::start(&self.keeper, &self.shared, deadline)?;
        self.container = Some(container);
        loop {
            // `degraded` is up too: a unit that failed is for the test to judge.
            let state = self.run("systemctl is-system-running --wait")?.stdout;
            match state.trim() {
                "running" | "degraded" => return Ok(()),
                state if Instant::now() > deadline => {
                    bail!("`{}` was `{state}` {BOOT:?} after its start\n{}", self.name, self.diagnostics())
                }
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Cuts the power and boots again.
    pub fn reboot(&mut self) -> Result<()> {
        self.kill()?;
        self.start()
    }

    /// Fills the disk to the last byte; [`Machine::free_disk`] gives it back.
    pub fn fill_disk(&self) -> Result<()> {
        self.sh(
            "cat /dev/zero > /var/filled 2>/dev/null; ! echo full 2>/dev/null > /var/filled.too; rm /var/filled.too",
        )
        .map(drop)
    }

    /// Undoes [`Machine::fill_disk`].
    pub fn free_disk(&self) -> Result<()> {
        self.sh("rm /var/filled").map(drop)
    }

    /// What a unit logged, over all boots.
    pub fn journal(&self, unit: &str) -> Result<String> {
        self.sh(&format!("journalctl --no-pager --quiet --output=short-precise --unit={}", quote(unit)))
    }

    /// Waits until `probe` finds something; what it doesn't find, and errors, mean "not yet".
    ///
    /// # Errors
    /// After `limit`, with what was waited for, the last error, and what the machine was doing.
    pub fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            let reason = match probe(self) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => String::new(),
                Err(error) => format!("\nlast error: {error:#}"),
            };
            if started.elapsed() > limit {
                self.is_given_up.set(true);
                bail!("`{}`: not within {limit:?}: {what}{reason}\n{}", self.name, self.diagnostics());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What somebody who sees only a failed test's output wants to know of the machine.
    pub fn diagnostics(&self) -> String {
        let questions = [
            ("units that failed", "systemctl --no-pager --plain --no-legend list-units --failed"),
            ("packages not in order", "dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n' | grep -v ^ii"),
            ("full disks", "df -h / | tail -n 1"),
            ("journal of pulld", "journalctl --no-pager --quiet --output=short-precise --lines=100 --unit=pulld"),
            ("journal", "journalctl --no-pager --quiet --boot --output=short-precise --lines=60"),
        ];
        let mut text = format!("---- `{}`", self.name);
        if self.container.is_none() {
            let console = fs::read_to_string(self.keeper.directory().join("console.log")).unwrap_or_default();
            return format!("{text} is off; its console said:\n{}", keeper::indent(&console));
        }
        for (title, script) in questions {
            let answer = match self.run_with(script, b"", Duration::from_secs(10)) {
                Ok(output) => output.stdout,
                Err(error) => format!("{error:#}"),
            };
            text = format!("{text}\n-- {title}:\n{}", keeper::indent(&answer));
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.diagnostics());
        }
        let judge = self.judge.take().filter(|_| !thread::panicking() && !self.is_given_up.get());
        let judged = judge.filter(|_| self.container.is_some()).map_or(Ok(()), |Judge(judge)| judge(self));
        if let Some(container) = self.container.take()
            && let Err(error) = container.kill()
        {
            eprintln!("could not end `{}`: {error:#}", self.name);
        }
        if let Err(violation) = judged {
            let last = self.last_error.borrow();
            panic!(
                "at the end of its story: {violation:#}\nthe last command that failed on it: {}",
                last.as_deref().unwrap_or("none")
            );
        }
    }
}

impl Container {
    fn start(keeper: &Keeper, shared: &[(PathBuf, String)], deadline: Instant) -> Result<Self> {
        let mut nspawn = keeper.command("systemd-nspawn");
        // Register nowhere: there may be no systemd out here. The name only has to be unlike others.
        nspawn.args(["--quiet", "--settings=no", "--register=no", "--keep-unit", "--link-journal=no"]);
        nspawn.args(["--resolv-conf=off", "--timezone=off", "--console=pipe", "--boot", "--machine=machine"]);
        nspawn.arg("--directory").arg(keeper.root());
        for (directory, inside) in shared {
            let directory = directory.to_str().context("a shared directory's path is UTF-8")?;
            nspawn.arg(format!("--bind={}:{inside}", directory.replace('\\', "\\\\").replace(':', "\\:")));
        }
        let path = keeper.directory().join("console.log");
        let console = File::options().create(true).append(true).open(&path)?;
        nspawn.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        let mut nspawn = nspawn.spawn().context("could not run `nsenter`")?;
        loop {
            if let Some(leader) = find_leader(nspawn.id()) {
                return Ok(Self { nspawn, leader });
            }
            if nspawn.try_wait()?.is_some() || Instant::now() > deadline {
                // Ends with its namespace when the keeper is dropped, if it hasn't ended yet.
                let console = fs::read_to_string(&path).unwrap_or_default();
                bail!("could not boot a container with `systemd-nspawn`:\n{}", keeper::indent(&console));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A shell command in the container, as root, in the leader's every namespace.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader.to_string(), "--all", "--root", "--wd", "--", "sh", "-c", script]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", "/root").env("LC_ALL", "C.UTF-8").process_group(0);
        command
    }

    /// Kills PID 1: the kernel kills the rest.
    fn kill(mut self) -> Result<()> {
        // Not yet waited for by us, so nobody else has the pid.
        if self.nspawn.try_wait()?.is_none() {
            let leader = i32::try_from(self.leader).ok().and_then(Pid::from_raw).context("a pid is positive")?;
            kill_process(leader, Signal::KILL).context("could not kill a container's PID 1")?;
        }
        self.nspawn.wait()?;
        Ok(())
    }
}

/// PID 1 of the container once it is systemd itself; before that, it still is in other namespaces.
fn find_leader(nsenter: u32) -> Option<u32> {
    let leader = keeper::only_child(keeper::only_child(nsenter)?)?;
    let status = fs::read_to_string(format!("/proc/{leader}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let is_first = field("NSpid:")?.split_whitespace().last() == Some("1");
    (is_first && field("Name:")?.trim() == "systemd").then_some(leader)
}

/// Names of the packages that a dpkg database has and that come from no release.
fn foreign_packages(database: &str) -> Vec<String> {
    let is_foreign = |paragraph: &&str| {
        paragraph.contains("\nStatus: install ok installed\n") && !paragraph.contains("\nPush-Release:")
    };
    let names: BTreeSet<&str> = database
        .split("\n\n")
        .filter(is_foreign)
        .filter_map(|paragraph| paragraph.lines().next()?.strip_prefix("Package: "))
        .collect();
    names.into_iter().map(str::to_owned).collect()
}
