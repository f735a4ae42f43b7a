//! How states are shown to people, on a terminal and on pages: the text and the symbol say it, a color only repeats it.

use bucket::AppState;
use fleet::{account::RowState, condition::Condition, rollout::observe::RowState as RolloutRowState};

/// A state, as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Badge {
    /// What its color says.
    pub(crate) severity: Severity,
    /// One character.
    pub(crate) symbol: &'static str,
    /// A word or two.
    pub(crate) text: &'static str,
}

/// What a color says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// As it should be.
    Good,
    /// To be known.
    Notice,
    /// Not as it should be.
    Bad,
    /// Nothing.
    Quiet,
}

/// How a server is.
pub(crate) fn of_server(condition: Condition) -> Badge {
    let (severity, symbol, text) = match condition {
        Condition::Converged => (Severity::Good, "✓", "converged"),
        Condition::Drifted => (Severity::Notice, "≈", "drifted"),
        Condition::Pending => (Severity::Notice, "…", "pending"),
        Condition::NoDocument => (Severity::Notice, "–", "no document"),
        Condition::Retired => (Severity::Quiet, "–", "retired"),
        Condition::Unknown => (Severity::Notice, "?", "unknown"),
        Condition::Never => (Severity::Notice, "?", "never reported"),
        Condition::Silent => (Severity::Bad, "○", "not reporting"),
        Condition::Unreadable => (Severity::Bad, "⊘", "unreadable"),
        Condition::Unstable => (Severity::Bad, "↻", "unstable"),
        Condition::Failed => (Severity::Bad, "✗", "failed"),
        Condition::Degraded => (Severity::Bad, "!", "degraded"),
    };
    Badge { severity, symbol, text }
}

/// How an app on a server is.
pub(crate) fn of_app(state: AppState) -> Badge {
    let (severity, symbol, text) = match state {
        AppState::Converged => (Severity::Good, "✓", "converged"),
        AppState::Drifted => (Severity::Notice, "≈", "drifted"),
        AppState::Unstable => (Severity::Bad, "↻", "unstable"),
        AppState::AptHeld => (Severity::Notice, "‖", "held by apt"),
        AppState::Paused => (Severity::Notice, "‖", "paused"),
        AppState::Pending => (Severity::Notice, "…", "pending"),
        AppState::Failed => (Severity::Bad, "✗", "failed"),
        AppState::Quarantined => (Severity::Bad, "↩", "rolled back"),
        AppState::Degraded => (Severity::Bad, "!", "degraded"),
        AppState::Refused => (Severity::Bad, "⊘", "refused"),
        AppState::Orphan => (Severity::Quiet, "–", "orphaned"),
        AppState::Unknown => (Severity::Notice, "?", "unknown"),
    };
    Badge { severity, symbol, text }
}

/// How one row of a push is; its text is its own.
pub(crate) fn of_row(state: &RowState) -> (Severity, &'static str) {
    match state {
        RowState::Waiting => (Severity::Notice, "…"),
        RowState::NotWritten(_) => (Severity::Bad, "✗"),
        RowState::Removed | RowState::Retired => (Severity::Good, "✓"),
        RowState::Superseded | RowState::Restored => (Severity::Quiet, "–"),
        RowState::Written(state) => {
            let Badge { severity, symbol, .. } = of_app(*state);
            (severity, symbol)
        }
    }
}

/// How far one server of a rollout is.
pub(crate) fn of_rollout_row(state: &RolloutRowState) -> Badge {
    let (severity, symbol, text) = match state {
        RolloutRowState::Waiting => (Severity::Quiet, "·", "not written yet"),
        RolloutRowState::Pending => (Severity::Notice, "…", "pending"),
        RolloutRowState::Settling(_) => (Severity::Notice, "…", "settling"),
        RolloutRowState::Settled => (Severity::Good, "✓", "settled"),
        RolloutRowState::Failed(state) => return of_app(*state),
        RolloutRowState::Silent => (Severity::Bad, "○", "not reporting"),
        RolloutRowState::Left(_) => (Severity::Quiet, "–", "no longer of the rollout"),
        RolloutRowState::Undone => (Severity::Quiet, "↩", "undone"),
    };
    Badge { severity, symbol, text }
}

/// How a push is, by the row that is worst.
pub(crate) fn of_rows<'a>(states: impl IntoIterator<Item = &'a RowState>) -> (Severity, &'static str) {
    let worst = states.into_iter().map(of_row).max_by_key(|(severity, _)| rank(*severity));
    worst.unwrap_or((Severity::Quiet, "–"))
}

/// How much a severity matters; more is worse.
pub(crate) fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Quiet => 0,
        Severity::Good => 1,
        Severity::Notice => 2,
        Severity::Bad => 3,
    }
}
