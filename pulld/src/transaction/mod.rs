//! Changing the machine so that a crash at any moment leaves it repairable.
//!
//! A [`record`] on disk holds the [`update`]s of several apps and how far they are ([`progress`]). The [`executor`]
//! carries it out from any phase: [`install`], [`restart`], the health [`gate`] with the release's own [`check`],
//! [`rollback`] of what failed, and [`self_update`] last, which is guarded by the rescue ([`crate::state::rescue`]). What
//! no release has any more is [`retire`]d. [`marks`] notes how units are before dpkg runs, and when it had unpacked their
//! packages; [`unplanned`] what else dpkg changed. [`load()`] reads what an earlier process left.

mod check;
pub(crate) mod executor;
mod gate;
mod install;
mod load;
mod marks;
mod outcome;
pub(crate) mod progress;
pub(crate) mod record;
mod restart;
mod retire;
mod rollback;
mod schema_1;
pub(crate) mod self_update;
mod unplanned;
pub(crate) mod update;

pub(crate) use load::load;
