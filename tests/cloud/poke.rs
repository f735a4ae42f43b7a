//! Poking servers through the Compute API, as the `push` command does it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bucket::{ReleaseName, ServerName};
use fleet::poke::{PokeSettings, Poker};
use harness::{
    compute::{FakeCompute, Fault, Verb},
    metadata::FakeMetadata,
};

use crate::messages::{World, until};

const ZONE: &str = "europe-west1-b";

fn release(app: &str) -> ReleaseName {
    let name = format!("{app}/{app}:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb");
    name.parse().expect("a release name")
}

fn poker(compute: &FakeCompute, zone: Option<&str>) -> Poker {
    let settings = PokeSettings::from_env(Some("acme-prod"), |key| match key {
        "PUSH_COMPUTE_ENDPOINT" => Some(compute.endpoint()),
        "PUSH_COMPUTE_CREDENTIALS" => Some("anonymous".to_owned()),
        "PUSH_GCE_ZONE" => zone.map(str::to_owned),
        _ => None,
    });
    let Ok(PokeSettings::Compute(mut settings)) = settings else { panic!("{settings:?}") };
    settings.first_retry = Duration::from_millis(1);
    Poker::new(&PokeSettings::Compute(settings)).expect("no credentials are needed").expect("a project is named")
}

/// Pokes servers with a release of `web` each, and gives each outcome in words.
async fn poke(poker: &Poker, servers: &[&str]) -> BTreeMap<String, Result<(), String>> {
    let pushed: BTreeMap<ServerName, _> =
        servers.iter().map(|name| (name.parse().expect("a server name"), vec![release("web")])).collect();
    let prepared = poker.prepare(&pushed.keys().cloned().collect()).await;
    let outcomes = poker.poke(prepared, &pushed).await;
    outcomes.into_iter().map(|(name, it)| (name.to_string(), it.map_err(|error| format!("{error:#}")))).collect()
}

fn pushrev(compute: &FakeCompute, zone: &str, name: &str) -> Option<String> {
    // Whatever happens to a poke, the attributes of others must stay.
    assert_eq!(compute.attribute(zone, name, "ssh-keys").as_deref(), Some("dev:ssh-ed25519 AAAA"));
    compute.attribute(zone, name, "pushrev")
}

#[tokio::test]
async fn a_poke_sets_pushrev_and_the_metadata_server_shows_it() {
    let compute = FakeCompute::start().await;
    let metadata = Arc::new(FakeMetadata::start().await);
    compute.add(ZONE, "web-1");
    compute.mirror(ZONE, "web-1", metadata.clone());
    assert_eq!(poke(&poker(&compute, None), &["web-1"]).await["web-1"], Ok(()));
    let value = pushrev(&compute, ZONE, "web-1").expect("it is set");
    assert!(value.starts_with("web:dev@build-1:2026-11-20T19:05:02Z:"), "{value}");
    assert_eq!(poke(&poker(&compute, Some(ZONE)), &["web-1"]).await["web-1"], Ok(()));
    assert_ne!(pushrev(&compute, ZONE, "web-1"), Some(value), "every poke is a change");
    assert_eq!(compute.asked(Verb::List), 1, "a configured zone needs no list");
}

#[tokio::test]
async fn what_another_wrote_since_the_instance_was_looked_up_stays() {
    let compute = FakeCompute::start().await;
    compute.add(ZONE, "web-1");
    let server: ServerName = "web-1".parse().expect("a server name");
    let (slow, quick) = (poker(&compute, Some(ZONE)), poker(&compute, Some(ZONE)));
    let prepared = slow.prepare(&[server.clone()].into()).await;
    assert_eq!(poke(&quick, &["web-1"]).await["web-1"], Ok(()));
    let by_quick = pushrev(&compute, ZONE, "web-1");
    let pushed = BTreeMap::from([(server, vec![release("db")])]);
    assert!(slow.poke(prepared, &pushed).await.into_values().all(|outcome| outcome.is_ok()));
    let value = pushrev(&compute, ZONE, "web-1");
    assert!(value != by_quick && value.is_some_and(|value| value.starts_with("db:dev")));
}

#[tokio::test]
async fn several_apps_for_one_server_are_one_write() {
    let compute = FakeCompute::start().await;
    compute.add(ZONE, "web-1");
    let server: ServerName = "web-1".parse().expect("a server name");
    let pushed = BTreeMap::from([(server.clone(), vec![release("web"), release("db"), release("cron")])]);
    let poker = poker(&compute, None);
    let prepared = poker.prepare(&[server].into()).await;
    assert!(poker.poke(prepared, &pushed).await.into_values().all(|outcome| outcome.is_ok()));
    assert_eq!(compute.writes(), 1);
    let value = pushrev(&compute, ZONE, "web-1").expect("it is set");
    assert!(value.contains("web:dev") && value.contains("db:dev") && value.contains("cron:dev"), "{value}");
}

#[tokio::test]
async fn many_servers_are_found_over_pages_and_zones_and_each_has_its_own_outcome() {
    let compute = FakeCompute::start().await;
    let names: Vec<String> = (1..=25).map(|number| format!("web-{number}")).collect();
    for (index, name) in names.iter().enumerate() {
        compute.add(["us-east1-c", ZONE, "asia-east1-a"][index % 3], name);
    }
    compute.add("us-east1-c", "twin");
    compute.add(ZONE, "twin");
    let mut servers: Vec<&str> = names.iter().map(String::as_str).collect();
    servers.extend(["twin", "gone", "host.example.com"]);
    let outcomes = poke(&poker(&compute, None), &servers).await;
    assert!(names.iter().all(|name| outcomes[name] == Ok(())), "{outcomes:?}");
    assert!(outcomes["twin"].as_ref().is_err_and(|it| it.contains("europe-west1-b, us-east1-c")), "{outcomes:?}");
    assert!(outcomes["gone"].as_ref().is_err_and(|it| it.contains("no instance `gone`")), "{outcomes:?}");
    assert!(outcomes["host.example.com"].as_ref().is_err_and(|it| it.contains("cannot be the name")), "{outcomes:?}");
    assert_eq!((compute.writes(), pushrev(&compute, ZONE, "twin")), (25, None));
    // The operator says which.
    assert_eq!(poke(&poker(&compute, Some(ZONE)), &["twin"]).await["twin"], Ok(()));
    assert_eq!(pushrev(&compute, "us-east1-c", "twin"), None);
}

#[tokio::test]
async fn a_zone_that_is_down_hides_only_its_own_instances() {
    let compute = FakeCompute::start().await;
    compute.add(ZONE, "web-1");
    compute.add("us-east1-c", "web-2");
    compute.unreachable("us-east1-c");
    let outcomes = poke(&poker(&compute, None), &["web-1", "web-2"]).await;
    assert_eq!(outcomes["web-1"], Ok(()));
    assert!(
        outcomes["web-2"].as_ref().is_err_and(|it| it.contains("are unreachable at the moment: us-east1-c")),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn passing_faults_are_tried_again() {
    let busy = |status, reason| Fault::Status(status, reason, None);
    for (verb, times, fault) in [
        (Verb::List, 2, busy(503, "backendError")),
        (Verb::List, 1, Fault::Html),
        (Verb::Get, 1, busy(500, "internalError")),
        (Verb::Set, 3, Fault::OtherWriter),
        (Verb::Set, 2, busy(409, "alreadyInProgress")),
        (Verb::Set, 1, Fault::Status(429, "rateLimitExceeded", Some(1))),
        (Verb::Set, 1, busy(403, "rateLimitExceeded")),
        (Verb::Set, 1, busy(503, "backendError")),
        (Verb::Set, 1, Fault::OperationTakes(3)),
        (Verb::Set, 1, Fault::OperationFails("CONDITION_NOT_MET")),
        (Verb::Wait, 1, busy(503, "backendError")),
    ] {
        let compute = FakeCompute::start().await;
        compute.add(ZONE, "web-1");
        if verb == Verb::Wait {
            compute.fail_next(Verb::Set, 1, Fault::OperationTakes(2));
        }
        compute.fail_next(verb, times, fault);
        assert_eq!(poke(&poker(&compute, None), &["web-1"]).await["web-1"], Ok(()), "{verb:?} {fault:?}");
        assert!(pushrev(&compute, ZONE, "web-1").is_some(), "{verb:?} {fault:?}");
        assert_eq!(compute.writes(), 1, "{verb:?} {fault:?}");
        if fault == Fault::OtherWriter {
            assert_eq!(compute.attribute(ZONE, "web-1", "other-2").as_deref(), Some("theirs"));
        }
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_repeated() {
    let compute = FakeCompute::start().await;
    compute.add(ZONE, "web-1");
    compute.fail_next(Verb::Set, 1, Fault::AnswerLost);
    assert_eq!(poke(&poker(&compute, None), &["web-1"]).await["web-1"], Ok(()));
    assert_eq!((compute.writes(), compute.asked(Verb::Set)), (1, 1));
}

#[tokio::test]
async fn lasting_faults_are_told_at_once_with_their_reason() {
    for (verb, fault, part) in [
        (Verb::List, Fault::Status(403, "forbidden", None), "status 403: as asked by the test\\u{1b}[2J"),
        (Verb::Set, Fault::Status(403, "forbidden", None), "could not set `pushrev` of instance `web-1`"),
        (Verb::Set, Fault::Status(400, "invalid", None), "status 400"),
        (Verb::Set, Fault::OperationFails("PERMISSIONS_ERROR"), "PERMISSIONS_ERROR: as asked by the test"),
    ] {
        let compute = FakeCompute::start().await;
        compute.add(ZONE, "web-1");
        compute.fail_next(verb, 1, fault);
        let outcome = poke(&poker(&compute, None), &["web-1"]).await.remove("web-1").expect("an outcome");
        let error = outcome.expect_err("it can't work");
        assert!(error.contains(part), "{fault:?}: {error}");
        assert_eq!((compute.asked(verb), compute.writes()), (1, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn what_never_gets_well_is_given_up() {
    let compute = FakeCompute::start().await;
    compute.add(ZONE, "web-1");
    compute.fail_next(Verb::Set, usize::MAX, Fault::Status(503, "backendError", None));
    let error = poke(&poker(&compute, None), &["web-1"]).await["web-1"].clone().expect_err("it never works");
    assert!(error.contains("status 503"), "{error}");
    assert!(compute.asked(Verb::Set) < 20, "{}", compute.asked(Verb::Set));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_watcher_pushes_pokes_as_what_a_person_pushes_does() {
    let (mut world, compute) = (World::new().await, FakeCompute::start().await);
    compute.add(ZONE, "web-1");
    let (endpoint, pubsub) = (compute.endpoint(), world.pubsub.host().to_owned());
    let _watching = world.watch_with(
        "1s",
        &[
            ("PUBSUB_EMULATOR_HOST", pubsub.as_str()),
            ("PUSH_GCE_PROJECT", "acme-prod"),
            ("PUSH_COMPUTE_ENDPOINT", endpoint.as_str()),
            ("PUSH_COMPUTE_CREDENTIALS", "anonymous"),
        ],
    );
    for _ in 0..2 {
        let release = world.release().await;
        world.until_it_has(&release).await;
        let is_poked = || pushrev(&compute, ZONE, "web-1").is_some_and(|value| value.starts_with(release.stem()));
        until("it is poked", is_poked);
    }
    // Whoever cannot be poked has it with the next poll.
    compute.fail_next(Verb::Set, 1, Fault::Status(403, "forbidden", None));
    let release = world.release().await;
    world.until_it_has(&release).await;
}
