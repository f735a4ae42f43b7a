//! `release registry`, which runs.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// The registry of an overlay; it ends when dropped.
#[derive(Debug)]
pub struct Serving {
    /// The program.
    pub process: Child,
    /// Where it is, as it says.
    pub address: String,
}

impl Serving {
    /// Starts one by a command, and waits until it says where it is.
    ///
    /// # Errors
    /// When it ends before.
    pub fn start(mut serve: Command) -> Result<Self> {
        let process = serve.stdout(Stdio::piped()).spawn().context("could not run `release registry`")?;
        let mut serving = Self { process, address: String::new() };
        let printed = serving.process.stdout.take().context("a piped stdout is there")?;
        BufReader::new(printed).read_line(&mut serving.address)?;
        serving.address.truncate(serving.address.trim_end().len());
        ensure!(!serving.address.is_empty(), "`release registry` ended at once");
        Ok(serving)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
