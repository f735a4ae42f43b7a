//! The agent as a service: what wakes it ([`wake`]), what people tell it ([`control`], [`instructions`]), its watchdog
//! ([`liveness`]), and what systemd and the journal learn of it ([`notify`], [`events`]).
//!
//! Nothing here knows what the agent does.

pub(crate) mod announcer;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod instructions;
pub(crate) mod liveness;
pub(crate) mod notify;
pub(crate) mod wake;
