//! The changes ahead of a change: what it needs and is still open, and what those need, and so on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{Bucket, Change, ChangeId, ChangeState};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Most changes that may be ahead of one.
const MOST: usize = 200;

/// Changes that are read at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// What a change needs, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// The open ones, nearest first, each with how many steps it is away; of equally near ones in the order in which they are
    /// needed.
    pub(crate) open: Vec<(ChangeId, Change, usize)>,
    /// Those that are no longer open, with what became of them. What they need isn't looked at.
    pub(crate) ended: Vec<(ChangeId, ChangeState)>,
    /// Those of which nothing is known.
    pub(crate) unknown: Vec<ChangeId>,
}

/// Reads what is ahead of a change that needs these.
///
/// # Errors
/// When one can't be read, there are too many of them, or they need each other in a circle.
pub(crate) async fn ahead(bucket: &Bucket, id: &ChangeId, needs: &[ChangeId]) -> Result<Ahead> {
    let (mut ahead, mut seen) = (Ahead::default(), BTreeSet::new());
    let mut graph = BTreeMap::from([(id.clone(), needs.to_vec())]);
    let mut next = needs.to_vec();
    let mut steps = 1;
    while !next.is_empty() {
        next.retain(|need| need != id && seen.insert(need.clone()));
        let read = stream::iter(&next).map(async |need| {
            let read = bucket.change(need).await.with_context(|| format!("could not read the change `{need}`"))?;
            anyhow::Ok(read.map(|(_, change)| change))
        });
        let read: Vec<Option<Change>> = read.buffered(AT_ONCE).try_collect().await?;
        let mut further = Vec::new();
        for (need, read) in next.into_iter().zip(read) {
            match read {
                None => ahead.unknown.push(need),
                Some(change) if change.state == ChangeState::Open => {
                    graph.insert(need.clone(), change.needs.clone());
                    further.extend(change.needs.iter().cloned());
                    ahead.open.push((need, change, steps));
                }
                Some(change) => ahead.ended.push((need, change.state)),
            }
        }
        ensure!(ahead.open.len() <= MOST, "more than {MOST} changes are ahead of `{id}`: merge some of them first");
        (next, steps) = (further, steps + 1);
    }
    if let Some(circle) = circle(&graph) {
        let members: Vec<String> = circle.iter().map(|id| format!("`{id}`")).collect();
        bail!("changes need each other in a circle: {}; say otherwise of one of them by --needs", members.join(" → "));
    }
    Ok(ahead)
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
}
