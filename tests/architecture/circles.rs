//! No two modules of a crate use each other, neither directly nor over others.
//!
//! A module and all that lies below it are one room, whose front page its own file is: what lies in a room may use the front
//! page, and the front page what lies in it. Rooms beside each other go in no circle, whichever of their files have the arrows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    modules::{Arrows, Modules, ROOT},
    source::{exists, none},
};

/// The sources of each crate.
const CRATES: [&str; 8] = [
    "bucket/src",
    "console/src",
    "fleet/src",
    "pulld/src",
    "push-server/src",
    "registry/src",
    "release-tool/src",
    "tests/harness",
];

#[test]
fn modules_go_in_no_circle() {
    let mut found = Vec::new();
    for directory in CRATES.into_iter().filter(|directory| exists(directory)) {
        for arrows in between_rooms(&Modules::read(directory).arrows()) {
            found.extend(circles(&arrows).iter().map(|circle| format!("{directory}: {}", describe(&arrows, circle))));
        }
    }
    none(
        &found,
        "each line is a circle of modules; move what one of its arrows is for below both ends, or where the arrow begins",
    );
}

/// The arrows between rooms that lie beside each other, for each room in which some do.
fn between_rooms(arrows: &Arrows) -> Vec<Arrows> {
    let mut rooms: BTreeMap<Vec<&str>, Arrows> = BTreeMap::new();
    for (from, ends) in arrows {
        for (to, place) in ends {
            let [from, to] = [from, to].map(|module| module.split("::").collect::<Vec<_>>());
            let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if shared < from.len() && shared < to.len() && ![&from, &to].iter().any(|module| module[0] == ROOT) {
                let arrows = rooms.entry(from[..shared].to_vec()).or_default();
                let ends = arrows.entry(from[..=shared].join("::")).or_default();
                ends.entry(to[..=shared].join("::")).or_insert_with(|| place.clone());
            }
        }
    }
    rooms.into_values().collect()
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
    // Also between a room and its front page, which is no circle.
    let arrows = [("a", "b"), ("b::x", "c::y"), ("c", "a"), ("c", "d"), ("b", "b::x"), ("b::x", "b"), ("a", ROOT)];
    let mut all = Arrows::new();
    for (from, to) in arrows {
        all.entry(from.to_owned()).or_default().insert(to.to_owned(), format!("{from}.rs:1"));
    }
    let all = between_rooms(&all);
    let found = circles(&all[0]);
    assert_eq!((all.len(), found.len()), (1, 1), "{found:?}");
    let text = describe(&all[0], found.first().unwrap());
    assert_eq!(text, "a (a.rs:1) -> b (b::x.rs:1) -> c (c.rs:1) -> a");
}
