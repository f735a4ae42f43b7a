//! The file itself: several pipelines, each with its stages.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    actions::{Action, Publish},
    execution::{Order, order},
    fields::{Fields, list, number, path},
    problem::{Place, Problems, hint},
    stage::{Stage, stage},
    template::{Template, check_name},
    yaml::{self, Node, Value},
};

/// Most stages at once that a file may ask for.
const MAX_CONCURRENCY: u32 = 1000;

/// What a repository says of its services.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pipelines {
    /// How many stages run at once; `None` leaves that to the machine.
    pub concurrency: Option<u32>,
    /// The pipelines, in the order of the file.
    pub pipelines: Vec<Pipeline>,
}

/// How one service is built, tested, released and tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pipeline {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// Its name.
    pub name: String,
    /// Where its commands run, below the root of the repository.
    pub directory: String,
    /// The file of its variants, below `.pipeline/`.
    pub variants: String,
    /// Its stages, in the order of the file.
    pub stages: Vec<Stage>,
    /// Which of them follow which.
    #[serde(rename = "after")]
    pub order: Order,
}

const KEYS: [&str; 2] = ["concurrency", "pipelines"];
const PIPELINE_KEYS: [&str; 5] = ["directory", "variants", "blubberfile", "execution", "stages"];

/// Keys that others have, and what to use here.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "notify",
        "the exit status, `--json` and `--junit` tell what became of a run, and whatever CI there is tells people",
    ),
    ("fetch_options", "a stage has a copy of the whole commit"),
    ("helmConfig", "there are no charts: `deploy: { server: NAME }` tries a release on a server"),
];

/// What a file says, and which of its pipelines have no order: the mistake in it is among the problems.
pub(crate) fn read(content: &[u8], problems: &mut Problems) -> Option<(Pipelines, BTreeSet<String>)> {
    let node = yaml::read(content, problems)?;
    let mut fields = Fields::of(&node, "the file", problems);
    let concurrency = fields.take("concurrency");
    let concurrency = concurrency.and_then(|node| number(node, "`concurrency`", (1, MAX_CONCURRENCY), problems));
    let pipelines = fields.take("pipelines");
    let place = fields.place();
    fields.end(&KEYS, &ELSEWHERE, problems);
    let Some(pipelines) = pipelines else {
        problems.add(place, "the file lacks `pipelines`");
        return None;
    };
    let Value::Map(entries) = &pipelines.value else {
        problems.add(pipelines.place, format!("`pipelines` is a map of pipelines, not {}", pipelines.kind()));
        return None;
    };
    if entries.is_empty() {
        problems.add(pipelines.place, "`pipelines` is empty");
    }
    let (mut found, mut disordered) = (Vec::new(), BTreeSet::new());
    for (key, node) in entries {
        if let Err(reason) = check_name(&key.name) {
            let name = console::cut(&key.name, 80);
            problems.add(key.place, format!("a pipeline cannot be called `{name}`: {reason}"));
            continue;
        }
        let (pipeline, is_ordered) = pipeline(&key.name, key.place, node, problems);
        if !is_ordered {
            disordered.insert(pipeline.name.clone());
        }
        found.push(pipeline);
    }
    Some((Pipelines { concurrency, pipelines: found }, disordered))
}

/// A pipeline, and whether its order is what the file says.
fn pipeline(name: &str, place: Place, node: &Node, problems: &mut Problems) -> (Pipeline, bool) {
    let mut fields = Fields::of(node, "a pipeline", problems);
    let directory = fields.take("directory").map(|node| path(node, "`directory`", problems));
    let variants = fields.take_key("variants");
    let older = fields.take_key("blubberfile");
    if let (Some(_), Some((key, _))) = (&variants, &older) {
        problems.add(key.place, "`blubberfile` is another name of `variants`: leave one of them out");
    }
    let variants = variants.or(older).map(|(key, node)| path(node, &format!("`{}`", key.name), problems));
    let execution = fields.take("execution");
    let listed = fields.take("stages");
    fields.end(&PIPELINE_KEYS, &ELSEWHERE, problems);
    let before = problems.count();
    let mut stages: Vec<Stage> = match listed {
        Some(listed) => list(listed, "`stages`", problems).iter().filter_map(|node| stage(node, problems)).collect(),
        None => usual(name, place),
    };
    if stages.is_empty() && problems.count() == before {
        problems.add(listed.map_or(place, |listed| listed.place), "`stages` is empty");
    }
    let mut seen: BTreeMap<String, Place> = BTreeMap::new();
    stages.retain(|stage| {
        if let Some(first) = seen.get(&stage.name) {
            let text = format!("there are two stages `{}`, the first in line {}", stage.name, first.line);
            problems.add(stage.place, text);
            return false;
        }
        seen.insert(stage.name.clone(), stage.place);
        true
    });
    // A stage that can't be read is missing: that the order names it says nothing new.
    let is_whole = problems.count() == before;
    let found = if is_whole { order(execution, &stages, problems) } else { None };
    let is_ordered = found.is_some();
    let pipeline = Pipeline {
        place,
        name: name.to_owned(),
        directory: directory.flatten().unwrap_or_else(|| ".".to_owned()),
        variants: variants.flatten().unwrap_or_else(|| format!("{name}/variants.yaml")),
        order: found.unwrap_or_else(|| Order::chain(stages.len())),
        stages,
    };
    (pipeline, is_ordered)
}

/// Without stages of its own a pipeline tests, then releases.
fn usual(name: &str, place: Place) -> Vec<Stage> {
    let build = crate::actions::Build { place, variant: "production".to_owned() };
    let note = Template::of_value(Some(crate::stage::SETUP), "note", place);
    let publish = Publish { place, package: name.to_owned(), note };
    let actions = vec![Action::Build(build), Action::Publish(publish)];
    vec![Stage::of_variant("test", place), Stage { place, name: "production".to_owned(), actions }]
}

impl Pipelines {
    /// A pipeline by its name.
    ///
    /// # Errors
    /// That there is none, with the nearest name.
    pub fn find(&self, name: &str) -> Result<&Pipeline, String> {
        let found = self.pipelines.iter().find(|pipeline| pipeline.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
            let (near, known) = (hint(name, &names), console::quoted(&names));
            format!("there is no pipeline `{}`{near}; there are {known}", console::cut(name, 80))
        })
    }
}
