//! Holds that the document's metadata tells of: shown, and followed by nothing.

use std::time::Duration;

use bucket::{AppState, DocumentMetadata, Timestamp, ToldHold};
use jiff::SignedDuration;

use crate::{
    decide::why::Causes,
    machine::fake::{Behaviour, release},
};

use super::harness::{Server, poll};

fn hold(why: &str, minutes: i64) -> ToldHold {
    let until = Timestamp::now() + SignedDuration::from_mins(minutes);
    ToldHold { app: None, by: "dev@laptop".into(), why: why.into(), until }
}

/// Tells of holds in the document, as `push hold` does.
async fn tell(server: &Server, holds: &[ToldHold]) {
    let document = server.bucket.document_object(&Server::name()).await.unwrap().unwrap();
    let metadata = DocumentMetadata::from(document.metadata.clone()).telling(holds, document.generation);
    server.bucket.write_document_metadata(&Server::name(), document, &metadata).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_reported_until_it_ends_and_the_agent_does_nothing_about_it() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    // It waits before it looks for that release once more.
    server.push(&[&two]).await;
    poll(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Failed);
    server.upload(&two, Behaviour::Good).await;
    let (before, runs) = (server.status().await, server.world.dpkg_runs().len());

    let held = hold("debugging", 60);
    tell(&server, std::slice::from_ref(&held)).await;
    poll(&mut agent).await;
    let told = server.status().await;
    assert_eq!(told.holds, [held]);
    assert!(told.document.generation > before.document.generation);
    assert_eq!((&told.apps, server.world.dpkg_runs().len()), (&before.apps, runs), "a hold is no reason to hurry");

    tell(&server, &[hold("over", -1)]).await;
    poll(&mut agent).await;
    assert_eq!((server.status().await.holds, server.world.dpkg_runs().len()), (vec![], runs));

    // It does what its document says all the same.
    tell(&server, &[hold("debugging", 60)]).await;
    server.push(&[&two]).await;
    poll(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Converged);
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_by_hand_on_a_held_server_is_called_that() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    server.world.slow_dpkg_down(Duration::from_mins(1));
    for holds in [vec![hold("debugging", 60)], vec![]] {
        tell(&server, &holds).await;
        server.world.install_by_hand(&two, Timestamp::now());
        let during = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let causes: Causes = serde_json::from_slice(&std::fs::read(server.paths().causes()).unwrap()).unwrap();
            let says = causes.why(one.app()).unwrap().to_string();
            assert!(says.contains("was changed by hand since"), "{says}");
        };
        tokio::join!(poll(&mut agent), during);
        assert_eq!(server.world.installed("web"), Some((one.clone(), true)));
    }
}
