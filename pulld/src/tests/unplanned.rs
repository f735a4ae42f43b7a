//! Whole cycles: dpkg changes more than was planned.

use bucket::{AppState, ReleaseName};

use crate::{
    failpoint::die_at,
    machine::{
        DpkgRequest, PackageManager,
        fake::{Behaviour, release},
    },
    service::instructions::Instruction,
};

use super::{
    crashes::Death,
    harness::{Server, live, pull},
};

#[tokio::test(start_paused = true)]
async fn a_package_that_went_with_a_healthy_release_makes_it_degraded_by_name() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.world.put_foreign("nginx");
    server.upload(&two, Behaviour::TakesAway).await;
    server.push(&[&two]).await;
    assert!(!pull(&mut agent).await.ok);
    assert_eq!(server.state_of("web").await, AppState::Degraded);
    let reason = server.status().await.apps[0].reason.clone().unwrap();
    assert!(reason.contains("`nginx` 0 was removed") && reason.contains("pulld retry web"), "{reason}");
    assert_eq!(server.world.installed("web"), Some((two, true)), "what works isn't undone: nginx would not come back");
    let dpkg_runs = server.world.dpkg_runs().len();
    pull(&mut server.agent()).await;
    assert_eq!(server.state_of("web").await, AppState::Degraded, "another agent knows it too");
    assert_eq!(server.world.dpkg_runs().len(), dpkg_runs);
    let _answer = agent.instructions().give(Instruction::Retry { app: "web".parse().unwrap() });
    assert!(pull(&mut agent).await.ok, "a person says that it is in order");
    assert_eq!(server.state_of("web").await, AppState::Converged);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_another_package_to_dpkg_is_degraded_and_no_other_app() {
    let (web, db) = (release("web", 1), release("db", 1));
    let server = Server::new().await;
    server.world.put_foreign("nginx");
    server.upload(&web, Behaviour::IsAnother).await;
    server.upload(&db, Behaviour::Good).await;
    server.push(&[&web, &db]).await;
    pull(&mut server.agent()).await;
    assert_eq!(server.state_of("db").await, AppState::Converged);
    assert_eq!(server.state_of("web").await, AppState::Degraded, "not rolled back: nginx is still another one");
    let status = server.status().await;
    let reason = status.apps.iter().find_map(|app| app.reason.clone()).unwrap();
    assert!(reason.contains("`nginx` is 2 instead of 0"), "{reason}");
}

/// A server where an update of `web` that takes `nginx` away was under way when something died at that point.
async fn struck_down(point: &str, death: Death) -> Server {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, _) = Server::running(&[&one]).await;
    server.world.put_foreign("nginx");
    server.upload(&two, Behaviour::TakesAway).await;
    server.push(&[&two]).await;
    assert!(die_at(point, 0, live(&server)).await.is_none());
    death.strike(&server);
    server
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_dpkg_run_took_away_is_told_whatever_died() {
    for point in ["dpkg.begin", "dpkg.end", "packages.forget_changes.begin", "packages.forget_changes.end"] {
        for death in [Death::Agent, Death::AgentAndDpkg, Death::Machine] {
            let server = struck_down(point, death).await;
            live(&server).await;
            assert_eq!(server.state_of("web").await, AppState::Degraded, "{death:?} at {point}");
            let reason = server.status().await.apps[0].reason.clone().unwrap();
            assert!(reason.contains("`nginx` 0 was removed"), "{death:?} at {point}: {reason}");
            assert_eq!(server.world.installed("web"), Some((release("web", 2), true)), "{death:?} at {point}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_dpkg_run_took_away_is_told_though_the_next_one_does_nothing() {
    for is_locked in [true, false] {
        for death in [Death::AgentAndDpkg, Death::Machine] {
            let server = struck_down("dpkg.begin", death).await;
            server.world.hold_lock(is_locked);
            server.world.make_read_only_after((!is_locked).then_some(0));
            live(&server).await;
            let reason = server.status().await.apps[0].reason.clone().unwrap();
            assert!(reason.contains("`nginx` 0 was removed"), "{death:?}, locked: {is_locked}: {reason}");
            assert_eq!(server.state_of("web").await, AppState::Degraded, "{death:?}, locked: {is_locked}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_dpkg_run_took_away_is_told_though_its_app_was_put_on_hold_since() {
    let server = struck_down("dpkg.begin", Death::AgentAndDpkg).await;
    server.world.set_on_hold("web", true);
    live(&server).await;
    let reason = server.status().await.apps[0].reason.clone().unwrap();
    assert!(reason.contains("`nginx` 0 was removed"), "{reason}");
}

/// A server that has that release of pulld.
async fn updated_to(release: &ReleaseName) -> Server {
    let server = Server::new().await;
    server.upload(release, Behaviour::Good).await;
    server.push(&[release]).await;
    live(&server).await;
    live(&server).await;
    server
}

#[tokio::test(start_paused = true)]
async fn what_a_new_pulld_took_away_before_it_failed_is_told() {
    for (behaviour, installed) in [(Behaviour::TakesAway, 2), (Behaviour::TakesAwayAndBreaks, 1)] {
        let (one, two) = (release("pulld", 1), release("pulld", 2));
        let server = updated_to(&one).await;
        server.world.put_foreign("nginx");
        server.upload(&two, behaviour).await;
        server.push(&[&two]).await;
        for _ in 0..4 {
            live(&server).await;
        }
        assert_eq!(server.state_of("pulld").await, AppState::Degraded);
        let reason = server.status().await.apps[0].reason.clone().unwrap();
        assert!(reason.contains("`nginx` 0 was removed"), "{reason}");
        assert_eq!(server.world.installed("pulld"), Some((release("pulld", installed), true)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_rescue_took_away_is_told() {
    let (one, two) = (release("pulld", 1), release("pulld", 2));
    let server = updated_to(&one).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    assert_eq!(live(&server).await, None);
    // What pulld-rescue.service does when the new one doesn't come up.
    let rescue = server.paths().rescue();
    let request = DpkgRequest { install: vec![rescue.join("pulld.deb")], ..DpkgRequest::default() };
    server.world.execute(&request).await.unwrap();
    std::fs::write(rescue.join("rescued"), "it exited with 203").unwrap();
    std::fs::write(rescue.join("unplanned"), "`nginx` 0 was removed").unwrap();
    live(&server).await;
    assert_eq!(server.state_of("pulld").await, AppState::Degraded);
    let reason = server.status().await.apps[0].reason.clone().unwrap();
    assert!(reason.contains("it exited with 203") && reason.contains("`nginx` 0 was removed"), "{reason}");
    assert_eq!(server.world.installed("pulld"), Some((one, true)));
}
