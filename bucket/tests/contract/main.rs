//! What the contract lets in, and that what goes out comes back.

mod documents;
mod names;
mod package;
mod status;

use bucket::{ReleaseName, ReleaseParts, Timestamp};
use proptest::prelude::*;

/// A commit that release names have.
const COMMIT: &str = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";

fn release(app: &str, who: &str, time: &str, commit: &str) -> String {
    format!("{app}/{app}:{who}:{time}:{commit}.deb")
}

fn good_release() -> String {
    release("web", "dev@build-1", "2026-11-20T19:05:02Z", COMMIT)
}

/// A word that app names, server names, users and hosts may be.
fn word() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9+._~-]{0,20}".prop_filter("no `..`", |word| !word.contains(".."))
}

fn release_name() -> impl Strategy<Value = ReleaseName> {
    let time = -62_000_000_000..253_402_300_800_i64;
    (word(), word(), word(), time, "[0-9a-f]{40}|[0-9a-f]{64}").prop_filter_map(
        "a year of four digits",
        |(app, user, host, second, commit)| {
            let time = Timestamp::from_second(second).ok()?;
            let (app, commit) = (app.parse().ok()?, commit.parse().ok()?);
            ReleaseName::new(&ReleaseParts { app, user, host, time, commit }).ok()
        },
    )
}
