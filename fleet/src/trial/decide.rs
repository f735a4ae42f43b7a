//! Whose turn it is on a server, and what became of what was tried there: pure.

use bucket::{AppName, HeldTrial, HistoryEntry, Hold, Holds, PushKind, ServerDocument, ServerName, Timestamp};

use crate::hold::OnHold;

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn<'a> {
    /// Whoever asks may begin.
    Ours,
    /// Something else is tried on the server, of whatever app: two trials at a time would test each other.
    After(&'a Hold, &'a HeldTrial),
}

/// Whose turn it is on a server, of which an app is to be tried.
///
/// # Errors
/// That somebody else works on the app there, or on all of the server.
pub(super) fn turn<'a>(
    holds: &'a Holds,
    server: &ServerName,
    app: &'a AppName,
    now: Timestamp,
) -> Result<Turn<'a>, Box<OnHold>> {
    if let Some(hold) = holds.in_force(Some(app), now).find(|hold| hold.trial.is_none()) {
        return Err(Box::new(OnHold { server: server.clone(), hold: hold.clone() }));
    }
    let tried = holds.in_force(None, now).find_map(|hold| Some(Turn::After(hold, hold.trial.as_ref()?)));
    Ok(tried.unwrap_or(Turn::Ours))
}

/// What became of what was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The document names it because of the trial.
    Tried,
    /// The document has what it had before.
    AsBefore,
    /// Somebody chose something since, who if it was a push.
    Changed {
        /// Who.
        by: Option<String>,
    },
}

/// What became of what was tried, by the document as it is now and the server's history since then. A retry by somebody else
/// chooses nothing; a deploy of the very release that is tried does, and is theirs.
pub(super) fn standing(trial: &HeldTrial, document: &ServerDocument, since: &[HistoryEntry]) -> Standing {
    let app = trial.release.app();
    let chosen = since.iter().filter(|entry| entry.app.as_ref() == Some(app) && entry.kind != PushKind::Retry);
    let last = chosen.max_by_key(|entry| entry.generation);
    let is_trials = last.is_none_or(|last| last.push.as_ref() == Some(&trial.push));
    let now = document.release_of(app);
    if now == trial.before.as_ref() {
        Standing::AsBefore
    } else if now == Some(&trial.release) && is_trials {
        Standing::Tried
    } else {
        let by = last.filter(|last| !is_trials && last.to.as_ref() == now);
        Standing::Changed { by: by.map(|last| last.who.clone()) }
    }
}
