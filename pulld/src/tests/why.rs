//! Whole cycles: why an app is as it is, as the agent leaves it for `pulld why`.

use bucket::AppState;

use crate::{
    decide::why::{Causes, Why},
    machine::fake::{Behaviour, Deb, release},
};

use super::harness::{Server, poll, pull};

/// What `pulld why web` says.
fn why_locally(server: &Server) -> Why {
    let causes: Causes = serde_json::from_slice(&std::fs::read(server.paths().causes()).unwrap()).unwrap();
    causes.why(&"web".parse().unwrap()).unwrap()
}

async fn why(server: &Server) -> Why {
    let why = why_locally(server);
    assert_eq!(why.state, server.state_of("web").await, "it says the same as the report");
    why
}

#[tokio::test(start_paused = true)]
async fn whatever_keeps_an_app_from_its_document_is_said_and_what_to_do() {
    let (one, two, three) = (release("web", 1), release("web", 2), release("web", 3));
    let (server, mut agent) = Server::running(&[&one]).await;
    let fine = why(&server).await;
    assert_eq!((fine.blocked, fine.to_do.as_str()), (false, "nothing"));

    server.push(&[&two]).await;
    pull(&mut agent).await;
    let waiting = why(&server).await;
    assert_eq!((waiting.blocked, waiting.state), (true, AppState::Failed));
    assert!(waiting.evidence[0].contains("release not found in the bucket"), "{waiting:?}");
    assert_eq!(waiting.kind, "not-downloaded");
    assert_eq!(waiting.evidence[1], "1 attempt has failed");

    server.upload(&three, Behaviour::Crashes).await;
    server.push(&[&three]).await;
    pull(&mut agent).await;
    let quarantined = why(&server).await;
    assert!(quarantined.says.contains("was rolled back here"), "{quarantined:?}");
    assert!(quarantined.to_do.ends_with("run `pulld retry web`"), "{quarantined:?}");
    assert_eq!(quarantined.kind, "unit-failed");

    server.push(&[&one]).await;
    pull(&mut agent).await;
    server.world.set_on_hold("web", true);
    poll(&mut agent).await;
    assert!(why(&server).await.to_do.contains("`apt-mark unhold web`"));
    server.world.set_on_hold("web", false);
    server.world.die("web.service", 3);
    poll(&mut agent).await;
    assert!(why(&server).await.to_do.contains("`journalctl -u web.service`"));

    std::fs::rename(server.root.path().join("bucket"), server.root.path().join("away")).unwrap();
    poll(&mut server.agent()).await;
    let blocked = why_locally(&server);
    assert!(blocked.blocked && blocked.evidence[0].contains("bucket"), "{blocked:?}");
    assert_eq!(blocked.kind, "pull-failed");
}

#[tokio::test(start_paused = true)]
async fn programs_are_told_what_kind_of_failure_it_is_whoever_is_at_fault() {
    let (one, two) = (release("web", 1), release("web", 2));
    for (behaviour, is_read_only, kind) in [
        (Behaviour::Good, false, "in-place"),
        (Behaviour::Good, true, "machine-at-fault"),
        (Behaviour::Refused, false, "dpkg-failed"),
        (Behaviour::Breaks, false, "dpkg-failed"),
        (Behaviour::DoesNotStart, false, "unit-failed"),
        (Behaviour::CheckFails, false, "check-failed"),
        (Behaviour::TakesAway, false, "other-packages-changed"),
    ] {
        let (server, mut agent) = Server::running(&[&one]).await;
        server.world.put_foreign("nginx");
        server.world.make_read_only_after(is_read_only.then_some(0));
        server.upload(&two, behaviour).await;
        server.push(&[&two]).await;
        pull(&mut agent).await;
        let why = why_locally(&server);
        assert_eq!((why.kind.as_str(), why.blocked), (kind, kind != "in-place"), "{behaviour:?}: {why:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_the_machines_fault_and_what_a_package_needs_is_not() {
    let (one, two) = (release("web", 1), release("web", 2));
    let deb = Deb::new(&two, Behaviour::Good);
    for (deb, kind) in [
        (Deb { installed_size: u64::MAX / 2, ..deb.clone() }, "machine-at-fault"),
        (Deb { depends: vec!["not-there".to_owned()], ..deb }, "not-installable"),
    ] {
        let (server, mut agent) = Server::running(&[&one]).await;
        server.upload_deb(&deb).await;
        server.push(&[&two]).await;
        pull(&mut agent).await;
        let why = why_locally(&server);
        assert_eq!((why.kind.as_str(), why.blocked), (kind, true), "{why:?}");
    }
}
