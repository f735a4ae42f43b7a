//! The developer's command `release`: builds immutable `.deb` releases and uploads them to the bucket.
//!
//! - what to release: [`manifest`] reads `release.toml`, [`tree`] finds the files it means
//! - from what, by whom: [`source`] asks git ([`git`]), [`builder`] the machine
//! - a [`checkout`] is packed, and what was packed goes to the bucket by [`upload`]
//! - the package: [`pack`] decides every field, [`deb`] writes the bytes, [`elf`] knows what programs need
//! - what is said of pipelines: [`pipelines`] reads it, the crate `pipeline` says what it means, [`run`] does it
//! - what a run or a buildset has started is found and ended by [`processes`]
//! - a package as people see it: [`inventory`]; [`find`] reads one from the bucket
//! - the registry of a buildset: [`images`]; files where what is run or tried may write too: [`shared_files`]
//! - the unit files in it: [`unit_file`] reads them, [`unit_check`] says what is wrong with them
//! - the commands, one file each: [`commands`]; what they print goes through [`console`], and bars are [`progress`]
//!
//! stdout carries results only (release names, paths, JSON), stderr everything else.

mod builder;
mod buildset;
mod change;
mod checkout;
mod cli;
mod commands;
mod deb;
mod draft;
mod elf;
mod find;
mod git;
mod images;
mod inventory;
mod lint;
mod manifest;
mod options;
mod pack;
mod pipelines;
mod processes;
mod progress;
mod run;
mod shared_files;
mod source;
mod sweep;
mod tree;
mod unit_check;
mod unit_file;
mod upload;

pub use cli::{Cli, main};
