//! Everything that can be said against a file before anything runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use serde::Serialize;

use crate::{
    actions::{Action, Copy, Export},
    config::{self, Hidden, Pipeline, Pipelines},
    image,
    problem::{Place, Problem, Problems, hint, known, listed},
    stage::{SETUP, SETUP_VALUES, Stage},
    template::Template,
    trial::{self, Tried},
    variants::{self, Variants},
};

/// Below the root of the repository: where the files are.
const DIRECTORY: &str = ".pipeline";
/// Below the root of the repository: the file itself.
pub const FILE: &str = ".pipeline/config.yaml";

/// What a path of the repository leads to, links followed. With `*` in it, it stands for all that it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// A directory of the repository.
    Directory,
    /// Something else there, or nothing yet.
    Elsewhere,
    /// Out of the repository.
    Out,
}

/// What has to be known to check a file.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// What the project is called, if that is known: images are called like it.
    pub project: Option<&'a str>,
    /// The packages of `release.toml`.
    pub packages: &'a [&'a str],
    /// The pipelines that are to run; all of them without any. Only they need to be allowed what they do.
    pub chosen: &'a [String],
    /// The actions that are allowed, of [`Action::ALL`].
    pub allowed: &'a [&'a str],
    /// Whether a channel may only be moved to what was tried on a server.
    pub require_trial: bool,
    /// What a path of the repository leads to, or why that can't be told, as the end of a sentence about it.
    pub leads: &'a dyn Fn(&str) -> Result<Leads, String>,
    /// What else speaks against an action that is allowed, each with its place.
    pub refused: &'a dyn Fn(&Action) -> Vec<(Place, String)>,
}

impl fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { project, packages, chosen, allowed, require_trial, leads: _, refused: _ } = self;
        let mut shown = f.debug_struct("Known");
        shown.field("project", project).field("packages", packages).field("chosen", chosen);
        shown.field("allowed", allowed).field("require_trial", require_trial);
        shown.finish_non_exhaustive()
    }
}

/// A file that nothing can be said against.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// What it says.
    #[serde(flatten)]
    pub pipelines: Pipelines,
    /// The variants of each pipeline that builds something, by the pipeline.
    pub variants: BTreeMap<String, Variants>,
    /// What is doubtful.
    #[serde(skip)]
    pub warnings: Vec<Problem>,
}

/// Reads `.pipeline/config.yaml`, and by `file` those of its variants: the content of a file below the root of the repository, or
/// why it can't be read, as the end of a sentence about it.
///
/// # Errors
/// All that is wrong, in the order of the files.
pub fn read(
    config: &[u8],
    known: &Known,
    mut file: impl FnMut(&str) -> Result<Vec<u8>, String>,
) -> Result<Checked, Vec<Problem>> {
    let mut problems = Problems::of(FILE);
    let Some((pipelines, hidden)) = config::read(config, &mut problems) else { return Err(problems.into_found()) };
    let (mut warnings, mut others, mut doubtful) = (Problems::of(FILE), Vec::new(), Vec::new());
    let mut files: BTreeMap<&str, Option<Read>> = BTreeMap::new();
    let mut of_pipelines = BTreeMap::new();
    for (pipeline, hidden) in pipelines.pipelines.iter().zip(&hidden) {
        let builds = pipeline.stages.iter().any(|stage| stage.variant().is_some());
        let of_it = if builds && !pipeline.variants.is_empty() {
            let read = files.entry(&pipeline.variants).or_insert_with(|| {
                let path = format!("{DIRECTORY}/{}", pipeline.variants);
                match file(&path) {
                    Ok(content) => {
                        let (mut problems, mut doubts) = (Problems::of(path.clone()), Problems::of(path));
                        let variants = variants::read(&content, &mut problems, &mut doubts);
                        doubtful.extend(doubts.into_found());
                        let mistakes = problems.into_found();
                        let is_right = mistakes.is_empty();
                        others.extend(mistakes);
                        variants.map(|variants| Read { variants, is_right })
                    }
                    Err(reason) => {
                        let text =
                            format!("`{path}`, which says how the variants of `{}` are built, {reason}", pipeline.name);
                        problems.add(pipeline.place, text);
                        None
                    }
                }
            });
            read.as_ref()
        } else {
            None
        };
        Checking { pipeline, known, hidden }.check(of_it, &mut problems, &mut warnings);
        of_pipelines.extend(of_it.map(|read| (pipeline.name.clone(), read.variants.clone())));
    }
    image::check_twice(&pipelines.pipelines, known.project, &mut problems);
    let mut found = problems.into_found();
    found.extend(others);
    if found.is_empty() {
        let warnings = warnings.into_found().into_iter().chain(doubtful).collect();
        Ok(Checked { pipelines, variants: of_pipelines, warnings })
    } else {
        Err(found)
    }
}

/// A file of variants.
struct Read {
    variants: Variants,
    /// Whether nothing is wrong with it: else only their names are sure.
    is_right: bool,
}

/// A pipeline that is checked. What isn't seen of it since a mistake hides it is not said to be missing.
struct Checking<'a> {
    pipeline: &'a Pipeline,
    known: &'a Known<'a>,
    hidden: &'a Hidden,
}

impl Checking<'_> {
    fn check(&self, read: Option<&Read>, problems: &mut Problems, warnings: &mut Problems) {
        let Pipeline { name, directory, .. } = self.pipeline;
        if Path::new(directory) != Path::new(".") {
            let reason = match (self.known.leads)(directory) {
                Ok(Leads::Directory) => None,
                Ok(Leads::Elsewhere) => Some("is no directory of the repository".to_owned()),
                Ok(Leads::Out) => Some("is a link that leads out of the repository".to_owned()),
                Err(reason) => Some(reason),
            };
            let directory = console::cut(directory, 80);
            let text = |reason| format!("the directory `{directory}` of the pipeline `{name}` {reason}");
            if let Some(reason) = reason {
                problems.add(self.pipeline.place, text(reason));
            }
        }
        for (nth, stage) in self.pipeline.stages.iter().enumerate() {
            if let Some(read) = read {
                check_variant(stage, read, problems);
            }
            for image in stage.images() {
                image::check_called(image, self.known.project, problems);
                if !self.is_unclear(nth, &["build"]) {
                    let variants = read.filter(|read| read.is_right).map(|read| &read.variants);
                    image::check_made(image, stage, variants, problems);
                }
            }
            let mut given = BTreeSet::new();
            for action in &stage.actions {
                self.check_action(nth, action, problems);
                for template in action.templates() {
                    for (of, name) in template.values() {
                        if let Err(text) = self.check_value((nth, action), of, name) {
                            problems.add(template.place, text);
                        }
                    }
                }
                if let Action::Exports(exports) = action {
                    // That what an action gives is given by its name, too, says nothing new.
                    let is_itself = |export: &Export| {
                        let itself = Template::of_value(None, &export.name, export.value.place);
                        export.value == itself
                    };
                    let twice = |export: &&Export| given.contains(export.name.as_str()) && !is_itself(export);
                    for export in exports.iter().filter(twice) {
                        problems.add(
                            export.place,
                            format!("`{}` is given already, by an action of this stage", export.name),
                        );
                    }
                }
                given.extend(action.gives());
            }
            if self.hidden.is_ordered {
                self.check_release(nth, problems, warnings);
            }
        }
    }

    /// Whether a stage may have one of these actions, and a mistake hides it.
    fn is_unclear(&self, nth: usize, actions: &[&str]) -> bool {
        self.hidden.unclear[nth].iter().any(|unclear| actions.contains(unclear))
    }

    fn check_action(&self, nth: usize, action: &Action, problems: &mut Problems) {
        let stage = &self.pipeline.stages[nth];
        if self.is_chosen() {
            self.check_allowed(action, stage, problems);
        }
        let check_app = |app: &str, place: Place, problems: &mut Problems| {
            if !self.known.packages.contains(&app) {
                let known = known(app, self.known.packages);
                problems.add(place, format!("release.toml has no package `{}`{known}", console::cut(app, 80)));
            }
        };
        match action {
            Action::Publish(publish) => check_app(&publish.package, publish.place, problems),
            Action::Channel(moves) => {
                for one in moves {
                    check_app(&one.app, one.place, problems);
                }
            }
            Action::Copy(copies) => {
                for copy in copies {
                    self.check_paths(copy, problems);
                }
                for copy in copies.iter().filter(|copy| copy.from != stage.name) {
                    if let Err(text) = self.check_follows(nth, &copy.from, "files of") {
                        problems.add(copy.place, text);
                    }
                }
            }
            Action::Run(run) if stage.variant().is_none() && !self.is_unclear(nth, &["build"]) => {
                let text = format!("`run` in `{}` has nothing to run: `build` says of which variant", stage.name);
                problems.add(run.place, text);
            }
            Action::Build(_) | Action::Run(_) | Action::Image(_) | Action::Deploy(_) | Action::Exports(_) => {}
        }
    }

    /// Whether what an entry of `copy` names lies in the repository, as far as it is there before anything runs.
    fn check_paths(&self, copy: &Copy, problems: &mut Problems) {
        let destination = (copy.destination != copy.source).then_some(("destination", &copy.destination));
        for (key, path) in [("source", &copy.source)].into_iter().chain(destination) {
            let whole = Path::new(&self.pipeline.directory).join(path);
            let reason = match (self.known.leads)(&whole.to_string_lossy()) {
                Ok(Leads::Directory | Leads::Elsewhere) => continue,
                Ok(Leads::Out) => "it is a link that leads out of the repository".to_owned(),
                Err(reason) => format!("it {reason}"),
            };
            problems.add(copy.place, format!("`{key}` cannot be `{}`: {reason}", console::cut(path, 80)));
        }
    }

    fn is_chosen(&self) -> bool {
        self.known.chosen.is_empty() || self.known.chosen.contains(&self.pipeline.name)
    }

    /// Whether an action is one that may be.
    fn check_allowed(&self, action: &Action, stage: &Stage, problems: &mut Problems) {
        if self.known.allowed.contains(&action.key()) {
            for (place, text) in (self.known.refused)(action) {
                problems.add(place, text);
            }
            return;
        }
        let text = format!(
            "`{}` in `{}` is not allowed here: {} are",
            action.key(),
            stage.name,
            console::quoted(self.known.allowed)
        );
        problems.add(place(action, stage), text);
    }

    /// Whether a value can be read where it is written.
    fn check_value(&self, (nth, action): (usize, &Action), of: Option<&str>, name: &str) -> Result<(), String> {
        let stage = &self.pipeline.stages[nth];
        let unknown = |of: &str, at: Option<usize>, known: &[&str]| {
            if at.is_some_and(|at| !self.hidden.unclear[at].is_empty()) {
                return Ok(());
            }
            let given = if known.is_empty() { "nothing".to_owned() } else { listed(known) };
            Err(format!("`{of}` gives no `{name}`{}; it gives {given}", hint(name, known)))
        };
        match of {
            Some(SETUP) if SETUP_VALUES.contains(&name) => Ok(()),
            Some(SETUP) => unknown(SETUP, None, &SETUP_VALUES),
            Some(of) if of != stage.name => {
                let at = self.check_follows(nth, of, &format!("`{of}.{name}`"))?;
                let given: Vec<&str> = self.pipeline.stages[at].gives().map(|(given, _)| given).collect();
                if given.contains(&name) { Ok(()) } else { unknown(of, Some(at), &given) }
            }
            _ => {
                let given: Vec<(&str, usize)> = stage.gives().collect();
                match given.iter().find(|(given, _)| *given == name) {
                    Some((_, by)) if *by < action.nth() => Ok(()),
                    Some((_, by)) => {
                        let (key, by) = (action.key(), Action::ALL[*by]);
                        Err(format!(
                            "cannot read `.{name}` in `{key}` of `{}`: `{by}` does not come before it",
                            stage.name
                        ))
                    }
                    None => {
                        let before = given.iter().filter(|(_, by)| *by < action.nth()).map(|(given, _)| *given);
                        unknown(&stage.name, Some(nth), &before.collect::<Vec<_>>())
                    }
                }
            }
        }
    }

    /// Whether a stage follows another one, which it takes something from: the place of that.
    fn check_follows(&self, nth: usize, of: &str, what: &str) -> Result<usize, String> {
        let (stages, stage) = (&self.pipeline.stages, &self.pipeline.stages[nth].name);
        let Some(at) = stages.iter().position(|stage| stage.name == of) else {
            let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
            return Err(format!("there is no stage `{}`{}", console::cut(of, 80), known(of, &names)));
        };
        if self.hidden.is_ordered && !self.pipeline.order.before(nth).contains(&at) {
            let what = if what.starts_with('`') { what.to_owned() } else { format!("{what} `{of}`") };
            return Err(format!("cannot read {what} in `{stage}`: `{stage}` does not follow `{of}`"));
        }
        Ok(at)
    }

    /// Whether what is released was tested, and what a channel is moved to was tried.
    fn check_release(&self, nth: usize, problems: &mut Problems, warnings: &mut Problems) {
        let stages = &self.pipeline.stages;
        let with_own = |nth: usize| {
            let mut found = self.pipeline.order.before(nth);
            found.insert(nth);
            found
        };
        let before = with_own(nth);
        let runs = |action: &Action| matches!(action, Action::Run(_));
        let is_tested = before.iter().any(|at| stages[*at].actions.iter().any(runs));
        let untested = "is released and nothing before it runs anything: let a test come first";
        for action in &stages[nth].actions {
            match action {
                Action::Publish(publish) if !is_tested => {
                    warnings.add(publish.place, format!("`{}` {untested}", publish.package));
                }
                Action::Image(image) if !is_tested => warnings.add(image.place, format!("an image {untested}")),
                Action::Channel(moves) => {
                    // Of an app that there isn't it is said what there is.
                    for one in moves.iter().filter(|one| self.known.packages.contains(&one.app.as_str())) {
                        let publishes = |at: &usize| {
                            let of_it =
                                |action: &Action| matches!(action, Action::Publish(made) if made.package == one.app);
                            stages[*at].actions.iter().any(of_it)
                        };
                        let tries = |at: &usize| {
                            let tries_it = |action: &Action| match action {
                                Action::Deploy(deploy) => match trial::tried(self.pipeline, *at, &deploy.release) {
                                    Tried::App(app) => app == one.app,
                                    Tried::Other => false,
                                    Tried::Unknown => with_own(*at).iter().any(publishes),
                                },
                                _ => false,
                            };
                            stages[*at].actions.iter().any(tries_it)
                        };
                        let is_hidden = |actions: &[&str]| before.iter().any(|at| self.is_unclear(*at, actions));
                        if !before.iter().any(publishes) {
                            if is_hidden(&["publish"]) {
                                continue;
                            }
                            let text = format!(
                                "the channel `{}` of `{}` is moved to nothing: let a `publish` of `{}` come first",
                                one.channel, one.app, one.app
                            );
                            problems.add(one.place, text);
                        } else if !before.iter().any(tries) && !is_hidden(&["publish", "deploy", "exports"]) {
                            let text = format!(
                                "the channel `{}` of `{}` is moved to what was tried on no server: let a `deploy` of what is \
                                 published of `{}` come first",
                                one.channel, one.app, one.app
                            );
                            let found = if self.known.require_trial { &mut *problems } else { &mut *warnings };
                            found.add(one.place, text);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Where an action is written, as near as that is known.
fn place(action: &Action, stage: &Stage) -> Place {
    match action {
        Action::Build(build) => build.place,
        Action::Run(run) => run.place,
        Action::Copy(copies) => copies.first().map_or(stage.place, |copy| copy.place),
        Action::Publish(publish) => publish.place,
        Action::Image(image) => image.place,
        Action::Deploy(deploy) => deploy.place,
        Action::Channel(moves) => moves.first().map_or(stage.place, |one| one.place),
        Action::Exports(exports) => exports.first().map_or(stage.place, |export| export.place),
    }
}

fn check_variant(stage: &Stage, Read { variants, is_right }: &Read, problems: &mut Problems) {
    let Some(build) = stage.variant() else { return };
    let Some(variant) = variants.get(&build.variant) else {
        let names: Vec<&str> = variants.keys().map(String::as_str).collect();
        let text = format!("there is no variant `{}`{}", build.variant, known(&build.variant, &names));
        problems.add(build.place, text);
        return;
    };
    let runs = stage.actions.iter().find_map(|action| if let Action::Run(run) = action { Some(run) } else { None });
    if let Some(run) = runs.filter(|_| *is_right && variant.entrypoint.is_empty()) {
        problems.add(run.place, format!("the variant `{}` has no `entrypoint` to run", build.variant));
    }
}
