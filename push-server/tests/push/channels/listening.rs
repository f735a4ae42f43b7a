//! `push watch --listen`: what a monitor sees of a watcher.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use super::{Channels, only, stem};
use crate::{failed, ok};

/// A watcher that listens; it is killed with this.
struct Watching {
    child: Child,
    address: String,
}

impl Watching {
    fn start(channels: &Channels) -> Self {
        let mut watch = channels.command("watch --poll 1s --listen 127.0.0.1:0");
        let mut child = watch.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().strip_suffix("/metrics").unwrap();
        let address = address.to_owned();
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self { child, address }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The values of series that begin so, in their order.
    fn values(&self, series: &str) -> Vec<u64> {
        let text = self.get("/metrics");
        let lines = text.lines().filter(|line| line.starts_with(series));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
    }

    /// Waits until a series has such a value.
    fn until(&self, series: &str, is_wanted: impl Fn(u64) -> bool) {
        let begun = Instant::now();
        loop {
            match self.values(series)[..] {
                [value] if is_wanted(value) => return,
                ref values if begun.elapsed() > Duration::from_mins(1) => panic!("{series}: {values:?}"),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many sockets a process listens at, by proc(5).
fn listens_at(child: &Child) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let sockets: BTreeSet<String> = links.map(|link| link.display().to_string()).collect();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>()));
    rows.filter(|row| row[3] == "0A" && sockets.contains(&format!("socket:[{}]", row[9]))).count()
}

#[tokio::test]
async fn every_series_is_there_with_0_before_the_first_round_ends_and_who_is_not_told_to_listens_nowhere() {
    let channels = Channels::new("").await;
    // Connections are taken, and never answered.
    let hanging = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let repo = format!("http://{}/web.git", hanging.local_addr().unwrap());
    channels.configure(&format!(r#"[{{ App: "web", Repo: "{repo}" }}, {{ App: "api", Repo: "{repo}" }}]"#), "");
    let watching = Watching::start(&channels);
    assert!(watching.get("/healthz").ends_with("\r\n\r\nok\n"));
    let metrics = watching.get("/metrics");
    assert!(metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");
    for app in ["api", "web"] {
        for name in ["moves_total", "stale_total", "failures"] {
            let series = format!("push_watch_{name}{{app=\"{app}\",channel=\"prod\"}} 0\n");
            assert!(metrics.contains(&series), "{series}{metrics}");
        }
        for state in ["there", "pushed", "waits", "left-alone", "failed"] {
            let series = format!("push_watch_followers{{app=\"{app}\",channel=\"prod\",state=\"{state}\"}} 0\n");
            assert!(metrics.contains(&series), "{series}{metrics}");
        }
    }
    for result in ["accepted", "unmerged", "foreign", "undecodable", "oversized"] {
        let series = format!("push_watch_messages_total{{result=\"{result}\"}} 0\n");
        assert!(metrics.contains(&series), "{series}{metrics}");
    }
    // Nothing has ended the round.
    watching.until("push_watch_round_age_seconds", |age| age >= 1);
    assert_eq!(listens_at(&watching.child), 1);
    let (quiet, _) = (channels.command("watch").spawn().unwrap(), hanging.accept().unwrap());
    let quiet = Watching { child: quiet, address: String::new() };
    hanging.accept().unwrap();
    assert_eq!(listens_at(&quiet.child), 0);
}

#[tokio::test]
async fn systemd_is_told_when_it_is_ready_and_when_it_ends() {
    let channels = Channels::new("").await;
    let socket = channels.elsewhere.path().join("notify");
    let told = UnixDatagram::bind(&socket).unwrap();
    told.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let next = || {
        let mut message = [0; 100];
        let length = told.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).trim().to_owned()
    };
    let mut watcher = channels.command("watch").env("NOTIFY_SOCKET", &socket).spawn().unwrap();
    assert_eq!(next(), "READY=1");
    let pid = rustix::process::Pid::from_child(&watcher);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(next(), "STOPPING=1");
    assert!(watcher.wait().unwrap().success());
}

#[tokio::test]
async fn moves_builds_that_come_late_failures_and_followers_are_counted() {
    let (mut channels, commits, _) = Channels::following(&["web-1", "web-2"], ["one", "two", "three"]).await;
    ok(&channels.push("hold web-2 -m debugging"));
    let watching = Watching::start(&channels);
    let of = |name: &str| format!("push_watch_{name}{{app=\"web\",channel=\"prod\"");
    watching.until(&of("moves_total"), |moves| moves == 1);
    let three = channels.release(&commits[2]).await;
    watching.until(&of("moves_total"), |moves| moves == 2);
    assert_eq!(channels.document("web-1"), only(&three));
    watching.until(&format!("{},state=\"there\"}}", of("followers")), |there| there == 1);
    assert_eq!(watching.values(&format!("{},state=\"left-alone\"}}", of("followers"))), [1]);
    assert_eq!(watching.values(&of("stale_total")), [0]);
    channels.release(&commits[1]).await;
    watching.until(&of("stale_total"), |stale| stale == 1);
    // A repository that is away for a while.
    let (repo, away) = (channels.repo(), channels.elsewhere.path().join("away"));
    std::fs::rename(&repo, &away).unwrap();
    watching.until(&of("failures"), |failures| failures >= 2);
    std::fs::rename(&away, &repo).unwrap();
    watching.until(&of("failures"), |failures| failures == 0);
    // A branch that was rewritten.
    channels.git("reset --quiet --hard HEAD~1");
    watching.until(&of("failures"), |failures| failures >= 2);
    channels.git("reset --quiet --hard HEAD@{1}");
    watching.until(&of("failures"), |failures| failures == 0);
    // Each late build once, however many rounds see it.
    assert_eq!((watching.values(&of("stale_total")), watching.values(&of("moves_total"))), (vec![1], vec![2]));
    // Nothing can be looked at: so it is with all channels.
    let halt = channels.fixture.path("halt.json");
    std::fs::write(&halt, "{").unwrap();
    watching.until(&of("failures"), |failures| failures >= 2);
    std::fs::remove_file(&halt).unwrap();
    watching.until(&of("failures"), |failures| failures == 0);
}

#[tokio::test]
async fn a_move_is_told_and_counted_also_when_what_comes_after_it_fails() {
    let (mut channels, commits) = Channels::in_waves(&["web-1"], ["one", "two", "three"]).await;
    // No push can be made.
    let (pushes, away) = (channels.fixture.path("pushes"), channels.elsewhere.path().join("pushes"));
    std::fs::rename(&pushes, &away).unwrap();
    std::fs::write(&pushes, "").unwrap();
    let two = channels.release(&commits[1]).await;
    let said = failed(&channels.push("watch --once"));
    assert!(said.contains(&format!("web prod: moved to {}", stem(&two))) && said.contains("web prod: error"), "{said}");
    let watching = Watching::start(&channels);
    let of = |name: &str| format!("push_watch_{name}{{app=\"web\",channel=\"prod\"");
    channels.release(&commits[2]).await;
    watching.until(&of("moves_total"), |moves| moves == 1);
    watching.until(&of("failures"), |failures| failures >= 1);
}
