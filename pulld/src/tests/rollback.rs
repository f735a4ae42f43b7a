//! Whole cycles: releases that do not stay up.

use std::time::Duration;

use bucket::{AppState, ServerState};

use crate::{
    failpoint::die_at,
    machine::fake::{Behaviour, Deb, release},
    service::instructions::{Answer, Instruction},
};

use super::{
    crashes::Death,
    harness::{FakeAgent, Server, live, poll, pull},
};

#[tokio::test(start_paused = true)]
async fn a_crash_loop_goes_back_and_is_not_retried_until_its_entry_changes() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Crashes).await;
    server.push(&[&two]).await;
    let cycle = pull(&mut agent).await;
    assert!(!cycle.ok);
    assert!(cycle.lines.iter().any(|line| line.contains("rolled back")), "{cycle:?}");
    assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
    assert_eq!(server.world.active("web.service"), "active");
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    let dpkg_runs = server.world.dpkg_runs().len();
    pull(&mut agent).await;
    pull(&mut server.agent()).await;
    assert_eq!(server.world.dpkg_runs().len(), dpkg_runs, "not retried, not even by another agent");
    let db = release("db", 1);
    server.upload(&db, Behaviour::Good).await;
    server.push(&[&two, &db]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.installed("db"), Some((db.clone(), true)));
    assert_eq!(server.world.dpkg_runs().len(), dpkg_runs + 1, "a push of another app does not restart this one");
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    server.push(&[&one, &db]).await;
    assert!(pull(&mut agent).await.ok);
    server.push(&[&two, &db]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.dpkg_runs().len(), dpkg_runs + 3, "tried once more, and gone back once more");
}

#[tokio::test(start_paused = true)]
async fn a_person_has_a_quarantined_release_tried_again() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Crashes).await;
    server.push(&[&two]).await;
    pull(&mut agent).await;
    server.world.mend(&two);
    assert!(!pull(&mut agent).await.ok, "nobody told the agent");
    let retry = |app: &str| agent.instructions().give(Instruction::Retry { app: app.parse().unwrap() });
    let (mut of_web, mut of_db) = (retry("web"), retry("db"));
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two, true)));
    assert!(matches!(of_web.try_recv(), Ok(Answer::Accepted(text)) if text.contains("retrying `web:")));
    assert!(matches!(of_db.try_recv(), Ok(Answer::Refused(text)) if text.contains("nothing to retry for `db`")));
    assert!(pull(&mut server.agent()).await.ok, "the next agent knows it too");
}

#[tokio::test(start_paused = true)]
async fn the_reason_says_how_a_unit_ended_and_what_it_wrote_last() {
    for (behaviour, sentence) in [
        (Behaviour::Crashes, "`web.service` does not stay up (exit status 3): systemd had to restart it"),
        (Behaviour::DoesNotStart, "`web.service` did not start: exit status 203/EXEC"),
    ] {
        let (one, two) = (release("web", 1), release("web", 2));
        let (server, mut agent) = Server::running(&[&one]).await;
        server.world.write_journal(&["starting", "no such table: \u{1b}[31musers"], 3);
        server.upload(&two, behaviour).await;
        server.push(&[&two]).await;
        let cycle = pull(&mut agent).await;
        let expected = format!(
            "{sentence}\nthe journal of `web.service` ends with:\n  starting\n  no such table: \\u{{1b}}[31musers"
        );
        assert!(cycle.lines.iter().any(|line| line.ends_with(&expected)), "{cycle:?}");
        assert_eq!(server.status().await.apps[0].reason.as_deref(), Some(expected.as_str()));
        // Another agent knows it too.
        pull(&mut server.agent()).await;
        assert_eq!(server.status().await.apps[0].reason.as_deref(), Some(expected.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_app_does_not_hold_the_others_back() {
    for broken in
        [Behaviour::Crashes, Behaviour::DoesNotStart, Behaviour::Refused, Behaviour::Breaks, Behaviour::CheckFails]
    {
        let server = Server::new().await;
        let (bad, good) = (release("bad", 1), release("good", 1));
        server.upload(&bad, broken).await;
        server.upload(&good, Behaviour::Good).await;
        server.push(&[&bad, &good]).await;
        let cycle = pull(&mut server.agent()).await;
        assert!(!cycle.ok, "{broken:?}");
        assert_eq!(server.world.installed("good"), Some((good, true)), "{broken:?}");
        assert_eq!(server.world.installed("bad"), None, "{broken:?}: a first install is undone by removing it");
        assert_eq!(server.state_of("good").await, AppState::Converged, "{broken:?}");
        assert_eq!(server.state_of("bad").await, AppState::Quarantined, "{broken:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_dpkg_refuses_leaves_the_running_service_alone() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Refused).await;
    server.push(&[&two]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((one, true)));
    assert_eq!(server.world.restarts(), ["web.service"], "started once, at the first install");
}

#[tokio::test(start_paused = true)]
async fn a_held_lock_is_no_fault_of_the_release() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    server.world.hold_lock(true);
    let mut agent = server.agent();
    let cycle = pull(&mut agent).await;
    assert!(!cycle.ok);
    assert_eq!(server.state_of("web").await, AppState::Failed);
    server.world.hold_lock(false);
    poll(&mut agent).await;
    assert_eq!(server.world.installed("web"), None, "it waits for its time");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(poll(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((web, true)));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_waits_for_dpkgs_lock_however_long_it_is_held() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Crashes).await;
    server.push(&[&two]).await;
    let hold = async {
        while server.world.installed("web") != Some((two.clone(), true)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.world.hold_lock(true);
    };
    let (cycle, ()) = tokio::join!(pull(&mut agent), hold);
    assert!(cycle.summary.contains("timed out waiting for the dpkg lock"), "{cycle:?}");
    // More often than what is interrupted is resumed.
    for _ in 0..8 {
        poll(&mut agent).await;
    }
    assert_eq!(server.world.installed("web"), Some((two.clone(), true)));
    assert_ne!(server.status().await.apps[0].state, AppState::Degraded);
    server.world.hold_lock(false);
    for _ in 0..2 {
        poll(&mut agent).await;
    }
    assert_eq!(server.world.installed("web"), Some((one, true)));
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
}

#[tokio::test(start_paused = true)]
async fn going_back_that_fails_too_is_degraded_and_a_newer_document_still_heals() {
    let server = Server::new().await;
    let (one, two, three) = (release("web", 1), release("web", 2), release("web", 3));
    server.upload(&one, Behaviour::Crashes).await;
    server.upload(&two, Behaviour::Crashes).await;
    server.upload(&three, Behaviour::Good).await;
    server.world.put_foreign("web");
    server.push(&[&one]).await;
    let mut agent = server.agent();
    let cycle = pull(&mut agent).await;
    assert!(!cycle.ok);
    assert_eq!(server.state_of("web").await, AppState::Degraded, "there is no way back to a foreign package");
    server.push(&[&two]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Degraded, "the one before crashes too");
    assert_eq!(server.status().await.state, ServerState::Degraded);
    server.push(&[&three]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((three, true)));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_read_only_for_a_while_is_no_fault_of_the_release() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    server.world.make_read_only_after(Some(0));
    assert!(!pull(&mut agent).await.ok);
    let app = server.status().await.apps.remove(0);
    assert_eq!(app.state, AppState::Failed);
    assert!(app.reason.as_ref().unwrap().contains("Read-only file system"), "{app:?}");
    assert!(app.drift[0].contains("`web` is broken"), "{app:?}");
    let runs = server.world.dpkg_runs().len();
    poll(&mut agent).await;
    assert_eq!(server.world.dpkg_runs().len(), runs, "it waits for its time");
    server.world.make_read_only_after(None);
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(poll(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two, true)));
}

#[tokio::test(start_paused = true)]
async fn what_dpkg_calls_broken_is_repaired_though_its_release_is_quarantined() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Refused).await;
    server.push(&[&two]).await;
    // dpkg refuses the release, and what a person does meanwhile breaks the package that is there.
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    server.world.break_package("web");
    let runs = server.world.dpkg_runs().len();
    server.world.make_read_only_after(Some(0));
    poll(&mut agent).await;
    let tried = server.world.dpkg_runs().len();
    assert!(tried > runs && server.world.installed("web") == Some((one.clone(), false)));
    poll(&mut agent).await;
    assert_eq!(server.world.dpkg_runs().len(), tried, "it waits for its time");
    server.world.make_read_only_after(None);
    tokio::time::advance(Duration::from_mins(1)).await;
    poll(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((one, true)), "the release before is whole again");
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    let runs = server.world.dpkg_runs().len();
    tokio::time::advance(Duration::from_hours(1)).await;
    poll(&mut agent).await;
    assert_eq!(server.world.dpkg_runs().len(), runs, "and the bad one stays where it is");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_a_full_disk_kept_from_working_is_made_up_for() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Breaks).await;
    server.push(&[&two]).await;
    server.world.make_read_only_after(Some(1));
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Degraded);
    assert_eq!(server.world.installed("web"), Some((two, false)));
    let runs = server.world.dpkg_runs().len();
    poll(&mut agent).await;
    assert_eq!(server.world.dpkg_runs().len(), runs, "it waits for its time");
    server.world.make_read_only_after(None);
    tokio::time::advance(Duration::from_mins(1)).await;
    poll(&mut server.agent()).await;
    assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
    let file = server.world.dpkg_runs()[runs][0].clone();
    assert!(file.contains(one.stem()), "the bad one is not tried again: {file}");
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    let reason = server.status().await.apps[0].reason.clone().unwrap();
    assert!(reason.contains("the release before was restored later"), "{reason}");
}

/// A server that has `web` in a release that fails its check, and is kept by its machine from going back to the one before.
async fn kept_from_going_back() -> (Server, FakeAgent) {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::CheckFails).await;
    server.push(&[&two]).await;
    server.world.refuse_dpkg_after(Some(1));
    pull(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((two, true)));
    (server, agent)
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_dpkg_was_not_run_for_is_made_up_for_though_dpkg_is_content_with_the_bad_release() {
    let (server, mut agent) = kept_from_going_back().await;
    let before = server.world.dpkg_runs().len();
    for _ in 0..6 * 60 {
        tokio::time::advance(Duration::from_mins(1)).await;
        poll(&mut agent).await;
        assert_eq!(server.state_of("web").await, AppState::Degraded);
    }
    let runs = server.world.dpkg_runs().len() - before;
    assert!((10..=30).contains(&runs), "at most four an hour: {runs}");
    let reason = server.status().await.apps[0].reason.clone().unwrap();
    assert!(reason.contains("rollback failed: dpkg was not run: `/usr` is a read-only file system"), "{reason}");
    server.world.refuse_dpkg_after(None);
    poll(&mut server.agent()).await;
    assert_eq!(server.world.installed("web"), Some((release("web", 1), true)));
    assert_eq!(server.world.runs("web.service"), Some(release("web", 1)));
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    let reason = server.status().await.apps[0].reason.clone().unwrap();
    assert!(reason.contains("the release before was restored later"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_is_made_up_for_and_leads_to_nothing_good_is_a_persons() {
    let (server, mut agent) = kept_from_going_back().await;
    server.world.refuse_dpkg_after(None);
    server.world.spoil(&release("web", 1));
    for _ in 0..3 {
        tokio::time::advance(Duration::from_hours(1)).await;
        poll(&mut agent).await;
    }
    let runs = server.world.dpkg_runs().len();
    tokio::time::advance(Duration::from_hours(1)).await;
    poll(&mut server.agent()).await;
    assert_eq!(server.world.dpkg_runs().len(), runs, "one bad release is not replaced by the other again and again");
    assert_eq!(server.state_of("web").await, AppState::Degraded);
    let reason = server.status().await.apps[0].reason.clone().unwrap();
    assert!(reason.contains("the previous release is unhealthy too"), "{reason}");
}

/// A server that has `web`, where the next release came in a package of another name, broke it, and was not removed because
/// of what that does.
async fn left_with_a_renamed_package(keep: impl Fn(&Server)) -> (Server, FakeAgent) {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload_deb(&Deb { package: "web-next".into(), ..Deb::new(&two, Behaviour::Breaks) }).await;
    server.push(&[&two]).await;
    keep(&server);
    assert!(!pull(&mut agent).await.ok);
    assert_eq!(server.state_of("web").await, AppState::Degraded);
    assert_eq!(server.world.installed("web-next"), Some((two, false)));
    (server, agent)
}

#[tokio::test(start_paused = true)]
async fn a_package_of_another_name_that_a_release_left_broken_goes_when_it_can_and_what_was_there_runs() {
    let (server, mut agent) = left_with_a_renamed_package(|server| server.world.make_read_only_after(Some(1))).await;
    server.world.make_read_only_after(None);
    tokio::time::advance(Duration::from_mins(1)).await;
    poll(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((release("web", 1), true)));
    assert_eq!(server.world.installed("web-next"), None);
    assert_eq!(server.world.active("web.service"), "active");
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    let runs = server.world.dpkg_runs().len();
    for _ in 0..10 {
        tokio::time::advance(Duration::from_hours(1)).await;
        poll(&mut agent).await;
    }
    poll(&mut server.agent()).await;
    assert_eq!(server.world.dpkg_runs().len(), runs, "that was all");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_tried_again_with_growing_delays_and_said_until_it_can() {
    let keep = |server: &Server| server.world.keep_from_removal("web-next", true);
    let (server, mut agent) = left_with_a_renamed_package(keep).await;
    let (before, restarts) = (server.world.dpkg_runs().len(), server.world.restarts().len());
    for _ in 0..6 * 60 {
        tokio::time::advance(Duration::from_mins(1)).await;
        poll(&mut agent).await;
    }
    let runs = server.world.dpkg_runs().len() - before;
    assert!((10..=60).contains(&runs), "at most four an hour, each in two runs: {runs}");
    let tried = server.world.dpkg_runs()[before..].concat();
    assert!(tried.iter().all(|package| package == "web-next"), "what is in order isn't touched: {tried:?}");
    assert_eq!(server.world.restarts().len(), restarts, "nor does it restart");
    assert_eq!(server.state_of("web").await, AppState::Degraded);
    let app = server.status().await.apps.remove(0);
    let reason = app.reason.unwrap();
    assert!(reason.contains("could not be repaired, will retry (") && reason.contains("prerm: no"), "{reason}");
    assert!(app.drift.iter().any(|line| line.contains("`web-next` is broken")), "{:?}", app.drift);
    let cycle = pull(&mut agent).await;
    let [happened, state] = &cycle.lines[..] else { panic!("one failure is told once: {cycle:?}") };
    assert!(happened.starts_with("web: degraded: dpkg exited with 1: error processing package web-next"), "{happened}");
    assert!(state.starts_with("web: degraded: ") && state.contains("could not be repaired"), "{state}");
    assert_eq!(server.world.active("web.service"), "active");
    // Whatever stopped it, or will: what is in order runs.
    server.world.stop("web.service");
    pull(&mut agent).await;
    assert_eq!(server.world.active("web.service"), "active");
    server.world.keep_from_removal("web-next", false);
    server.world.stop("web.service");
    pull(&mut agent).await;
    assert_eq!(server.world.active("web.service"), "active");
    assert_eq!(server.world.installed("web-next"), None);
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
}

#[tokio::test(start_paused = true)]
async fn what_was_to_mend_a_broken_package_of_another_name_and_does_not_stay_up_goes_with_it() {
    let three = release("web", 3);
    let keep = |server: &Server| server.world.keep_from_removal("web-next", true);
    let (server, mut agent) = left_with_a_renamed_package(keep).await;
    server.world.keep_from_removal("web-next", false);
    server.upload_deb(&Deb { package: "web-next".into(), ..Deb::new(&three, Behaviour::CheckFails) }).await;
    server.push(&[&three]).await;
    pull(&mut agent).await;
    assert_eq!(server.world.installed("web-next"), None);
    assert_eq!(server.world.installed("web"), Some((release("web", 1), true)));
    assert_eq!(server.world.runs("web.service"), Some(release("web", 1)));
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    assert_eq!(server.status().await.apps[0].installed, Some(release("web", 1)));
}

#[tokio::test(start_paused = true)]
async fn whoever_dies_when_what_was_left_has_just_gone_is_followed_by_one_that_brings_back_what_went_with_it() {
    for death in [Death::Agent, Death::AgentAndDpkg, Death::Machine] {
        let (server, agent) = left_with_a_renamed_package(|server| server.world.make_read_only_after(Some(1))).await;
        drop(agent);
        server.world.make_read_only_after(None);
        assert!(die_at("dpkg.begin", 0, live(&server)).await.is_none());
        death.strike(&server);
        if death != Death::Agent {
            assert_eq!(server.world.installed("web-next"), None);
        }
        live(&server).await;
        assert_eq!(server.world.installed("web"), Some((release("web", 1), true)), "{death:?}");
        assert_eq!(server.world.installed("web-next"), None);
        assert_eq!(server.world.active("web.service"), "active", "{death:?}");
        assert_eq!(server.world.runs("web.service"), Some(release("web", 1)));
        assert_eq!(server.state_of("web").await, AppState::Quarantined);
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_release_takes_away_what_an_earlier_one_left_broken_in_a_package_of_another_name() {
    let three = release("web", 3);
    let (server, mut agent) = left_with_a_renamed_package(|server| server.world.make_read_only_after(Some(1))).await;
    server.world.make_read_only_after(None);
    server.upload(&three, Behaviour::Good).await;
    server.push(&[&three]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((three.clone(), true)));
    assert_eq!(server.world.installed("web-next"), None);
    assert_eq!(server.world.runs("web.service"), Some(three));
    assert_eq!(server.state_of("web").await, AppState::Converged);
}
