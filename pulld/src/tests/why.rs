//! Whole cycles: why an app is as it is, as the agent leaves it for `pulld why`.

use bucket::AppState;
use serde_json::json;

use crate::{
    decide::{
        remedy::Remedy,
        report::Evidence,
        why::{Causes, Why},
    },
    failure::{DownloadFault, Fault, Place},
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
    assert_eq!(why.state(), server.state_of("web").await, "it says the same as the report");
    why
}

#[tokio::test(start_paused = true)]
async fn whatever_keeps_an_app_from_its_document_is_said_and_what_to_do() {
    let (one, two, three) = (release("web", 1), release("web", 2), release("web", 3));
    let (server, mut agent) = Server::running(&[&one]).await;
    let fine = why(&server).await;
    assert_eq!((fine.is_blocked(), fine.remedy()), (false, Remedy::Nothing));

    server.push(&[&two]).await;
    pull(&mut agent).await;
    let waiting = why(&server).await;
    assert_eq!((waiting.is_blocked(), waiting.state()), (true, AppState::Failed));
    let not_found = Fault::NotDownloaded(DownloadFault::NotFound(Place::InBucket));
    assert_eq!(waiting.evidence()[..2], [Evidence::Failed(not_found.into()), Evidence::Failures(1)]);
    assert_eq!(waiting.kind(), "not-downloaded");

    server.upload(&three, Behaviour::Crashes).await;
    server.push(&[&three]).await;
    pull(&mut agent).await;
    let quarantined = why(&server).await;
    assert!(quarantined.to_string().contains("was rolled back here"), "{quarantined:?}");
    assert_eq!(quarantined.remedy(), Remedy::PushOrRetry { app: "web".parse().unwrap() });
    assert_eq!(quarantined.kind(), "unit-failed");

    server.push(&[&one]).await;
    pull(&mut agent).await;
    server.world.set_on_hold("web", true);
    poll(&mut agent).await;
    assert_eq!(why(&server).await.remedy(), Remedy::Unhold { package: "web".into() });
    server.world.set_on_hold("web", false);
    server.world.die("web.service", 3);
    poll(&mut agent).await;
    assert_eq!(why(&server).await.remedy(), Remedy::SeeJournal { unit: "web.service".into() });

    std::fs::rename(server.root.path().join("bucket"), server.root.path().join("away")).unwrap();
    poll(&mut server.agent()).await;
    let blocked = why_locally(&server);
    assert!(blocked.is_blocked() && blocked.evidence()[0].to_string().contains("bucket"), "{blocked:?}");
    assert_eq!((blocked.kind(), blocked.remedy()), ("pull-failed", Remedy::MendPull));
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
        assert_eq!((why.kind(), why.is_blocked()), (kind, kind != "in-place"), "{behaviour:?}: {why:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn programs_are_told_as_data_what_went_wrong() {
    let (one, two) = (release("web", 1), release("web", 2));
    for (behaviour, kind, fault, words) in [
        (
            Behaviour::DoesNotStart,
            "unit-failed",
            json!({"unit": "web.service", "how": {"not-started": {"failed": {"process": {"exited": 203}}}}, "lines": []}),
            "`web.service` did not start: exit status 203/EXEC",
        ),
        (
            Behaviour::CheckFails,
            "check-failed",
            json!({"check": "/bin/false", "how": {"command-failed": {"late_ms": null, "output": ""}}}),
            "its check `/bin/false` failed; it printed nothing",
        ),
    ] {
        let (server, mut agent) = Server::running(&[&one]).await;
        server.upload(&two, behaviour).await;
        server.push(&[&two]).await;
        pull(&mut agent).await;
        let why = why_locally(&server);
        let cause = serde_json::to_value(why.cause()).unwrap();
        let told = &cause["quarantined"];
        assert_eq!((&told["kind"], &told["reason"]), (&json!(kind), &json!(words)), "{cause}");
        assert_eq!(told["fault"], json!({ kind: fault }), "{cause}");
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
        assert_eq!((why.kind(), why.is_blocked()), (kind, true), "{why:?}");
    }
}
