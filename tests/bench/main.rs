//! `make bench`: how fast and how small, each figure beside what one would use otherwise, taken in the same run.
//!
//! - building a `.deb`, against dpkg-deb and against the floor, tar and zstd
//! - from a deb in the bucket to an active unit, against the bare commands in the same container
//! - from a poke to an active unit: where the time goes
//! - an idle agent: requests, memory, processor time
//! - the web app over a large fleet: every page, memory, requests
//!
//! It judges nothing: a machine's load moves every figure. Ratios of the same run are what to compare.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod build;
mod deploy;
mod idle;
mod measure;
mod wake;
mod web;

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
    // One of them by name, or all.
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("idle") {
        idle::bench(&programs.pulld())?;
    }
    if wanted("deploy") {
        deploy::bench()?;
    }
    if wanted("wake") {
        wake::bench()?;
    }
    if wanted("web") {
        web::bench(&programs.push())?;
    }
    if wanted("build") {
        build::bench(&programs.release(), TempDir::new()?.path())?;
    }
    Ok(())
}
