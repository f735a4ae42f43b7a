//! Whether a package can be installed, dependencies first of all (Debian Policy §7.1, §7.5). Pure: no I/O.
//!
//! dpkg has the last word when it installs; this is decided before so that a release that cannot be installed never touches
//! the machine.

use std::collections::BTreeMap;

use debian_control::{
    lossy::{Relation, Relations},
    relations::VersionConstraint,
};
use debversion::Version;

use crate::{
    failure::Obstacle,
    machine::{AvailablePackage, DebInfo},
};

/// Most of them that are told: whoever reads them has enough to do.
const MAX_OBSTACLES: usize = 20;

/// Why the package in `deb` cannot be installed on a machine of that architecture: it is built for another one, or its
/// dependencies are met neither by what is `available` nor by what is installed `together` with it.
pub(crate) fn obstacles(
    deb: &DebInfo,
    architecture: Option<&str>,
    available: &[AvailablePackage],
    together: &[DebInfo],
) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if let Some(ours) =
        architecture.filter(|ours| !deb.facts.architecture.is_all() && deb.facts.architecture.as_str() != *ours)
    {
        let package = deb.facts.architecture.to_string();
        obstacles.push(Obstacle::Architecture { package, server: ours.to_owned() });
    }
    let mut known = Available::default();
    for package in available {
        known.add(&package.package, &package.version, &package.provides);
    }
    for other in together {
        known.add(other.facts.package.as_str(), &other.facts.version, "");
    }
    obstacles.extend(deb.facts.depends.iter().flat_map(|depends| unmet(depends, &known)));
    if obstacles.len() > MAX_OBSTACLES {
        let more = obstacles.len() - MAX_OBSTACLES;
        obstacles.truncate(MAX_OBSTACLES);
        obstacles.push(Obstacle::More(more));
    }
    obstacles
}

/// What is installed, or will be with the same dpkg run, and what it provides.
#[derive(Debug, Default)]
struct Available {
    /// Each name with its versions; `None` for a provided name without a version.
    versions: BTreeMap<String, Vec<Option<Version>>>,
}

impl Available {
    /// Adds a package with the value of its `Provides`.
    fn add(&mut self, package: &str, version: &str, provides: &str) {
        let mut add =
            |name: &str, version: Option<Version>| self.versions.entry(name.to_owned()).or_default().push(version);
        add(package, version.parse().ok());
        for relation in provides.parse::<Relations>().iter().flat_map(Relations::iter).flatten() {
            add(&relation.name, relation.version.as_ref().map(|(_, version)| version.clone()));
        }
    }

    fn meets(&self, relation: &Relation) -> bool {
        let Some(versions) = self.versions.get(&relation.name) else { return false };
        let Some((constraint, wanted)) = &relation.version else { return true };
        versions.iter().flatten().any(|version| match constraint {
            VersionConstraint::GreaterThanEqual => version >= wanted,
            VersionConstraint::LessThanEqual => version <= wanted,
            VersionConstraint::Equal => version == wanted,
            VersionConstraint::GreaterThan => version > wanted,
            VersionConstraint::LessThan => version < wanted,
        })
    }
}

/// The dependencies in a `Depends` that are not met.
fn unmet(depends: &str, known: &Available) -> Vec<Obstacle> {
    let relations: Relations = match depends.parse() {
        Ok(relations) => relations,
        Err(error) => {
            return vec![Obstacle::UnreadableDependencies { depends: depends.to_owned(), error }];
        }
    };
    let missing = relations.iter().filter(|alternatives| !alternatives.iter().any(|relation| known.meets(relation)));
    missing
        .map(|alternatives| Obstacle::Dependency {
            alternatives: alternatives.iter().map(ToString::to_string).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bucket::{PackageFacts, ReleaseFields};

    use super::*;
    use crate::machine::fake::release;

    #[test]
    fn alternatives_versions_and_provides_are_understood() {
        let mut known = Available::default();
        known.add("libc6", "2.36-9+deb12u9", "libc6-x (= 1)");
        known.add("exim4", "4.96", "mail-transport-agent");
        known.add("nginx", "1:1.22~rc1", "");
        for (depends, met) in [
            ("libc6", true),
            ("libc6 (>= 2.36)", true),
            ("libc6 (>= 2.37)", false),
            ("libc6:any (>= 2.30), nginx", true),
            ("nope | exim4", true),
            ("nope | neither", false),
            ("mail-transport-agent", true),
            ("mail-transport-agent (>= 1)", false),
            ("libc6-x (>= 1)", true),
            ("nginx (<< 1:1.22)", true),
            ("nginx (>> 1:1.22~rc1)", false),
        ] {
            assert_eq!(unmet(depends, &known).is_empty(), met, "{depends}: {:?}", unmet(depends, &known));
        }
        let missing = |alternatives: &[&str]| Obstacle::Dependency {
            alternatives: alternatives.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(unmet("a, libc6, b | c (>= 2)", &known), [missing(&["a"]), missing(&["b", "c (>= 2)"])]);
        assert!(
            matches!(&unmet("a (", &known)[..], [Obstacle::UnreadableDependencies { depends, .. }] if depends == "a (")
        );
    }
    #[test]
    fn however_much_is_missing_little_is_told() {
        let depends: Vec<String> = (0..1000).map(|n| format!("none-{n}")).collect();
        let facts = PackageFacts {
            package: "web".parse().unwrap(),
            version: "1".to_owned(),
            architecture: "arm64".parse().unwrap(),
            installed_size: 0,
            depends: vec![depends.join(", ")],
        };
        let fields = ReleaseFields { release: release("web", 1), units: vec![], check: None };
        let found = obstacles(&DebInfo { facts, fields }, Some("amd64"), &[], &[]);
        let other = Obstacle::Architecture { package: "arm64".to_owned(), server: "amd64".to_owned() };
        assert_eq!((found.len(), &found[0], &found[20]), (21, &other, &Obstacle::More(981)));
    }
}
