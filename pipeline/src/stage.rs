//! A stage of a pipeline: a name, and what it does.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    actions::{
        Action, Build, ChannelMove, Deploy, Published, Run, USUAL_CHANNEL, build, channels, copies, deploy, exports,
        publish, run,
    },
    fields::{Fields, name, wanted},
    image::Image,
    problem::{Place, Problems},
    yaml::{Node, Value},
};

/// What the hidden first stage gives.
pub const SETUP_VALUES: [&str; 10] =
    ["pipeline", "stage", "project", "commit", "branch", "tag", "remote", "note", "timestamp", "change"];

/// The stages that are always there, and can't be named by a file.
pub(crate) const HIDDEN: [&str; 2] = [SETUP, "teardown"];
/// The one before all.
pub(crate) const SETUP: &str = "setup";

/// A stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// Its name.
    pub name: String,
    /// What it does, in this order; none twice.
    pub actions: Vec<Action>,
}

/// The keys of a stage, the older spellings last.
const KEYS: [&str; 10] =
    ["name", "build", "run", "copy", "publish", "deploy", "channel", "exports", "variant", "testDeploy"];

impl Stage {
    /// Builds and runs the variant of this name.
    pub(crate) fn of_variant(stage: &str, place: Place) -> Self {
        let actions = vec![built(place, stage), running(place)];
        Self { place, name: stage.to_owned(), actions }
    }

    /// The values that it gives, each with the place in the order of the action that does.
    pub fn gives(&self) -> impl Iterator<Item = (&str, usize)> {
        self.actions.iter().flat_map(|action| action.gives().into_iter().map(|value| (value, action.nth())))
    }

    /// The images that it publishes: at most one.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Image> {
        self.actions.iter().filter_map(|action| if let Action::Image(image) = action { Some(image) } else { None })
    }

    /// The variant that it builds.
    pub fn variant(&self) -> Option<&Build> {
        self.actions.iter().find_map(|action| if let Action::Build(build) = action { Some(build) } else { None })
    }
}

fn built(place: Place, variant: &str) -> Action {
    Action::Build(Build { place, variant: variant.to_owned() })
}

fn running(place: Place) -> Action {
    Action::Run(Run { place, arguments: Vec::new(), env: <_>::default(), tail: 0 })
}

/// The actions of a stage of which a mistake hides what they are: what isn't seen of them may be there.
pub(crate) type Unclear = BTreeSet<&'static str>;

/// Reads the actions of a stage.
struct Reading<'a> {
    problems: &'a mut Problems,
    unclear: Unclear,
}

impl Reading<'_> {
    /// What is read of an action, which is unclear if there is a mistake in it.
    fn action<T>(&mut self, action: &'static str, read: impl FnOnce(&mut Problems) -> T) -> T {
        let before = self.problems.count();
        let found = read(self.problems);
        if self.problems.count() > before {
            self.unclear.insert(action);
        }
        found
    }
}

/// A name alone, or a map. What is wrong with it is among the problems, and what can be read of it is there all the same.
pub(crate) fn stage(node: &Node, problems: &mut Problems) -> (Stage, Unclear) {
    let place = node.place;
    if let Value::Text(_) = node.value {
        return (Stage::of_variant(&stage_name(node, problems), place), Unclear::new());
    }
    let mut fields = Fields::of(node, "a stage", problems);
    let named = fields.take("name");
    if node.value == Value::Nothing {
        problems.add(place, "a stage is a name or a map of keys, not nothing");
    } else if named.is_none() && matches!(node.value, Value::Map(_)) {
        problems.add(place, "a stage lacks `name`");
    }
    let name = named.map(|node| stage_name(node, problems)).unwrap_or_default();
    let mut reading = Reading { problems, unclear: Unclear::new() };
    let mut actions = built_and_run(&mut fields, &mut reading);

    let mut copied = fields.take("copy").map(|node| reading.action("copy", |problems| copies(node, &name, problems)));
    let published = fields.take("publish").map(|node| reading.action("publish", |found| publish(node, &name, found)));
    let Published { package, image, files } = published.unwrap_or_default();
    if !files.is_empty() {
        copied.get_or_insert_default().extend(files);
    }
    actions.extend(copied.filter(|copied| !copied.is_empty()).map(Action::Copy));
    let app = package.as_ref().map(|publish| publish.package.clone());
    actions.extend(package.map(Action::Publish));
    actions.extend(image.map(Action::Image));

    let (trial, mut moves) = tried_and_moved(&mut fields, app, &mut reading);
    actions.extend(trial.map(Action::Deploy));
    if let Some(node) = fields.take("channel") {
        moves.extend(reading.action("channel", |problems| channels(node, problems)));
    }
    if !moves.is_empty() {
        actions.push(Action::Channel(moves));
    }
    if let Some(node) = fields.take("exports") {
        actions.push(Action::Exports(reading.action("exports", |problems| exports(node, problems))));
    }
    let Reading { problems, mut unclear } = reading;
    let meant = fields.end(&KEYS, &[], problems);
    unclear.extend(meant.into_iter().map(|key| match key {
        "variant" => "build",
        "testDeploy" => "deploy",
        other => other,
    }));
    let says_nothing = matches!(&node.value, Value::Map(entries) if entries.len() == 1) && named.is_some();
    if says_nothing {
        return (Stage::of_variant(&name, place), Unclear::new());
    }
    (Stage { place, name, actions }, unclear)
}

/// `build` and `run`, or `variant`, which means both.
fn built_and_run(fields: &mut Fields, reading: &mut Reading) -> Vec<Action> {
    let (building, ran, variant) = (fields.take("build"), fields.take("run"), fields.take("variant"));
    let mut actions = Vec::new();
    if let Some(node) = building {
        actions.extend(reading.action("build", |problems| build(node, problems)).map(Action::Build));
    }
    if let Some(node) = variant {
        if building.is_some() {
            let text = "`variant` is another spelling of `build` and `run: true`: leave one of them out";
            reading.problems.add(node.place, text);
        } else {
            let named = reading.action("build", |problems| name(node, "a variant", problems));
            actions.extend(named.map(|variant| built(node.place, &variant)));
        }
    }
    match (ran, variant) {
        (Some(node), _) => actions.extend(reading.action("run", |problems| run(node, problems)).map(Action::Run)),
        (None, Some(node)) if building.is_none() => actions.push(running(node.place)),
        _ => {}
    }
    actions
}

/// `deploy`: a trial, as in `testDeploy`, or in the older spelling that the channel is moved to what the stage publishes of `app`.
fn tried_and_moved(
    fields: &mut Fields,
    app: Option<String>,
    reading: &mut Reading,
) -> (Option<Deploy>, Vec<ChannelMove>) {
    let (trial, older) = (fields.take("deploy"), fields.take("testDeploy"));
    let Some(moving) = trial.filter(|node| matches!(node.value, Value::Text(_))) else {
        if let (Some(_), Some(older)) = (trial, older) {
            reading.problems.add(older.place, "`testDeploy` is another spelling of `deploy`: leave one of them out");
        }
        let trial = trial.or(older).and_then(|node| reading.action("deploy", |problems| deploy(node, problems)));
        return (trial, Vec::new());
    };
    let mut moves = Vec::new();
    if wanted(moving, "`deploy`", reading.problems) {
        match app {
            Some(app) => moves.push(ChannelMove { place: moving.place, app, channel: USUAL_CHANNEL.to_owned() }),
            None if reading.unclear.contains("publish") => {}
            None => reading.problems.add(
                moving.place,
                "`deploy: true` moves the channel `prod` to what the stage publishes, and this one publishes no package",
            ),
        }
    }
    (older.and_then(|node| reading.action("deploy", |problems| deploy(node, problems))), moves)
}

/// What a stage is called, also if it cannot be called so.
fn stage_name(node: &Node, problems: &mut Problems) -> String {
    match name(node, "the name of a stage", problems) {
        Some(name) if HIDDEN.contains(&name.as_str()) => {
            problems.add(node.place, format!("a stage cannot be called `{name}`: that one is always there"));
            name
        }
        Some(name) => name,
        None => {
            if let Value::Text(written) = &node.value {
                console::cut(written, 80)
            } else {
                String::new()
            }
        }
    }
}
