//! Everything that must be on disk before anything on the machine changes, forward and back.
//!
//! [`prepare`] turns a plan's steps into updates of apps that can be carried out; [`download`] gets a release and
//! verifies it from the [`bucket`], [`cache`] keeps it.

pub(crate) mod bucket;
pub(crate) mod cache;
pub(crate) mod download;
pub(crate) mod prepare;
