//! The kinds of events in the journal, each with a `MESSAGE_ID` of its own (systemd.journal-fields(7)).
//!
//! `journalctl MESSAGE_ID=…` finds every event of a kind on any machine. An id never changes its meaning.

/// The agent came up.
pub(crate) const STARTED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d001";
/// The agent goes down.
pub(crate) const STOPPING: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d002";
/// The configuration was read, has something unused in it, or is wrong.
pub(crate) const CONFIGURATION: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d003";
/// A new server document was read.
pub(crate) const DOCUMENT_READ: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d004";
/// The server document couldn't be read or used.
pub(crate) const DOCUMENT_UNREADABLE: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d005";
/// The document asks for something that isn't done: a refused app, a bad entry.
pub(crate) const ENTRY_REFUSED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d006";
/// A release was downloaded and verified.
pub(crate) const DOWNLOADED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d007";
/// A release couldn't be downloaded, verified or prepared; nothing changed.
pub(crate) const PREPARATION_FAILED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d008";
/// The work begins: dpkg is about to run.
pub(crate) const INSTALLING: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d009";
/// A release is installed and stays up, or an app is removed.
pub(crate) const INSTALLED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00a";
/// A unit was restarted, reloaded, started or left alone.
pub(crate) const UNIT: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00b";
/// A release can't stay.
pub(crate) const UNHEALTHY: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00c";
/// What was there before runs again.
pub(crate) const ROLLED_BACK: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00d";
/// Neither forward nor back worked.
pub(crate) const DEGRADED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00e";
/// An unfinished transaction was found and is finished or undone.
pub(crate) const RESUMED: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d00f";
/// The machine was changed by hand, or no longer is.
pub(crate) const DRIFT: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d010";
/// One of the agent's own files couldn't be used.
pub(crate) const STATE_LOST: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d011";
/// pulld replaces itself, or proved itself afterwards.
pub(crate) const SELF_UPDATE: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d012";
/// The report couldn't be written, or another machine writes it too.
pub(crate) const REPORT: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d013";
/// Pokes are watched for, can't be watched for, or can be again.
pub(crate) const METADATA: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d015";
/// A pull cycle ended.
pub(crate) const CYCLE: &str = "6c2b7f0c0c6f4f3a8f0f3b4a55a1d014";
