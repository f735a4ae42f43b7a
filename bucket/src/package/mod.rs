//! What a release carries inside its `.deb`: the half of the contract that doesn't lie in the bucket.
//!
//! `release` writes these fields into the control file and reads them again at the upload; `pulld` reads them from the
//! verified package and from dpkg. All of them use this one writer and this one reader. Nothing here unpacks a `.deb`:
//! the programs do, each with its own limits, and hand over the bytes of the control file.
//!
//! - [`control`]: a control file's one paragraph, read exactly as dpkg reads it
//! - [`facts`]: what any package says of itself
//! - [`fields`]: the `Push-*` fields, which make a package a release
//! - [`name`], [`mod@unit`], [`check`] ([`command`], [`loopback`]), [`note`]: the values of fields, parsed

pub(crate) mod check;
pub(crate) mod command;
pub(crate) mod control;
mod escape;
pub(crate) mod facts;
pub(crate) mod fields;
pub(crate) mod loopback;
pub(crate) mod name;
pub(crate) mod note;
pub(crate) mod unit;
