//! Our reading of fields, relations and versions, compared with dpkg's own on the packages of the Debian archive that this
//! machine is configured for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use bucket::{Control, PackageFacts, ReleaseFields, ReleaseName};
use debian_control::lossy::Relations;
use debversion::Version;

use crate::{
    decide::dependencies::obstacles,
    machine::{AvailablePackage, DebInfo},
};

/// How many paragraphs are compared, of the tens of thousands that there are.
const PARAGRAPHS: usize = 1000;

/// Fields whose values dpkg parses, and prints anew.
const RELATIONS: [&str; 9] =
    ["Pre-Depends", "Depends", "Recommends", "Suggests", "Enhances", "Breaks", "Conflicts", "Replaces", "Provides"];

/// Fields whose values dpkg prints as they are written.
const TEXTS: [&str; 10] = [
    "Package",
    "Version",
    "Architecture",
    "Section",
    "Priority",
    "Maintainer",
    "Installed-Size",
    "Homepage",
    "Tag",
    "Description",
];

/// Between the fields that dpkg-query prints, and after each package.
const FIELD: char = '\u{1}';
const PACKAGE: char = '\u{2}';

/// Packages from all over the archive, each name once: their paragraphs, without what only an archive says.
fn paragraphs() -> BTreeMap<String, String> {
    let output = Command::new("apt-cache").arg("dumpavail").env("LC_ALL", "C").output().expect("apt-cache runs");
    let text = String::from_utf8(output.stdout).expect("the archive is UTF-8");
    let all: BTreeMap<&str, &str> = text
        .split("\n\n")
        .filter_map(|paragraph| Some((paragraph.lines().find_map(|line| line.strip_prefix("Package: "))?, paragraph)))
        .collect();
    assert!(all.len() >= PARAGRAPHS, "apt knows {} packages only: run `apt-get update`", all.len());
    let step = all.len() / PARAGRAPHS;
    let of_archive = |line: &&str| {
        !["Filename:", "Size:", "MD5sum:", "SHA1:", "SHA256:", "SHA512:"].iter().any(|field| line.starts_with(field))
    };
    let plain =
        |paragraph: &str| paragraph.lines().filter(of_archive).fold(String::new(), |text, line| text + line + "\n");
    all.into_iter().step_by(step).map(|(name, paragraph)| (name.to_owned(), plain(paragraph))).collect()
}

/// What dpkg reads from them: the values of [`TEXTS`] and [`RELATIONS`], for each package.
fn read_by_dpkg(paragraphs: &BTreeMap<String, String>) -> BTreeMap<String, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    for name in ["updates", "info"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let status = paragraphs
        .values()
        .fold(String::new(), |text, paragraph| text + "Status: install ok installed\n" + paragraph + "\n");
    fs::write(directory.path().join("status"), status).unwrap();
    let mut format = String::new();
    for field in TEXTS.iter().chain(&RELATIONS) {
        let _ = write!(format, "${{{field}}}{FIELD}");
    }
    let mut query = Command::new("dpkg-query");
    query.arg("--admindir").arg(directory.path()).arg("--show").arg(format!("--showformat={format}{PACKAGE}"));
    let output = query.env("LC_ALL", "C").output().expect("dpkg-query runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let packages = text.split(PACKAGE).filter(|package| !package.is_empty());
    packages
        .map(|package| {
            let values: Vec<String> = package.split(FIELD).map(str::to_owned).collect();
            (values[0].clone(), values)
        })
        .collect()
}

/// Those of the comparisons `a op b` that dpkg denies.
fn denied_by_dpkg(comparisons: &[[String; 3]]) -> Vec<String> {
    let script = "while read -r a op b; do dpkg --compare-versions \"$a\" \"$op\" \"$b\" || echo \"$a $op $b\"; done";
    let mut shell =
        Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh runs");
    let mut input = shell.stdin.take().unwrap();
    let lines = comparisons.iter().fold(String::new(), |text, comparison| text + &comparison.join(" ") + "\n");
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = shell.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn fields_and_relations_are_read_as_dpkg_reads_them() {
    let paragraphs = paragraphs();
    let by_dpkg = read_by_dpkg(&paragraphs);
    assert!(paragraphs.len() >= PARAGRAPHS && by_dpkg.len() == paragraphs.len());
    let mut relations = 0;
    for (name, paragraph) in &paragraphs {
        let control = Control::parse(paragraph.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let theirs = &by_dpkg[name];
        for (field, theirs) in TEXTS.iter().zip(theirs) {
            assert_eq!(control.get(field).unwrap_or_default(), theirs, "{field} of {name}");
        }
        for (field, theirs) in RELATIONS.iter().zip(&theirs[TEXTS.len()..]) {
            let ours = control.get(field).unwrap_or_default();
            let ours: Relations = ours.parse().unwrap_or_else(|error| panic!("{field} of {name}: {error}"));
            assert_eq!(ours.to_string(), *theirs, "{field} of {name}");
            relations += ours.iter().count();
        }
        let facts = PackageFacts::read(&control).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((facts.package.as_str(), &facts.version), (name.as_str(), &theirs[1]));
    }
    assert!(relations > PARAGRAPHS, "only {relations} relations were compared");
}

#[test]
fn versions_are_ordered_as_dpkg_orders_them() {
    let mut versions = BTreeSet::new();
    for paragraph in paragraphs().values() {
        let control = Control::parse(paragraph.as_bytes()).unwrap();
        versions.insert(control.get("Version").unwrap().to_owned());
    }
    let mut versions: Vec<(Version, String)> = versions
        .into_iter()
        .map(|text| (text.parse().unwrap_or_else(|error| panic!("{text}: {error}")), text))
        .collect();
    versions.sort_by(|(a, _), (b, _)| a.cmp(b));
    let comparisons: Vec<[String; 3]> = versions
        .windows(2)
        .map(|pair| {
            let op = if pair[0].0 == pair[1].0 { "eq" } else { "lt" };
            [pair[0].1.clone(), op.to_owned(), pair[1].1.clone()]
        })
        .collect();
    assert!(comparisons.len() > PARAGRAPHS / 2, "only {} versions were compared", comparisons.len());
    assert_eq!(denied_by_dpkg(&comparisons), [""; 0]);
}

#[test]
fn a_dependency_is_met_when_dpkg_says_so() {
    let paragraphs = paragraphs();
    let mut comparisons: [Vec<[String; 3]>; 2] = Default::default();
    let mut versions: Vec<String> = Vec::new();
    for paragraph in paragraphs.values() {
        let control = Control::parse(paragraph.as_bytes()).unwrap();
        versions.push(control.get("Version").unwrap().to_owned());
        let depends: Relations = control.get("Depends").unwrap_or_default().parse().unwrap();
        let Some(relation) = depends.iter().flatten().find(|relation| relation.version.is_some()) else { continue };
        let (constraint, wanted) = relation.version.clone().unwrap();
        // The very version, and that of whatever package came before.
        for version in [wanted.to_string(), versions[versions.len() / 2].clone()] {
            let available = AvailablePackage { package: relation.name.clone(), version, provides: String::new() };
            let is_met = obstacles(&deb(&relation.to_string()), None, std::slice::from_ref(&available), &[]).is_empty();
            comparisons[usize::from(is_met)].push([available.version, constraint.to_string(), wanted.to_string()]);
        }
    }
    let [unmet, met] = comparisons;
    assert!(met.len() > 100 && unmet.len() > 100, "{} met, {} not", met.len(), unmet.len());
    assert_eq!(denied_by_dpkg(&met), [""; 0], "we say that these are met");
    assert_eq!(denied_by_dpkg(&unmet).len(), unmet.len(), "we say that none of these is met: {unmet:?}");
}

/// A release that depends on something.
fn deb(depends: &str) -> DebInfo {
    let release = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    let release = ReleaseName::from_stem(release).unwrap();
    let facts = PackageFacts {
        package: "web".parse().unwrap(),
        version: "1".to_owned(),
        architecture: "all".parse().unwrap(),
        installed_size: 0,
        depends: vec![depends.to_owned()],
    };
    DebInfo { facts, fields: ReleaseFields { release, units: Vec::new(), check: None } }
}
