//! Whole cycles: dpkg changes more than was planned.

use bucket::AppState;

use crate::{
    machine::fake::{Behaviour, release},
    service::instructions::Instruction,
};

use super::harness::{Server, pull};

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
