//! What is told to end while something is under way.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use harness::{
    gcs::{Fault, Kind, Request},
    registry::Debian,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    configuration::Configuration,
    images::{World as Images, text},
    messages::until,
    watching::{World, report},
};

/// How long a document takes to be written.
const WRITE: Duration = Duration::from_secs(2);

/// How many servers: sixteen are written at a time.
const SERVERS: usize = 150;

fn is_write(request: &Request) -> bool {
    request.kind == Kind::Insert && request.object.starts_with("server/")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_app_that_is_told_to_end_in_a_wave_ends_within_seconds_and_another_one_writes_the_rest() {
    let world = World::new("MaxDown: '100%'").await;
    let servers: Vec<String> = (10..10 + SERVERS).map(|n| format!("web-{n}")).collect();
    for server in &servers {
        world.gcs.put("acme", &format!("server/{server}.json"), r#"["web/"]"#);
        report(&world.bucket, &server.parse().unwrap()).await;
    }
    world.gcs.fail(Kind::Insert, "server/", Fault::Slow(WRITE));
    // Who begins the rollout is gone with its first writes.
    let mut watcher = world.push(&["watch", "--poll", "1h"]);
    world.gcs.until(|requests| requests.iter().any(is_write)).await;
    watcher.kill();
    let of_watcher = world.gcs.requests().iter().filter(|request| is_write(request)).count();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--refresh", "1s"];
    let mut web_app = world.push(&serve);
    // More than the other may still have had under way.
    world.gcs.until(|requests| requests.iter().filter(|request| is_write(request)).count() > of_watcher + 16).await;
    kill_process(Pid::from_child(&web_app.0), Signal::TERM).expect("it runs");
    let told = Instant::now();
    let ended = tokio::task::spawn_blocking(move || web_app.0.wait()).await.expect("no panic").expect("it ends");
    assert!(ended.success() && told.elapsed() < WRITE * 4, "{ended} after {:?}", told.elapsed());
    world.gcs.heal();
    let written = async || {
        let mut written = 0;
        for server in &servers {
            written += usize::from(world.named(server).await.as_ref() == Some(&world.release));
        }
        written
    };
    let at_the_end = written().await;
    assert!((1..SERVERS / 2).contains(&at_the_end), "{at_the_end} were written");
    let _another = world.push(&serve);
    let all = async {
        while written().await < SERVERS {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), all).await.expect("the rest is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_told_to_end_leaves_a_push_that_hangs_to_the_next_one() {
    let world = Images::new(Debian::Thirteen);
    let configuration = Configuration::new(&world);
    let key = configuration.key("'prod/web.yaml'");
    world.configure(&[("web", &format!("Tag: 'prod', {key}"))]);
    let (commit, digest) = world.land("web", "one").await;
    let begun = world.path("begun");
    configuration.hook(&format!("touch '{}'; exec sleep 300", begun.display()));
    let mut watch = world.command(&["watch", "--poll", "1h"]);
    let watcher = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("push runs");
    until("it pushes", || begun.exists());
    kill_process(Pid::from_child(&watcher), Signal::TERM).expect("it runs");
    let told = Instant::now();
    let ended = tokio::task::spawn_blocking(move || watcher.wait_with_output()).await.expect("no panic");
    let ended = ended.expect("it ends");
    assert!(
        ended.status.success() && told.elapsed() < Duration::from_secs(40),
        "{:?}: {}",
        told.elapsed(),
        text(&ended)
    );
    assert!(text(&ended).contains("warning: what was under way did not end within 20s"), "{}", text(&ended));
    assert_eq!((world.digest("web", "prod").await, configuration.commits()), (digest, 1), "what came before is done");
    fs::remove_file(configuration.repo().join("hooks/pre-receive")).expect("the hook");
    world.round();
    assert_eq!(configuration.commits(), 2);
    assert!(configuration.show("prod/web.yaml").contains(&commit));
}
