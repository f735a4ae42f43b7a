//! The file itself: several pipelines, each with its stages.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    actions::{Action, Publish},
    execution::{Order, order},
    fields::{Fields, number, path, some},
    problem::{Place, Problems, known},
    stage::{Stage, Unclear, stage},
    template::{Template, check_name},
    yaml::{self, Key, Node, Value},
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
    /// The file of its variants, below `.pipeline/`; empty if a mistake hides which one that is.
    pub variants: String,
    /// Its stages, in the order of the file.
    pub stages: Vec<Stage>,
    /// Which of them follow which.
    #[serde(rename = "after")]
    pub order: Order,
}

const KEYS: [&str; 2] = ["concurrency", "pipelines"];
const PIPELINE_KEYS: [&str; 5] = ["directory", "variants", "blubberfile", "execution", "stages"];

/// What a mistake hides of a pipeline.
pub(crate) struct Hidden {
    /// Whether its order is what the file says.
    pub(crate) is_ordered: bool,
    /// Of each of its stages.
    pub(crate) unclear: Vec<Unclear>,
}

/// What a file says, as far as it can be read, and what mistakes hide of each pipeline.
pub(crate) fn read(content: &[u8], problems: &mut Problems) -> Option<(Pipelines, Vec<Hidden>)> {
    let node = yaml::read(content, problems)?;
    let mut fields = Fields::of(&node, "the file", problems);
    let concurrency = fields.take("concurrency");
    let concurrency = concurrency.and_then(|node| number(node, "`concurrency`", (1, MAX_CONCURRENCY), problems));
    let pipelines = fields.take("pipelines");
    let place = fields.place();
    fields.end(&KEYS, &[], problems);
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
    let (pipelines, hidden) = entries.iter().map(|(key, node)| pipeline(key, node, problems)).unzip();
    Some((Pipelines { concurrency, pipelines }, hidden))
}

/// A pipeline, and what mistakes hide of it.
fn pipeline(key: &Key, node: &Node, problems: &mut Problems) -> (Pipeline, Hidden) {
    let Key { place, name } = key;
    let is_name = check_name(name).map_err(|reason| {
        problems.add(*place, format!("a pipeline cannot be called `{}`: {reason}", console::cut(name, 80)));
    });
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
    fields.end(&PIPELINE_KEYS, &[], problems);
    let (stages, unclear): (Vec<Stage>, Vec<Unclear>) = match listed {
        Some(listed) => some(listed, "`stages`", problems).iter().map(|node| stage(node, problems)).unzip(),
        None => usual(name, *place).into_iter().map(|stage| (stage, Unclear::new())).unzip(),
    };
    let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
    // One without a name was reported already.
    for stage in stages.iter().filter(|stage| !stage.name.is_empty()) {
        if let Some(first) = seen.get(stage.name.as_str()) {
            let text = format!("there are two stages `{}`, the first in line {}", stage.name, first.line);
            problems.add(stage.place, text);
        }
        seen.entry(&stage.name).or_insert(stage.place);
    }
    let found = order(execution, &stages, problems);
    let hidden = Hidden { is_ordered: found.is_some(), unclear };
    let usual_variants = is_name.ok().map(|()| format!("{name}/variants.yaml"));
    let pipeline = Pipeline {
        place: *place,
        name: name.clone(),
        directory: directory.flatten().unwrap_or_else(|| ".".to_owned()),
        variants: variants.unwrap_or(usual_variants).unwrap_or_default(),
        order: found.unwrap_or_else(|| Order::chain(stages.len())),
        stages,
    };
    (pipeline, hidden)
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
            format!("there is no pipeline `{}`{}", console::cut(name, 80), known(name, &names))
        })
    }
}
