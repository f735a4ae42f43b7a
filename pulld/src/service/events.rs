//! The kinds of events in the journal, each with a `MESSAGE_ID` of its own (systemd.journal-fields(7)).
//!
//! `journalctl MESSAGE_ID=…` finds every event of a kind on any machine. An id never changes its meaning.

/// The agent started.
pub(crate) const STARTED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d001";
/// The agent exits.
pub(crate) const STOPPING: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d002";
/// The configuration was read, contains unknown keys, or is invalid.
pub(crate) const CONFIGURATION: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d003";
/// A new server document was read.
pub(crate) const DOCUMENT_READ: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d004";
/// The server document could not be read or used.
pub(crate) const DOCUMENT_UNREADABLE: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d005";
/// An entry of the document is ignored: a refused app, an invalid entry.
pub(crate) const ENTRY_REFUSED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d006";
/// A release was downloaded and verified.
pub(crate) const DOWNLOADED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d007";
/// A release could not be downloaded, verified or prepared; nothing changed.
pub(crate) const PREPARATION_FAILED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d008";
/// An update starts: dpkg is about to run.
pub(crate) const INSTALLING: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d009";
/// A release is installed and passed its health gate, or an app was removed.
pub(crate) const INSTALLED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00a";
/// A unit was restarted, reloaded, started, or not restarted.
pub(crate) const UNIT: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00b";
/// A release failed its health gate.
pub(crate) const UNHEALTHY: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00c";
/// A release was rolled back, or its update postponed.
pub(crate) const ROLLED_BACK: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00d";
/// A rollback failed or was not possible.
pub(crate) const DEGRADED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00e";
/// An interrupted transaction is resumed.
pub(crate) const RESUMED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00f";
/// The machine was changed by hand, or no longer is.
pub(crate) const DRIFT: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d010";
/// One of the agent's own files could not be used.
pub(crate) const STATE_LOST: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d011";
/// pulld replaces itself, or passed its health gate afterwards.
pub(crate) const SELF_UPDATE: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d012";
/// The status report could not be written, or another machine writes it too.
pub(crate) const REPORT: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d013";
/// The metadata server is watched, cannot be watched, or is watched again.
pub(crate) const METADATA: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d015";
/// A release is no longer quarantined, or a person asked for one more attempt.
pub(crate) const QUARANTINE_LIFTED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d016";
/// A person rolled an app back on this server, or the agent takes care of it again.
pub(crate) const PAUSED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d017";
/// A pull cycle ended.
pub(crate) const CYCLE: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d014";
/// A dpkg run waits for another program that holds dpkg's lock.
pub(crate) const LOCK_HELD: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d018";
