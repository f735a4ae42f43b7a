//! What a stage does: its actions, each with all that was left out filled in.

use std::{collections::BTreeMap, time::Duration};

use bucket::ChannelName;
use serde::{Serialize, Serializer};

use crate::{
    fields::{Fields, command, duration, list, name, number, path, some, template, text, truth, wanted},
    image::{self, Image},
    problem::{Place, Problems},
    stage::SETUP,
    template::{Template, check_name},
    yaml::{Node, Value},
};

/// Most lines of what a command said that are kept as a value.
const MAX_TAIL: u32 = 10_000;
/// How long a trial may take unless something else is said.
const USUAL_WAIT: Duration = Duration::from_mins(10);
/// The channel that is meant where none is named.
pub(crate) const USUAL_CHANNEL: &str = "prod";

/// One action of a stage. They run in this order, those that are there.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Runs what the variant says under `build`.
    Build(Build),
    /// Runs the variant's entry point.
    Run(Run),
    /// Takes files of a stage's copy into the own one.
    Copy(Vec<Copy>),
    /// Makes a release of a package.
    Publish(Publish),
    /// Puts an image into a registry.
    Image(Image),
    /// Tries a release on a server.
    Deploy(Deploy),
    /// Moves channels forward.
    Channel(Vec<ChannelMove>),
    /// Gives values to the stages that follow.
    Exports(Vec<Export>),
}

/// `build`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Build {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// The variant.
    pub variant: String,
}

/// `run`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// What follows the arguments of the entry point.
    pub arguments: Vec<Template>,
    /// Variables beside those of the variant.
    pub env: BTreeMap<String, Template>,
    /// How many of the last lines are the value `output`.
    pub tail: u32,
}

/// One entry of `copy`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Copy {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// Files, relative to the other stage's copy, with `*` and `**`.
    pub source: String,
    /// The stage whose copy they are taken from.
    pub from: String,
    /// Where they come to, relative to the own copy.
    pub destination: String,
    /// Whether they go to the bucket.
    pub archive: bool,
}

/// `publish`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Publish {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// The package of `release.toml`.
    pub package: String,
    /// The release note.
    pub note: Template,
}

/// `deploy`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deploy {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// The server.
    pub server: Template,
    /// The release.
    pub release: Template,
    /// The command that says whether it is good; none if it is empty.
    pub test: Vec<Template>,
    /// How long all of it may take.
    #[serde(serialize_with = "shown")]
    pub wait: Duration,
}

/// One entry of `channel`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelMove {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// The app.
    pub app: String,
    /// The channel.
    pub channel: String,
}

/// One entry of `exports`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Export {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// What it is called.
    pub name: String,
    /// What it is.
    pub value: Template,
}

fn shown<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&console::duration::show(*duration))
}

impl Action {
    /// All there are, by their keys, in their order.
    pub const ALL: [&str; 7] = ["build", "run", "copy", "publish", "deploy", "channel", "exports"];

    /// Its key.
    pub fn key(&self) -> &'static str {
        Self::ALL[self.nth()]
    }

    /// Its place in the order.
    pub fn nth(&self) -> usize {
        match self {
            Self::Build(_) => 0,
            Self::Run(_) => 1,
            Self::Copy(_) => 2,
            Self::Publish(_) | Self::Image(_) => 3,
            Self::Deploy(_) => 4,
            Self::Channel(_) => 5,
            Self::Exports(_) => 6,
        }
    }

    /// The values that it gives to what follows.
    pub fn gives(&self) -> Vec<&str> {
        match self {
            Self::Build(_) => vec!["buildDirectory"],
            Self::Run(_) => vec!["output"],
            Self::Copy(_) => vec!["artifacts"],
            Self::Publish(_) => vec!["release"],
            Self::Image(_) => vec!["imageName", "imageTag", "imageDigest"],
            Self::Deploy(_) => vec!["generation"],
            Self::Channel(_) => Vec::new(),
            Self::Exports(exports) => exports.iter().map(|export| export.name.as_str()).collect(),
        }
    }

    /// The texts in it that values are put into.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Build(_) | Self::Copy(_) | Self::Channel(_) => Vec::new(),
            Self::Run(run) => run.arguments.iter().chain(run.env.values()).collect(),
            Self::Publish(publish) => vec![&publish.note],
            Self::Image(image) => image.templates().collect(),
            Self::Deploy(deploy) => [&deploy.server, &deploy.release].into_iter().chain(&deploy.test).collect(),
            Self::Exports(exports) => exports.iter().map(|export| &export.value).collect(),
        }
    }
}

/// `test`, or `{variant: test}`.
pub(crate) fn build(node: &Node, problems: &mut Problems) -> Option<Build> {
    let place = node.place;
    if let Value::Map(_) = node.value {
        let mut fields = Fields::of(node, "`build`", problems);
        let variant = fields.take("variant").map(|variant| name(variant, "a variant", problems));
        let place = fields.place();
        fields.end(&["variant"], &[], problems);
        if variant.is_none() {
            problems.add(place, "`build` lacks `variant`");
        }
        return Some(Build { place, variant: variant.flatten()? });
    }
    Some(Build { place, variant: name(node, "a variant", problems)? })
}

/// `true`, or a map.
pub(crate) fn run(node: &Node, problems: &mut Problems) -> Option<Run> {
    let mut run = Run { place: node.place, arguments: Vec::new(), env: BTreeMap::new(), tail: 0 };
    if let Value::Text(_) = node.value {
        return wanted(node, "`run`", problems).then_some(run);
    }
    let mut fields = Fields::of(node, "`run`", problems);
    if let Some(arguments) = fields.take("arguments") {
        let arguments = list(arguments, "`arguments`", problems);
        run.arguments = arguments.iter().filter_map(|argument| template(argument, "an argument", problems)).collect();
    }
    if let Some(env) = fields.take("env") {
        run.env = variables(env, problems, template);
    }
    if let Some(tail) = fields.take("tail") {
        run.tail = number(tail, "`tail`", (0, MAX_TAIL), problems).unwrap_or_default();
    }
    fields.end(&["arguments", "env", "tail"], &[], problems);
    Some(run)
}

/// Variables of an environment, each value read by `read`.
pub(crate) fn variables<'a, T>(
    node: &'a Node,
    problems: &mut Problems,
    read: impl Fn(&'a Node, &str, &mut Problems) -> Option<T>,
) -> BTreeMap<String, T> {
    let Value::Map(entries) = &node.value else {
        problems.add(node.place, format!("`env` is a map of variables, not {}", node.kind()));
        return BTreeMap::new();
    };
    let mut variables = BTreeMap::new();
    for (key, value) in entries {
        let is_word = key.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_word || key.name.is_empty() || key.name.starts_with(|c: char| c.is_ascii_digit()) {
            let text = console::cut(&key.name, 80);
            problems.add(
                key.place,
                format!("a variable cannot be called `{text}`: letters, digits and `_`, no digit first"),
            );
        } else if let Some(value) = read(value, "the value of a variable", problems) {
            variables.insert(key.name.clone(), value);
        }
    }
    variables
}

/// A list of paths, or of maps.
pub(crate) fn copies(node: &Node, own: &str, problems: &mut Problems) -> Vec<Copy> {
    some(node, "`copy`", problems).iter().filter_map(|node| copy(node, own, problems)).collect()
}

fn copy(node: &Node, own: &str, problems: &mut Problems) -> Option<Copy> {
    if let Value::Text(_) = node.value {
        return file(node, own, false, problems);
    }
    let mut fields = Fields::of(node, "an entry of `copy`", problems);
    let source = fields.take("source").map(|source| path(source, "`source`", problems));
    let from = fields.take("from").map(|from| name(from, "a stage", problems));
    let destination = fields.take("destination").map(|destination| path(destination, "`destination`", problems));
    let archive = fields.take("archive").and_then(|archive| truth(archive, "`archive`", problems)).unwrap_or_default();
    fields.end(&["source", "from", "destination", "archive"], &[], problems);
    if source.is_none() {
        problems.add(node.place, "an entry of `copy` lacks `source`");
    }
    // What can be checked of one with a mistake in it is checked all the same.
    let source = source.flatten().unwrap_or_else(|| ".".to_owned());
    let from = from.flatten().unwrap_or_else(|| own.to_owned());
    let destination = destination.flatten().unwrap_or_else(|| source.clone());
    Some(Copy { place: node.place, source, from, destination, archive })
}

fn file(node: &Node, own: &str, archive: bool, problems: &mut Problems) -> Option<Copy> {
    let source = path(node, "a path", problems)?;
    Some(Copy { place: node.place, destination: source.clone(), source, from: own.to_owned(), archive })
}

/// What a stage publishes.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// A release.
    pub(crate) package: Option<Publish>,
    /// An image.
    pub(crate) image: Option<Image>,
    /// Files for the bucket.
    pub(crate) files: Vec<Copy>,
}

impl Published {
    fn add_package(&mut self, found: Option<Publish>, problems: &mut Problems) {
        if let (Some(_), Some(found)) = (&self.package, &found) {
            problems.add(found.place, "a stage publishes one package: give the other a stage of its own");
        }
        self.package = self.package.take().or(found);
    }

    fn add_image(&mut self, found: Option<Image>, problems: &mut Problems) {
        if let (Some(_), Some(found)) = (&self.image, &found) {
            problems.add(found.place, "a stage publishes one image: give the other a stage of its own");
        }
        self.image = self.image.take().or(found);
    }

    fn add_files(&mut self, node: &Node, own: &str, problems: &mut Problems) {
        let files = some(node, "the list of files", problems);
        self.files.extend(files.iter().filter_map(|node| file(node, own, true, problems)));
    }
}

/// A map, or in the older spelling a list.
pub(crate) fn publish(node: &Node, own: &str, problems: &mut Problems) -> Published {
    let mut published = Published::default();
    if let Value::List(_) = &node.value {
        for node in some(node, "`publish`", problems) {
            let mut fields = Fields::of(node, "an entry of `publish`", problems);
            let kind = fields.take("type").and_then(|kind| text(kind, "`type`", problems));
            let mut known = vec!["type"];
            match kind {
                Some("package") => {
                    published.add_package(package(node, &mut fields, problems), problems);
                    known.extend(["name", "note"]);
                }
                Some("image") => {
                    published.add_image(image::of_fields(node.place, &mut fields, problems), problems);
                    known.extend(image::KEYS);
                }
                Some("files") => {
                    match fields.take("paths") {
                        Some(paths) => published.add_files(paths, own, problems),
                        None => problems.add(node.place, "an entry of type `files` lacks `paths`"),
                    }
                    known.push("paths");
                }
                Some(other) => {
                    let other = console::cut(other, 40);
                    problems.add(node.place, format!("`type` is `package`, `image` or `files`, not `{other}`"));
                    continue;
                }
                None => {
                    problems.add(node.place, "an entry of `publish` lacks `type`: `package`, `image` or `files`");
                    continue;
                }
            }
            fields.end(&known, &image::ELSEWHERE, problems);
        }
        return published;
    }
    let mut fields = Fields::of(node, "`publish`", problems);
    if let Some(node) = fields.take("package") {
        let mut of_package = Fields::of(node, "`package`", problems);
        published.add_package(package(node, &mut of_package, problems), problems);
        of_package.end(&["name", "note"], &[], problems);
    }
    if let Some(node) = fields.take("image") {
        published.add_image(image::image(node, problems), problems);
    }
    if let Some(files) = fields.take("files") {
        published.add_files(files, own, problems);
    }
    let says_nothing = match &node.value {
        Value::Nothing => true,
        Value::Map(entries) => entries.is_empty(),
        _ => false,
    };
    if says_nothing {
        problems.add(
            node.place,
            "`publish` says nothing: `package: { name: APP }` makes a release, `image: true` an image",
        );
    }
    fields.end(&["package", "image", "files"], &[], problems);
    published
}

fn package(written: &Node, fields: &mut Fields, problems: &mut Problems) -> Option<Publish> {
    let place = written.place;
    let note = fields.take("note").and_then(|note| template(note, "`note`", problems));
    let note = note.unwrap_or_else(|| Template::of_value(Some(SETUP), "note", place));
    let Some(package) = fields.take("name") else {
        problems.add(place, "a package lacks `name`: that of a package in release.toml");
        return None;
    };
    Some(Publish { place, package: text(package, "the name of a package", problems)?.to_owned(), note })
}

/// A map; in the older spelling a list of one.
pub(crate) fn deploy(node: &Node, problems: &mut Problems) -> Option<Deploy> {
    if let Value::List(items) = &node.value {
        if let [one] = items.as_slice() {
            return deploy(one, problems);
        }
        problems.add(node.place, "a stage has one trial: give each other one a stage of its own");
        return None;
    }
    let mut fields = Fields::of(node, "`deploy`", problems);
    let place = node.place;
    let server = fields.take("server").map(|server| template(server, "`server`", problems));
    let release = fields.take("release").map(|release| template(release, "`release`", problems));
    // Without arguments it is what it is when nothing is said.
    let test = fields.take("test").filter(|test| test.value != Value::List(Vec::new()));
    let test = test.map(|test| command(test, "`test`", problems)).unwrap_or_default();
    let wait = fields.take("wait").and_then(|wait| duration(wait, "`wait`", problems)).unwrap_or(USUAL_WAIT);
    fields.end(&["server", "release", "test", "wait"], &[], problems);
    if server.is_none() {
        problems.add(place, "`deploy` lacks `server`: on which the release is tried");
    }
    // What can be checked of one with a mistake in it is checked all the same: which it is seems to turn out when it is its turn.
    let later = || Template::of_value(Some(SETUP), "note", place);
    let release = release.map_or_else(|| Template::of_value(None, "release", place), |said| said.unwrap_or_else(later));
    Some(Deploy { place, server: server.flatten().unwrap_or_else(later), release, test, wait })
}

/// A list of maps.
pub(crate) fn channels(node: &Node, problems: &mut Problems) -> Vec<ChannelMove> {
    some(node, "`channel`", problems).iter().filter_map(|node| channel(node, problems)).collect()
}

fn channel(node: &Node, problems: &mut Problems) -> Option<ChannelMove> {
    let mut fields = Fields::of(node, "an entry of `channel`", problems);
    let app = fields.take("app").map(|app| text(app, "`app`", problems).map(str::to_owned));
    let channel = fields.take("channel").map(|channel| {
        let name = text(channel, "`channel`", problems)?;
        match name.parse::<ChannelName>() {
            Ok(name) => Some(name.to_string()),
            Err(error) => {
                problems.add(channel.place, error.to_string());
                None
            }
        }
    });
    fields.end(&["app", "channel"], &[], problems);
    if app.is_none() {
        problems.add(node.place, "an entry of `channel` lacks `app`");
    }
    let channel = channel.unwrap_or_else(|| Some(USUAL_CHANNEL.to_owned()));
    Some(ChannelMove { place: node.place, app: app.flatten()?, channel: channel? })
}

/// A map of names and values.
pub(crate) fn exports(node: &Node, problems: &mut Problems) -> Vec<Export> {
    let Value::Map(entries) = &node.value else {
        problems.add(node.place, format!("`exports` is a map of names and values, not {}", node.kind()));
        return Vec::new();
    };
    if entries.is_empty() {
        problems.add(node.place, "`exports` is empty, which means nothing: leave it out");
    }
    let mut exports = Vec::new();
    for (key, value) in entries {
        // What stands before the last dot is the stage.
        let checked = if key.name.contains('.') { Err("it has a dot".to_owned()) } else { check_name(&key.name) };
        if let Err(reason) = checked {
            let name = console::cut(&key.name, 80);
            problems.add(key.place, format!("a value cannot be called `{name}`: {reason}"));
        } else if let Some(value) = template(value, "a value", problems) {
            exports.push(Export { place: key.place, name: key.name.clone(), value });
        }
    }
    exports
}
