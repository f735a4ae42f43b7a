//! A release's own check command, in a transient service of its own.
//!
//! Whatever it does, it costs a bounded amount: of what it prints the agent keeps the end, and drops the rest.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result};
use bucket::CheckCommand;
use futures_util::future::{Either, select};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    time::{Instant, timeout},
};

use crate::failure::{CheckEnd, CheckFault, Limit};

use super::{
    super::service_manager::CheckResult,
    transient::{self, Limits, Stop, Transient},
};

/// Most bytes of what it printed that are kept, from the end.
const MAX_OUTPUT: usize = 500;

/// Most memory of a check's processes together: what they print counts, as far as nobody has read it.
const MAX_MEMORY: u64 = 512 << 20;

/// Most processes and threads of a check.
const MAX_TASKS: u64 = 256;

/// Time limit for reading the last of its output once it has ended: a process that left its service may hold the pipe.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the check command of an app's release.
pub(super) async fn run(app: &str, command: &CheckCommand, time_limit: Duration) -> Result<CheckResult> {
    let (reader, writer) = std::io::pipe().context("could not make a pipe for the output of the check")?;
    let mut reader = Receiver::from_owned_fd(reader.into()).context("could not read the output of the check")?;
    let transient = Transient {
        unit: format!("pulld-check-{}.service", unit_word(app)),
        description: "pulld release check",
        command: command.words().to_vec(),
        timeout: time_limit,
        input: None,
        output: Some(writer),
        limits: Limits::AtMost { memory: MAX_MEMORY, tasks: MAX_TASKS },
        stop: Stop::Kill,
    };
    let began = Instant::now();
    let running = async {
        let passed = transient::run(&transient).await;
        // Our end of the pipe: without it the output ends with the last process of the check.
        drop(transient);
        passed
    };
    let mut output = Tail::default();
    let passed = match select(std::pin::pin!(running), std::pin::pin!(output.follow(&mut reader))).await {
        Either::Left((passed, rest)) => {
            let _ = timeout(OUTPUT_TIMEOUT, rest).await;
            passed?
        }
        Either::Right(((), running)) => running.await?,
    };
    if passed {
        return Ok(CheckResult::Passed);
    }
    let late = (began.elapsed() >= time_limit).then_some(time_limit);
    let how = CheckEnd::CommandFailed { late: late.map(Limit), output: output.told() };
    Ok(CheckResult::Failed(CheckFault { check: command.to_string(), how }))
}

/// An app's name as part of a unit's: systemd takes neither `+` nor `~`.
fn unit_word(app: &str) -> String {
    app.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "_")
}

/// The end of an output.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    /// Reads an output to its end, whatever its size.
    async fn follow(&mut self, pipe: &mut Receiver) {
        let mut chunk = vec![0; 16 << 10];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            self.keep(&chunk[..length]);
        }
    }

    fn keep(&mut self, chunk: &[u8]) {
        self.0.extend(&chunk[chunk.len().saturating_sub(MAX_OUTPUT)..]);
        self.0.drain(..self.0.len().saturating_sub(MAX_OUTPUT));
    }

    /// What was printed, on one line and safe to show.
    fn told(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().escape_debug().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_output_the_end_is_kept() {
        let mut tail = Tail::default();
        assert_eq!(tail.told(), "");
        for _ in 0..1000 {
            tail.keep(&[b'x'; 3000]);
        }
        tail.keep(b"the\x1b end\n");
        assert_eq!(tail.0.len(), MAX_OUTPUT);
        assert!(tail.told().ends_with("xxxthe\\u{1b} end"), "{}", tail.told());
    }

    #[test]
    fn any_app_can_name_a_unit() {
        assert_eq!(unit_word("my_web-2.0+git~1"), "my_web-2.0_git_1");
    }
}
