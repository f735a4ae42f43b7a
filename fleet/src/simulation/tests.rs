//! The simulation itself: in how many trials something happens that must not. `make simulate` tries a thousand seeds.

use super::trial::{Counts, play};

fn seeds(usual: u64) -> u64 {
    std::env::var("SIMULATE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}

async fn all(seeds: impl Iterator<Item = u64>, ignores_stop_at: bool) -> Counts {
    let mut counts = Counts::default();
    let mut running = tokio::task::JoinSet::new();
    let one = |running: &mut tokio::task::JoinSet<Counts>, seed: u64| {
        running.spawn(async move {
            let directory = tempfile::tempdir().unwrap();
            Box::pin(play(directory.path(), seed, ignores_stop_at))
                .await
                .unwrap_or_else(|error| panic!("seed {seed}: {error:#}"))
        });
    };
    for seed in seeds {
        one(&mut running, seed);
        if running.len() >= 4
            && let Some(done) = running.join_next().await
        {
            counts.add(done.unwrap());
        }
    }
    while let Some(done) = running.join_next().await {
        counts.add(done.unwrap());
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_no_server_is_written_that_must_not_be() {
    let seeds = seeds(12);
    let counts = all(1..=seeds, false).await;
    println!("{counts}");
    assert!(counts.violations.is_empty(), "{}", counts.violations.join("\n"));
    assert!(counts.written > counts.trials && counts.killed > 0, "too little happened: {counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_ignores_stop_at_is_found_out() {
    let counts = all(1..=12, true).await;
    let found = counts.violations.iter().filter(|violation| violation.contains("had failed, and")).count();
    assert!(found > 0, "{counts}");
}
