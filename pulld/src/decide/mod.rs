//! What to do, decided: the [`plan`] from document and machine, what happens to [`units`], whether [`dependencies`]
//! are met, when to act ([`schedule`]).
//!
//! Pure: no I/O, no clock, no chance; time and random numbers are arguments.

pub(crate) mod allowed_apps;
mod backoff;
pub(crate) mod dependencies;
pub(crate) mod plan;
pub(crate) mod schedule;
pub(crate) mod units;
