//! The developer's command `release`: builds immutable `.deb` releases and uploads them to the bucket.
//!
//! - what to release: [`manifest`] reads `release.toml`, [`tree`] finds the files it means
//! - from what, by whom: [`source`] asks git, [`builder`] the machine
//! - the package: [`pack`] decides every field, [`deb`] writes the bytes
//! - the commands, one file each: [`commands`]; what they say to a person goes through [`talk`]
//!
//! stdout carries results only (release names, paths, JSON), stderr everything else.

mod builder;
mod cli;
mod commands;
mod deb;
mod keys;
mod lint;
mod manifest;
mod pack;
mod source;
mod talk;
mod tree;

pub use cli::{Cli, main};
