//! What to do, decided: the [`plan`] from document and machine and its [`report`], [`why`]
//! an app is as it is and the [`remedy`] for a person, how a machine [`drift`]ed, whether [`dependencies`] are met, what
//! happens to [`units`] and whether they are healthy ([`verdict`]), the [`trial`] of a release's own check, why a dpkg
//! run failed ([`dpkg_failure`]), what a [`rollback`] takes and where a person goes back to ([`way_back`]), which
//! [`instances`] and [`leftover`]s there are, what is [`triggered`], what is waited for ([`wait`]), when to act
//! ([`schedule`]).
//!
//! Pure: no I/O, no clock, no chance; time and random numbers are arguments.

pub(crate) mod allowed_apps;
mod backoff;
pub(crate) mod by_hand;
pub(crate) mod dependencies;
pub(crate) mod dpkg_failure;
pub(crate) mod drift;
pub(crate) mod instances;
pub(crate) mod leftover;
pub(crate) mod plan;
pub(crate) mod remedy;
pub(crate) mod report;
pub(crate) mod rollback;
pub(crate) mod schedule;
pub(crate) mod trial;
pub(crate) mod triggered;
pub(crate) mod units;
pub(crate) mod verdict;
pub(crate) mod wait;
pub(crate) mod way_back;
pub(crate) mod why;
