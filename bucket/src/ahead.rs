//! The changes ahead of a change: what it needs and is still open, and what those need, and so on.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};

use crate::{Change, ChangeId, ChangeState, Error};

/// What a change needs, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ahead {
    /// The open ones, nearest first, each with how many steps it is away; of equally near ones in the order in which they are
    /// needed.
    pub open: Vec<(ChangeId, Change, usize)>,
    /// Those that are no longer open, with what became of them. What they need isn't looked at.
    pub ended: Vec<(ChangeId, ChangeState)>,
    /// Those of which nothing is known.
    pub unknown: Vec<ChangeId>,
}

/// Why it can't be said what is ahead of a change.
#[derive(Debug, thiserror::Error)]
pub enum NotAhead {
    /// A change that it needs can't be read.
    #[error("could not read the change `{0}`")]
    Unread(ChangeId, #[source] Error),
    /// More than [`Ahead::MAX`] are.
    #[error("more than {max} changes are ahead of `{0}`: merge some of them first", max = Ahead::MAX)]
    TooMany(ChangeId),
    /// More than [`Ahead::MAX_KNOWN`] are needed, open or not.
    #[error("more than {max} changes are needed by `{0}` and what is ahead of it: record fewer", max = Ahead::MAX_KNOWN)]
    TooManyKnown(ChangeId),
    /// Changes of which each needs the next, and the last is the first.
    #[error("changes need each other in a circle: {}; record other needs of one of them", in_order(.0))]
    Circle(Vec<ChangeId>),
}

fn in_order(circle: &[ChangeId]) -> String {
    circle.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" → ")
}

impl Ahead {
    /// Most changes that may be ahead of one.
    pub const MAX: usize = 200;

    /// Most changes that are looked at to find them.
    pub const MAX_KNOWN: usize = 1000;

    /// Changes that are read at the same time.
    pub const AT_ONCE: usize = 16;

    /// What is ahead of a change that needs these; `read` knows changes.
    ///
    /// # Errors
    /// When one can't be read, there are too many of them, or they need each other in a circle.
    pub async fn of<F: Future<Output = Result<Option<Change>, Error>>>(
        id: &ChangeId,
        needs: &[ChangeId],
        read: impl Fn(ChangeId) -> F,
    ) -> Result<Self, NotAhead> {
        let (mut ahead, mut seen) = (Self::default(), BTreeSet::new());
        let mut graph = BTreeMap::from([(id.clone(), needs.to_vec())]);
        let mut next = needs.to_vec();
        let mut steps = 1;
        while !next.is_empty() {
            next.retain(|need| need != id && seen.insert(need.clone()));
            if seen.len() > Self::MAX_KNOWN {
                return Err(NotAhead::TooManyKnown(id.clone()));
            }
            let reading = stream::iter(next).map(|need| {
                let found = read(need.clone());
                async move { (need, found.await) }
            });
            let mut reading = std::pin::pin!(reading.buffered(Self::AT_ONCE));
            let mut further = Vec::new();
            while let Some((need, found)) = reading.next().await {
                match found {
                    Err(error) => return Err(NotAhead::Unread(need, error)),
                    Ok(None) => ahead.unknown.push(need),
                    Ok(Some(change)) if change.state == ChangeState::Open => {
                        if ahead.open.len() == Self::MAX {
                            return Err(NotAhead::TooMany(id.clone()));
                        }
                        graph.insert(need.clone(), change.needs.clone());
                        further.extend(change.needs.iter().cloned());
                        ahead.open.push((need, change, steps));
                    }
                    Ok(Some(change)) => ahead.ended.push((need, change.state)),
                }
            }
            (next, steps) = (further, steps + 1);
        }
        match circle(&graph) {
            Some(circle) => Err(NotAhead::Circle(circle)),
            None => Ok(ahead),
        }
    }
}

/// Changes of which each needs the next, and the last is the first; `None` if there are none such.
fn circle(needs: &BTreeMap<ChangeId, Vec<ChangeId>>) -> Option<Vec<ChangeId>> {
    fn from<'a>(
        id: &'a ChangeId,
        needs: &'a BTreeMap<ChangeId, Vec<ChangeId>>,
        path: &mut Vec<&'a ChangeId>,
        done: &mut BTreeSet<&'a ChangeId>,
    ) -> Option<Vec<ChangeId>> {
        if let Some(first) = path.iter().position(|before| *before == id) {
            return Some(path[first..].iter().copied().chain([id]).cloned().collect());
        }
        if !done.insert(id) {
            return None;
        }
        path.push(id);
        let found = needs.get(id).into_iter().flatten().find_map(|need| from(need, needs, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    needs.keys().find_map(|id| from(id, needs, &mut Vec::new(), &mut done))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<ChangeId, Vec<ChangeId>> {
        let id = |text: &&str| text.parse().unwrap();
        edges.iter().map(|(from, to)| (id(from), to.iter().map(id).collect())).collect()
    }

    fn found(edges: &[(&str, &[&str])]) -> Option<String> {
        circle(&graph(edges)).map(|circle| circle.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_circle_is_found_wherever_it_begins() {
        assert_eq!(found(&[("a/1", &["a/2", "a/3"]), ("a/2", &["a/4"]), ("a/3", &["a/4"]), ("a/4", &[])]), None);
        assert_eq!(found(&[("a/1", &["a/2"]), ("a/2", &["a/1"])]).unwrap(), "a/1 a/2 a/1");
        let behind = [("a/1", &["a/2"][..]), ("a/2", &["a/3"]), ("a/3", &["a/4"]), ("a/4", &["a/2"])];
        assert_eq!(found(&behind).unwrap(), "a/2 a/3 a/4 a/2");
    }

    /// What is ahead of `a/1`, which needs so many, each of which needs as many others; and how many were read.
    async fn wide(width: usize, state: Option<&str>) -> (Result<Ahead, NotAhead>, usize) {
        let needs = |of: &str| (0..width).map(|n| format!("{of}-{n}").parse().unwrap()).collect::<Vec<ChangeId>>();
        let reads = std::cell::Cell::new(0);
        let read = |need: ChangeId| {
            reads.set(reads.get() + 1);
            let change = state.map(|state| {
                serde_json::from_value(serde_json::json!({
                    "schema": 1, "project": need.project(), "change": need.change(), "patchset": 1,
                    "commit": "7".repeat(40), "tree": "7".repeat(40), "branch": "main",
                    "needs": needs(&need.to_string()), "state": state, "candidates": [],
                    "updated": "2026-11-20T19:00:00Z", "by": "dev@ci",
                }))
                .unwrap()
            });
            async { Ok(change) }
        };
        let ahead = Ahead::of(&"a/1".parse().unwrap(), &needs("a/1"), read).await;
        (ahead, reads.get())
    }

    #[tokio::test]
    async fn however_many_are_needed_few_are_read() {
        let (ahead, reads) = wide(201, Some("open")).await;
        assert!(matches!(ahead, Err(NotAhead::TooMany(_))), "{ahead:?}");
        assert!(reads <= 201 + Ahead::AT_ONCE, "{reads}");
        let (ahead, reads) = wide(200, Some("open")).await;
        assert!(matches!(ahead, Err(NotAhead::TooManyKnown(_))), "{ahead:?}");
        assert_eq!(reads, 200, "none of the 40,000 that these need");
        let (ahead, _) = wide(200, Some("merged")).await;
        assert_eq!(ahead.unwrap().ended.len(), 200);
        for state in [None, Some("merged")] {
            let (ahead, reads) = wide(1001, state).await;
            assert!(matches!(ahead, Err(NotAhead::TooManyKnown(_))), "{ahead:?}");
            assert_eq!(reads, 0);
        }
    }
}
