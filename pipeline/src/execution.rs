//! In which order the stages of a pipeline run: a graph without circles.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    problem::{self, Problems},
    stage::{HIDDEN, Stage},
    template::check_name,
    yaml::{Node, Value},
};

/// Which stages each stage follows, by their places among the stages of the pipeline. There is no circle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Order {
    after: Vec<BTreeSet<usize>>,
}

impl Order {
    /// The stages that a stage follows at once: it begins when all of them have passed.
    pub fn after(&self, stage: usize) -> &BTreeSet<usize> {
        &self.after[stage]
    }

    /// All stages that have passed when a stage begins.
    pub fn before(&self, stage: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut next: Vec<usize> = self.after[stage].iter().copied().collect();
        while let Some(stage) = next.pop() {
            if found.insert(stage) {
                next.extend(&self.after[stage]);
            }
        }
        found
    }

    /// One after the other.
    pub(crate) fn chain(stages: usize) -> Self {
        Self { after: (0..stages).map(|stage| stage.checked_sub(1).into_iter().collect()).collect() }
    }

    /// Stages of which each follows the next, and the last is the first; `None` if there are none such.
    fn circle(&self) -> Option<Vec<usize>> {
        // Whoever has nothing left before it is not in a circle, and what is left at the end all has.
        let mut left: BTreeMap<usize, BTreeSet<usize>> = self.after.iter().cloned().enumerate().collect();
        loop {
            let free: Vec<usize> = left.iter().filter(|(_, after)| after.is_empty()).map(|(stage, _)| *stage).collect();
            if free.is_empty() {
                break;
            }
            for stage in &free {
                left.remove(stage);
            }
            for after in left.values_mut() {
                after.retain(|stage| !free.contains(stage));
            }
        }
        let mut path = vec![*left.keys().next()?];
        loop {
            let stage = *left[path.last()?].first()?;
            if let Some(first) = path.iter().position(|before| *before == stage) {
                let mut circle: Vec<usize> = path.split_off(first);
                circle.push(stage);
                // They were found from the last to the first.
                circle.reverse();
                return Some(circle);
            }
            path.push(stage);
        }
    }
}

/// Whether a stage has a name by which `execution` can name it; of others that is said where they are written.
fn can_be_named(name: &str) -> bool {
    check_name(name).is_ok() && !HIDDEN.contains(&name)
}

/// What `execution` says of these stages: chains, if it is a list of lists, else sets, each after the one before; without it
/// they run one after the other. `None`, with the reason among the problems, if that isn't an order.
pub(crate) fn order(node: Option<&Node>, stages: &[Stage], problems: &mut Problems) -> Option<Order> {
    let Some(node) = node else { return Some(Order::chain(stages.len())) };
    let Value::List(elements) = &node.value else {
        problems.add(node.place, format!("`execution` is a list of lists of stages, not {}", node.kind()));
        return None;
    };
    let mut known = true;
    let mut find = |node: &Node, problems: &mut Problems| {
        stage(node, stages, problems).unwrap_or_else(|Unknown| {
            known = false;
            None
        })
    };
    let mut after = vec![BTreeSet::new(); stages.len()];
    let mut reached: BTreeSet<usize> = BTreeSet::new();
    let are_chains = elements.iter().all(|element| matches!(element.value, Value::List(_)));
    let mut set_before: Vec<usize> = Vec::new();
    for element in elements {
        let names = match &element.value {
            Value::List(names) => names.as_slice(),
            _ => std::slice::from_ref(element),
        };
        if names.is_empty() {
            problems.add(element.place, "a list in `execution` has at least one stage");
        }
        let places: Vec<usize> = names.iter().filter_map(|name| find(name, problems)).collect();
        reached.extend(&places);
        if are_chains {
            for pair in places.windows(2) {
                after[pair[1]].insert(pair[0]);
            }
        } else {
            for stage in &places {
                after[*stage].extend(&set_before);
            }
            set_before = places;
        }
    }
    for (nth, stage) in stages.iter().enumerate() {
        let (name, first) = (&stage.name, stages.iter().position(|other| other.name == stage.name).unwrap_or(nth));
        if first != nth {
            // There are two of this name, which is a mistake already: what holds for one holds for the other.
            let of_first = after[first].clone();
            after[nth] = of_first;
        } else if known && !reached.contains(&nth) && can_be_named(name) {
            problems.add(stage.place, format!("`{name}` is never reached: `execution` does not name it"));
        }
    }
    let order = Order { after };
    if let Some(circle) = order.circle() {
        let names: Vec<String> = circle.iter().map(|stage| format!("`{}`", stages[*stage].name)).collect();
        problems.add(node.place, format!("stages follow each other in a circle: {}", names.join(" → ")));
        return None;
    }
    known.then_some(order)
}

/// That it isn't known which stage is meant.
struct Unknown;

/// The stage that is named, or else meant: one of a name that is nearly the same. `None` for one that is always there.
fn stage(node: &Node, stages: &[Stage], problems: &mut Problems) -> Result<Option<usize>, Unknown> {
    let Value::Text(name) = &node.value else {
        problems.add(node.place, format!("`execution` names stages, and this is {}", node.kind()));
        return Err(Unknown);
    };
    let at = |name: &str| stages.iter().position(|stage| stage.name == name);
    if let Some(found) = at(name) {
        return Ok(Some(found));
    }
    let shown = console::cut(name, 80);
    if HIDDEN.contains(&name.as_str()) {
        problems.add(node.place, format!("`{shown}` is always there, and is not named"));
        return Ok(None);
    }
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    problems.add(node.place, format!("`{shown}` is none of `stages`{}", problem::known(name, &names)));
    console::nearest(name, &names).and_then(at).map(Some).ok_or(Unknown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{problem::Place, yaml};

    /// The order of these stages, one letter each, by what `execution` says: for each those that it follows at once.
    fn ordered(stages: &str, execution: &str) -> Result<String, String> {
        let stages: Vec<Stage> =
            stages.chars().map(|name| Stage::of_variant(&name.to_string(), Place::default())).collect();
        let mut problems = Problems::of("f");
        let node = yaml::read(execution.as_bytes(), &mut problems).unwrap();
        let order = order((!execution.is_empty()).then_some(&node), &stages, &mut problems);
        let found: Vec<String> = problems.into_found().into_iter().map(|problem| problem.text).collect();
        if !found.is_empty() {
            return Err(found.join("; "));
        }
        let order = order.unwrap();
        let names = |of: &BTreeSet<usize>| of.iter().map(|stage| stages[*stage].name.as_str()).collect::<String>();
        let shown = (0..stages.len()).map(|stage| format!("{}<{}", names(order.after(stage)), stages[stage].name));
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn chains_make_a_graph_and_sets_follow_each_other() {
        for (stages, execution, expected) in [
            ("ab", "", "<a a<b"),
            ("abcdefxy", "[[a,b,c,d,e,f],[x,d,y,f]]", "<a a<b b<c cx<d d<e ey<f <x d<y"),
            ("abc", "[[a],[b],[c]]", "<a <b <c"),
            ("abc", "[[a, b], c]", "<a <b ab<c"),
            ("abcd", "[a, [b, c], d]", "<a a<b a<c bc<d"),
            ("ab", "[a, b]", "<a a<b"),
        ] {
            assert_eq!(ordered(stages, execution).as_deref(), Ok(expected), "{execution}");
        }
    }

    #[test]
    fn what_is_no_order_is_refused_by_name() {
        for (stages, execution, expected) in [
            ("abc", "[[a,b],[b,c],[c,a]]", "stages follow each other in a circle: `a` → `b` → `c` → `a`"),
            ("ab", "[[a,b,a]]", "stages follow each other in a circle: `a` → `b` → `a`"),
            ("a", "[[a,a]]", "stages follow each other in a circle: `a` → `a`"),
            ("abc", "[a, b, [a, c]]", "in a circle"),
            ("ab", "[[a]]", "`b` is never reached: `execution` does not name it"),
            ("a", "[[a, unit]]", "`unit` is none of `stages`"),
            ("a", "[[a, setup]]", "`setup` is always there, and is not named"),
            ("a", "[[a], []]", "a list in `execution` has at least one stage"),
            ("a", "{a: b}", "`execution` is a list of lists of stages, not a map"),
            ("a", "[[a, [a]]]", "`execution` names stages, and this is a list"),
        ] {
            let refused = ordered(stages, execution).unwrap_err();
            assert!(refused.contains(expected), "{execution}: {refused}");
        }
    }

    proptest! {
        /// Chains that only go forward make no circle, and whoever runs what is ready runs all, each after all before it.
        #[test]
        fn in_every_graph_each_stage_begins_after_all_before_it(
            chains in prop::collection::vec(prop::collection::btree_set(0_u8..12, 1..6), 1..8),
            shuffle in any::<u64>(),
        ) {
            let used: BTreeSet<u8> = chains.iter().flatten().copied().collect();
            // In the file, stages stand in any order.
            let mut letters: Vec<u8> = used.iter().copied().collect();
            letters.sort_by_key(|letter| u64::from(*letter).wrapping_mul(shuffle | 1));
            let letter = |n: &u8| char::from(b'a' + *n);
            let stages: Vec<Stage> =
                letters.iter().map(|n| Stage::of_variant(&letter(n).to_string(), Place::default())).collect();
            let lists: Vec<String> = chains
                .iter()
                .map(|chain| format!("[{}]", chain.iter().map(|n| letter(n).to_string()).collect::<Vec<_>>().join(",")))
                .collect();
            let mut problems = Problems::of("f");
            let node = yaml::read(format!("[{}]", lists.join(",")).as_bytes(), &mut problems).unwrap();
            let order = order(Some(&node), &stages, &mut problems);
            prop_assert_eq!(problems.into_found(), vec![]);
            let order = order.unwrap();
            let mut passed = BTreeSet::new();
            while passed.len() < stages.len() {
                let ready = (0..stages.len()).find(|stage| !passed.contains(stage) && order.after(*stage).is_subset(&passed));
                let ready = ready.expect("something can begin");
                prop_assert!(order.before(ready).is_subset(&passed));
                passed.insert(ready);
            }
            let at = |n: &u8| letters.iter().position(|letter| letter == n).unwrap();
            for chain in &chains {
                let chain: Vec<usize> = chain.iter().map(at).collect();
                for pair in chain.windows(2) {
                    prop_assert!(order.before(pair[1]).contains(&pair[0]));
                }
            }
        }
    }
}
