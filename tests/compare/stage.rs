//! Where the comparison takes place: a bucket, a signed repository, an operator's keys, and servers.

use std::{
    cell::Cell,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::ReleaseName;
use harness::{
    Image, Link, Machine, Output, Programs, Scenario, Service, Target, TempDir, Version, compute::FakeCompute,
    metadata::FakeMetadata,
};
use tokio::runtime::Runtime;

use crate::tools::Tool;

/// The port that the compared service answers on, on each server's own loopback.
pub(crate) const PORT: u16 = 8080;
/// Where the servers are, for the Compute API.
const ZONE: &str = "europe-west1-b";
/// What the other tools need on a server: a way in, and ansible its own module of apt.
const OTHERS: [&str; 3] = ["openssh-server", "python3", "python3-apt"];
/// Where an agent is told of the fake metadata server.
const DROP_IN: &str = "/etc/systemd/system/pulld.service.d/60-compare.conf";
/// Longest time for a command of the stage's own.
const PATIENCE: Duration = Duration::from_mins(2);

/// A version of the service, as a package.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// What it answers.
    pub(crate) answer: String,
    pub(crate) release: ReleaseName,
    pub(crate) deb: PathBuf,
    /// Its Debian version.
    pub(crate) version: String,
}

/// A server, and the port out here that leads to its `sshd`.
pub(crate) struct Server {
    pub(crate) machine: Machine,
    pub(crate) ssh_port: u16,
    metadata: Option<Arc<FakeMetadata>>,
    _link: Option<Link>,
}

pub(crate) struct Stage {
    runtime: Runtime,
    scenario: Scenario,
    service: Service,
    compute: FakeCompute,
    /// How far everything is from everything, on the stage: the bucket, the cloud's API, the repository and `sshd`.
    round_trip: Option<Duration>,
    compute_endpoint: String,
    repository_port: u16,
    _links: Vec<Link>,
    directory: TempDir,
    _repository: Repository,
    versions: Cell<u32>,
    servers: Cell<u32>,
}

/// A signed apt repository, served on loopback.
struct Repository {
    server: Child,
    port: u16,
}

impl Drop for Repository {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

impl Stage {
    pub(crate) fn new(round_trip: Option<Duration>) -> Result<Self> {
        let scenario = match round_trip {
            None => Scenario::over_gcs()?.unjudged(),
            Some(round_trip) => Scenario::over_far_gcs(round_trip)?.unjudged(),
        };
        let directory = TempDir::new()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let compute = runtime.block_on(FakeCompute::start());
        let service = scenario.service("web", PORT)?;
        fs::create_dir_all(directory.path().join("repository"))?;
        let repository = Repository::start(&directory.path().join("repository"))?;
        let mut links = Vec::new();
        let mut far = |port: u16| -> Result<u16> {
            let Some(round_trip) = round_trip else { return Ok(port) };
            let link = Link::to(port, round_trip)?;
            let port = link.port();
            links.push(link);
            Ok(port)
        };
        let compute_endpoint = format!("http://127.0.0.1:{}/", far(port_of(&compute.endpoint())?)?);
        let repository_port = far(repository.port)?;
        let (versions, servers) = (Cell::new(0), Cell::new(0));
        let stage = Self {
            runtime,
            scenario,
            service,
            compute,
            round_trip,
            compute_endpoint,
            repository_port,
            _links: links,
            directory,
            _repository: repository,
            versions,
            servers,
        };
        stage.sh("ssh-keygen -q -t ed25519 -N '' -f key")?;
        stage.sh("mkdir -m 700 gnupg && GNUPGHOME=$PWD/gnupg gpg --batch --quiet --passphrase '' --quick-gen-key \
             compare@push.example ed25519 sign && GNUPGHOME=$PWD/gnupg gpg --batch --export > repository.gpg")?;
        Ok(stage)
    }

    /// Which versions of the tools these are.
    pub(crate) fn versions(&self) -> Result<String> {
        let ours = run(self.push(&["--version"])?, "push --version")?.ok()?;
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let ansible = Command::new(python_tool("ansible")).arg("--version").output()?;
        let pyinfra = Command::new(python_tool("pyinfra")).arg("--version").output()?;
        let theirs = [ansible, pyinfra].map(|output| first(String::from_utf8_lossy(&output.stdout).into_owned()));
        let others = self.sh("ssh -V 2>&1; apt-get --version | head -n 1; dpkg --version | head -n 1")?;
        Ok([vec![ours], theirs.to_vec(), vec![others]].concat().join("\n"))
    }

    /// A new version of the service, as a package beside the others and as a release in the bucket.
    pub(crate) fn build(&self, change: impl FnOnce(Version) -> Version) -> Result<Built> {
        let number = self.versions.get() + 1;
        self.versions.set(number);
        let name = format!("v{number}");
        let beside = Target { url: format!("file://{}", self.path("packages").display()), endpoint: None };
        fs::create_dir_all(self.path("packages"))?;
        let release = self.service.release(&beside, &change(Version::new(&name)))?;
        let deb = self.path("packages").join("debs").join(release.as_str());
        let mut upload = Command::new(Programs::get()?.release());
        upload.arg("upload").arg(&deb);
        self.scenario.target().apply(&mut upload);
        run(upload, "release upload")?.ok()?;
        let version = self.sh(&format!("dpkg-deb --field '{}' Version", deb.display()))?;
        Ok(Built { answer: format!("web {name}"), release, deb, version })
    }

    /// Puts a package into the repository, which is then signed anew.
    pub(crate) fn publish(&self, version: &Built) -> Result<()> {
        // apt asks for what is newer than what it has, by the second: two within one second would look the same.
        let script = format!(
            "cp '{}' repository/web_{}.deb && cd repository && apt-ftparchive packages . > Packages && \
             last=$(stat --format %Y InRelease 2> /dev/null || echo 0) && rm -f InRelease && \
             apt-ftparchive release . > ../Release && \
             GNUPGHOME=$PWD/../gnupg gpg --batch --quiet --clearsign --output InRelease ../Release && \
             {{ [ \"$(stat --format %Y InRelease)\" -gt \"$last\" ] || touch --date \"@$((last + 1))\" InRelease; }}",
            version.deb.display(),
            version.version.replace(|c: char| !c.is_ascii_alphanumeric(), "-"),
        );
        self.sh(&script).map(drop)
    }

    /// A server for a tool, without the service.
    pub(crate) fn server(&self, tool: Tool) -> Result<Server> {
        if tool == Tool::Push {
            return self.own_server();
        }
        let image = Image::debian()?.with_debian_packages(&OTHERS)?;
        let key = fs::read_to_string(self.path("key.pub"))?;
        let machine = Machine::options("other", &image)?.reach(self.repository_port);
        let source =
            format!("deb [signed-by=/etc/apt/keyrings/compare.gpg] http://127.0.0.1:{}/ ./\n", self.repository_port);
        let machine = machine.file("/root/.ssh/authorized_keys", &key).file("/etc/apt/sources.list", &source).boot()?;
        let keyring = fs::read(self.path("repository.gpg"))?;
        let script = "chmod -R go= /root/.ssh && mkdir -p /etc/apt/keyrings && cat > /etc/apt/keyrings/compare.gpg";
        machine.run_with(script, &keyring, PATIENCE)?.ok()?;
        let ssh_port = machine.expose(22)?;
        let link = self.round_trip.map(|round_trip| Link::to(ssh_port, round_trip)).transpose()?;
        let ssh_port = link.as_ref().map_or(ssh_port, Link::port);
        Ok(Server { machine, ssh_port, metadata: None, _link: link })
    }

    /// A server with an agent that hears of a push by its metadata server, as on Google's cloud.
    fn own_server(&self) -> Result<Server> {
        let metadata = Arc::new(self.runtime.block_on(FakeMetadata::start()));
        self.servers.set(self.servers.get() + 1);
        let name = format!("own-{}", self.servers.get());
        self.compute.add(ZONE, &name);
        self.compute.mirror(ZONE, &name, metadata.clone());
        let port = port_of(&metadata.host())?;
        let environment = format!("[Service]\nEnvironment=GCE_METADATA_HOST={}\n", metadata.host());
        // As configured on a server of one's own, but for the metadata server that is no Google's.
        let config = "poll = \"5m\"\nhealth_window = \"10s\"\nmetadata = \"on\"\n";
        let options = self.scenario.server_options(&name)?.reach(port);
        let options = options.file("/etc/pulld/pulld.d/60-compare.toml", config).file(DROP_IN, &environment);
        let machine = options.boot()?;
        let server = Server { machine, ssh_port: 0, metadata: Some(metadata), _link: None };
        self.wait_until_it_listens(&server);
        Ok(server)
    }

    /// Waits until an agent hangs at its metadata server. Nothing to wait for elsewhere.
    pub(crate) fn wait_until_it_listens(&self, server: &Server) {
        if let Some(metadata) = &server.metadata {
            self.runtime.block_on(metadata.until(|seen| seen.hanging == 1));
        }
    }

    /// Waits until the agent's report says how a push went. Nothing to wait for elsewhere.
    pub(crate) fn wait_for_report(&self, server: &Server, version: &Built) -> Result<()> {
        if server.metadata.is_none() {
            return Ok(());
        }
        self.scenario.wait_for_status(&server.machine, "the agent reports how it went", |status| {
            let app = status.apps.iter().find(|app| app.desired.as_ref() == Some(&version.release))?;
            (app.activity.is_none() && app.state != bucket::AppState::Pending).then_some(())
        })
    }

    /// `push` with the bucket and the cloud of the stage.
    pub(crate) fn push(&self, arguments: &[&str]) -> Result<Command> {
        let mut push = Command::new(Programs::get()?.push());
        self.scenario.target().apply(&mut push);
        push.args(arguments).env("PUSH_GCE_PROJECT", "acme-prod").env("PUSH_GCE_ZONE", ZONE);
        push.env("PUSH_COMPUTE_ENDPOINT", &self.compute_endpoint).env("PUSH_COMPUTE_CREDENTIALS", "anonymous");
        Ok(push)
    }

    /// The options that let ssh in without a question.
    pub(crate) fn ssh_options(&self) -> String {
        format!(
            "-q -i {} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            self.path("key").display()
        )
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the operator's.
    pub(crate) fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    fn sh(&self, script: &str) -> Result<String> {
        let mut command = Command::new("sh");
        command.current_dir(self.directory.path()).args(["-ec", script]);
        run(command, script)?.ok()
    }
}

/// The port in `http://127.0.0.1:PORT/`, or `127.0.0.1:PORT`.
fn port_of(address: &str) -> Result<u16> {
    let port = address.trim_end_matches('/').rsplit_once(':').with_context(|| format!("`{address}` has no port"))?.1;
    Ok(port.parse()?)
}

/// A program that `make compare` got from the Python package index.
pub(crate) fn python_tool(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/compare/bin")).join(name)
}

/// Runs a command of the operator's to its end.
pub(crate) fn run(command: Command, shown: &str) -> Result<Output> {
    harness::run(command, shown, b"", PATIENCE)
}

impl Repository {
    fn start(directory: &Path) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "TERM",
            "python3",
            "-u",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "--directory",
        ]);
        let mut server = command.arg(directory).arg("0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        // `Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ...`
        let port = line.split_whitespace().skip_while(|word| *word != "port").nth(1);
        let port = port.and_then(|port| port.parse().ok()).with_context(|| format!("python3 said {line:?}"))?;
        Ok(Self { server, port })
    }
}
