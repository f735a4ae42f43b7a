//! What a rollout waits for: a second report, once an app has run for as long as its push says.

use std::time::Duration;

use bucket::{AppState, LastPush, PushKind};
use tokio::time::{Instant, advance};

use crate::machine::fake::{Behaviour, release};

use super::harness::{Server, poll};

#[tokio::test(start_paused = true)]
async fn an_app_that_has_settled_is_reported_once_more() {
    let (one, two) = (release("web", 1), release("web", 2));
    let (server, mut agent) = Server::running(&[&one]).await;
    server.upload(&two, Behaviour::Good).await;
    server.push(&[&two]).await;
    let (seen, document) = server.bucket.server_document(&Server::name()).await.unwrap().unwrap();
    let push = LastPush {
        id: "abc".parse().unwrap(),
        time: jiff::Timestamp::UNIX_EPOCH,
        app: "web".parse().unwrap(),
        from: Some(one),
        to: Some(two),
        kind: PushKind::Deploy,
        who: "dev".into(),
        why: String::new(),
        generation: None,
        settle_seconds: Some(120),
        recorded: false,
        without_waves: false,
        channel: None,
    };
    let metadata = document.metadata().clone().with_push(&push);
    server.bucket.write_server_document(&Server::name(), &document.with_metadata(metadata), Some(seen)).await.unwrap();
    poll(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Converged);
    let (_, status) = server.bucket.status(&Server::name()).await.unwrap().unwrap();
    assert!(status.agent.health_window_seconds.is_some(), "who waits knows how long silence may last");
    let report = async || server.bucket.status(&Server::name()).await.unwrap().unwrap().0;
    let first = report().await;
    let rest = agent.next_pull.saturating_duration_since(Instant::now());
    assert!(rest <= Duration::from_mins(2), "it wakes up for that: {rest:?}");
    poll(&mut agent).await;
    assert_eq!(report().await, first, "it has nothing new to say, and has not settled");
    advance(Duration::from_secs(121)).await;
    poll(&mut agent).await;
    let second = report().await;
    assert_ne!(second, first);
    advance(Duration::from_secs(121)).await;
    poll(&mut agent).await;
    assert_eq!(report().await, second, "said once");
}
