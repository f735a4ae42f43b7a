//! One real server for the browser tests: `one`.
//!
//! Boots `web-1` with its agent, releases two versions of a service, prints one line of JSON that says where the bucket
//! is and what the releases are called, and keeps it all up until its standard input is closed.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use harness::{Scenario, Version, clean_up_when_interrupted};

/// Where the service answers, on the server's own loopback.
const PORT: u16 = 8080;

fn main() -> ExitCode {
    match clean_up_when_interrupted().and_then(|()| stand()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn stand() -> Result<()> {
    let scenario = Scenario::new()?.unjudged();
    let server = scenario.server("web-1")?;
    scenario.wait_for_agent(&server)?;
    let service = scenario.service("web", PORT)?;
    let first = service.release(scenario.target(), &Version::new("one"))?;
    let second = service.release(scenario.target(), &Version::new("two"))?;
    let line = serde_json::json!({
        "bucket": scenario.target().url,
        "first": first.stem(),
        "second": second.stem(),
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("nobody reads what the releases are called")?;
    io::stdin().read_to_end(&mut Vec::new()).context("could not wait for the end")?;
    Ok(())
}
