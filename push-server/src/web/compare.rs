//! Links to where the sources of two releases are compared.

use bucket::ReleaseName;
use maud::{Markup, html};

use super::view::View;
use crate::snapshot::Listed;

/// A link to what changes from one release to another, if it is known where their repository can be looked at.
pub(crate) fn compare_link(view: &View, from: Option<&ReleaseName>, to: Option<&ReleaseName>) -> Markup {
    html! { @if let Some(href) = address(view, from, to) { " " a rel="noreferrer" href=(href) { "compare" } } }
}

fn address(view: &View, from: Option<&ReleaseName>, to: Option<&ReleaseName>) -> Option<String> {
    let (from, to) = (from?, to?);
    let releases = view.snapshot.apps.get(to.app())?;
    let (before, after) = (releases.get(from), releases.get(to)?);
    let (from, to) = (before.as_ref().map_or_else(|| from.commit(), Listed::commit), after.commit());
    if from == to { None } else { view.policy.links().compare(after.repo, from.as_str(), to.as_str()) }
}
