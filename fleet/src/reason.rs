//! The reason of an operator, as it is kept.

use anyhow::{Result, ensure};
use bucket::HistoryEntry;

/// Makes sure that a reason is short enough: what is longer would be written and then not read.
///
/// # Errors
/// That it is too long.
pub fn ensure_short(why: &str) -> Result<()> {
    ensure!(why.len() <= HistoryEntry::MAX_WHY, "the reason must have at most {} bytes", HistoryEntry::MAX_WHY);
    Ok(())
}
