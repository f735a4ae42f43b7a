//! Whole cycles: what a person does on the server itself.

use std::time::Duration;

use bucket::{Activity, AppState, AppStatus, Status};
use tokio::sync::oneshot;

use crate::{
    machine::fake::{Behaviour, release},
    service::instructions::{Answer, Instruction, Rollback},
};

use super::harness::{FakeAgent, Server, poll, pull};

fn roll_back(agent: &FakeAgent, to: Option<u8>, seconds: Option<u64>) -> oneshot::Receiver<Answer> {
    agent.instructions().give(Instruction::Rollback(Rollback {
        app: "web".parse().unwrap(),
        to: to.map(|minute| release("web", minute)),
        who: "anna".into(),
        why: "orders are lost".into(),
        seconds,
    }))
}

/// A server that had the first two releases of `web` one after the other, and lost its bucket.
async fn offline() -> (Server, FakeAgent) {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    assert!(pull(&mut agent).await.ok);
    take_bucket_away(&server);
    (server, agent)
}

fn take_bucket_away(server: &Server) {
    std::fs::rename(server.root.path().join("bucket"), server.root.path().join("away")).unwrap();
}

fn bring_bucket_back(server: &Server) {
    std::fs::rename(server.root.path().join("away"), server.root.path().join("bucket")).unwrap();
}

/// This machine's own copy of the report about `web`.
fn local_app(server: &Server) -> AppStatus {
    let local: Status = serde_json::from_slice(&std::fs::read(server.paths().status()).unwrap()).unwrap();
    local.apps.into_iter().find(|app| app.app == "web").unwrap()
}

/// What it says.
fn local_web(server: &Server) -> (AppState, String) {
    let web = local_app(server);
    (web.state, web.reason.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn without_a_bucket_a_person_goes_back_and_the_app_is_left_alone_until_its_entry_changes() {
    let (server, mut agent) = offline().await;
    let (one, two, three) = (release("web", 1), release("web", 2), release("web", 3));
    let mut answer = roll_back(&agent, None, None);
    let during = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let app = local_app(&server);
        assert_eq!((app.state, app.activity), (AppState::Pending, Some(Activity::WatchingHealth)));
        assert_eq!(app.installed.as_ref(), Some(&one));
        std::future::pending::<()>().await;
    };
    let cycle = tokio::select! {
        cycle = pull(&mut agent) => cycle,
        () = during => unreachable!(),
    };
    assert_eq!(local_app(&server).installed.as_ref(), Some(&one), "also without a bucket to end the cycle with");
    assert!(matches!(answer.try_recv(), Ok(Answer::Accepted(_))));
    assert!(cycle.lines.contains(&format!("web: installed `{}`", one.stem())), "{cycle:?}");
    assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
    assert_eq!(server.world.active("web.service"), "active");
    let (state, reason) = local_web(&server);
    assert_eq!(state, AppState::Paused);
    for part in ["by anna", "orders are lost", "until the app's entry in the server document changes", "pulld resume"] {
        assert!(reason.contains(part), "{reason}");
    }

    // Neither the bucket's return, nor another agent, nor a push of another app changes that.
    bring_bucket_back(&server);
    assert!(pull(&mut agent).await.ok);
    let db = release("db", 1);
    server.upload(&db, Behaviour::Good).await;
    server.push(&[&two, &db]).await;
    let mut agent = server.agent();
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((one, true)));
    assert_eq!(server.state_of("web").await, AppState::Paused);

    server.upload(&three, Behaviour::Good).await;
    server.push(&[&three, &db]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((three, true)));
    assert_eq!(server.state_of("web").await, AppState::Converged);
}

#[tokio::test(start_paused = true)]
async fn a_person_ends_the_pause_or_its_time_does() {
    let (server, mut agent) = offline().await;
    bring_bucket_back(&server);
    let (one, two) = (release("web", 1), release("web", 2));
    let resume = |agent: &FakeAgent| agent.instructions().give(Instruction::Resume { app: "web".parse().unwrap() });
    let mut refused = resume(&agent);
    assert!(pull(&mut agent).await.ok);
    assert!(matches!(refused.try_recv(), Ok(Answer::Refused(reason)) if reason.contains("not paused")));

    let _answer = roll_back(&agent, None, None);
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
    let _answer = resume(&agent);
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two.clone(), true)));

    // Its time is over at once.
    let _answer = roll_back(&agent, None, Some(0));
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.world.installed("web"), Some((two, true)), "installed again in the same cycle");
    assert_eq!(server.state_of("web").await, AppState::Converged);
    let went_back = server.world.dpkg_runs().iter().flatten().filter(|deb| deb.contains(one.stem())).count();
    assert_eq!(went_back, 3, "at first, and twice by hand");
}

#[tokio::test(start_paused = true)]
async fn where_there_is_nothing_to_go_back_to_that_is_said() {
    let (server, mut agent) = Server::running(&[&release("web", 1)]).await;
    for (to, expected) in [(None, "there is nothing to go back to"), (Some(7), "is not in the cache of this server")] {
        let mut answer = roll_back(&agent, to, None);
        pull(&mut agent).await;
        let Ok(Answer::Refused(reason)) = answer.try_recv() else { panic!("accepted") };
        assert!(reason.contains(expected) && reason.contains("push"), "{reason}");
    }
    assert_eq!(server.state_of("web").await, AppState::Converged);
    assert_eq!(server.world.dpkg_runs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn going_back_to_what_does_not_stay_up_is_undone_and_nothing_is_paused() {
    let (server, mut agent) = Server::running(&[&release("web", 1)]).await;
    let two = release("web", 2);
    server.upload(&two, Behaviour::Crashes).await;
    server.push(&[&two]).await;
    assert!(!pull(&mut agent).await.ok);
    let mut answer = roll_back(&agent, Some(2), None);
    let cycle = pull(&mut agent).await;
    assert!(matches!(answer.try_recv(), Ok(Answer::Accepted(_))));
    assert!(!cycle.ok, "{cycle:?}");
    assert_eq!(server.world.installed("web"), Some((release("web", 1), true)));
    assert_eq!(server.state_of("web").await, AppState::Quarantined, "what was known of it stays known");
}

#[tokio::test(start_paused = true)]
async fn an_agent_forgets_nothing_of_a_pause_when_it_restarts_and_starts_anew_without_its_files() {
    let (server, mut agent) = offline().await;
    let _answer = roll_back(&agent, None, Some(3600));
    pull(&mut agent).await;
    let mut agent = server.agent();
    poll(&mut agent).await;
    assert_eq!(local_web(&server).0, AppState::Paused);
    bring_bucket_back(&server);
    for file in [server.paths().pauses(), server.paths().lineage(), server.paths().document()] {
        std::fs::remove_file(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    let mut agent = server.agent();
    assert!(poll(&mut agent).await.ok);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(server.world.installed("web"), Some((release("web", 2), true)), "as the document says");
    // What the cache has is enough.
    let _answer = roll_back(&agent, None, None);
    pull(&mut agent).await;
    assert_eq!(server.world.installed("web"), Some((release("web", 1), true)));
}

#[tokio::test(start_paused = true)]
async fn another_release_installed_by_hand_is_told_once_and_put_right() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&two]).await;
    assert!(pull(&mut agent).await.ok);
    assert_eq!(server.status().await.events, [], "what the agent installs is not done by hand");
    server.world.install_by_hand(&one, "2026-11-20T14:02:00Z".parse().unwrap());
    assert!(poll(&mut server.agent()).await.ok);
    assert_eq!(server.world.installed("web"), Some((two.clone(), true)));
    let expected = format!(
        "`web` was changed by hand to `{}` at 2026-11-20T14:02:00Z; installing `{}` as the server document says",
        one.stem(),
        two.stem()
    );
    for _ in 0..2 {
        // Neither told again, nor forgotten by another agent.
        assert!(poll(&mut server.agent()).await.ok);
        let events = server.status().await.events;
        assert_eq!(events.iter().map(|event| event.text.as_str()).collect::<Vec<_>>(), [expected.as_str()]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_by_hand_while_the_bucket_is_gone_is_told_too() {
    let (server, mut agent) = offline().await;
    let one = release("web", 1);
    poll(&mut agent).await;
    server.world.install_by_hand(&one, "2026-11-20T14:02:00Z".parse().unwrap());
    poll(&mut agent).await;
    bring_bucket_back(&server);
    assert!(pull(&mut agent).await.ok);
    let events = server.status().await.events;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].text.contains("was changed by hand to"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn what_dpkg_changes_beside_a_release_was_not_done_by_hand() {
    let (web, nginx) = ([release("web", 1), release("web", 2)], release("nginx", 1));
    let (server, mut agent) = Server::running(&[&web[0], &nginx]).await;
    server.upload(&web[1], Behaviour::TakesAway).await;
    server.push(&[&web[1], &nginx]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Degraded);
    pull(&mut agent).await;
    assert_eq!(server.status().await.events, []);
    assert_eq!(server.world.installed("nginx"), Some((nginx, true)), "the document has it");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_is_about_to_install_is_waited_for_and_told() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&two]).await;
    server.world.break_package("web");
    server.world.hold_lock_by(Some((4321, "dpkg")));
    let by_hand = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let told: Status = serde_json::from_slice(&std::fs::read(server.paths().status()).unwrap()).unwrap();
        assert_eq!(told.warnings, ["waiting until `dpkg` (process 4321) is done with `web`"]);
        assert_eq!(told.apps[0].state, AppState::Pending, "it is not called converged meanwhile");
        server.world.install_by_hand(&one, "2026-11-20T14:02:00Z".parse().unwrap());
        server.world.finish_package("web");
        server.world.hold_lock_by(None);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        cycle = poll(&mut agent) => assert!(cycle.ok, "{cycle:?}"),
        () = by_hand => {}
    }
    let events = server.status().await.events;
    assert!(events.len() == 1 && events[0].text.contains("was changed by hand to"), "{events:?}");
    assert_eq!(server.world.installed("web"), Some((two, true)));
}

#[tokio::test(start_paused = true)]
async fn what_a_person_edited_or_mended_is_said_by_their_next_pull_however_much_else_is_to_be_compared() {
    let others: Vec<_> = (1..20).map(|n| release(&format!("a{n}"), 1)).collect();
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&others.iter().chain([&web]).collect::<Vec<_>>()).await;
    assert!(pull(&mut agent).await.ok);
    server.world.slow_comparison_down(Duration::from_millis(600));
    tokio::time::advance(Duration::from_hours(1)).await;
    server.world.edit_files("web", &["`/etc/web.conf` was changed"]);
    pull(&mut agent).await;
    assert_eq!(local_app(&server).drift, ["`/etc/web.conf` was changed"]);
    assert_eq!(local_web(&server).0, AppState::Drifted);
    server.world.edit_files("web", &[]);
    pull(&mut agent).await;
    assert_eq!(local_web(&server).0, AppState::Converged);
}
