//! Buildsets: one try of one change, together with what is ahead of it and with production for the rest.
//!
//! [`choose`] decides what the overlay has of what was read, [`production`] reads what it takes from there, [`make`] makes it and
//! removes it, [`run`] has a command use it, and by [`running`] that command knows in which one it is.

pub(crate) mod choose;
pub(crate) mod machine;
pub(crate) mod make;
pub(crate) mod production;
pub(crate) mod run;
pub(crate) mod running;
