//! How long after a push its page shows it: of this web app, and of another process, of which it knows by reading the bucket.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bucket::{ReleaseName, ServerDocument};
use harness::gcs::FakeGcs;

use crate::web::{get, post};

/// How often each is looked for.
const TIMES: usize = 3;
/// The refresh of `push serve` unless it is told otherwise.
const REFRESH: Duration = Duration::from_secs(10);
/// What it may take, without the refresh.
const TARGET: Duration = Duration::from_millis(500);

/// One app of a server whose release changes: the server, what it has of the app, and what it gets.
pub(crate) struct Change {
    pub(crate) server: String,
    pub(crate) from: ReleaseName,
    pub(crate) to: ReleaseName,
    /// The document with what it gets.
    pub(crate) document: ServerDocument,
}

/// Times both, with as many changes as it asks for, no two of one server.
pub(crate) fn bench(address: &str, token: &str, gcs: &FakeGcs, changes: impl Fn(usize) -> Change) -> Result<()> {
    let mut slowest = [Duration::ZERO; 2];
    for n in 0..TIMES {
        let Change { server, from, to, .. } = changes(n);
        let (from, stem) = (from.stem(), to.stem());
        let body =
            format!(r#"{{"kind": "deploy", "rows": [{{"server": "{server}", "from": "{from}", "to": "{stem}"}}]}}"#);
        let begun = Instant::now();
        let (status, _) = post(address, "/api/v1/pushes", token, &body)?;
        ensure!(status == 200, "a push to `{server}` was answered {status}");
        until_shown(address, &server, &to)?;
        slowest[0] = slowest[0].max(begun.elapsed());

        let Change { server, to, document, .. } = changes(TIMES + n);
        let begun = Instant::now();
        gcs.put("bench", &format!("server/{server}.json"), document.to_json());
        until_shown(address, &server, &to)?;
        slowest[1] = slowest[1].max(begun.elapsed());
    }
    for (what, took, target) in
        [("a push of its own", slowest[0], TARGET), ("a push of another process", slowest[1], REFRESH + TARGET)]
    {
        let over = if took > target { "  over the target" } else { "" };
        println!(
            "  {what:<27}is shown after {:.2} s at most; target: {:.1} s{over}",
            took.as_secs_f64(),
            target.as_secs_f64()
        );
    }
    Ok(())
}

fn until_shown(address: &str, server: &str, release: &ReleaseName) -> Result<()> {
    let (begun, commit) = (Instant::now(), release.commit().short().as_bytes());
    loop {
        let (status, page) = get(address, &format!("/servers/{server}"))?;
        ensure!(status == 200, "the page of `{server}` was answered {status}");
        if page.windows(commit.len()).any(|part| part == commit) {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_mins(1), "the page of `{server}` never shows `{release}`");
        thread::sleep(Duration::from_millis(20));
    }
}
