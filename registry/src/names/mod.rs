//! What is known of images without asking a registry: names, digests, manifests, and what may be written.

pub(crate) mod descriptor;
pub(crate) mod digest;
pub(crate) mod manifest;
pub(crate) mod reference;
pub(crate) mod repository;
pub(crate) mod rule;
pub(crate) mod unambiguous;
