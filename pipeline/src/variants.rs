//! The variants of a pipeline: how something is built, and how what was built is run.

use std::{collections::BTreeMap, time::Duration};

use registry::Reference;
use serde::{Serialize, Serializer};

use crate::{
    actions::variables,
    fields::{Fields, duration, list, name, path, text},
    problem::{Place, Problems, known},
    yaml::{self, Key, Node, Value},
};

/// How long a stage may take unless its variant says something else.
pub(crate) const USUAL_TIME: Duration = Duration::from_mins(30);

/// A variant, with what it includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variant {
    /// The commands by which it is built, one after the other: those of what it includes first.
    pub build: Vec<Vec<String>>,
    /// The command by which it is run; empty if there is none.
    pub entrypoint: Vec<String>,
    /// Variables of all its commands.
    pub env: BTreeMap<String, String>,
    /// How long building and running may take together.
    #[serde(serialize_with = "shown")]
    pub time: Duration,
    /// The directory that an image of it is made of, below that of the pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The image that an image of it stands on; nothing, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Reference>,
    /// As whom an image of it runs, `user` or `user:group`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What is said of an image of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The variants of a file, by name.
pub type Variants = BTreeMap<String, Variant>;

fn shown<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&console::duration::show(*duration))
}

/// A variant as it is written.
#[derive(Debug, Default)]
struct Written {
    includes: Vec<(Place, String)>,
    build: Vec<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    env: BTreeMap<String, String>,
    time: Option<Duration>,
    root: Option<String>,
    base: Option<Reference>,
    user: Option<String>,
    labels: BTreeMap<String, String>,
}

const KEYS: [&str; 9] = ["includes", "build", "entrypoint", "env", "time", "root", "base", "user", "labels"];
/// Longest user of an image, in bytes.
const MAX_USER: usize = 128;

/// Keys that others have, and what to use here.
const ELSEWHERE: [(&str, &str); 5] = [
    ("apt", "packages are not installed: let the machine that runs the pipeline have them"),
    ("builders", "`build` is a list of commands"),
    ("copies", "`copy` of a stage takes files of another one"),
    ("runs", "`env` has variables, `user` says as whom an image runs, and `entrypoint` the command"),
    ("lives", "`root` is the directory that an image is made of"),
];

/// The variants of a file; `None`, with the reasons among the problems, if they can't be used.
pub(crate) fn read(content: &[u8], problems: &mut Problems, warnings: &mut Problems) -> Option<Variants> {
    let node = yaml::read(content, problems)?;
    let mut fields = Fields::of(&node, "the file", problems);
    let variants = fields.take("variants");
    let place = fields.place();
    fields.end(&["variants"], &[("version", "the file has only `variants`")], problems);
    let Some(variants) = variants else {
        problems.add(place, "the file lacks `variants`");
        return None;
    };
    let Value::Map(entries) = &variants.value else {
        problems.add(variants.place, format!("`variants` is a map of variants, not {}", variants.kind()));
        return None;
    };
    let mut written = BTreeMap::new();
    for (key, node) in entries {
        if let Err(reason) = crate::template::check_name(&key.name) {
            problems.add(key.place, format!("a variant cannot be `{}`: {reason}", console::cut(&key.name, 80)));
        }
        written.insert(key.name.as_str(), variant(node, problems, warnings));
    }
    let mut resolved = Variants::new();
    for (key, _) in entries {
        let mut line = Vec::new();
        line_up(&key.name, &written, &mut Vec::new(), &mut line, problems);
        resolved.insert(key.name.clone(), merged(line.iter().filter_map(|name| written.get(name))));
    }
    Some(resolved)
}

fn variant(node: &Node, problems: &mut Problems, warnings: &mut Problems) -> Written {
    let mut fields = Fields::of(node, "a variant", problems);
    let mut written = Written::default();
    if let Some(includes) = fields.take("includes") {
        let includes = list(includes, "`includes`", problems);
        written.includes =
            includes.iter().filter_map(|node| Some((node.place, name(node, "a variant", problems)?))).collect();
    }
    if let Some(build) = fields.take("build") {
        let lines = list(build, "`build`", problems);
        written.build = lines.iter().filter_map(|line| command(line, "a line of `build`", problems)).collect();
    }
    if let Some(entrypoint) = fields.take("entrypoint") {
        written.entrypoint = command(entrypoint, "`entrypoint`", problems);
    }
    if let Some(env) = fields.take("env") {
        written.env = variables(env, problems, |node, what, problems| text(node, what, problems).map(str::to_owned));
    }
    if let Some(time) = fields.take("time") {
        written.time = duration(time, "`time`", problems);
    }
    written.root = fields.take("root").and_then(|root| path(root, "`root`", problems));
    written.base = fields.take("base").and_then(|node| base(node, problems, warnings));
    written.user = fields.take("user").and_then(|node| user(node, problems));
    if let Some(labels) = fields.take("labels") {
        written.labels = self::labels(labels, problems);
    }
    fields.end(&KEYS, &ELSEWHERE, problems);
    written
}

/// An image in a registry. What a tag alone names may be another one tomorrow.
fn base(node: &Node, problems: &mut Problems, warnings: &mut Problems) -> Option<Reference> {
    let base: Reference = match text(node, "`base`", problems)?.parse() {
        Ok(base) => base,
        Err(error) => {
            problems.add(node.place, format!("{error}"));
            return None;
        }
    };
    if base.digest.is_none() && base.tag.is_none() {
        problems.add(node.place, format!("`base` names no image of `{base}`: add its digest, as in `{base}@sha256:…`"));
    } else if base.digest.is_none() {
        let text =
            format!("the base `{base}` has no digest: the same commit gives another image once that tag is moved");
        warnings.add(node.place, text);
    }
    Some(base)
}

fn user(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = text(node, "`user`", problems)?;
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if text.len() > MAX_USER || !text.splitn(2, ':').all(is_name) {
        let shown = console::cut(text, 80);
        problems
            .add(node.place, format!("`user` cannot be `{shown}`: write `user` or `user:group`, by names or numbers"));
        return None;
    }
    Some(text.to_owned())
}

fn labels(node: &Node, problems: &mut Problems) -> BTreeMap<String, String> {
    let Value::Map(entries) = &node.value else {
        problems.add(node.place, format!("`labels` is a map of texts, not {}", node.kind()));
        return BTreeMap::new();
    };
    let label =
        |(key, node): &(Key, Node)| Some((key.name.clone(), text(node, "the value of a label", problems)?.to_owned()));
    entries.iter().filter_map(label).collect()
}

/// A command without values in it.
fn command(node: &Node, what: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let arguments = crate::fields::command(node, what, problems);
    let mut plain = Vec::new();
    for argument in &arguments {
        match argument.as_plain() {
            Some(text) => plain.push(text.to_owned()),
            None => problems.add(
                argument.place,
                "a variant has no values of stages: give them by `arguments` or `env` of the stage's `run`",
            ),
        }
    }
    (!plain.is_empty()).then_some(plain)
}

/// A variant after all that it includes, each once; `path` is what includes it.
fn line_up<'a>(
    name: &'a str,
    written: &'a BTreeMap<&str, Written>,
    path: &mut Vec<&'a str>,
    line: &mut Vec<&'a str>,
    problems: &mut Problems,
) {
    let Some(own) = written.get(name) else { return };
    path.push(name);
    for (place, included) in &own.includes {
        if let Some(first) = path.iter().position(|before| before == included) {
            let circle = path[first..].iter().copied().chain([included.as_str()]);
            let circle: Vec<String> = circle.map(|name| format!("`{name}`")).collect();
            problems.add(*place, format!("variants include each other in a circle: {}", circle.join(" → ")));
        } else if !written.contains_key(included.as_str()) {
            let names: Vec<&str> = written.keys().copied().collect();
            problems.add(*place, format!("there is no variant `{included}`{}", known(included, &names)));
        } else if !line.contains(&included.as_str()) {
            line_up(included, written, path, line, problems);
        }
    }
    path.pop();
    line.push(name);
}

/// Of several the build lines of all, and of everything else the last that is said.
fn merged<'a>(line: impl Iterator<Item = &'a Written>) -> Variant {
    let mut variant = Variant::empty();
    for Written { includes: _, build, entrypoint, env, time, root, base, user, labels } in line {
        variant.build.extend(build.iter().cloned());
        variant.env.extend(env.clone());
        if let Some(entrypoint) = entrypoint {
            variant.entrypoint.clone_from(entrypoint);
        }
        variant.time = time.unwrap_or(variant.time);
        variant.root = root.clone().or(variant.root);
        variant.base = base.clone().or(variant.base);
        variant.user = user.clone().or(variant.user);
        variant.labels.extend(labels.clone());
    }
    variant
}

impl Variant {
    /// One of which nothing is said.
    fn empty() -> Self {
        Self {
            build: Vec::new(),
            entrypoint: Vec::new(),
            env: BTreeMap::new(),
            time: USUAL_TIME,
            root: None,
            base: None,
            user: None,
            labels: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Variants, Vec<String>> {
        let (mut problems, mut warnings) = (Problems::of("v"), Problems::of("v"));
        let variants = read(text.as_bytes(), &mut problems, &mut warnings);
        let found: Vec<String> = problems.into_found().iter().map(ToString::to_string).collect();
        if found.is_empty() { Ok(variants.unwrap()) } else { Err(found) }
    }

    #[test]
    fn own_lines_come_after_those_of_what_is_included_and_the_nearest_value_wins() {
        let variants = found(
            "variants:
  base: { build: [[make, deps]], env: { A: base, B: 'no' }, entrypoint: [make, run], time: 10m }
  one: { includes: [base], build: [[one]], env: { A: one }, time: 5m }
  two: { includes: [base], build: [[two]] }
  test: { includes: [one, two], build: [[make]], entrypoint: [make, test] }
  empty:
",
        )
        .unwrap();
        let lines = |name: &str| variants[name].build.iter().map(|line| line.join(" ")).collect::<Vec<_>>();
        assert_eq!(lines("test"), ["make deps", "one", "two", "make"]);
        let test = &variants["test"];
        assert_eq!((test.env["A"].as_str(), test.env["B"].as_str()), ("one", "no"));
        assert_eq!((test.entrypoint.join(" "), test.time), ("make test".to_owned(), Duration::from_mins(5)));
        assert_eq!(variants["two"].entrypoint, ["make", "run"]);
        assert_eq!(variants["empty"], Variant::empty());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let mistakes = found(
            "variants:
  a: { includes: [b] }
  b: { includes: [a, tset] }
  test: { build: make, entrypoint: [], env: { 1A: x }, time: soon, apt: image, biuld: [] }
  run: { entrypoint: ['${unit.output}'] }
  image: { root: ../x, base: debian, user: 'a b', labels: [x] }
  more: { base: images.example/debian }
",
        )
        .unwrap_err();
        let expected = [
            "v:2:19: variants include each other in a circle: `b` → `a` → `b`",
            "v:3:19: variants include each other in a circle: `a` → `b` → `a`",
            "v:3:22: there is no variant `tset`; did you mean `test`?; there are `a`, `b`, `image`, `more`, `run`, `test`",
            "v:4:18: `build` is a list, not a text",
            "v:4:36: `entrypoint` is empty: it has at least the program",
            "v:4:47: a variable cannot be called `1A`: letters, digits and `_`, no digit first",
            "v:4:62: `time` cannot be `soon`: write a duration as in `90s`, `5m` or `1h30m`",
            "v:4:68: `apt` is not known here: packages are not installed: let the machine that runs the pipeline have them",
            "v:4:80: unknown key `biuld`; did you mean `build`?; known: `includes`, `build`, `entrypoint`, `env`, `time`, `root`, \
             `base`, `user`, `labels`",
            "v:5:23: a variant has no values of stages: give them by `arguments` or `env` of the stage's `run`",
            "v:6:18: `root` cannot be `../x`: it leads out by `..`",
            "v:6:30: invalid reference to an image `debian`: it must be a registry and a path, as in `images.example/acme/web`",
            "v:6:44: `user` cannot be `a b`: write `user` or `user:group`, by names or numbers",
            "v:6:59: `labels` is a map of texts, not a list",
            "v:7:17: `base` names no image of `images.example/debian`: add its digest, as in `images.example/debian@sha256:…`",
        ];
        assert_eq!(mistakes, expected);
        assert_eq!(found("{}").unwrap_err(), ["v:1:1: the file lacks `variants`"]);
        assert_eq!(found("variants: [a]").unwrap_err(), ["v:1:11: `variants` is a map of variants, not a list"]);
    }
}
