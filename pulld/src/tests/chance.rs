//! Whatever documents a server is given, and whatever dies meanwhile: every rule holds of it in the end.

use bucket::ReleaseName;
use proptest::prelude::*;

use crate::{
    failpoint::die_at,
    machine::fake::{Behaviour, release},
};

use super::{
    crashes::Death,
    harness::{Server, live},
};

/// How the release of each minute behaves.
const BEHAVIOURS: [Behaviour; 5] =
    [Behaviour::Good, Behaviour::Good, Behaviour::Crashes, Behaviour::Refused, Behaviour::DoesNotStart];

/// Where an agent may die: what it does next, or has done before, differs at each of them.
const POINTS: [&str; 8] = [
    "packages.execute.begin",
    "dpkg.begin",
    "dpkg.end",
    "services.daemon_reload.end",
    "services.restart(web.service).end",
    "persist.write(transaction.json).end",
    "persist.write(quarantine.json).end",
    "bucket.write_status.begin",
];

/// What happens next.
#[derive(Debug, Clone)]
struct Step {
    /// The minutes of the releases of `web` and `db` that the document lists.
    listed: [Option<usize>; 2],
    /// Where something dies, how often that was met before, and what.
    death: Option<(&'static str, usize, Death)>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let minute = || proptest::option::weighted(0.8, 0..BEHAVIOURS.len());
    let death = prop_oneof![Just(Death::Agent), Just(Death::AgentAndDpkg), Just(Death::Machine)];
    let death = proptest::option::of((prop::sample::select(&POINTS[..]), 0..3_usize, death));
    let step = ([minute(), minute()], death).prop_map(|(listed, death)| Step { listed, death });
    prop::collection::vec(step, 1..5)
}

async fn go(steps: &[Step]) {
    let server = Server::new().await;
    server.configure("prune = true");
    let named = |app: &str, at: usize| release(app, u8::try_from(at).unwrap());
    for (at, behaviour) in BEHAVIOURS.into_iter().enumerate() {
        server.upload(&named("web", at), behaviour).await;
        server.upload(&named("db", at), behaviour).await;
    }
    for (number, step) in steps.iter().enumerate() {
        let listed = ["web", "db"].into_iter().zip(step.listed);
        let listed: Vec<ReleaseName> = listed.filter_map(|(app, at)| Some(named(app, at?))).collect();
        server.push(&listed.iter().collect::<Vec<_>>()).await;
        if let Some((point, earlier, death)) = step.death
            && die_at(point, earlier, live(&server)).await.is_none()
        {
            death.strike(&server);
        }
        for _ in 0..4 {
            live(&server).await;
        }
        server.is_settled(&format!("step {number}")).await;
        let dpkg_runs = server.world.dpkg_runs().len();
        live(&server).await;
        assert_eq!(server.world.dpkg_runs().len(), dpkg_runs, "nothing is left to do after step {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_holds_whatever_is_listed_and_whatever_dies(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(go(&steps));
    }
}
