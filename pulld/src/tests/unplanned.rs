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
    assert!(reason.contains("`nginx` 0 was removed;") && reason.contains("pulld retry web"), "{reason}");
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
async fn what_apt_may_have_changed_after_an_interrupted_dpkg_run_is_not_said_to_be_the_releases_doing() {
    let server = struck_down("dpkg.begin", Death::Machine).await;
    server.world.put_foreign("man-db");
    live(&server).await;
    let reason = server.status().await.apps[0].reason.clone().unwrap();
    for said in
        ["`man-db` 0 was installed (since 20", "`nginx` 0 was removed (since 20", ", by it or by somebody else)"]
    {
        assert!(reason.contains(said), "{reason}");
    }
    assert!(!reason.contains("dpkg changed"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_dpkg_run_took_away_is_told_though_the_next_one_does_nothing() {
    for is_locked in [true, false] {
        for death in [Death::AgentAndDpkg, Death::Machine] {
            let server = struck_down("dpkg.begin", death).await;
            server.world.hold_lock(is_locked);
            server.world.make_read_only_after((!is_locked).then_some(0));
            live(&server).await;
            if is_locked {
                let summary = server.status().await.summary;
                assert!(summary.contains("dpkg was not run, will retry: timed out waiting"), "{summary}");
                server.world.hold_lock(false);
                live(&server).await;
            }
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

/// What is reported of an app, and why.
async fn ended(server: &Server, app: &str, told: &str) -> (AppState, String) {
    let state = server.state_of(app).await;
    let status = server.status().await;
    let reason = status.apps.iter().find(|status| status.app == app).and_then(|app| app.reason.clone());
    println!("{told}: {state}, {reason:?}");
    (state, reason.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_rollback_left_half_done_is_no_news_once_it_is_repaired_and_what_it_took_away_is() {
    let (one, two) = (release("web", 1), release("web", 2));
    for death in [Death::AgentAndDpkg, Death::Machine] {
        for is_taken_away in [false, true] {
            let (server, _) = Server::running(&[&one]).await;
            server.world.put_foreign("nginx");
            server.upload(&two, Behaviour::Crashes).await;
            server.push(&[&two]).await;
            assert!(die_at("dpkg.begin", 1, live(&server)).await.is_none());
            death.strike(&server);
            if is_taken_away {
                server.world.take_away("nginx");
            } else {
                server.world.half_configure("nginx");
            }
            live(&server).await;
            let (state, reason) = ended(&server, "web", &format!("{death:?}, taken away: {is_taken_away}")).await;
            assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
            assert_eq!(state, if is_taken_away { AppState::Degraded } else { AppState::Quarantined }, "{reason}");
            assert_eq!(reason.contains("`nginx` 0 was removed"), is_taken_away, "{reason}");
            assert_eq!(reason.contains("nginx"), is_taken_away, "{reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_rollback_left_half_done_is_judged_when_dpkg_could_repair_it_and_not_while_it_is_locked() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, _) = Server::running(&[&one]).await;
    server.world.put_foreign("nginx");
    server.upload(&two, Behaviour::Crashes).await;
    server.push(&[&two]).await;
    assert!(die_at("dpkg.begin", 1, live(&server)).await.is_none());
    Death::Machine.strike(&server);
    server.world.half_configure("nginx");
    server.world.hold_lock(true);
    for _ in 0..2 {
        live(&server).await;
        let status = server.status().await;
        assert!(status.summary.contains("lock holder: `apt`"), "{}", status.summary);
        assert!(status.apps.iter().all(|app| app.state != AppState::Degraded), "{:?}", status.apps);
    }
    server.world.hold_lock(false);
    live(&server).await;
    let (state, reason) = ended(&server, "web", "the lock is free").await;
    assert_eq!((state, reason.contains("nginx")), (AppState::Quarantined, false), "{reason}");
    assert_eq!(server.world.installed("web"), Some((one, true)));
}

#[tokio::test(start_paused = true)]
async fn of_several_apps_that_are_rolled_back_each_says_that_it_may_have_been_another_one() {
    let before = [release("db", 1), release("web", 1)];
    let after = [release("db", 2), release("web", 2)];
    let (server, _) = Server::running(&before.each_ref()).await;
    server.world.put_foreign("nginx");
    for release in &after {
        server.upload(release, Behaviour::Crashes).await;
    }
    server.push(&after.each_ref()).await;
    assert!(die_at("dpkg.end", 2, live(&server)).await.is_none());
    Death::Machine.strike(&server);
    server.world.take_away("nginx");
    live(&server).await;
    let mut reasons = Vec::new();
    for app in ["db", "web"] {
        reasons.push(ended(&server, app, "of two").await);
    }
    let told: Vec<_> = reasons.iter().filter(|(state, _)| *state == AppState::Degraded).collect();
    assert!(!told.is_empty());
    let is_told = |(_, reason): &&(AppState, String)| {
        let is_shared = reason.contains("(by the update of one of `db`, `web`)");
        reason.contains("`nginx` 0 was removed") && is_shared == (told.len() > 1)
    };
    assert!(told.iter().all(is_told), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_rollback_took_away_is_told_though_dpkg_was_done_when_the_machine_died() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, _) = Server::running(&[&one]).await;
    server.world.put_foreign("nginx");
    server.upload(&two, Behaviour::Crashes).await;
    server.push(&[&two]).await;
    assert!(die_at("dpkg.end", 1, live(&server)).await.is_none());
    Death::Machine.strike(&server);
    server.world.take_away("nginx");
    live(&server).await;
    let (state, reason) = ended(&server, "web", "the result is lost").await;
    assert_eq!(state, AppState::Degraded);
    assert!(reason.contains("`nginx` 0 was removed"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_update_of_pulld_left_half_done_is_no_news_once_it_is_repaired() {
    // Its installation, and its rollback.
    for (behaviour, point, installed) in [(Behaviour::Good, 0, 2), (Behaviour::Breaks, 1, 1)] {
        for is_taken_away in [false, true] {
            let (one, two) = (release("pulld", 1), release("pulld", 2));
            let server = updated_to(&one).await;
            server.world.put_foreign("nginx");
            server.upload(&two, behaviour).await;
            server.push(&[&two]).await;
            assert!(die_at("dpkg.begin", point, live(&server)).await.is_none());
            Death::Machine.strike(&server);
            if is_taken_away {
                server.world.take_away("nginx");
            } else {
                server.world.half_configure("nginx");
            }
            for _ in 0..4 {
                live(&server).await;
            }
            let told = format!("{behaviour:?}, taken away: {is_taken_away}");
            let (state, reason) = ended(&server, "pulld", &told).await;
            assert_eq!(server.world.installed("pulld"), Some((release("pulld", installed), true)), "{told}");
            assert_eq!(state == AppState::Degraded, is_taken_away, "{told}: {reason}");
            assert_eq!(reason.contains("nginx"), is_taken_away, "{told}: {reason}");
        }
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
