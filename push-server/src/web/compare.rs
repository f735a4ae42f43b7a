//! Links to where the sources of two releases are compared.

use bucket::ReleaseName;
use maud::{Markup, html};

use super::view::View;

/// A link to what changes from one release to another, if it is known where their repository can be looked at.
pub(crate) fn compare_link(view: &View, from: Option<&ReleaseName>, to: Option<&ReleaseName>) -> Markup {
    html! { @if let Some(href) = address(view, from, to) { " " a rel="noreferrer" href=(href) { "compare" } } }
}

fn address(view: &View, from: Option<&ReleaseName>, to: Option<&ReleaseName>) -> Option<String> {
    let (from, to) = (from?, to?);
    if from.commit() == to.commit() {
        return None;
    }
    let listed = view.snapshot.apps.get(to.app())?.get(to)?;
    view.policy.links().compare(listed.repo, from.commit().as_str(), to.commit().as_str())
}
