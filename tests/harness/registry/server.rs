//! A registry that runs: docker-registry with a configuration of ours, and what it says of each request.

use std::{
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{authority::Authority, packages::Debian};
use crate::{TempDir, command};

/// Who may log in where a registry asks for a password.
pub const USER: &str = "deployer";
/// Their password.
pub const PASSWORD: &str = "correct-horse";
/// Somebody else who may log in there, with the same password.
pub const BUILDER: &str = "builder";
/// The password of both as htpasswd(1) writes it.
const HTPASSWD: &str = "$2b$05$abcdefghijklmnopqrstuuZ0Fx87Pb/Aqb0E90lfvCwzXnaFKUHpS";

/// What it is in.
pub(super) const PACKAGES: [&str; 1] = ["docker-registry"];

/// Longest time until it listens, and until it has written a request down.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the requests begin with by which it is known how far the access log is.
const MARK: &str = "/v2/?mark=";

/// How a registry is.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegistryOptions {
    /// Whether it asks for [`USER`], or [`BUILDER`], and [`PASSWORD`].
    pub password: bool,
}

/// A running registry; it ends when dropped, or with whoever started it.
#[derive(Debug)]
pub struct RegistryServer {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
    program: PathBuf,
}

/// One line of its access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// With the query.
    pub path: String,
    /// What it was answered with.
    pub status: u16,
    /// Who asked, as they said.
    pub agent: String,
}

impl RegistryServer {
    /// Starts an empty one on a free port of the loopback interface.
    ///
    /// # Errors
    /// When its package can't be had, or it doesn't start: nothing is skipped.
    pub fn start(of: Debian, options: RegistryOptions) -> Result<Self> {
        Self::start_with(of, options, json!({}))
    }

    /// Starts an empty one that speaks TLS, on a free port of `address`, with a certificate that `authority` has signed for it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn over_tls(of: Debian, address: Ipv4Addr, authority: &Authority) -> Result<Self> {
        let (certificate, key) = authority.sign(&address.to_string())?;
        let kept = TempDir::new()?;
        let path = |name: &str| kept.path().join(name);
        fs::write(path("certificate"), certificate)?;
        fs::write(path("key"), key)?;
        let tls = json!({ "certificate": path("certificate"), "key": path("key") });
        // They are read before it listens.
        Self::start_with(
            of,
            RegistryOptions::default(),
            json!({ "http": { "addr": format!("{address}:0"), "tls": tls } }),
        )
    }

    /// Starts an empty one that deletes nothing, as it is if nobody says otherwise.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn without_deletion(of: Debian) -> Result<Self> {
        Self::start_with(of, RegistryOptions::default(), json!({ "storage": { "delete": { "enabled": false } } }))
    }

    /// Starts one whose configuration has also what `more` says, in place of what would be there.
    fn start_with(of: Debian, options: RegistryOptions, more: Value) -> Result<Self> {
        let program = of.unpacked(&PACKAGES)?.join("usr/bin/docker-registry");
        let directory = TempDir::new()?;
        let path = |name: &str| directory.path().join(name);
        fs::write(path("htpasswd"), format!("{USER}:{HTPASSWD}\n{BUILDER}:{HTPASSWD}\n"))?;
        // JSON is YAML.
        let mut config = json!({
            "version": "0.1",
            "log": { "level": "info", "formatter": "text", "accesslog": { "disabled": false } },
            "storage": { "filesystem": { "rootdirectory": path("data") }, "delete": { "enabled": true } },
            "http": { "addr": "127.0.0.1:0" },
        });
        if options.password {
            config["auth"] = json!({ "htpasswd": { "realm": "registry", "path": path("htpasswd") } });
        }
        merge(&mut config, more);
        fs::write(path("config.yml"), config.to_string())?;
        // It ends with the thread that started it, whatever ends that.
        let mut serve = Command::new("setpriv");
        serve.args(["--pdeathsig", "KILL", "--"]).arg(&program).arg("serve").arg(path("config.yml"));
        serve.stdin(Stdio::null()).stdout(File::create(path("access"))?).stderr(File::create(path("log"))?);
        let process = serve.spawn().with_context(|| format!("could not run `{}`", program.display()))?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut registry = Self { process, address: unknown, directory, program };
        registry.address = registry.wait_until_it_listens()?;
        Ok(registry)
    }

    fn wait_until_it_listens(&mut self) -> Result<SocketAddr> {
        let started = Instant::now();
        loop {
            let log = self.log()?;
            let address = log.split_once("listening on ").map(|(_, rest)| rest.split(['"', ' ', ',', '\n']).next());
            if let Some(Ok(address)) = address.flatten().map(str::parse) {
                return Ok(address);
            }
            if started.elapsed() > PATIENCE || self.process.try_wait()?.is_some() {
                bail!("the registry does not listen:\n{log}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it is, as references have it: `127.0.0.1:41234`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// What it wrote to its log.
    ///
    /// # Errors
    /// When that can't be read.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(self.directory.path().join("log")).context("could not read the registry's log")
    }

    /// The requests so far, in the order in which they were answered.
    ///
    /// # Errors
    /// When the log can't be read, or doesn't get on.
    pub fn requests(&self) -> Result<Vec<Request>> {
        // A request is written down after it was answered: one of ours is the last.
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{MARK}{}", MARKS.fetch_add(1, Ordering::Relaxed));
        let request = format!("GET {mark} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        let mut connection = TcpStream::connect(self.address)?;
        connection.write_all(request.as_bytes())?;
        let started = Instant::now();
        loop {
            let requests = self.read_requests()?;
            if requests.iter().any(|request| request.path == mark) {
                return Ok(requests.into_iter().filter(|request| !request.path.starts_with(MARK)).collect());
            }
            if started.elapsed() > PATIENCE {
                bail!("the registry does not write down its requests:\n{}", self.log()?);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn read_requests(&self) -> Result<Vec<Request>> {
        let log = fs::read_to_string(self.directory.path().join("access"))?;
        Ok(log.lines().filter_map(Request::parse).collect())
    }

    /// Deletes what no manifest needs, as its administrator would.
    ///
    /// # Errors
    /// When it fails, with all that it printed.
    pub fn collect_garbage(&self) -> Result<String> {
        let mut collect = Command::new(&self.program);
        collect.arg("garbage-collect").arg(self.directory.path().join("config.yml"));
        command::run(collect, "docker-registry garbage-collect", b"", PATIENCE)?.ok()
    }
}

/// Puts the values of one object into another, as deep as both have objects.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Request {
    /// Reads Apache's combined format.
    fn parse(line: &str) -> Option<Self> {
        let mut quoted = line.split('"');
        let (_, request, answer) = (quoted.next()?, quoted.next()?, quoted.next()?);
        let (_, _, agent) = (quoted.next()?, quoted.next()?, quoted.next()?);
        let mut words = request.split(' ');
        Some(Self {
            method: words.next()?.to_owned(),
            path: words.next()?.to_owned(),
            status: answer.split_whitespace().next()?.parse().ok()?,
            agent: agent.to_owned(),
        })
    }
}
