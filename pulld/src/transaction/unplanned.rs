//! What a dpkg run changed beside the packages that it was for. A package decides that itself, by what it conflicts with,
//! by what its scripts do, or by being another one than it says: so it is seen afterwards, whatever the package says.

use crate::{failure::some_of, machine::PackageChange};

use super::{
    record::{Phase, Transaction},
    update::AppUpdate,
};

/// Most apps that are named of which one has changed something.
const MAX_SUSPECTS: usize = 5;

/// That something else changed: in a clause, and as what it is told once however it was found.
pub(super) struct Clause {
    text: String,
    known_as: String,
}

impl Clause {
    /// What the rescue has left word of.
    pub(super) fn of_rescue(text: String) -> Self {
        Self { known_as: text.clone(), text }
    }
}

impl From<&PackageChange> for Clause {
    fn from(change: &PackageChange) -> Self {
        let known_as = PackageChange { since: None, ..change.clone() }.to_string();
        Self { text: change.to_string(), known_as }
    }
}

/// What changed of packages that the transaction isn't about. An earlier pulld's runner tells of the others too.
pub(super) fn clauses(transaction: &Transaction, changes: &[PackageChange]) -> Vec<Clause> {
    let planned = transaction.packages();
    changes.iter().filter(|change| !change.is_of_any(&planned)).map(Clause::from).collect()
}

/// Notes what was not planned with each suspect; says whether there was something that no update has yet. What an interrupted
/// process has noted with the one that did it is nobody else's doing.
pub(super) fn note_unplanned(
    transaction: &mut Transaction,
    suspects: &[usize],
    clauses: impl IntoIterator<Item = Clause>,
) -> bool {
    let mut is_new = false;
    let by = one_of(transaction, suspects);
    for Clause { text, known_as } in clauses {
        let text = text + &by;
        let has_it = |update: &AppUpdate| update.unplanned.as_ref().is_some_and(|noted| noted.contains(&known_as));
        if transaction.updates.iter().any(has_it) {
            continue;
        }
        for at in suspects {
            let noted = &mut transaction.updates[*at].unplanned;
            *noted = Some(noted.take().map_or_else(|| text.clone(), |before| format!("{before}, {text}")));
            is_new = true;
        }
    }
    is_new
}

/// Which apps' updates have caused something, if it is one of several.
fn one_of(transaction: &Transaction, suspects: &[usize]) -> String {
    if suspects.len() < 2 {
        return String::new();
    }
    let apps = suspects.iter().map(|at| &transaction.updates[*at].app);
    format!(" (by the update of one of {})", some_of(apps, MAX_SUSPECTS))
}

/// The updates that an interrupted dpkg run was for, by their place.
pub(super) fn under_dpkg(transaction: &Transaction) -> Vec<usize> {
    let is_meant = |update: &AppUpdate| match transaction.phase {
        Phase::Installing => !update.is_own() && update.is_forward(),
        Phase::RollingBack => !update.is_own() && update.has_failed(),
        Phase::UpdatingAgent => update.is_own() && transaction.self_update_by.is_some(),
        Phase::Restarting | Phase::Gating | Phase::CheckingRollback | Phase::Done => false,
    };
    transaction.places(is_meant)
}
