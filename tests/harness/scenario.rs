//! One story: a bucket, what is released into it, and servers that pull from it.

use std::{fs, path::PathBuf, process::Command, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bucket::{
    AppState, AppStatus, Bucket, BucketOptions, Credentials, Generation, ReleaseMetadata, ReleaseName, ServerDocument,
    ServerName, SourceFile, Status,
};
use tokio::runtime::Runtime;

use crate::{
    Image, Link, Machine, MachineOptions, Output, Programs, Service, Slot, Target, TempDir, command,
    gcs::{FakeGcs, Fault, Kind, Request},
    machine::Judge,
    settled::wait_until_settled,
};

/// Where the bucket's directory is on every server.
const BUCKET: &str = "/srv/push";

/// Longest time from a push until the server says how it went; two or three seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// How the agents of a story are configured: quick to notice, quick to judge.
const AGENT: &str = "\
poll = \"1s\"
jitter = \"0s\"
health_window = \"2s\"
";

/// A bucket, what is released into it, and servers that pull from it.
#[derive(Debug)]
pub struct Scenario {
    target: Target,
    bucket: Bucket,
    runtime: Arc<Runtime>,
    is_judged: bool,
    directory: TempDir,
    gcs: Option<FakeGcs>,
    _link: Option<Link>,
    _slot: Slot,
}

impl Scenario {
    /// A story on a new, empty `file://` bucket.
    pub fn new() -> Result<Self> {
        let slot = Slot::take()?;
        let directory = TempDir::new()?;
        let path = directory.path().join("bucket");
        fs::create_dir(&path)?;
        let target = Target { url: format!("file://{}", path.display()), endpoint: None };
        Self::on(slot, directory, target, None, None)
    }

    /// A story on a new, empty `gs://` bucket of a fake of Google's storage.
    pub fn over_gcs() -> Result<Self> {
        let slot = Slot::take()?;
        let gcs = FakeGcs::start("push-scenario");
        let target = Target { url: "gs://push-scenario".to_owned(), endpoint: Some(gcs.url.clone()) };
        Self::on(slot, TempDir::new()?, target, Some(gcs), None)
    }

    /// The same, where the bucket is far from everybody.
    pub fn over_far_gcs(round_trip: Duration) -> Result<Self> {
        let slot = Slot::take()?;
        let gcs = FakeGcs::start("push-scenario");
        let link = Link::to(port_of(&gcs.url)?, round_trip)?;
        let endpoint = Some(format!("http://127.0.0.1:{}", link.port()));
        let target = Target { url: "gs://push-scenario".to_owned(), endpoint };
        Self::on(slot, TempDir::new()?, target, Some(gcs), Some(link))
    }

    fn on(slot: Slot, directory: TempDir, target: Target, gcs: Option<FakeGcs>, link: Option<Link>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut options = BucketOptions::default();
        if let Some(gcs) = &gcs {
            options.endpoint = Some(gcs.url.parse()?);
            options.credentials = Credentials::Anonymous;
        }
        let bucket = runtime.block_on(Bucket::open(&target.url.parse()?, &options))?;
        // As the first release does: the agents of a story may boot before anything is released.
        runtime.block_on(bucket.mark())?;
        let (runtime, is_judged) = (Arc::new(runtime), true);
        Ok(Self { target, bucket, runtime, is_judged, directory, gcs, _link: link, _slot: slot })
    }

    /// The same for what is no story: its servers may end as they like.
    #[must_use]
    pub fn unjudged(mut self) -> Self {
        self.is_judged = false;
        self
    }

    /// The bucket, for `release` and `push`.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What the fake of Google's storage was asked so far; nothing of a `file://` bucket.
    pub fn requests(&self) -> Vec<Request> {
        self.gcs.as_ref().map(FakeGcs::requests).unwrap_or_default()
    }

    /// Has the next `times` requests of a kind suffer a fault whose object contains `object`, on a `gs://` bucket.
    pub fn fail_next(&self, kind: Kind, object: &str, times: usize, fault: Fault) {
        if let Some(gcs) = &self.gcs {
            gcs.fail_next(kind, object, times, fault);
        }
    }

    /// Uploads a package under a name, with metadata that `release` might not give it.
    pub fn upload(&self, release: &ReleaseName, deb: &SourceFile, metadata: &ReleaseMetadata) -> Result<()> {
        Ok(self.runtime.block_on(self.bucket.upload_release(release, deb, metadata, &|_| {})).map(drop)?)
    }

    /// A directory for whatever the story needs, not there yet.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The file of an object in a `file://` bucket, for those who tamper with it.
    pub fn object(&self, path: &str) -> PathBuf {
        self.path("bucket").join(path)
    }

    /// A service in a repository of its own, to serve HTTP on `port`.
    pub fn service(&self, app: &str, port: u16) -> Result<Service> {
        Service::new(&self.path(app), app, port)
    }

    /// Boots a server with pulld, which pulls from the bucket. When it goes, everything has to hold that must of a server
    /// whose agent has nothing left to do.
    pub fn server(&self, name: &str) -> Result<Machine> {
        self.server_options(name)?.boot()
    }

    /// Like [`Scenario::server`], to be changed before it boots.
    pub fn server_options(&self, name: &str) -> Result<MachineOptions> {
        let options = Machine::options(name, &Image::with_pulld()?)?;
        let (options, bucket) = match &self.target.endpoint {
            None => (options.share(&self.path("bucket"), BUCKET), format!("bucket = \"file://{BUCKET}\"\n")),
            Some(endpoint) => {
                let access = format!("gcs_endpoint = \"{endpoint}\"\ngcs_credentials = \"anonymous\"\n");
                (options.reach(port_of(endpoint)?), format!("bucket = \"{}\"\n{access}", self.target.url))
            }
        };
        let options = if self.is_judged { options.judged_by(self.judge()) } else { options };
        Ok(options.file("/etc/pulld/pulld.d/50-scenario.toml", &format!("{bucket}{AGENT}")))
    }

    /// Runs `push`.
    pub fn push(&self, arguments: &[&str]) -> Result<Output> {
        let mut push = Command::new(Programs::get()?.push());
        push.args(arguments);
        self.target.apply(&mut push);
        command::run(push, &format!("push {}", arguments.join(" ")), b"", PATIENCE)
    }

    /// Waits until a server's agent has reported for the first time.
    pub fn wait_for_agent(&self, server: &Machine) -> Result<()> {
        self.wait_for_status(server, "the agent reports", |_| Some(()))
    }

    /// Pushes a release to a server, whether or not that has the app yet.
    pub fn deploy(&self, release: &ReleaseName, server: &Machine) -> Result<()> {
        self.push(&["deploy", release.as_str(), server.name(), "--force", "-m", "scenario"])?.ok().map(drop)
    }

    /// Writes a server's document anew: these releases, and nothing else.
    pub fn list(&self, releases: &[ReleaseName], server: &Machine) -> Result<Generation> {
        let (name, document) = (server.name().parse()?, ServerDocument::parse(&serde_json::to_vec(releases)?));
        let document = document.map_err(|reason| anyhow::anyhow!(reason))?;
        self.runtime.block_on(async {
            let seen = self.bucket.server_document(&name).await?.map(|(generation, _)| generation);
            Ok(self.bucket.write_server_document(&name, &document, seen).await?)
        })
    }

    /// The last report of a server's agent.
    pub fn status(&self, server: &Machine) -> Result<Option<Status>> {
        let name: ServerName = server.name().parse()?;
        Ok(self.runtime.block_on(self.bucket.status(&name))?.map(|(_, status)| status))
    }

    /// Waits until a server reports something in particular.
    pub fn wait_for_status<T>(
        &self,
        server: &Machine,
        what: &str,
        mut find: impl FnMut(&Status) -> Option<T>,
    ) -> Result<T> {
        let waited = server.wait_until(what, PATIENCE, |server| Ok(self.status(server)?.as_ref().and_then(&mut find)));
        waited.with_context(|| match self.status(server) {
            Ok(Some(status)) => serde_json::to_string_pretty(&status).unwrap_or_default(),
            Ok(None) => format!("`{}` never reported", server.name()),
            Err(error) => format!("the report of `{}` can't be read: {error:#}", server.name()),
        })
    }

    /// Waits until a server reports an app as `state`, about `release` being desired, and until everything holds that must
    /// of a server whose agent has nothing left to do.
    pub fn wait_for_app(&self, server: &Machine, release: &ReleaseName, state: AppState) -> Result<AppStatus> {
        let app = self.wait_for_reported_app(server, release, state)?;
        self.wait_until_settled(server)?;
        Ok(app)
    }

    /// Waits until the rules of pulld's checker hold of a server.
    pub fn wait_until_settled(&self, server: &Machine) -> Result<()> {
        wait_until_settled(server, &self.bucket, &self.runtime)
    }

    /// The same, for when the server goes.
    fn judge(&self) -> Judge {
        let (bucket, runtime) = (self.bucket.clone(), self.runtime.clone());
        Judge(Box::new(move |server| wait_until_settled(server, &bucket, &runtime)))
    }

    fn wait_for_reported_app(&self, server: &Machine, release: &ReleaseName, state: AppState) -> Result<AppStatus> {
        self.wait_for_status(server, &format!("`{release}` is {state:?}"), |status| {
            let app = status.apps.iter().find(|app| app.app == release.app().as_str())?;
            (app.desired.as_ref() == Some(release) && app.state == state).then(|| app.clone())
        })
    }

    /// Waits until a server reports that it has a release, as desired.
    pub fn wait_until_converged(&self, server: &Machine, release: &ReleaseName) -> Result<()> {
        let app = self.wait_for_app(server, release, AppState::Converged)?;
        anyhow::ensure!(
            app.installed.as_ref() == Some(release),
            "`{release}` is converged, but not installed: {app:?}"
        );
        Ok(())
    }

    /// Pushes a release and waits until the server has it.
    pub fn install(&self, release: &ReleaseName, server: &Machine) -> Result<()> {
        self.deploy(release, server)?;
        self.wait_until_converged(server, release)
    }
}

fn port_of(url: &str) -> Result<u16> {
    url.parse::<url::Url>()?.port().with_context(|| format!("`{url}` has no port"))
}
