//! `make bench`: how fast and how small, each figure beside what one would use otherwise, taken in the same run.
//!
//! - building a `.deb`, against dpkg-deb and against the floor, tar and zstd
//! - from a deb in the bucket to an active unit, against the bare commands in the same container
//! - an idle agent: requests, memory, processor time
//!
//! It judges nothing: a machine's load moves every figure. Ratios of the same run are what to compare.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod build;
mod deploy;
mod idle;
mod measure;

use std::process::ExitCode;

use anyhow::Result;
use harness::{Programs, TempDir, clean_up_when_interrupted};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    clean_up_when_interrupted()?;
    let programs = Programs::get()?;
    idle::bench(&programs.pulld())?;
    deploy::bench()?;
    build::bench(&programs.release(), TempDir::new()?.path())
}
