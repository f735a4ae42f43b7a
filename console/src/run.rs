//! How a program starts and ends.

use std::{
    process::{ExitCode, Termination},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    failure::{describe, usage_error},
    print::raw,
};

/// How long the end of a program waits for what it had begun.
const PATIENCE: Duration = Duration::from_secs(10);

/// The exit status for a program that was called wrongly; clap uses the same.
const USAGE: u8 = 2;

/// Runs a program from its first line to its exit status; called by `main` and nothing else.
///
/// What it returns is its own exit status: `()` is 0, an [`ExitCode`] is itself. What it fails with is printed to
/// stderr, one cause a line, and is status 1, or 2 for a [`UsageError`](crate::UsageError).
pub fn run<T: Termination>(program: impl FnOnce() -> Result<T>) -> ExitCode {
    match program() {
        Ok(ended) => ended.report(),
        Err(error) => {
            raw(&describe(&error));
            if usage_error(&error).is_some() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// How many threads carry out asynchronous work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling one alone: the least memory, for a loop that mostly waits.
    One,
    /// Two beside the calling one, for transfers and requests in parallel.
    Two,
}

/// Waits for asynchronous work.
///
/// # Errors
/// What the work fails with, or that the runtime couldn't be started.
pub fn block_on<T>(threads: Threads, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Two => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads == Threads::Two {
        builder.worker_threads(2);
    }
    let runtime = builder.enable_all().build().context("could not start the asynchronous runtime")?;
    let done = runtime.block_on(work);
    // What waits for a disk or a reader that never answers, and is of no use any more, keeps no program from its end.
    runtime.shutdown_timeout(PATIENCE);
    done
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;
    use crate::UsageError;

    /// `ExitCode` can't be compared, but shown.
    fn status<T: Termination>(program: impl FnOnce() -> Result<T>) -> String {
        format!("{:?}", run(program))
    }

    #[test]
    fn each_end_has_its_status() {
        let shown = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(status(|| Ok(())), shown(0));
        assert_eq!(status(|| Ok(ExitCode::from(3))), shown(3));
        assert_eq!(status(|| Err::<(), _>(anyhow!("it failed"))), shown(1));
        let usage = || Err::<(), _>(anyhow::Error::new(UsageError::new("no bucket specified")).context("upload"));
        assert_eq!(status(usage), shown(2));
    }

    #[test]
    fn asynchronous_work_is_waited_for() {
        for threads in [Threads::One, Threads::Two] {
            assert_eq!(block_on(threads, async { Ok(tokio::spawn(async { 7 }).await?) }).unwrap(), 7);
        }
    }
}
