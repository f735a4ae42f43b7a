//! A rollout's object grows as it goes, and has room for that from the beginning.

use bucket::{Bucket, BucketOptions, BucketUrl, Generation, Rollout, WaveRow, Written};

use super::story::{Story, name};
use crate::{condition::tests::release, rollout::drive::begin};

fn to_servers(count: usize) -> Rollout {
    let mut rollout = Story::new(2, "1,rest").rollout;
    let rows = (0..count).map(|n| WaveRow::new(name(&format!("web-{n:06}")), Some(release(1))));
    rollout.waves[1].rows = rows.collect();
    rollout
}

#[test]
fn what_becomes_of_ten_thousand_servers_fits_into_it() {
    let mut rollout = to_servers(10_000);
    assert!(rollout.has_room());
    let (at, generation) = ("2026-11-20T20:00:00.123456Z".parse().unwrap(), Generation(1_764_288_000_123_456));
    for row in rollout.rows_mut() {
        (row.noted, row.written) = (Some(generation), Some(Written { generation, at }));
        (row.converged, row.settled, row.undone) = (Some(at), true, true);
    }
    assert!(serde_json::to_vec(&rollout).unwrap().len() < 4 << 20);
}

#[tokio::test]
async fn one_that_could_not_be_carried_on_to_its_end_is_not_begun() {
    let directory = tempfile::tempdir().unwrap();
    let url = BucketUrl::File(directory.path().to_owned());
    let bucket = Bucket::open(&url, &BucketOptions::default()).await.unwrap();
    let rollout = to_servers(16_000);
    assert!(serde_json::to_vec(&rollout).unwrap().len() < 4 << 20, "it would fit as it begins");
    let error = begin(&bucket, &rollout).await.unwrap_err().to_string();
    assert!(error.contains("push to fewer at a time"), "{error}");
    assert_eq!(bucket.rollout(&rollout.id).await.unwrap(), None);
}
