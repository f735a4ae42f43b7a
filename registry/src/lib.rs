//! Container images in a registry: what they are called, what they consist of, and the requests that read and write them.
//!
//! - names, parsed once at the edge: [`Reference`], which is a [`Repository`] with a [`Tag`] or a [`Digest`]
//! - what an image consists of: [`Manifest`], whose exact bytes are its identity, and [`Descriptor`]
//! - images that are not in a registry yet, made of a directory or by another builder: [`image`]
//! - what may be written: [`Rule`], which alone makes a [`Writable`]
//! - the requests: [`Client`] reads, its [`Writer`] writes one repository; [`Logins`] says where credentials are from
//! - [`Error`], with only the cases that a caller branches on
//!
//! The programs that have something to do with images use this crate; it uses `bucket`, for sums and the access to Google, and `console`, to show foreign text.

#![doc(html_no_source)]

mod client;
mod error;
pub mod image;
mod names;

pub use bucket::ImageTag as Tag;
pub use client::{Blob, BlobSource, Client, ClientOptions, Logins, Writer, is_half_removed};
pub use error::Error;
pub use names::{
    descriptor::{Descriptor, MediaType, Platform},
    digest::Digest,
    manifest::{Content, MAX_MANIFEST, Manifest, ManifestType, NoManifest},
    reference::Reference,
    repository::{Host, Repository},
    rule::{NotWritable, Rule, Writable},
};
