//! No two modules of a crate use each other, neither directly nor over others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    modules::{Arrows, Modules},
    source::{exists, none},
};

/// The sources of each crate.
const CRATES: [&str; 7] =
    ["bucket/src", "console/src", "fleet/src", "pulld/src", "push-server/src", "release-tool/src", "tests/harness"];

#[test]
fn modules_go_in_no_circle() {
    let mut found = Vec::new();
    for directory in CRATES.into_iter().filter(|directory| exists(directory)) {
        let arrows = Modules::read(directory).arrows();
        found.extend(circles(&arrows).iter().map(|circle| format!("{directory}: {}", describe(&arrows, circle))));
    }
    none(
        &found,
        "each line is a circle of modules; move what one of its arrows is for below both ends, or where the arrow begins",
    );
}

/// For each arrow that is part of a circle, the shortest one; each circle once.
fn circles(arrows: &Arrows) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (from, ends) in arrows {
        for to in ends.keys() {
            if let Some(mut circle) = way(arrows, to, from) {
                let first = circle.iter().enumerate().min_by_key(|(_, module)| *module).map_or(0, |(at, _)| at);
                circle.rotate_left(first);
                found.insert(circle);
            }
        }
    }
    found
}

/// The shortest way from one module to another, both included.
fn way(arrows: &Arrows, from: &str, to: &str) -> Option<Vec<String>> {
    let mut came_from = BTreeMap::from([(from, None)]);
    let mut waiting = VecDeque::from([from]);
    while let Some(here) = waiting.pop_front() {
        if here == to {
            let steps = std::iter::successors(Some(here), |at| came_from[at]);
            let mut way: Vec<String> = steps.map(str::to_owned).collect();
            way.reverse();
            return Some(way);
        }
        for next in arrows.get(here).into_iter().flat_map(BTreeMap::keys) {
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, Some(here));
                waiting.push_back(next);
            }
        }
    }
    None
}

/// `a (a.rs:3) -> b (b.rs:7) -> a`.
fn describe(arrows: &Arrows, circle: &[String]) -> String {
    let next = circle.iter().cycle().skip(1);
    let steps = circle.iter().zip(next).map(|(from, to)| format!("{from} ({}) -> ", arrows[from][to]));
    steps.chain([circle[0].clone()]).collect()
}

#[test]
fn circles_are_found_once_and_named() {
    let arrows = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")];
    let mut all = Arrows::new();
    for (from, to) in arrows {
        all.entry(from.to_owned()).or_default().insert(to.to_owned(), format!("{from}.rs:1"));
    }
    let found = circles(&all);
    assert_eq!(found.len(), 1, "{found:?}");
    let text = describe(&all, found.first().unwrap());
    assert_eq!(text, "a (a.rs:1) -> b (b.rs:1) -> c (c.rs:1) -> a");
}
