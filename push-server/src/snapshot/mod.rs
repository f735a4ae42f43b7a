//! The whole fleet as it was a moment ago, for drawing pages.
//!
//! A [`FleetSnapshot`] is immutable and cheap to hold; the [`SnapshotRefresher`] puts a newer one in its place. What
//! an operator asks for is never written from it: that reads the bucket afresh ([`fleet::push`]). A rollout is carried on from it,
//! over the generations that it has.
//!
//! What hasn't changed between two snapshots is the same `Arc` in both.

mod changes;
mod channels;
mod fleet_snapshot;
mod full_scan;
mod heads;
mod pushes;
mod recent_push;
mod refresher;
mod releases;
mod rollouts;
mod runs;
mod servers;

pub use changes::{AheadNames, Became, Built, Changes, OpenChange};
pub use channels::{Channels, KnownObject};
pub use fleet_snapshot::FleetSnapshot;
pub use recent_push::{Evidence, RecentPush, RecentRows, push_of};
pub use refresher::SnapshotRefresher;
pub use releases::{AppReleases, Listed, Mark};
pub use rollouts::{KnownRollout, Rollouts};
pub use runs::Runs;
