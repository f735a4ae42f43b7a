//! The agent as a service: what wakes it ([`wake`], [`control`]) and what it lets systemd and people know
//! ([`events`], [`journal`], [`notify`], [`liveness`]).
//!
//! Nothing here knows what the agent does.

pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod journal;
pub(crate) mod liveness;
pub(crate) mod notify;
pub(crate) mod wake;
