//! Runs a command to its end and holds the outcome to what it must be; a failure shows all that was written.

use std::process::{Command, Output};

/// Commands that can be run and judged in one expression.
pub(crate) trait Run {
    /// Runs it to its end.
    fn assert(&mut self) -> Outcome;
}

impl Run for Command {
    #[track_caller]
    fn assert(&mut self) -> Outcome {
        let output = self.output().unwrap_or_else(|error| panic!("could not run {self:?}: {error}"));
        Outcome { command: format!("{self:?}"), output }
    }
}

/// How a command ended.
pub(crate) struct Outcome {
    command: String,
    output: Output,
}

impl Outcome {
    /// It must have exited with 0.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.code(0)
    }

    /// It must have exited with `status`.
    #[track_caller]
    pub(crate) fn code(self, status: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(status), "{}", self.told());
        self
    }

    /// It must have written `expected` to stdout, and nothing else.
    #[track_caller]
    pub(crate) fn stdout(self, expected: impl AsRef<str>) -> Self {
        assert_eq!(String::from_utf8_lossy(&self.output.stdout), expected.as_ref(), "{}", self.told());
        self
    }

    /// What it wrote, and how it ended.
    pub(crate) fn get_output(&self) -> &Output {
        &self.output
    }

    fn told(&self) -> String {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let Output { status, stdout, stderr } = &self.output;
        format!("{}: {status}\nstdout:\n{}\nstderr:\n{}", self.command, text(stdout), text(stderr))
    }
}
