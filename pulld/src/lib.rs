//! Placeholder.

pub mod metadata;
