//! Rollouts: a push that is written in waves, and stops by itself. What happens next is decided here, without I/O and without a
//! clock.
//!
//! - [`waves`]: which servers are written in which wave, once, from the plan
//! - [`budget`]: how many servers of a group may be out at a time
//! - [`observe`]: what documents and reports say of a rollout's servers
//! - [`next`]: what is done about it now, and what it waits for
//! - [`plan`]: what an operator wants of the waves, and what follows from that
//! - [`decide`]: what a person decides about a rollout
//! - [`channel`]: the rollouts of a channel, of which one goes on at a time
//! - [`read`]: its servers, again and again
//! - [`drive`]: doing it, by whoever is there

pub mod budget;
pub mod channel;
pub mod decide;
pub mod drive;
pub mod next;
pub mod observe;
pub mod plan;
pub mod read;
pub mod waves;

#[cfg(test)]
mod tests;
