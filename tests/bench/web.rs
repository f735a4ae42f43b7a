//! The web app over a large fleet: every page many times, memory, and what it asks of the bucket.
//!
//! The bucket is the fake in this process: a million releases are there in seconds, and no disk is worn. The times are
//! those of whole requests over loopback, the server's own work and a little more.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bucket::{
    AgentStatus, AppState, AppStatus, Bucket, BucketOptions, BucketUrl, Credentials, DocumentStatus, Generation,
    HistoryEntry, PushKind, ReleaseMetadata, ReleaseName, ServerDocument, ServerState, Status, Timestamp, UnitStatus,
};
use harness::{TempDir, gcs::FakeGcs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    measure::{memory, ticks},
    seen,
};

const SERVERS: usize = 10_000;
const APPS_EACH: usize = 5;
const APPS: usize = 100;
const RELEASES_EACH: usize = 10_000;
const BUILDERS: usize = 20;
const PUSHES: usize = 300;
/// Servers of a large push.
const MANY: usize = 2000;
/// A group of that many, by which they are found.
const POLICY: &str = r#"{ Groups: { first: { Servers: ["server-00*", "server-01*"] } } }"#;
/// Requests of each page while such a push is under way.
const TIMES_PUSHING: usize = 50;
/// Requests of each page.
const TIMES: usize = 200;
/// The longest that the first picture may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long it is watched while nothing happens.
const WATCHED: Duration = Duration::from_secs(30);
/// 2026-11-01, some days before which the oldest release was built.
const NEWEST: i64 = 1_793_491_200;

const TARGET_MS: f64 = 50.0;
/// Whoever watches the fleet asks for `/metrics` all the time.
const METRICS_TARGET_MS: f64 = 20.0;
const TARGET_MB: f64 = 300.0;
const FIRST_PICTURE_TARGET_S: f64 = 10.0;
/// Requests that are held back half sent: more than systemd gives a process descriptors.
const HALF_SENT: usize = 1100;

pub(crate) fn bench(push: &Path) -> Result<()> {
    let releases = APPS * RELEASES_EACH;
    println!(
        "the web app over {SERVERS} servers of {APPS_EACH} apps each and {releases} releases of {APPS} apps, gs://"
    );
    let gcs = FakeGcs::start("bench");
    let seeded = Instant::now();
    seed(&gcs)?;
    println!("  seeded           in {:.0} s", seeded.elapsed().as_secs_f64());

    let directory = TempDir::new()?;
    let policy = directory.path().join("skiapush.conf");
    std::fs::write(&policy, POLICY).context("could not write a policy")?;
    let (mut server, address, token) = Server::start(push, &gcs, &policy)?;
    let started = Instant::now();
    while get(&address, "/readyz")?.0 != 200 {
        ensure!(started.elapsed() < PATIENCE, "there is no picture after {PATIENCE:?}");
        server.must_live()?;
        thread::sleep(Duration::from_millis(50));
    }
    let took = started.elapsed().as_secs_f64();
    let over = if took > FIRST_PICTURE_TARGET_S { "  over the target" } else { "" };
    println!("  first picture    after {took:.1} s and {} requests{over}", gcs.requests().len());

    // The second round looks at the history once more, and the sweep over the releases begins.
    let requests = gcs.requests().len();
    let cpu = ticks(server.0.id()).context("the server is gone")?;
    thread::sleep(WATCHED);
    let cpu = ticks(server.0.id()).context("the server is gone")? - cpu;
    let seen = gcs.requests().split_off(requests);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for request in &seen {
        let below = request.object.split('/').next().unwrap_or_default();
        *kinds.entry(format!("{:?} of {below}/", request.kind)).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    println!("  at rest          {} in {WATCHED:?}, {:.2} s of processor time", kinds.join(", "), cpu as f64 / 100.0);

    println!("  {:<44}{:>9}{:>9}{:>9}{:>9}", "page", "p50 ms", "p95 ms", "max ms", "kB");
    for (name, path) in pages() {
        time(&address, name, path, TIMES, target(name))?;
    }
    seen::bench(&address, &token, &gcs, change)?;
    println!("  while pushes to {MANY} servers are under way");
    let pushing = Pushing::start(&address, &token);
    for (name, path) in pages() {
        time(&address, name, path, TIMES_PUSHING, target(name))?;
    }
    let pushes = pushing.end()?;
    let rollout = begin_rollout(&address, &token, pushes)?;
    time(&address, "a rollout to 2,000 servers", |_| format!("/pushes/{rollout}"), TIMES, TARGET_MS)?;
    let held = half_sent(&address)?;
    time(&address, "healthz beside 1,100 half-sent requests", |_| "/healthz".to_owned(), TIMES, TARGET_MS)?;
    drop(held);
    let mb = |key| memory(server.0.id(), key).map(|bytes| bytes as f64 / 1e6).context("the server is gone");
    let (rss, peak) = (mb("VmRSS:")?, mb("VmHWM:")?);
    first_paint(&address)?;
    println!(
        "  targets          p95 {TARGET_MS:.0} ms for every page, {METRICS_TARGET_MS:.0} ms for metrics, {TARGET_MB:.0} MB \
         resident, {FIRST_PICTURE_TARGET_S:.0} s to the first picture"
    );
    println!("  memory           {rss:.0} MB resident, {peak:.0} MB at most");
    Ok(())
}

fn target(page: &str) -> f64 {
    if page == "metrics" { METRICS_TARGET_MS } else { TARGET_MS }
}

/// Asks for a page many times, and prints how long that takes.
fn time(address: &str, name: &str, path: impl Fn(usize) -> String, requests: usize, target: f64) -> Result<()> {
    let mut times = Vec::new();
    let mut size = 0;
    for n in 0..requests {
        let path = path(n);
        let begun = Instant::now();
        let (status, answer) = get(address, &path)?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(status == 200, "`{path}` was answered {status}");
        size = size.max(answer.len());
    }
    times.sort_by(f64::total_cmp);
    let (p50, p95, max) = (times[requests / 2], times[requests * 95 / 100], times[requests - 1]);
    let over = if p95 > target { "  over the target" } else { "" };
    println!("  {name:<44}{p50:>9.1}{p95:>9.1}{max:>9.1}{:>9}{over}", size / 1000);
    Ok(())
}

/// Pushes of one release after the other to many servers, without a pause.
struct Pushing {
    ending: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<(usize, Duration)>>,
}

impl Pushing {
    fn start(address: &str, token: &str) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let (address, token, is_ending) = (address.to_owned(), token.to_owned(), ending.clone());
        let thread = thread::spawn(move || {
            let (mut pushes, begun) = (0, Instant::now());
            while !is_ending.load(Ordering::Relaxed) {
                let (status, _) = push_to_many(&address, &token, pushes, "")?;
                ensure!(status == 200, "a push to {MANY} servers was answered {status}");
                pushes += 1;
            }
            Ok((pushes, begun.elapsed()))
        });
        Self { ending, thread }
    }

    /// Ends them, and says how many there were.
    fn end(self) -> Result<usize> {
        self.ending.store(true, Ordering::Relaxed);
        let Ok(ended) = self.thread.join() else { bail!("the pushes were given up") };
        let (pushes, took) = ended?;
        println!("  pushes           {pushes} to {MANY} servers each, in {:.1} s", took.as_secs_f64());
        Ok(pushes)
    }
}

/// Begins a rollout to as many servers, after so many pushes, and gives its ID. As no agent reports, it waits in its first wave.
fn begin_rollout(address: &str, token: &str, pushes: usize) -> Result<String> {
    let (status, answer) = push_to_many(address, token, pushes, r#""waves": "1,10%,rest", "#)?;
    ensure!(status == 202, "a rollout to {MANY} servers was answered {status}");
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").context("it was answered without a body")? + 4;
    let begun: serde_json::Value = serde_json::from_slice(&answer[body..]).context("it was not answered in JSON")?;
    Ok(begun["id"].as_str().context("it has no ID")?.to_owned())
}

/// The `n`th push of the first app to the first servers, some of which didn't have it before, with what else is said of it;
/// waits for its end.
fn push_to_many(address: &str, token: &str, n: usize, said: &str) -> Result<(u16, Vec<u8>)> {
    let to = release(0, 20 + n);
    let rows: Vec<String> = (0..MANY)
        .map(|server_number| {
            let had = seeded(server_number).find(|release| release.app() == to.app());
            let from = if n == 0 { had } else { Some(release(0, 20 + n - 1)) };
            let from = from.map(|from| format!(r#""from": "{}", "#, from.stem())).unwrap_or_default();
            format!(r#"{{"server": "{}", {from}"to": "{}"}}"#, server(server_number), to.stem())
        })
        .collect();
    let body = format!(r#"{{"kind": "deploy", "install": true, {said}"rows": [{}]}}"#, rows.join(","));
    post(address, "/api/v1/pushes", token, &body)
}

/// A server, none of those that pushes go to, whose first app gets another release.
fn change(n: usize) -> seen::Change {
    let server_number = MANY + n;
    let from = seeded(server_number).next().expect("a server has apps");
    let to = release(server_number % APPS, 40);
    let mut document = document(server_number);
    document.set(to.clone());
    seen::Change { server: server(server_number), from, to, document }
}

/// The releases that a server's document names at the start.
fn seeded(server_number: usize) -> impl Iterator<Item = ReleaseName> {
    (0..APPS_EACH).map(move |m| release((server_number + m * 17) % APPS, server_number % 7))
}

/// Its document at the start.
fn document(server_number: usize) -> ServerDocument {
    let mut document = ServerDocument::default();
    for release in seeded(server_number) {
        document.set(release);
    }
    document
}

/// Connections on each of which a request was begun and isn't sent to its end.
fn half_sent(address: &str) -> Result<Vec<TcpStream>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("could not open so many files")?;
    let half = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half")?;
        Ok(stream)
    };
    (0..HALF_SENT).map(|_| half()).collect::<Result<_>>().context("could not send half requests")
}

/// From a browser's request to its first contentful paint, page by page.
fn first_paint(address: &str) -> Result<()> {
    let shown = pages().into_iter().filter(|(name, _)| *name != "metrics").map(|(_, path)| path(1));
    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/paint.mjs")).arg(format!("http://{address}"));
    let output = node.args(shown).output().context("could not run node")?;
    ensure!(output.status.success(), "the browser failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut slowest = (0.0, String::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (path, took) = line.rsplit_once(' ').context("a path and a time")?;
        let took: f64 = took.parse()?;
        if took > slowest.0 {
            slowest = (took, path.chars().take(60).collect());
        }
    }
    println!("  first paint      {:.0} ms at most in Chromium ({}); target: 1000 ms", slowest.0, slowest.1);
    Ok(())
}

/// The address of a page, for the nth request.
type Address = fn(usize) -> String;

/// Every page, and how its address varies.
fn pages() -> Vec<(&'static str, Address)> {
    vec![
        ("overview", |_| "/".to_owned()),
        ("servers", |n| format!("/servers?page={}", n % (SERVERS / 100) + 1)),
        ("servers, one app's failed ones", |n| format!("/servers?q=app:{}+state:failed", app(n % APPS))),
        ("servers by a part of the name", |n| format!("/servers?q={n}+-state:failed")),
        ("server", |n| format!("/servers/{}", server(n * 49))),
        ("apps", |_| "/apps".to_owned()),
        ("app", |n| format!("/apps/{}?page={}", app(n % APPS), n % (RELEASES_EACH / 100) + 1)),
        ("history", |n| format!("/history?q={}", app(n % APPS))),
        ("history of a server", |n| format!("/history?server={}", server(n))),
        ("choose an app", |n| format!("/choose?server={}", server(n))),
        ("choose a release", |n| format!("/choose?app={}&server={}&page={}", app(n % APPS), server(n), n % 100 + 1)),
        ("choose a release by words", |n| format!("/choose?app={}&server={}&find=ana3+{n}", app(n % APPS), server(n))),
        ("choose for all that match", |n| format!("/choose?app={0}&q=app:{0}", app(n % APPS))),
        ("plan for a server", |n| format!("/plan?release={}&server={}", release(n % APPS, n * 50).stem(), server(n))),
        ("plan for all that match", |n| {
            let app_number = n % APPS;
            format!("/plan?release={}&q=app:{}", release(app_number, n * 50).stem(), app(app_number))
        }),
        ("plan for 2,000 servers", |n| format!("/plan?release={}&q=group:first", release(0, n * 50).stem())),
        ("release", |n| format!("/releases/{}", release(n % APPS, n % 7).stem())),
        ("compare two servers", |n| format!("/compare?left={}&right={}", server(n), server(n + 100))),
        ("compare two sets", |n| format!("/compare?left=app:{}&right=group:first", app(n % APPS))),
        ("metrics", |_| "/metrics".to_owned()),
    ]
}

fn app(n: usize) -> String {
    format!("app-{n:02}")
}

fn server(n: usize) -> String {
    format!("server-{n:05}")
}

/// The `n`th release of an app, the newest first.
fn release(app_number: usize, n: usize) -> ReleaseName {
    let app = app(app_number);
    // Commits look random: SplitMix64 (Steele, Lea, Flood 2014).
    let mut bits = ((app_number * RELEASES_EACH + n) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let time = Timestamp::from_second(NEWEST - 1000 * i64::try_from(n).expect("a small number"));
    let time = time.expect("a time of these years");
    let name = format!("{app}/{app}:dev{}@ws{}:{time}:{bits:016x}{:024x}.deb", n % BUILDERS, n % 3, bits >> 7);
    name.parse().expect("a release name")
}

fn seed(gcs: &FakeGcs) -> Result<()> {
    for app_number in 0..APPS {
        for n in 0..RELEASES_EACH {
            let name = release(app_number, n);
            let metadata = ReleaseMetadata {
                dirty: n % 9 == 8,
                note: format!("fix the login of customers with two accounts ({n})"),
                services: vec![format!("{}.service", name.app())],
                sha256: format!("{n:064x}").parse().unwrap(),
                size: 10_000_000,
                package: name.app().as_str().parse().unwrap(),
                version: format!("1.0.{n}"),
                architecture: "amd64".parse().unwrap(),
                repo: format!("https://git.example.org/{}.git", name.app()),
                branch: ["main", "main", "main", "hotfix"][n % 4].to_owned(),
                made_by: None,
            };
            gcs.put_with("bench", &format!("debs/{name}"), "", metadata.to_metadata(&name));
        }
    }
    for n in 0..SERVERS {
        let document = document(n);
        gcs.put("bench", &format!("server/{}.json", server(n)), document.to_json());
        let status = serde_json::to_vec(&status(&server(n), n, n.is_multiple_of(50), &document)?)?;
        gcs.put("bench", &format!("status/{}.json", server(n)), status);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(record(gcs))
}

async fn record(gcs: &FakeGcs) -> Result<()> {
    let endpoint = Some(gcs.url.parse()?);
    let options = BucketOptions {
        endpoint,
        credentials: Credentials::Anonymous,
        timeout: Duration::from_secs(30),
        ..BucketOptions::default()
    };
    let bucket = Bucket::open(&"gs://bench".parse::<BucketUrl>()?, &options).await?;
    for n in 0..PUSHES {
        let entry = HistoryEntry {
            time: Timestamp::now(),
            id: format!("{n:016x}"),
            // Those whose documents were written last.
            server: server(SERVERS - 1 - n).parse()?,
            app: Some(app(n % APPS).parse()?),
            from: Some(release(n % APPS, 1)),
            to: Some(release(n % APPS, 0)),
            kind: PushKind::Deploy,
            who: "dev@example.org".to_owned(),
            why: "customers with two accounts can't log in".to_owned(),
            generation: Generation(1),
            push: None,
            without_waves: false,
            channel: None,
        };
        bucket.append_history(&entry).await?;
    }
    Ok(())
}

/// What the agent of the `n`th server reports that has what its document names, or failed to get it.
pub(crate) fn status(server: &str, n: usize, failed: bool, document: &ServerDocument) -> Result<Status> {
    let now = Timestamp::now();
    let apps = document.releases().map(|release| AppStatus {
        app: release.app().to_string(),
        desired: Some(release.clone()),
        installed: Some(release.clone()),
        package: Some(release.app().to_string()),
        state: if failed { AppState::Failed } else { AppState::Converged },
        activity: None,
        activity_since: None,
        since: now,
        reason: failed.then(|| "dpkg exited with 1: dependency problems".to_owned()),
        drift: Vec::new(),
        units: vec![UnitStatus {
            name: format!("{}.service", release.app()),
            active: "active".to_owned(),
            sub: "running".to_owned(),
            since: Some(now),
            restarts: 0,
        }],
        rolled_back: Vec::new(),
        cached: Vec::new(),
    });
    Ok(Status {
        server: server.parse()?,
        machine: format!("{n:032x}"),
        written: now,
        state: if failed { ServerState::Failed } else { ServerState::Converged },
        summary: "5 apps, all as they should be".to_owned(),
        agent: AgentStatus {
            version: "0.1.0".to_owned(),
            started: now,
            poll_seconds: 300,
            heartbeat_seconds: 900,
            next_poll: None,
            health_window_seconds: None,
        },
        // Not older than the document, whose generation nobody here knows.
        document: DocumentStatus {
            generation: Some(Generation(i64::MAX)),
            error: None,
            bad_entries: Vec::new(),
            bad_count: None,
        },
        apps: apps.collect(),
        holds: Vec::new(),
        warnings: Vec::new(),
        events: Vec::new(),
        not_compared: Vec::new(),
    })
}

struct Server(Child);

impl Server {
    fn start(push: &Path, gcs: &FakeGcs, policy: &Path) -> Result<(Self, String, String)> {
        let mut command = Command::new(push);
        command.args(["serve", "--bucket", "gs://bench", "--listen", "127.0.0.1:0"]);
        command.env("PUSH_GCS_ENDPOINT", &gcs.url).env("PUSH_GCS_CREDENTIALS", "anonymous");
        command.env_remove("PUSH_GCE_PROJECT").env_remove("RUNTIME_DIRECTORY").env("PUSH_CONFIG", policy);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("could not start push")?;
        let talk = child.stderr.take().context("push has no stderr")?;
        let mut printed = BufReader::new(child.stdout.take().context("push has no stdout")?).lines();
        let server = Self(child);
        let mut lines = BufReader::new(talk).lines();
        let address = loop {
            let line = lines.next().context("push serve ended at once")??;
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split('/').next().unwrap_or_default().to_owned();
            }
        };
        let token = loop {
            let line = printed.next().context("push serve printed no token")??;
            if let Some((_, token)) = line.split_once("?token=") {
                break token.split(' ').next().unwrap_or_default().to_owned();
            }
        };
        // What it says later must not block it.
        thread::spawn(move || lines.for_each(drop));
        Ok((server, address, token))
    }

    fn must_live(&mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "push serve ended");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One request on a connection of its own: the status, and the whole answer.
pub(crate) fn get(address: &str, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    answer(stream, path)
}

/// The same, that sends JSON.
pub(crate) fn post(address: &str, path: &str, token: &str, body: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    answer(stream, path)
}

fn answer(mut stream: TcpStream, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("`{path}` wasn't answered"))?;
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    Ok((status.with_context(|| format!("`{path}` wasn't answered in HTTP"))?, answer))
}
