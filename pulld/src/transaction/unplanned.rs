//! What a dpkg run changed beside the packages that it was for. A package decides that itself, by what it conflicts with,
//! by what its scripts do, or by being another one than it says: so it is seen afterwards, whatever the package says.

use crate::machine::{DpkgResult, PackageChange};

use super::{record::Transaction, update::AppUpdate};

/// Notes what a run changed of packages that the transaction isn't about, with the updates that may have caused it, which
/// are those in the places `suspects`.
pub(super) fn note_unplanned(transaction: &mut Transaction, suspects: &[usize], result: &DpkgResult) {
    let is_planned = |change: &PackageChange| {
        let is_of = |update: &AppUpdate| {
            let previous = update.previous.installed();
            change.is_of(&update.package) || previous.is_some_and(|previous| change.is_of(&previous.package))
        };
        transaction.updates.iter().any(is_of)
    };
    let unplanned = result.changes.iter().filter(|change| !is_planned(change)).map(PackageChange::to_string);
    let unplanned = unplanned.collect::<Vec<_>>().join(", ");
    if unplanned.is_empty() {
        return;
    }
    for at in suspects {
        let noted = &mut transaction.updates[*at].unplanned;
        *noted = Some(noted.take().map_or_else(|| unplanned.clone(), |before| format!("{before}, {unplanned}")));
    }
}

/// In a sentence, with what to do.
pub(super) fn sentence(update: &AppUpdate, unplanned: &str) -> String {
    format!(
        "dpkg changed other packages with it: {unplanned}; `/var/log/dpkg.log` there tells more, and `pulld retry {}` \
         there ends this state when the server is as it should be",
        update.app
    )
}
