//! Whole cycles of the agent: a `file://` bucket in a temporary directory, the fake machine, and paused time.

mod activities;
mod boundaries;
mod by_hand;
mod chance;
mod crashes;
mod debian_archive;
mod documents;
mod harness;
mod install;
mod interruptions;
mod leftovers;
mod losses;
mod on_hold;
mod power_cuts;
mod preparation;
mod retries;
mod rollback;
mod self_update;
mod settling;
mod stability;
mod told_holds;
mod unplanned;
mod why;
