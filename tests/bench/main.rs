//! `make bench`: how fast and how small, each figure beside what one would use otherwise, taken in the same run.
//!
//! - building a `.deb`, against dpkg-deb and against the floor, tar and zstd
//! - from a deb in the bucket to an active unit, against the bare commands in the same container
//! - from a poke to an active unit: where the time goes
//! - an idle agent: requests, memory, processor time
//! - the web app over a large fleet: every page, memory, requests
//! - a rollout to many servers: what is decided about each wave, and what is written of it
//! - a round over many channels that finds nothing to do, and one that writes many servers
//! - from an upload to the document of a follower, by a message to `push watch`
//! - the promotion of a large package, beside a copy of it by the storage alone
//! - the line of a long branch: as a whole, and what is new
//! - pipelines: checking a file, stages by themselves, with a copy of the commit and side by side, and memory
//! - images: publishing a large one, moving its tag, a round over many channels
//! - tries of changes: making an overlay, looking at what is ahead, sweeping away what is left
//!
//! With names, only that part: see [`USAGE`].
//!
//! It judges nothing: a machine's load moves every figure. Ratios of the same run are what to compare.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod build;
mod channels;
mod deploy;
mod idle;
mod images;
mod journal;
mod line;
mod measure;
mod message;
mod pipelines;
mod promotion;
mod rollout;
mod seen;
mod tries;
mod wake;
mod web;

use std::process::ExitCode;

use anyhow::{Result, bail};
use harness::{Programs, TempDir, clean_up_when_interrupted};

/// How it is told to do less than everything.
const USAGE: &str = "\
usage: bench [idle | deploy | wake | web | rollout | channels | message | promotion | line | tries |
              pipelines | images | build [mixed | small | random | large]]

Without a name, everything is measured, which takes some ten minutes. `build` packs
  mixed    programs and texts as Debian has them, 320 MB
  small    50,000 small files
  random   a file of 1 GB that nothing makes smaller
  large    a file of 4 GB, of which only the memory that `release build` takes is looked at
`make bench` builds what is measured, and gets what it is compared with.";

/// The parts, in the order in which they are done.
const PARTS: [&str; 13] = [
    "idle",
    "deploy",
    "wake",
    "web",
    "rollout",
    "channels",
    "message",
    "promotion",
    "line",
    "tries",
    "pipelines",
    "images",
    "build",
];

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (part, tree) = match arguments[..] {
        [] => (None, None),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return Ok(());
        }
        [part] if PARTS.contains(&part) => (Some(part), None),
        ["build", tree] if build::TREES.contains(&tree) => (Some("build"), Some(tree)),
        _ => bail!("cannot measure `{}`\n{USAGE}", arguments.join(" ")),
    };
    clean_up_when_interrupted()?;
    let programs = Programs::get()?;
    for part in PARTS.into_iter().filter(|name| part.is_none_or(|only| only == *name)) {
        match part {
            "idle" => idle::bench(&programs.pulld())?,
            "deploy" => deploy::bench()?,
            "wake" => wake::bench()?,
            "web" => web::bench(&programs.push())?,
            "rollout" => rollout::bench()?,
            "channels" => channels::bench(&programs.push())?,
            "message" => message::bench(&programs.push())?,
            "promotion" => promotion::bench(&programs.release())?,
            "line" => line::bench()?,
            "tries" => tries::bench(&programs.release())?,
            "pipelines" => pipelines::bench(&programs.release())?,
            "images" => images::bench(&programs.release(), &programs.push())?,
            _ => build::bench(&programs.release(), TempDir::new()?.path(), tree)?,
        }
    }
    Ok(())
}
