//! What documents and reports say of the servers of a rollout. Pure.

use bucket::{AppName, AppState, AppStatus, Generation, PushId, Rollout, Timestamp, WaveRow, Written};
use jiff::SignedDuration;

use crate::{
    condition::{apps, is_behind},
    plan::overdue,
    server::{Reading, Server, Servers},
};

/// How a server is before it is written. The healthy go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It runs what its document says of the app, or doesn't have it yet.
    Well,
    /// It does not: it is out already.
    Out,
    /// Its agent does not report.
    Silent,
}

/// How a server is, as far as a push of an app looks at it.
pub fn health(server: &Server, app: &AppName, now: Timestamp) -> Health {
    let Some(status) = server.status() else { return Health::Silent };
    if overdue(status, now).is_some() {
        return Health::Silent;
    }
    let is_out = apps(server).iter().any(|row| row.app == app.as_str() && !is_well(row.state));
    if is_out || (is_behind(server) && server.desired(app).is_some()) { Health::Out } else { Health::Well }
}

/// Whether an app in that state runs as it should. What a person set aside isn't out.
fn is_well(state: AppState) -> bool {
    matches!(state, AppState::Converged | AppState::Drifted | AppState::AptHeld | AppState::Paused | AppState::Orphan)
}

/// How far one server of a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// It is yet to be written.
    Waiting,
    /// It was written, and its agent has not said yet that it runs the release.
    Pending,
    /// It runs the release, and must stay so until then.
    Settling(Timestamp),
    /// It runs the release, and stayed so.
    Settled,
    /// It does not run it, and the agent says so.
    Failed(AppState),
    /// It was written, and its agent has not reported for longer than that takes.
    Silent,
    /// It is no longer of the rollout, and why.
    Left(String),
    /// What was there before is there again.
    Undone,
}

impl RowState {
    /// Whether the server is out of its group because of the rollout.
    pub(super) fn is_out(&self) -> bool {
        matches!(self, Self::Pending | Self::Failed(_) | Self::Silent)
    }

    /// Whether it counts towards stopping the rollout.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Silent)
    }
}

/// How long an agent may take to say what became of a document: two polls and its health window, and a minute at least.
fn patience(server: &Server) -> SignedDuration {
    /// For one that polls every second, in seconds: dpkg and units take as long as they take.
    const LEAST: u64 = 60;
    /// The longest poll and health window that count, and those of an agent that never reported, in seconds.
    const MOST: u64 = 24 * 3600;
    const USUAL: (u64, u64) = (300, 60);
    let (poll, window) = server
        .status()
        .map_or(USUAL, |status| (status.agent.poll_seconds, status.agent.health_window_seconds.unwrap_or(USUAL.1)));
    let seconds = (poll.min(MOST) * 2 + window.min(MOST)).max(LEAST);
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// What the agent says of the app, if that is about the document that was written, or a later one that still names the release.
fn report<'a>(rollout: &Rollout, row: &WaveRow, server: &'a Server) -> Option<(Timestamp, &'a AppStatus)> {
    let status = server.status()?;
    let is_about = status.document.generation >= Some(row.written?.generation);
    let reported = server.reported(rollout.app.as_str())?;
    (is_about && reported.desired.as_ref() == Some(&rollout.release)).then_some((status.written, reported))
}

/// A rollout with what is seen of its servers now: what was read of them after it. Reports bear the bucket's time.
#[must_use]
pub fn observe(mut rollout: Rollout, servers: &dyn Servers) -> Rollout {
    let known = Rollout { waves: Vec::new(), ..rollout.clone() };
    for row in rollout.rows_mut().filter(|row| row.left.is_none() && !row.undone) {
        if let Some(server) = servers.get(&row.server) {
            observe_row(&known, row, server);
        }
    }
    rollout
}

fn observe_row(rollout: &Rollout, row: &mut WaveRow, server: &Server) {
    let (generation, document) = match &server.document {
        Reading::Known(known) => known,
        Reading::Unreadable(_) => return,
        // A server that had none gets one.
        Reading::Absent if row.from.is_none() && row.written.is_none() => return,
        Reading::Absent => {
            row.left = Some("its document is gone".to_owned());
            return;
        }
    };
    let pushes = document.metadata().pushes();
    let find = |id: &PushId| pushes.iter().find(|push| push.id == *id && push.app == rollout.app);
    if row.written.is_none()
        && let Some(push) = find(&rollout.id)
    {
        row.written = Some(Written { generation: push.generation.unwrap_or(*generation), at: push.time });
    }
    if rollout.undo.as_ref().is_some_and(|undo| find(&undo.id).is_some()) {
        row.undone = true;
        return;
    }
    let desired = document.release_of(&rollout.app);
    // What was about to be written was not, or somebody has written it back since: then it is theirs.
    let last = pushes.iter().find(|push| push.app == rollout.app);
    let is_after = |noted: &Generation| {
        *noted != *generation && last.is_some_and(|last| last.generation.is_none_or(|at| at > *noted))
    };
    if row.written.is_none() && row.noted.as_ref().is_some_and(is_after) {
        row.left = Some("another push was faster".to_owned());
        return;
    }
    let expected = if row.written.is_some() { Some(&rollout.release) } else { row.from.as_ref() };
    if desired != expected {
        let now = desired.map_or("nothing".to_owned(), |release| format!("`{}`", release.stem()));
        row.left = Some(format!("another push made it {now}"));
        return;
    }
    let Some((at, reported)) = report(rollout, row, server) else { return };
    if matches!(reported.state, AppState::Converged | AppState::Drifted) {
        // Its first report that said so may be gone before anybody read it. Whatever a server's clock says, that was after the
        // document was written.
        let first = || row.written.map_or(at, |written| reported.since.max(written.at)).min(at);
        let since = row.converged.unwrap_or_else(first);
        row.converged = Some(since);
        row.settled |= at.duration_since(since) >= settle(rollout);
    } else {
        (row.converged, row.settled) = (None, false);
    }
}

fn settle(rollout: &Rollout) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(rollout.rules.settle_seconds).unwrap_or(i64::MAX))
}

/// How far one server of a rollout is, of what was observed.
pub fn row_state(rollout: &Rollout, row: &WaveRow, server: Option<&Server>, now: Timestamp) -> RowState {
    if let Some(why) = &row.left {
        return RowState::Left(why.clone());
    }
    if row.undone {
        return RowState::Undone;
    }
    let Some(written) = row.written else { return RowState::Waiting };
    let Some(server) = server else { return RowState::Pending };
    let is_late = |since: Timestamp| now.duration_since(since) > patience(server);
    let reported = report(rollout, row, server).map(|(_, reported)| reported.state);
    match (row.converged, reported) {
        (Some(_), _) if row.settled => RowState::Settled,
        (Some(since), _) => {
            let after = |time: Timestamp| time.saturating_add(settle(rollout)).unwrap_or(Timestamp::MAX);
            // It reports at its heartbeats, and once it has stayed so for long enough; if its agent was started anew, after as
            // long again.
            let last = server.status().map_or(since, |status| status.written);
            let is_overdue = server.status().is_some_and(|status| overdue(status, now).is_some());
            if is_overdue || is_late(after(last)) { RowState::Silent } else { RowState::Settling(after(since)) }
        }
        (
            None,
            Some(
                state @ (AppState::Failed
                | AppState::Quarantined
                | AppState::Degraded
                | AppState::Refused
                | AppState::Unstable),
            ),
        ) => RowState::Failed(state),
        // It says that it works on it: silent is who says nothing.
        (None, Some(_)) if !server.status().is_some_and(|status| is_late(status.written)) => RowState::Pending,
        (None, None) if !is_late(written.at) => RowState::Pending,
        (None, _) => RowState::Silent,
    }
}
