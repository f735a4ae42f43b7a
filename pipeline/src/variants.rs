//! The variants of a pipeline: how something is built, and how what was built is run.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    actions::variables,
    fields::{Fields, duration, list, name, text},
    problem::{Place, Problems, hint},
    yaml::{self, Node, Value},
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
}

const KEYS: [&str; 5] = ["includes", "build", "entrypoint", "env", "time"];

/// Keys that others have, and what to use here.
const ELSEWHERE: [(&str, &str); 5] = [
    ("base", "images are not built: commands run on the machine that runs the pipeline"),
    ("apt", "packages are not installed: let the machine that runs the pipeline have them"),
    ("builders", "`build` is a list of commands"),
    ("copies", "`copy` of a stage takes files of another one"),
    ("runs", "`env` has variables, and `entrypoint` the command"),
];

/// The variants of a file; `None`, with the reasons among the problems, if they can't be used.
pub(crate) fn read(content: &[u8], problems: &mut Problems) -> Option<Variants> {
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
        written.insert(key.name.as_str(), variant(node, problems));
    }
    let mut resolved = Variants::new();
    for (key, _) in entries {
        let mut line = Vec::new();
        line_up(&key.name, &written, &mut Vec::new(), &mut line, problems);
        resolved.insert(key.name.clone(), merged(line.iter().filter_map(|name| written.get(name))));
    }
    Some(resolved)
}

fn variant(node: &Node, problems: &mut Problems) -> Written {
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
    fields.end(&KEYS, &ELSEWHERE, problems);
    written
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
            problems.add(*place, format!("there is no variant `{included}`{}", hint(included, &names)));
        } else if !line.contains(&included.as_str()) {
            line_up(included, written, path, line, problems);
        }
    }
    path.pop();
    line.push(name);
}

/// Of several the build lines of all, and of everything else the last that is said.
fn merged<'a>(line: impl Iterator<Item = &'a Written>) -> Variant {
    let mut variant = Variant { build: Vec::new(), entrypoint: Vec::new(), env: BTreeMap::new(), time: USUAL_TIME };
    for Written { includes: _, build, entrypoint, env, time } in line {
        variant.build.extend(build.iter().cloned());
        variant.env.extend(env.clone());
        if let Some(entrypoint) = entrypoint {
            variant.entrypoint.clone_from(entrypoint);
        }
        variant.time = time.unwrap_or(variant.time);
    }
    variant
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Variants, Vec<String>> {
        let mut problems = Problems::of("v");
        let variants = read(text.as_bytes(), &mut problems);
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
        let nothing = Variant { build: vec![], entrypoint: vec![], env: BTreeMap::new(), time: USUAL_TIME };
        assert_eq!(variants["empty"], nothing);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let mistakes = found(
            "variants:
  a: { includes: [b] }
  b: { includes: [a, tset] }
  test: { build: make, entrypoint: [], env: { 1A: x }, time: soon, base: image, biuld: [] }
  run: { entrypoint: ['${unit.output}'] }
",
        )
        .unwrap_err();
        let expected = [
            "v:2:19: variants include each other in a circle: `b` → `a` → `b`",
            "v:3:19: variants include each other in a circle: `a` → `b` → `a`",
            "v:3:22: there is no variant `tset`; did you mean `test`?",
            "v:4:18: `build` is a list, not a text",
            "v:4:36: `entrypoint` is empty: it has at least the program",
            "v:4:47: a variable cannot be called `1A`: letters, digits and `_`, no digit first",
            "v:4:62: `time` cannot be `soon`: write a duration as in `90s`, `5m` or `1h30m`",
            "v:4:68: `base` is not known here: images are not built: commands run on the machine that runs the pipeline",
            "v:4:81: unknown key `biuld`; did you mean `build`?; known: `includes`, `build`, `entrypoint`, `env`, `time`",
            "v:5:23: a variant has no values of stages: give them by `arguments` or `env` of the stage's `run`",
        ];
        assert_eq!(mistakes, expected);
        assert_eq!(found("{}").unwrap_err(), ["v:1:1: the file lacks `variants`"]);
        assert_eq!(found("variants: [a]").unwrap_err(), ["v:1:11: `variants` is a map of variants, not a list"]);
    }
}
