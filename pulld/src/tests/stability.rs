//! Whole cycles: units that keep dying after their release passed its health gate.

use bucket::{AppState, AppStatus, ServerState, Timestamp};

use crate::machine::fake::{Behaviour, release};

use super::harness::{Server, poll, pull};

async fn web(server: &Server) -> AppStatus {
    server.status().await.apps.into_iter().find(|app| app.app == "web").unwrap()
}

/// Makes all that was counted so many minutes older.
fn age(server: &Server, minutes: i64) {
    let path = server.paths().stability();
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for restarts in kept["units"]["web.service"]["restarts"].as_array_mut().unwrap() {
        let at: Timestamp = restarts["at"].as_str().unwrap().parse().unwrap();
        restarts["at"] = (at - std::time::Duration::from_mins(minutes.unsigned_abs())).to_string().into();
    }
    std::fs::write(&path, kept.to_string()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_program_that_keeps_dying_is_unstable_from_the_third_time_until_an_hour_has_passed() {
    let (server, mut agent) = Server::running(&[&release("web", 1)]).await;
    server.world.write_journal(&["no such table"], 3);
    for (died, state) in [(1, AppState::Converged), (2, AppState::Converged), (3, AppState::Unstable)] {
        server.world.die("web.service", 1);
        poll(&mut agent).await;
        assert_eq!(web(&server).await.state, state, "after {died}");
    }
    let app = web(&server).await;
    assert_eq!(
        app.reason.as_deref(),
        Some(
            "`web.service` does not stay up: systemd restarted it 3 times in the last hour (last: exit status 3)\n\
             the journal of `web.service` ends with:\n  no such table"
        )
    );
    let status = server.status().await;
    assert_eq!(status.state, ServerState::Unstable);
    assert!(
        status.summary.starts_with("1 of 1 app matches") && status.summary.ends_with("unstable: web"),
        "{status:?}"
    );

    // Another agent knows that, and goes on counting.
    server.world.die("web.service", 1);
    let mut agent = server.agent();
    poll(&mut agent).await;
    assert!(web(&server).await.reason.unwrap().contains("restarted it 4 times"));
    age(&server, 59);
    poll(&mut server.agent()).await;
    assert_eq!(web(&server).await.state, AppState::Unstable);
    age(&server, 1);
    poll(&mut server.agent()).await;
    assert_eq!(web(&server).await.state, AppState::Converged);
    assert_eq!(server.world.dpkg_runs().len(), 1, "nothing was rolled back");
}

#[tokio::test(start_paused = true)]
async fn what_a_release_did_before_it_was_rolled_back_or_replaced_is_not_held_against_another() {
    let (one, two, three) = (release("web", 1), release("web", 2), release("web", 3));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Crashes).await;
    server.upload(&three, Behaviour::Good).await;
    server.world.die("web.service", 2);
    poll(&mut agent).await;
    server.push(&[&two]).await;
    pull(&mut agent).await;
    let status = server.status().await;
    assert_eq!((status.apps[0].state, status.warnings.len()), (AppState::Quarantined, 0), "{status:?}");

    // A third time: what was rolled back does not hide it.
    server.world.die("web.service", 1);
    poll(&mut agent).await;
    let status = server.status().await;
    assert_eq!(status.apps[0].state, AppState::Quarantined);
    assert!(status.warnings[0].starts_with("`web.service` does not stay up"), "{status:?}");
    server.push(&[&three]).await;
    pull(&mut agent).await;
    server.world.die("web.service", 2);
    poll(&mut agent).await;
    let status = server.status().await;
    assert_eq!((status.apps[0].state, status.warnings.len()), (AppState::Converged, 0), "{status:?}");
}
