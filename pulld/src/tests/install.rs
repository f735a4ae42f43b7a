//! Whole cycles: installing and upgrading.

use std::time::Duration;

use bucket::{AppState, ServerState, Status};

use crate::{
    machine::fake::{Behaviour, release},
    service::{control::CycleReport, wake::Reason},
};

use super::harness::{Server, poll, pull};

#[tokio::test(start_paused = true)]
async fn a_first_install_and_an_upgrade() {
    let server = Server::new().await;
    let (one, two) = (release("web", 1), release("web", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Good).await;
    let generation = server.push(&[&one]).await;
    let mut agent = server.agent();
    let cycle = pull(&mut agent).await;
    assert!(cycle.ok, "{cycle:?}");
    assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
    assert_eq!(server.world.active("web.service"), "active");
    let status = server.status().await;
    assert_eq!((status.state, status.document.generation), (ServerState::Converged, Some(generation)));
    let next_poll = status.agent.next_poll.expect("the report says when the agent polls next");
    let wait = next_poll.duration_since(status.written).as_secs();
    assert!((0..=330).contains(&wait), "in {wait} s, of a poll every 300 s with a jitter of 30 s");
    server.push(&[&two]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two, true)));
    assert_eq!(server.world.restarts(), ["web.service", "web.service"]);
    assert!(!server.paths().transaction().exists());
}

#[tokio::test(start_paused = true)]
async fn while_an_update_is_under_way_the_machine_is_not_called_converged() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    let reasons = [Reason::Command].into();
    let mut cycle = std::pin::pin!(agent.pull_cycle(&reasons));
    while server.world.dpkg_runs().len() < 2 {
        assert!(futures_util::poll!(&mut cycle).is_pending(), "dpkg ran before the cycle ended");
        tokio::task::yield_now().await;
    }
    let local: Status = serde_json::from_slice(&std::fs::read(server.paths().status()).unwrap()).unwrap();
    assert_eq!((local.state, local.apps[0].state), (ServerState::Pending, AppState::Pending));
    assert!(cycle.await.0.ok);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_cycle_writes_nothing_to_the_bucket() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    let before = server.bucket.status(&Server::name()).await.unwrap();
    poll(&mut agent).await;
    poll(&mut agent).await;
    assert_eq!(server.bucket.status(&Server::name()).await.unwrap(), before);
    tokio::time::advance(Duration::from_mins(20)).await;
    poll(&mut agent).await;
    assert_ne!(server.bucket.status(&Server::name()).await.unwrap(), before, "a sign of life");
    assert_eq!(server.world.dpkg_runs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn pruning_removes_only_what_the_document_no_longer_names() {
    let server = Server::new().await;
    let (web, db) = (release("web", 1), release("db", 1));
    server.upload(&web, Behaviour::Good).await;
    server.upload(&db, Behaviour::Good).await;
    server.world.put_foreign("nginx");
    server.push(&[&web, &db]).await;
    let mut agent = server.agent();
    pull(&mut agent).await;
    server.push(&[&db]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Orphan);
    server.configure("prune = true");
    assert!(pull(&mut agent).await.ok);
    assert_eq!((server.world.installed("web"), server.world.installed("db")), (None, Some((db, true))));
}

#[tokio::test(start_paused = true)]
async fn a_broken_package_is_repaired_and_a_stopped_unit_is_reported_not_started() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    server.world.break_package("web");
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((web.clone(), true)));
    server.world.stop("web.service");
    poll(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Drifted);
    let two = release("web", 2);
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((two, true)));
    assert_eq!(server.world.active("web.service"), "inactive");
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_by_hand_while_a_release_is_watched_is_reported_with_it() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    let edit = async {
        while server.world.installed("web") != Some((two.clone(), true)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Longer than it takes from dpkg's end to the first sample, and less than the health window.
        tokio::time::sleep(Duration::from_secs(5)).await;
        server.world.edit_files("web", &["/usr/lib/web is changed"]);
    };
    tokio::join!(poll(&mut agent), edit);
    assert_eq!(server.state_of("web").await, AppState::Drifted);
    assert_eq!(server.status().await.apps[0].drift, ["/usr/lib/web is changed"]);
}

#[tokio::test(start_paused = true)]
async fn that_files_cannot_be_compared_is_a_warning_with_the_reason_until_they_can() {
    let releases = ["db", "web"].map(|app| release(app, 1));
    let (server, _) = Server::running(&releases.each_ref()).await;
    server.world.make_unreadable(Some("`dpkg --verify` failed: no memory"));
    let mut agent = server.agent();
    poll(&mut agent).await;
    let status = server.status().await;
    assert_eq!(status.not_compared, ["db", "web"]);
    let [warning] = &status.warnings[..] else { panic!("{:?}", status.warnings) };
    for part in ["files of `db` and 1 other package", "(`dpkg --verify` failed: no memory)"] {
        assert!(warning.contains(part), "{warning}");
    }
    let cycle = pull(&mut agent).await;
    assert!(cycle.lines.iter().all(|line| !line.contains("takes long")), "{cycle:?}");
    server.world.make_unreadable(None);
    pull(&mut agent).await;
    let status = server.status().await;
    assert_eq!((status.warnings, status.not_compared), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn whose_files_were_not_compared_is_said_by_the_report_and_of_those_that_a_person_asked_for_by_the_pull() {
    let releases = ["api", "db", "web"].map(|app| release(app, 1));
    let (server, _) = Server::running(&releases.each_ref()).await;
    server.world.slow_comparison_down(Duration::from_secs(1));
    let mut agent = server.agent();
    for left in [&["db", "web"][..], &["web"], &[]] {
        poll(&mut agent).await;
        assert_eq!(server.status().await.not_compared, left);
    }
    for app in ["db", "web"] {
        server.world.edit_files(app, &["/srv/a is changed"]);
    }
    let unknown = |cycle: &CycleReport| cycle.lines.iter().find(|line| line.contains("not known yet")).cloned();
    let cycle = pull(&mut agent).await;
    assert!(
        unknown(&cycle).is_some_and(|line| line.contains("whether files of `web` were changed by hand")),
        "{cycle:?}"
    );
    assert_eq!(server.state_of("db").await, AppState::Drifted);
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Drifted, "what was not seen comes first");
    let cycle = pull(&mut agent).await;
    assert_eq!(unknown(&cycle), None, "{cycle:?}");
}
