//! The core of a push: choosing which release each server should have, for whatever program lets people choose.
//!
//! - [`assign`]: one app's entry in one document, pure
//! - [`plan`]: what a push would do to a server, and what to know before, pure
//! - [`compare`]: what two sets of servers should run that differs, pure
//! - [`condition`]: how a server is, pure
//! - [`filter`]: the filter language of servers, pure
//! - [`guard`]: what keeps everybody from pushing
//! - [`hold`]: servers that somebody works on
//! - [`history`]: what a server had before, from the pushes to it, pure
//! - [`rollback`], [`retry`]: which release a server goes back to, or tries again
//! - [`account`]: how far a push is
//! - [`proposed`]: what would be done to servers, with what was read of them
//! - [`retire`]: retiring servers, and taking that back
//! - [`redo`]: undoing, retrying, continuing and stopping a push as a whole
//! - [`wish`]: what somebody wants of how a push goes out, as it is written, pure
//! - [`channel`]: what goes out by itself, and what git says of the order of commits, pure
//! - [`follow`]: reading and changing a channel, and the servers that follow it
//! - [`policy`]: what may go where, and who may do it, in which waves
//! - [`operation`]: pushing to any number of servers
//! - [`outcome`]: what became of a push on a server, as its agent reports it
//! - [`push`]: the one way to write a server's document; `push_object`: what lies in the bucket of a push itself
//! - [`poke`]: waking the servers that were pushed to
//! - [`server`]: reading what a server should run and does run
//! - [`lookup`]: names that nothing has, and what was probably meant
//! - [`reason`]: why an operator pushes, as it is kept
//! - [`identity`]: who an operator is
//! - [`rollout`]: a push that is written in waves
//! - [`told`]: moving a channel that is told forward
//! - [`trial`]: a release that runs on a server for a while
//! - [`simulation`]: rollouts on a simulated fleet
//!
//! Nothing here prints, draws a page or listens: that is for the programs on top.

pub mod account;
pub mod assign;
pub mod channel;
pub mod compare;
pub mod condition;
pub mod filter;
pub mod follow;
pub mod guard;
pub mod history;
pub mod hold;
pub mod identity;
pub mod lookup;
pub mod operation;
pub mod outcome;
pub mod plan;
pub mod poke;
pub mod policy;
pub mod proposed;
pub mod push;
mod push_object;
pub mod reason;
pub mod redo;
pub mod retire;
pub mod retry;
pub mod rollback;
pub mod rollout;
pub mod server;
pub mod simulation;
pub mod told;
pub mod trial;
pub mod wish;
