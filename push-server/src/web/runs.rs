//! Runs of pipelines as pages and the API show them: how each is, and where it is shown.

use bucket::{Run, RunPlace, RunResult, StageResult, Timestamp};

use crate::badge::{Badge, Severity};

/// How a run is, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    Running,
    Passed,
    Failed,
    Interrupted,
    /// Its process was killed.
    Died,
    /// It ended in a way that this program doesn't know.
    Unknown,
}

impl RunState {
    /// That of a run that was last written then.
    pub(crate) fn of(result: &RunResult, written: Timestamp, now: Timestamp) -> Self {
        match result {
            RunResult::Running if result.has_died(written, now) => Self::Died,
            RunResult::Running => Self::Running,
            RunResult::Passed => Self::Passed,
            RunResult::Failed => Self::Failed,
            RunResult::Interrupted => Self::Interrupted,
            RunResult::Other(_) => Self::Unknown,
        }
    }

    pub(crate) fn badge(self) -> Badge {
        let (severity, symbol, text) = match self {
            Self::Running => (Severity::Notice, "…", "running"),
            Self::Passed => (Severity::Good, "✓", "passed"),
            Self::Failed => (Severity::Bad, "✗", "failed"),
            Self::Interrupted => (Severity::Notice, "‖", "interrupted"),
            Self::Died => (Severity::Bad, "✗", "died"),
            Self::Unknown => (Severity::Notice, "?", "unknown"),
        };
        Badge { severity, symbol, text }
    }
}

/// How a stage is, in a run that is so.
pub(crate) fn of_stage(result: &StageResult, run: RunState) -> Badge {
    let (severity, symbol, text) = match result {
        StageResult::Running if run == RunState::Died => (Severity::Bad, "✗", "died"),
        StageResult::Waiting if run != RunState::Running => (Severity::Quiet, "–", "not begun"),
        StageResult::Waiting => (Severity::Quiet, "…", "waiting"),
        StageResult::Running => (Severity::Notice, "…", "running"),
        StageResult::Passed => (Severity::Good, "✓", "passed"),
        StageResult::Failed => (Severity::Bad, "✗", "failed"),
        StageResult::Stopped => (Severity::Notice, "‖", "stopped"),
        StageResult::Skipped => (Severity::Quiet, "–", "skipped"),
        StageResult::Other(_) => (Severity::Notice, "?", "unknown"),
    };
    Badge { severity, symbol, text }
}

/// When a run last told anything.
pub(crate) fn last_told(run: &Run) -> Timestamp {
    let stages = run.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let told = stages.flat_map(|stage| [stage.began, stage.ended]).chain([run.ended, run.told]).flatten();
    told.max().map_or(run.began, |told| told.max(run.began))
}

/// The address of a run's page.
pub(crate) fn address(place: &RunPlace) -> String {
    format!("/runs/{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_says_nothing_for_hours_has_died() {
        let at = |hour: i64| Timestamp::from_second(1_790_000_000 + hour * 3600).unwrap();
        let state = |result: &RunResult, hours: i64| RunState::of(result, at(0), at(hours));
        assert_eq!((state(&RunResult::Running, 3), state(&RunResult::Running, 4)), (RunState::Running, RunState::Died));
        assert_eq!(
            (state(&RunResult::Passed, 25), state(&RunResult::Failed, 25)),
            (RunState::Passed, RunState::Failed)
        );
        for (result, while_running, after) in
            [(StageResult::Waiting, "waiting", "not begun"), (StageResult::Running, "running", "died")]
        {
            let shown = [RunState::Running, RunState::Died].map(|run| of_stage(&result, run).text);
            assert_eq!(shown, [while_running, after]);
        }
    }
}
