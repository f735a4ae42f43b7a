//! Whole cycles: how often an interrupted transaction is resumed.

use bucket::AppState;

use crate::{
    failpoint::die_at,
    machine::fake::{Behaviour, release},
    transaction,
};

use super::harness::{Server, live};

/// A server that updates `web` from its first release to its second, and whose agents died that often at it.
async fn interrupted(times: u32) -> Server {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, _) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    assert!(die_at("persist.write(transaction.json).end", 0, live(&server)).await.is_none());
    for resumption in 1..times {
        assert!(die_at("packages.execute.begin", 0, live(&server)).await.is_none());
        let record = transaction::load(&server.paths().transaction()).expect("the transaction is still under way");
        assert_eq!(record.resumptions, resumption);
    }
    assert_eq!(server.world.dpkg_runs().len(), 1, "dpkg ran for the first release only");
    server
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_was_interrupted_five_times_is_still_completed() {
    let server = interrupted(5).await;
    live(&server).await;
    assert_eq!(server.world.installed("web"), Some((release("web", 2), true)));
    assert_eq!(server.state_of("web").await, AppState::Converged);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_was_interrupted_six_times_is_rolled_back() {
    let server = interrupted(6).await;
    live(&server).await;
    assert_eq!(server.world.installed("web"), Some((release("web", 1), true)));
    assert_eq!(server.state_of("web").await, AppState::Quarantined);
    assert!(!server.paths().transaction().exists());
    let quarantine = std::fs::read_to_string(server.paths().quarantine()).unwrap();
    assert!(quarantine.contains("interrupted 6 times"), "{quarantine}");
}
