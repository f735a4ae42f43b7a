//! A stage of a pipeline: a name, and what it does.

use serde::Serialize;

use crate::{
    actions::{Action, Build, ChannelMove, Run, USUAL_CHANNEL, build, channels, copies, deploy, exports, publish, run},
    fields::{Fields, name, truth},
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

/// Keys that others have, and what to use here.
const ELSEWHERE: [(&str, &str); 7] = [
    ("promote", "`channel: [{ app: APP, channel: prod }]` moves a channel to the release"),
    ("image", "`publish: { image: true }` makes an image of the `root` of the variant that the stage builds"),
    ("trigger", "whatever CI there is calls `release run PIPELINE`"),
    ("chart", "there are no charts: `deploy: { server: NAME }` tries a release on a server"),
    ("imagePullPolicy", "there are no images to pull"),
    ("credentials", "`[pipeline] pass` in release.toml names the variables that stages may see"),
    (
        "notify",
        "the exit status, `--json` and `--junit` tell what became of a run, and whatever CI there is tells people",
    ),
];

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

/// A name alone, or a map.
pub(crate) fn stage(node: &Node, problems: &mut Problems) -> Option<Stage> {
    let place = node.place;
    if let Value::Text(_) = node.value {
        return Some(Stage::of_variant(&stage_name(node, problems)?, place));
    }
    let mut fields = Fields::of(node, "a stage", problems);
    let named = fields.take("name").map(|node| stage_name(node, problems));
    if named.is_none() && matches!(node.value, Value::Map(_)) {
        problems.add(place, "a stage lacks `name`");
    }
    // What else is wrong with it is said all the same.
    let own = named.clone().flatten().unwrap_or_default();
    let mut actions: Vec<Action> = Vec::new();

    let (building, variant) = (fields.take("build"), fields.take("variant"));
    if let Some(node) = building {
        actions.extend(build(node, problems).map(Action::Build));
    }
    if let Some(node) = fields.take("run") {
        actions.extend(run(node, problems).map(Action::Run));
    }
    if let Some(node) = variant {
        if building.is_some() {
            problems.add(node.place, "`variant` is another spelling of `build` and `run: true`: leave one of them out");
        } else if let Some(variant) = name(node, "a variant", problems) {
            actions.insert(0, built(node.place, &variant));
            if !actions.iter().any(|action| matches!(action, Action::Run(_))) {
                actions.push(running(node.place));
            }
        }
    }
    let mut copied = fields.take("copy").map(|node| copies(node, &own, problems)).unwrap_or_default();
    let published = fields.take("publish").map(|node| publish(node, &own, problems)).unwrap_or_default();
    copied.extend(published.files);
    let package = published.package.as_ref().map(|publish| publish.package.clone());
    if !copied.is_empty() {
        actions.push(Action::Copy(copied));
    }
    actions.extend(published.package.map(Action::Publish));
    actions.extend(published.image.map(Action::Image));

    let (trial, older) = (fields.take("deploy"), fields.take("testDeploy"));
    let mut moves = Vec::new();
    if let (Some(Node { value: Value::Map(_), .. }), Some(older)) = (trial, older) {
        problems.add(older.place, "`testDeploy` is another spelling of `deploy`: leave one of them out");
    }
    match trial {
        Some(node) if matches!(node.value, Value::Text(_)) => {
            if truth(node, "`deploy`", problems) == Some(true) {
                match package {
                    Some(app) => moves.push(ChannelMove { place: node.place, app, channel: USUAL_CHANNEL.to_owned() }),
                    None => problems.add(
                        node.place,
                        "`deploy: true` moves the channel `prod` to what the stage publishes, and this one publishes no package",
                    ),
                }
            }
            actions.extend(older.and_then(|node| deploy(node, problems)).map(Action::Deploy));
        }
        trial => actions.extend(trial.or(older).and_then(|node| deploy(node, problems)).map(Action::Deploy)),
    }
    if let Some(node) = fields.take("channel") {
        moves.extend(channels(node, problems));
    }
    if !moves.is_empty() {
        actions.push(Action::Channel(moves));
    }
    if let Some(node) = fields.take("exports") {
        actions.push(Action::Exports(exports(node, problems)));
    }
    fields.end(&KEYS, &ELSEWHERE, problems);
    let name = named.flatten()?;
    let says_nothing = matches!(&node.value, Value::Map(entries) if entries.len() == 1);
    if says_nothing {
        return Some(Stage::of_variant(&name, place));
    }
    Some(Stage { place, name, actions })
}

fn stage_name(node: &Node, problems: &mut Problems) -> Option<String> {
    let name = name(node, "a stage", problems)?;
    if HIDDEN.contains(&name.as_str()) {
        problems.add(node.place, format!("a stage cannot be called `{name}`: that one is always there"));
        return None;
    }
    Some(name)
}
