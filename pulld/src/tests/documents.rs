//! Whole cycles: documents, configurations and buckets that are absent or wrong.

use std::collections::BTreeMap;

use bucket::{AppState, ServerState, Status};

use crate::machine::fake::{Behaviour, release};

use super::harness::{Server, poll, pull};

#[tokio::test(start_paused = true)]
async fn a_malformed_document_changes_nothing() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    server.configure("prune = true");
    for malformed in ["", "{", "null", "{\"a\": 1}", "[\"x\"] trailing"] {
        let path: bucket::ObjectPath = "server/web-1.json".parse().unwrap();
        let seen = server.bucket.head(&path).await.unwrap().unwrap().generation;
        let content = malformed.as_bytes().to_vec().into();
        server.bucket.replace(&path, content, &BTreeMap::new(), seen).await.unwrap();
        let cycle = pull(&mut agent).await;
        assert!(!cycle.ok, "{malformed}");
        let cycle = pull(&mut server.agent()).await;
        assert!(!cycle.ok, "{malformed}: neither by an agent that never saw a good one");
    }
    assert_eq!((server.world.installed("web"), server.world.dpkg_runs().len()), (Some((web, true)), 1));
    assert!(server.status().await.document.error.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_document_is_not_an_absent_one() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    server.configure("prune = true");
    // Root may read everything, so the whole share goes away.
    let (there, away) = (server.root.path().join("bucket"), server.root.path().join("away"));
    std::fs::rename(&there, &away).unwrap();
    for agent in [&mut agent, &mut server.agent()] {
        let cycle = pull(agent).await;
        assert!(!cycle.ok && cycle.summary.contains("bucket"), "{cycle:?}");
    }
    let local: Status = serde_json::from_slice(&std::fs::read(server.paths().status()).unwrap()).unwrap();
    assert_eq!(local.state, ServerState::Failed);
    std::fs::rename(&away, &there).unwrap();
    assert!(pull(&mut agent).await.ok);
    assert_eq!((server.world.installed("web"), server.world.dpkg_runs().len()), (Some((web, true)), 1));
}

#[tokio::test(start_paused = true)]
async fn an_absent_or_empty_document_removes_nothing() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    server.configure("prune = true");
    let empty = server.push(&[]).await;
    pull(&mut agent).await;
    assert_eq!(server.state_of("web").await, AppState::Orphan);
    server.bucket.delete(&"server/web-1.json".parse().unwrap(), empty).await.unwrap();
    pull(&mut agent).await;
    pull(&mut server.agent()).await;
    assert_eq!(server.world.installed("web"), Some((web, true)));
    assert_eq!(server.world.dpkg_runs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_writer_of_the_status_is_not_overwritten_blindly() {
    let server = Server::new().await;
    server.put("etc/machine-id", "0123456789abcdef0123456789abcdef");
    let mut agent = server.agent();
    pull(&mut agent).await;
    let ours = server.status().await;
    assert!(!ours.machine.contains("0123456789abcdef"), "machine-id(5): the id itself isn't told");
    let Some((generation, _)) = server.bucket.status(&Server::name()).await.unwrap() else { panic!() };
    let theirs = Status { machine: "another".into(), ..ours.clone() };
    server.bucket.write_status(&theirs, Some(generation)).await.unwrap();
    server.push(&[]).await;
    pull(&mut agent).await;
    assert_eq!(server.status().await.machine, ours.machine);
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_bucket_waits_and_picks_it_up() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    server.put("etc/pulld/pulld.toml", "");
    let mut agent = server.agent();
    let cycle = poll(&mut agent).await;
    assert!(!cycle.ok && cycle.summary.contains("no bucket specified"), "{cycle:?}");
    server.configure("poll = \"nonsense\"");
    let cycle = poll(&mut server.agent()).await;
    assert!(
        cycle.summary.contains("`poll` is `\"nonsense\"`"),
        "an agent comes up with a wrong configuration: {cycle:?}"
    );
    server.configure("");
    assert!(poll(&mut agent).await.ok);
    server.configure("poll = \"nonsense\"");
    assert!(poll(&mut agent).await.ok, "the last good configuration stays");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_does_not_answer_is_not_sent_a_report() {
    let web = release("web", 1);
    let (server, mut agent) = Server::running(&[&web]).await;
    let reported = || async { server.bucket.status_generation(&Server::name()).await.unwrap().unwrap() };
    let before = reported().await;
    // A socket can't be opened: reading the document fails, while a report could be written.
    let document = server.root.path().join("bucket/server/web-1.json");
    std::fs::remove_file(&document).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&document).unwrap();
    let cycle = pull(&mut agent).await;
    assert!(!cycle.ok, "{cycle:?}");
    assert_eq!(reported().await, before);
    std::fs::remove_file(&document).unwrap();
    pull(&mut agent).await;
    assert_ne!(reported().await, before, "it answers again, and the document is gone");
}

#[tokio::test(start_paused = true)]
async fn another_server_name_or_bucket_ends_what_the_old_document_asked_for() {
    for (name, bucket) in [("web-2", "bucket"), ("web-1", "other")] {
        let web = release("web", 1);
        let (server, mut agent) = Server::running(&[&web]).await;
        server.put(&format!("{bucket}/server/{name}.json"), "{");
        server.configure_source(name, bucket);
        server.world.break_package("web");
        let cycle = pull(&mut agent).await;
        assert!(!cycle.ok, "{cycle:?}");
        assert_eq!(server.world.dpkg_runs().len(), 1, "{name}: nobody asks for `web` any more");
        let local: Status = serde_json::from_slice(&std::fs::read(server.paths().status()).unwrap()).unwrap();
        assert_eq!(local.document.generation, None, "{name}");
    }
}
