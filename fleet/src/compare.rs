//! What two servers, or two sets of servers, should run that differs: pure.

use std::collections::{BTreeMap, HashMap};

use bucket::{AppName, ReleaseName};

use crate::server::Server;

/// How what one side has of an app relates to what the other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Both have the same releases.
    Same,
    /// The left one has newer ones.
    Ahead,
    /// The left one has older ones.
    Behind,
    /// Only the left one has the app.
    OnlyLeft,
    /// Only the right one has it.
    OnlyRight,
    /// Some of each are newer than some of the other.
    Mixed,
}

impl Relation {
    /// As programs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::OnlyLeft => "only-left",
            Self::OnlyRight => "only-right",
            Self::Mixed => "mixed",
        }
    }
}

/// One app of the two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The app.
    pub app: AppName,
    /// The releases that the left servers' documents name, and on how many; the newest first.
    pub left: Vec<(ReleaseName, usize)>,
    /// The same on the right.
    pub right: Vec<(ReleaseName, usize)>,
    /// How they relate.
    pub relation: Relation,
}

impl Compared {
    /// The oldest and the newest release of what lies between the sides; `None` when neither is ahead.
    pub fn span(&self) -> Option<(&ReleaseName, &ReleaseName)> {
        let (ahead, behind) = match self.relation {
            Relation::Ahead => (&self.left, &self.right),
            Relation::Behind => (&self.right, &self.left),
            Relation::Same | Relation::OnlyLeft | Relation::OnlyRight | Relation::Mixed => return None,
        };
        Some((&behind.last()?.0, &ahead.first()?.0))
    }
}

/// Compares what the documents of two sets of servers name, app by app. `newer` says how many releases of the same app are
/// newer than one.
pub fn compare<'a>(
    left: impl IntoIterator<Item = &'a Server>,
    right: impl IntoIterator<Item = &'a Server>,
    newer: impl Fn(&ReleaseName) -> usize,
) -> Vec<Compared> {
    let left = left.into_iter().map(|server| (0, server));
    // Thousands of servers have a few releases: each is put in order once.
    let mut counts: HashMap<(usize, &ReleaseName), usize> = HashMap::new();
    for (side, server) in left.chain(right.into_iter().map(|server| (1, server))) {
        for release in server.releases() {
            *counts.entry((side, release)).or_default() += 1;
        }
    }
    let mut apps: BTreeMap<&AppName, [BTreeMap<&ReleaseName, usize>; 2]> = BTreeMap::new();
    for ((side, release), servers) in counts {
        apps.entry(release.app()).or_default()[side].insert(release, servers);
    }
    let sorted = |releases: &BTreeMap<&ReleaseName, usize>| {
        let mut sorted: Vec<(ReleaseName, usize)> =
            releases.iter().map(|(release, servers)| ((*release).clone(), *servers)).collect();
        sorted.sort_by_cached_key(|(release, _)| newer(release));
        sorted
    };
    apps.into_iter()
        .map(|(app, [left, right])| {
            let (left, right) = (sorted(&left), sorted(&right));
            let relation = relation(&left, &right, &newer);
            Compared { app: app.clone(), left, right, relation }
        })
        .collect()
}

fn relation(
    left: &[(ReleaseName, usize)],
    right: &[(ReleaseName, usize)],
    newer: impl Fn(&ReleaseName) -> usize,
) -> Relation {
    let place = |of: Option<&(ReleaseName, usize)>| of.map(|(release, _)| newer(release));
    let names = |of: &[(ReleaseName, usize)]| of.iter().map(|(release, _)| release.clone()).collect::<Vec<_>>();
    match ((place(left.first()), place(left.last())), (place(right.first()), place(right.last()))) {
        (_, (None, _)) => Relation::OnlyLeft,
        ((None, _), _) => Relation::OnlyRight,
        _ if names(left) == names(right) => Relation::Same,
        ((_, oldest), (newest, _)) if oldest <= newest => Relation::Ahead,
        ((newest, _), (_, oldest)) if oldest <= newest => Relation::Behind,
        _ => Relation::Mixed,
    }
}

#[cfg(test)]
mod tests {
    use bucket::{AppState, Generation, ServerDocument, ServerState};

    use super::*;
    use crate::{
        condition::tests::{release, server},
        server::Reading,
    };

    fn with(releases: &[ReleaseName]) -> Server {
        let texts: Vec<String> = releases.iter().map(|release| format!("\"{release}\"")).collect();
        let document = ServerDocument::parse(format!("[{}]", texts.join(",")).as_bytes()).unwrap();
        let document = Reading::Known((Generation(1), document));
        Server { document, ..server(1, 1, 1, AppState::Converged, ServerState::Converged) }
    }

    #[test]
    fn each_app_is_ahead_behind_the_same_or_only_on_one_side() {
        use Relation::{Ahead, Behind, Mixed, OnlyLeft, OnlyRight, Same};
        let web = release;
        let api = |n: u8| -> ReleaseName { release(n).as_str().replace("web", "api").parse().unwrap() };
        // The second of a name says how new it is.
        let newer = |release: &ReleaseName| 60 - usize::try_from(release.time().as_second() % 60).unwrap();
        let of = |left: &[&[ReleaseName]], right: &[&[ReleaseName]]| {
            let (left, right): (Vec<_>, Vec<_>) =
                (left.iter().map(|it| with(it)).collect(), right.iter().map(|it| with(it)).collect());
            let compared = compare(&left, &right, newer);
            let spans: Vec<_> =
                compared.iter().map(|it| it.span().map(|(old, new)| (newer(old), newer(new)))).collect();
            (compared.into_iter().map(|it| it.relation).collect::<Vec<_>>(), spans)
        };
        for (left, right, relations, span) in [
            (vec![&[web(1)][..]], vec![&[web(1)][..]], vec![Same], None),
            (vec![&[web(3)][..]], vec![&[web(1)][..]], vec![Ahead], Some((59, 57))),
            (vec![&[web(1)][..]], vec![&[web(3)][..]], vec![Behind], Some((59, 57))),
            (vec![&[web(3)][..], &[web(2)]], vec![&[web(1)][..], &[web(2)]], vec![Ahead], Some((59, 57))),
            (vec![&[web(1)][..], &[web(3)]], vec![&[web(2)][..]], vec![Mixed], None),
            (vec![&[web(1)][..], &[web(2)]], vec![&[web(2)][..], &[web(1)]], vec![Same], None),
            (vec![&[api(1)][..]], vec![&[web(1)][..]], vec![OnlyLeft, OnlyRight], None),
            (vec![], vec![], vec![], None),
        ] {
            let (found, spans) = of(&left, &right);
            assert_eq!((found, spans.into_iter().flatten().next()), (relations, span), "{left:?} {right:?}");
        }
    }
}
