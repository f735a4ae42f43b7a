//! The agent's own files: where they are ([`paths`]), how they are written so that a crash leaves them whole
//! ([`persist`]), that only one agent has them ([`lock`]), which releases are not retried ([`quarantine`]), which apps are
//! left alone ([`pauses`]), which ones stayed up ([`lineage`]), what was [`seen`] installed, what happened
//! ([`event_log`]), which units keep dying ([`stability`]), what a document [`named`] for an app, the last document as it
//! was read ([`remembered`]), and what restores the previous pulld ([`rescue`]).
//!
//! None of them says what is installed: dpkg does. All of them can be deleted without harm.

pub(crate) mod checksum;
pub(crate) mod event_log;
pub(crate) mod lineage;
pub(crate) mod lock;
pub(crate) mod named;
pub(crate) mod paths;
pub(crate) mod pauses;
pub(crate) mod persist;
pub(crate) mod quarantine;
pub(crate) mod remembered;
pub(crate) mod rescue;
pub(crate) mod seen;
pub(crate) mod stability;
