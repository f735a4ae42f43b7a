//! What one side of a comparison has and the other hasn't yet: what the command, pages and the API say of it.

use fleet::compare::Compared;

use crate::snapshot::{AppReleases, Listed};

/// Most notes of an app that are shown.
pub(crate) const MAX_NOTES: usize = 20;

/// The releases of an app that one side has and the other hasn't yet, newest first; none if neither is ahead.
pub(crate) fn notes<'a>(app: &Compared, releases: Option<&'a AppReleases>) -> impl Iterator<Item = Listed<'a>> {
    let span = app.span().and_then(|(oldest, newest)| Some(releases?.between(oldest, newest)));
    span.into_iter().flatten()
}
