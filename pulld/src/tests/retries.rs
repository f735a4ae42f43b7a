//! Releases that were rolled back: said in the report, and tried again when an operator asks for it in the document.

use bucket::{AppState, DocumentMetadata, Retry, ServerDocument};

use crate::machine::fake::{Behaviour, release};

use super::harness::{FakeAgent, Server, poll, pull};

/// Asks for a retry in the document, as `push retry` does: its content stays as it is.
async fn retry(server: &Server, id: &str) {
    let (seen, document) = server.bucket.server_document(&Server::name()).await.unwrap().unwrap();
    let release = document.release_of(&"web".parse().unwrap()).unwrap().clone();
    let retry = Retry { id: id.parse().unwrap(), time: jiff::Timestamp::UNIX_EPOCH, release, generation: None };
    let metadata: DocumentMetadata = document.metadata().clone().with_retry(&retry).0;
    write(server, seen, document.with_metadata(metadata)).await;
}

async fn write(server: &Server, seen: bucket::Generation, document: ServerDocument) {
    server.bucket.write_server_document(&Server::name(), &document, Some(seen)).await.unwrap();
}

/// A server whose agent went back from `web 2` to `web 1`.
async fn rolled_back() -> (Server, FakeAgent) {
    let (good, bad) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&good]).await;
    server.upload(&bad, Behaviour::Crashes).await;
    server.push(&[&bad]).await;
    poll(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    (server, agent)
}

#[tokio::test(start_paused = true)]
async fn a_retry_in_the_document_counts_once() {
    let (server, mut agent) = rolled_back().await;
    let status = server.status().await.apps.remove(0);
    assert_eq!(
        (status.rolled_back, status.cached),
        (vec![release("web", 2)], vec![release("web", 2), release("web", 1)])
    );
    let runs = server.world.dpkg_runs().len();
    poll(&mut agent).await;
    assert_eq!(server.world.dpkg_runs().len(), runs, "nobody asked yet");
    retry(&server, "first").await;
    poll(&mut agent).await;
    assert_eq!(server.world.dpkg_runs().len(), runs + 2, "installed, and rolled back again");
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    for agent in [&mut agent, &mut server.agent()] {
        poll(agent).await;
        pull(agent).await;
        assert_eq!(server.world.dpkg_runs().len(), runs + 2, "not once more, by another process either");
    }
    // Whatever else is written, as for another app, does not ask for it again.
    let (seen, document) = server.bucket.server_document(&Server::name()).await.unwrap().unwrap();
    write(&server, seen, document).await;
    poll(&mut agent).await;
    assert_eq!(server.world.dpkg_runs().len(), runs + 2);
    retry(&server, "second").await;
    poll(&mut server.agent()).await;
    assert_eq!(server.world.dpkg_runs().len(), runs + 4);
}

#[tokio::test(start_paused = true)]
async fn a_retry_counts_for_the_release_that_the_document_names() {
    let (server, mut agent) = rolled_back().await;
    let runs = server.world.dpkg_runs().len();
    let (seen, document) = server.bucket.server_document(&Server::name()).await.unwrap().unwrap();
    let other = Retry {
        id: "other".parse().unwrap(),
        time: jiff::Timestamp::UNIX_EPOCH,
        release: release("web", 3),
        generation: None,
    };
    let metadata = document.metadata().clone().with_retry(&other).0;
    write(&server, seen, document.with_metadata(metadata)).await;
    poll(&mut agent).await;
    assert_eq!((server.world.dpkg_runs().len(), server.state_of("web").await), (runs, AppState::Quarantined));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_runs_after_all_is_no_longer_one_that_was_rolled_back() {
    let (server, mut agent) = rolled_back().await;
    server.upload(&release("web", 3), Behaviour::Good).await;
    server.push(&[&release("web", 3)]).await;
    poll(&mut agent).await;
    let status = server.status().await.apps.remove(0);
    assert_eq!((status.state, status.rolled_back), (AppState::Converged, vec![release("web", 2)]));
    server.world.mend(&release("web", 2));
    server.push(&[&release("web", 2)]).await;
    poll(&mut agent).await;
    let status = server.status().await.apps.remove(0);
    assert_eq!((status.state, status.rolled_back), (AppState::Converged, vec![]));
}
