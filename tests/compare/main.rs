//! `make compare`: the same four jobs done with Push and with what people would use instead, on this machine in one run.
//!
//! - from the command to the new program that answers; the same on four servers at once, by one command; and over a link
//!   of 40 ms: there and back, between the operator, the server, and the bucket or the repository
//! - going back on a server whose network is gone, typed at its console
//! - a release that crashes at once: what the tool says, and what the server runs afterwards
//! - the power cut in the middle of dpkg: what the server is like by itself, and after the person's next command
//!
//! All of them install the same package. What a server runs is what answers over HTTP, whether it is whole is what
//! `dpkg --audit` says. It judges nothing: the README has the table of one run.

mod jobs;
mod stage;
mod tools;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use harness::clean_up_when_interrupted;

use crate::{stage::Stage, tools::Tool};

/// The round trip of the long way.
const LINK: Duration = Duration::from_millis(40);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    clean_up_when_interrupted()?;
    let (stage, far) = (Stage::new(None)?, Stage::new(Some(LINK))?);
    println!("{}", stage.versions()?);
    // One of them by name, or all.
    let only = std::env::args().nth(1);
    let mut rows = Vec::new();
    for tool in Tool::ALL {
        if only.as_deref().is_some_and(|only| only != tool.name()) {
            continue;
        }
        eprintln!("compare: {}", tool.name());
        rows.push(jobs::all(&stage, &far, tool)?);
    }
    println!(
        "\n| with | new program answers | on four servers at once | over {} ms | back, network gone | a release that crashes | power cut in dpkg |",
        LINK.as_millis()
    );
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    Ok(())
}
