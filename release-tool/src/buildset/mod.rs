//! Buildsets: one try of one change, together with what is ahead of it and with production for the rest.
//!
//! [`choose`] decides what the overlay has of what was read, [`production`] reads what it takes from there, [`make`] makes it and
//! removes it, and [`run`] has a command use it.

pub(crate) mod choose;
pub(crate) mod machine;
pub(crate) mod make;
pub(crate) mod production;
pub(crate) mod run;
