//! Whole cycles: the update of pulld itself.

use std::time::Duration;

use bucket::{AppState, ServerState};

use crate::{
    machine::{
        DpkgRequest, PackageManager,
        fake::{Behaviour, release},
    },
    state::rescue::Rescue,
    transaction::executor::Next,
};

use super::harness::{Server, live, poll};

#[tokio::test(start_paused = true)]
async fn the_agent_updates_itself_last_and_the_new_one_finishes() {
    let server = Server::new().await;
    let (one, two, web) = (release("pulld", 1), release("pulld", 2), release("web", 1));
    for release in [&one, &two, &web] {
        server.upload(release, Behaviour::Good).await;
    }
    server.world.put_foreign("pulld");
    server.push(&[&one]).await;
    assert_eq!(live(&server).await, None, "a pulld put there by hand has no way back, and goes on");
    assert_eq!(live(&server).await, Some(Next::Continue));
    server.push(&[&two, &web]).await;
    assert_eq!(live(&server).await, None);
    let rescue = Rescue::new(server.paths().rescue());
    assert!(rescue.is_armed());
    assert_eq!(server.world.installed("web"), Some((web, true)), "everything else is done before");
    assert_eq!(live(&server).await, Some(Next::Continue));
    assert!(!rescue.is_armed());
    assert_eq!(server.world.installed("pulld"), Some((two, true)));
    assert_eq!(server.status().await.state, ServerState::Converged);
    assert_eq!(server.world.agent_restarts(), 2);
}

/// A server with the first pulld, whose document then asks for `web` and for the next pulld.
async fn server_to_update() -> Server {
    let server = Server::new().await;
    let (one, two, web) = (release("pulld", 1), release("pulld", 2), release("web", 1));
    for release in [&one, &two, &web] {
        server.upload(release, Behaviour::Good).await;
    }
    server.push(&[&one]).await;
    live(&server).await;
    live(&server).await;
    server.push(&[&web, &two]).await;
    server
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_agent_updates_itself_first_and_alone() {
    let server = server_to_update().await;
    server.world.die("pulld.service", 1);
    assert_eq!(live(&server).await, None);
    assert_eq!(server.world.installed("pulld"), Some((release("pulld", 2), true)));
    assert_eq!(server.world.installed("web"), None, "what may have ended it comes after its cure");
    assert_eq!(live(&server).await, Some(Next::Continue));
    assert_eq!(server.world.installed("web"), Some((release("web", 1), true)));
    assert_eq!(server.status().await.state, ServerState::Converged);
}

#[tokio::test(start_paused = true)]
async fn after_a_cycle_that_failed_as_a_whole_the_agent_updates_itself_first_and_alone() {
    let server = server_to_update().await;
    let (bucket, away) = (server.root.path().join("bucket"), server.root.path().join("away"));
    std::fs::rename(&bucket, &away).unwrap();
    let mut agent = server.agent();
    assert!(!poll(&mut agent).await.ok);
    std::fs::rename(&away, &bucket).unwrap();
    let killed = server.world.killed();
    tokio::select! {
        biased;
        _ = poll(&mut agent) => panic!("it went on"),
        () = killed.notified() => {}
    }
    assert_eq!(server.world.installed("pulld"), Some((release("pulld", 2), true)));
    assert_eq!(server.world.installed("web"), None);
}

#[tokio::test(start_paused = true)]
async fn a_cure_that_does_not_work_keeps_nothing_else_out() {
    let server = server_to_update().await;
    let bad = release("pulld", 3);
    server.upload(&bad, Behaviour::Refused).await;
    server.push(&[&release("web", 1), &bad]).await;
    server.world.die("pulld.service", 1);
    assert_eq!(live(&server).await, Some(Next::Continue));
    assert_eq!(server.world.installed("pulld"), Some((release("pulld", 1), true)));
    assert_eq!(server.world.installed("web"), Some((release("web", 1), true)));
    assert_eq!(server.state_of("pulld").await, AppState::Quarantined);
}

#[tokio::test(start_paused = true)]
async fn a_rescued_agent_quarantines_the_release_that_did_not_start() {
    let server = Server::new().await;
    let (one, two) = (release("pulld", 1), release("pulld", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&one]).await;
    live(&server).await;
    live(&server).await;
    server.push(&[&two]).await;
    assert_eq!(live(&server).await, None);
    // What pulld-rescue.service does when the new one doesn't come up.
    let rescue = server.paths().rescue();
    let request = DpkgRequest {
        install: vec![rescue.join("pulld.deb")],
        timeout: Duration::from_secs(1),
        ..DpkgRequest::default()
    };
    server.world.execute(&request).await.unwrap();
    std::fs::write(rescue.join("rescued"), "it exited with 203").unwrap();
    assert_eq!(live(&server).await, Some(Next::Continue));
    assert_eq!(server.state_of("pulld").await, AppState::Quarantined);
    assert_eq!(server.world.installed("pulld"), Some((one, true)));
    assert!(!rescue.join("rescued").exists() && !rescue.join("armed").exists());
    let dpkg_runs = server.world.dpkg_runs().len();
    live(&server).await;
    assert_eq!(server.world.dpkg_runs().len(), dpkg_runs);
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_package_breaks_goes_back() {
    let server = Server::new().await;
    let (one, two) = (release("pulld", 1), release("pulld", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Breaks).await;
    server.push(&[&one]).await;
    live(&server).await;
    live(&server).await;
    server.push(&[&two]).await;
    for _ in 0..4 {
        live(&server).await;
    }
    assert_eq!(server.world.installed("pulld"), Some((one, true)));
    assert_eq!(server.state_of("pulld").await, AppState::Quarantined);
    assert!(!Rescue::new(server.paths().rescue()).is_armed());
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_that_cannot_go_by_its_configuration_goes_back() {
    let server = Server::new().await;
    let (one, two) = (release("pulld", 1), release("pulld", 2));
    server.upload(&one, Behaviour::Good).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&one]).await;
    live(&server).await;
    live(&server).await;
    server.push(&[&two]).await;
    assert_eq!(live(&server).await, None);
    server.configure("poll = 5");
    assert_eq!(live(&server).await, None, "it has the one before put back");
    server.configure("");
    live(&server).await;
    assert_eq!(server.world.installed("pulld"), Some((one, true)));
    assert_eq!(server.state_of("pulld").await, AppState::Quarantined);
    assert!(!Rescue::new(server.paths().rescue()).is_armed());
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_stays_up_for_the_health_window_before_it_confirms_itself() {
    for is_record_lost in [false, true] {
        let server = Server::new().await;
        let (one, two) = (release("pulld", 1), release("pulld", 2));
        server.upload(&one, Behaviour::Good).await;
        server.upload(&two, Behaviour::Good).await;
        server.push(&[&one]).await;
        live(&server).await;
        live(&server).await;
        server.push(&[&two]).await;
        assert_eq!(live(&server).await, None);
        if is_record_lost {
            std::fs::remove_file(server.paths().transaction()).unwrap();
        }
        let rescue = Rescue::new(server.paths().rescue());
        let just_before = Duration::from_millis(9_900);
        assert!(
            tokio::time::timeout(just_before, live(&server)).await.is_err(),
            "it isn't done before its ten seconds"
        );
        assert!(rescue.is_armed(), "an agent that dies within them is still replaced by the one before");
        assert_eq!(live(&server).await, Some(Next::Continue));
        assert!(!rescue.is_armed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_its_own_postinst_starts_waits_for_the_end_of_that_dpkg_run() {
    let server = server_to_update().await;
    server.push(&[&release("pulld", 1)]).await;
    let (before, dpkg_runs) = (server.bucket.status(&Server::name()).await.unwrap(), server.world.dpkg_runs().len());
    server.world.break_package("pulld");
    server.world.hold_lock_by(Some((4321, "dpkg")));
    let lasting = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(server.bucket.status(&Server::name()).await.unwrap(), before, "nothing is reported meanwhile");
        server.world.finish_package("pulld");
        server.world.hold_lock_by(None);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        next = live(&server) => assert_eq!(next, Some(Next::Continue)),
        () = lasting => {}
    }
    assert_eq!(server.state_of("pulld").await, AppState::Converged);
    assert_eq!(server.world.dpkg_runs().len(), dpkg_runs, "it was not installed again");

    // What is broken while nobody works on it is told at once, and repaired.
    server.world.break_package("pulld");
    live(&server).await;
    assert_eq!(server.world.dpkg_runs().len(), dpkg_runs + 1);
}
