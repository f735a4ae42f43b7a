//! All that is read and checked before anything runs: the commit, its files, and what was asked for.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use bucket::{ChangeId, PipelineRun, Run, RunId, RunPlace, RunResult, StageResult, StageRun, Timestamp};
use console::{UsageError, count, one_line, warning};
use pipeline::{Action, Checked, Known, Leads, Pipeline, Problem};
use serde_json::Map;
use tokio::sync::OnceCell;

use crate::{
    builder::Builder,
    checkout::make_directory,
    git::Git,
    manifest::{FILE, Manifest, PipelineRules},
    options::{Options, policy},
    pack::parse_note,
    pipelines,
    run::{
        Shared,
        deploy::Tried,
        image::Claimed,
        original::{Original, tell_left_out},
        publish::Published,
        running::blocking,
        target::{self, OfChange},
        work::Work,
    },
    source::Source,
};

/// How long the logs of runs are kept: as long as there are no more newer ones.
const KEPT_LOGS: usize = 20;
/// Where a program is looked for when the environment doesn't say.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What somebody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The pipelines; all of them without any.
    pub(crate) pipelines: Vec<String>,
    /// The release note.
    pub(crate) note: Option<String>,
    /// The actions that are allowed.
    pub(crate) allowed: Vec<&'static str>,
    /// Whether uncommitted changes come with it.
    pub(crate) is_dirty: bool,
    /// The change that it is of.
    pub(crate) change: Option<ChangeId>,
    /// The branch that this is to be merged into, if that is said.
    pub(crate) target: Option<String>,
}

/// A run that can begin.
pub(crate) struct Prepared {
    /// What its stages share.
    pub(crate) shared: Shared,
    /// What is recorded of it.
    pub(crate) run: Run,
    /// Where it works.
    pub(crate) work: Work,
}

/// Reads and checks all of it, and makes the directory of the run.
pub(crate) async fn prepare(options: &Options, asked: Asked) -> Result<Prepared> {
    let options = options.clone();
    let directory = options.directory()?;
    let (directory, source) = blocking(move || Source::of(&directory).map(|source| (directory, source))).await?;
    let rules = target::rules((&source, &directory), asked.change.clone(), asked.target.clone()).await?;
    blocking(move || prepared(options, &asked, (source, directory), rules)).await
}

fn prepared(
    options: Options,
    asked: &Asked,
    (source, directory): (Source, PathBuf),
    rules: Option<target::Rules>,
) -> Result<Prepared> {
    let out = make_directory(&options.out(&directory), &source)?;
    let mut changes = source.changes()?;
    // What was built and said before is no change.
    changes.retain(|change| !source.top.join(change).starts_with(&out));
    let asked = &Asked { is_dirty: asked.is_dirty && !changes.is_empty(), ..asked.clone() };
    let work = Work::begin(&out.join("runs"))?;
    let mut original = Original::of(&directory, &source)?;
    if asked.is_dirty {
        original = original.with_uncommitted(&out, &work.path().join("uncommitted"))?;
    }
    let commit = work.path().join("commit");
    original.copy_some(&commit, &[FILE, ".pipeline"])?;
    let said = format!("what the commit {} says", source.commit.short());
    let whole = work.path().join("whole");
    let leads = |path: &str| {
        original
            .leads(path, &whole)
            .map_err(|error| format!("cannot be looked at: {}", one_line(&format!("{error:#}"))))
    };
    let files = Files::read((&original.project(&commit), &said), (&source, &directory), rules, (asked, &leads))?;
    let pipelines = files.pipelines();
    ensure_note(&pipelines, asked.note.as_deref())?;
    if !asked.is_dirty {
        tell_left_out(&changes);
        let below = directory.strip_prefix(&source.top).unwrap_or(Path::new(""));
        let names = [below.join(FILE), below.join(".pipeline")];
        if changes.iter().any(|change| names.iter().any(|name| Path::new(change).starts_with(name))) {
            warning("release.toml or .pipeline/ differs from what was committed: this run goes by the commit");
        }
    }
    let began = Timestamp::now();
    let id = RunId::new(began);
    let place = RunPlace::new(&files.project, id.clone()).context("no project")?;
    let setup = setup(&source, &files.project, asked, began)?;
    let run = record(&pipelines, &source, asked, &place, began)?;
    let Files { project: _, checked, chosen, manifest, rules, of_change } = files;
    let shared = Shared {
        original,
        work: work.path().to_owned(),
        logs: logs(&out, &id)?,
        environment: environment(&rules.pass, &source),
        setup,
        is_dirty: asked.is_dirty,
        place,
        checked,
        chosen,
        manifest,
        source,
        directory,
        options,
        bucket: OnceCell::new(),
        of_change,
        kept: Mutex::default(),
        published: Published::default(),
        tried: Tried::default(),
        images: Claimed::default(),
        out,
    };
    Ok(Prepared { shared, run, work })
}

/// Refuses a run that makes releases and says nothing of them.
fn ensure_note(pipelines: &[&Pipeline], note: Option<&str>) -> Result<()> {
    let Some(pipeline) = pipelines.iter().find(|pipeline| publishes(pipeline)) else { return Ok(()) };
    match note.map(parse_note) {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(UsageError::new(error.to_string()).into()),
        None => {
            let name = &pipeline.name;
            let text =
                format!("missing release note: `{name}` makes a release; add a note, as in -m \"fix the login\"");
            Err(UsageError::new(text).into())
        }
    }
}

/// Says what a path of the repository leads to.
type LeadsTo<'a> = &'a dyn Fn(&str) -> Result<Leads, String>;

/// What the files of a directory say, and the rules that they go by.
#[derive(Debug)]
pub(crate) struct Files {
    /// What the project is called.
    project: String,
    /// What they say of pipelines.
    pub(crate) checked: Checked,
    /// The pipelines that were asked for, by their places.
    pub(crate) chosen: Vec<usize>,
    manifest: Manifest,
    /// `[pipeline]`: of the target branch, in a run of a change.
    rules: PipelineRules,
    of_change: Option<OfChange>,
}

impl Files {
    /// Those of a directory, which `said` names, of a checkout. `target` is what a run of a change goes by.
    ///
    /// # Errors
    /// All that is wrong with them, as a mistake of whoever wrote them.
    pub(crate) fn read(
        (at, said): (&Path, &str),
        (source, directory): (&Source, &Path),
        target: Option<target::Rules>,
        (asked, leads): (&Asked, LeadsTo),
    ) -> Result<Self> {
        let manifest = match pipelines::read_below(at, FILE) {
            Ok(content) => {
                let text = String::from_utf8(content).map_err(|_| UsageError::new(format!("`{FILE}` is not UTF-8")))?;
                let read = Manifest::of_text(at, &text).with_context(|| format!("invalid `{FILE}`, by {said}"));
                read.map_err(|error| UsageError::new(format!("{error:#}")))?
            }
            Err(reason) => return Err(UsageError::new(format!("`{FILE}` {reason}, by {said}")).into()),
        };
        let (rules, allowed, of_change) = match target {
            // What a change says of itself is not what it goes by.
            Some(target) => {
                let rules = target.manifest.map(|manifest| manifest.pipeline).unwrap_or_default();
                (rules, target.allowed, Some(target.of_change))
            }
            None => (manifest.pipeline.clone(), &Action::ALL[..], None),
        };
        let allowed: Vec<&str> = asked.allowed.iter().copied().filter(|action| allowed.contains(action)).collect();
        let project = project(&rules, asked.change.as_ref(), source, directory);
        let checked =
            check((at, project.as_deref()), &manifest, (&rules, &allowed, asked), (of_change.as_ref(), leads))?;
        for warned in &checked.warnings {
            warning(one_line(&warned.to_string()));
        }
        let chosen = choose(&checked, &asked.pipelines)?;
        // If it can't be called so, that was among the mistakes.
        let project = project.map_err(UsageError::new)?;
        let files = Self { project, checked, chosen, manifest, rules, of_change };
        Ok(files)
    }

    /// The pipelines that were asked for.
    pub(crate) fn pipelines(&self) -> Vec<&Pipeline> {
        self.chosen.iter().map(|at| &self.checked.pipelines.pipelines[*at]).collect()
    }
}

/// What the files of a directory say of the pipelines.
///
/// # Errors
/// All that is wrong with them, as a mistake of whoever wrote them.
fn check(
    (directory, named): (&Path, Result<&str, &String>),
    manifest: &Manifest,
    (rules, allowed, asked): (&PipelineRules, &[&str], &Asked),
    (of_change, leads): (Option<&OfChange>, LeadsTo),
) -> Result<Checked> {
    let packages: Vec<&str> = manifest.packages.iter().map(|package| package.app.as_str()).collect();
    let (policy, project) = (policy()?, named.ok());
    let refused = |action: &Action| {
        let of_it = match of_change {
            Some(of_change) => {
                let unwritable = pipelines::refused_image(project, action, |name| of_change.writable(name));
                [of_change.trials.refused(action), unwritable].concat()
            }
            None => pipelines::unwritable(&manifest.images, project, action),
        };
        let uncommitted = if asked.is_dirty { pipelines::of_uncommitted(action) } else { Vec::new() };
        [pipelines::refused(policy.as_ref(), action), of_it, uncommitted].concat()
    };
    let (chosen, require_trial) = (asked.pipelines.as_slice(), rules.require_trial);
    let known = Known { project, packages: &packages, chosen, allowed, require_trial, leads, refused: &refused };
    let Some(read) = pipelines::read(directory, &known) else {
        let text = format!("there are no pipelines: no `{}`", pipeline::FILE);
        return Err(UsageError::new(text).with_hint("docs/pipelines.md shows one to begin with").into());
    };
    let mut problems: Vec<Problem> = named.err().map(|text| Problem::of_file(FILE, text)).into_iter().collect();
    match read {
        Ok(checked) if problems.is_empty() => return Ok(checked),
        Ok(_) => {}
        Err(found) => problems.extend(found),
    }
    let lines: Vec<String> = problems.iter().map(|problem| one_line(&problem.to_string())).collect();
    let text =
        format!("{}\n{} in what the repository says of its pipelines", lines.join("\n"), count(lines.len(), "mistake"));
    Err(UsageError::new(text).into())
}

/// The pipelines of these names by their places, all of them without any.
fn choose(checked: &Checked, names: &[String]) -> Result<Vec<usize>> {
    let all = &checked.pipelines;
    let unknown: Vec<String> = names.iter().filter_map(|name| all.find(name).err()).collect();
    if !unknown.is_empty() {
        return Err(UsageError::new(unknown.join("\n")).into());
    }
    let is_chosen = |pipeline: &Pipeline| names.is_empty() || names.contains(&pipeline.name);
    Ok((0..all.pipelines.len()).filter(|at| is_chosen(&all.pipelines[*at])).collect())
}

fn publishes(pipeline: &Pipeline) -> bool {
    pipeline.stages.iter().flat_map(|stage| &stage.actions).any(|action| matches!(action, Action::Publish(_)))
}

/// What the project is called: as release.toml says, else as that of the change, else as the repository it comes from, else as
/// its directory.
///
/// # Errors
/// Why it can't be called so, and what to do.
pub(crate) fn project(
    rules: &PipelineRules,
    change: Option<&ChangeId>,
    source: &Source,
    directory: &Path,
) -> Result<String, String> {
    match (&rules.project, change) {
        (Some(project), Some(change)) if project != change.project() => {
            return Err(format!(
                "`{change}` is no change of `{project}`, which is what `[pipeline] project` says in release.toml"
            ));
        }
        (Some(project), _) => return Ok(project.clone()),
        (None, Some(change)) => return Ok(change.project().to_owned()),
        (None, None) => {}
    }
    let last = source.repo.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let of_origin = last.strip_suffix(".git").unwrap_or(last);
    let of_directory = directory.file_name().unwrap_or_default().to_string_lossy();
    let project = if of_origin.is_empty() { of_directory.as_ref() } else { of_origin };
    match RunPlace::new(project, RunId::new(Timestamp::UNIX_EPOCH)) {
        Ok(_) => Ok(project.to_owned()),
        Err(error) => Err(format!("{error}: say what the project is called, as in `[pipeline]` `project = \"web\"`")),
    }
}

/// The values of the hidden first stage, but for those that each stage has of its own.
fn setup(source: &Source, project: &str, asked: &Asked, began: Timestamp) -> Result<BTreeMap<&'static str, String>> {
    let tags = Git::at(&source.top).line(&["tag", "--points-at", &source.commit.to_string()])?;
    let tag = tags.lines().next().unwrap_or_default();
    let values = [
        ("project", project),
        ("commit", source.commit.as_str()),
        ("branch", &source.branch),
        ("tag", tag),
        ("remote", &source.repo),
        ("note", asked.note.as_deref().unwrap_or_default()),
        ("timestamp", &began.strftime("%Y%m%dT%H%M%SZ").to_string()),
        ("change", &asked.change.as_ref().map(ToString::to_string).unwrap_or_default()),
    ];
    Ok(values.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
}

/// The variables that all stages have. Of whoever started the run only those that are named, and where programs are.
fn environment(pass: &[String], source: &Source) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> =
        pass.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?))).collect();
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty());
    environment.extend(
        [
            ("PATH", path.unwrap_or_else(|| USUAL_PATH.to_owned())),
            ("LANG", "C.UTF-8".to_owned()),
            ("CI", "true".to_owned()),
            ("PUSH_COMMIT", source.commit.to_string()),
            ("SOURCE_DATE_EPOCH", source.commit_time.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    environment
}

/// What is recorded of a run in which nothing has begun.
fn record(pipelines: &[&Pipeline], source: &Source, asked: &Asked, place: &RunPlace, began: Timestamp) -> Result<Run> {
    let Builder { user, host } = Builder::find(|key| std::env::var(key).ok())?;
    let stage = |pipeline: &Pipeline, at: usize| -> Result<StageRun> {
        let name = |at: usize| pipeline.stages[at].name.parse();
        Ok(StageRun {
            name: name(at)?,
            after: pipeline.order.after(at).iter().map(|before| name(*before)).collect::<Result<_, _>>()?,
            result: StageResult::Waiting,
            began: None,
            ended: None,
            why: String::new(),
            other: Map::new(),
        })
    };
    let recorded = |pipeline: &&Pipeline| -> Result<PipelineRun> {
        Ok(PipelineRun {
            name: pipeline.name.parse()?,
            stages: (0..pipeline.stages.len()).map(|at| stage(pipeline, at)).collect::<Result<_>>()?,
            stages_left_out: 0,
            releases: Vec::new(),
            releases_left_out: 0,
            images: Vec::new(),
            images_left_out: 0,
            artifacts: Vec::new(),
            artifacts_left_out: 0,
            other: Map::new(),
        })
    };
    Ok(Run {
        schema: 1,
        project: place.project().to_owned(),
        run: place.run().clone(),
        commit: source.commit.clone(),
        branch: source.branch.clone(),
        dirty: asked.is_dirty,
        change: asked.change.clone(),
        patchset: None,
        by: format!("{user}@{host}"),
        host,
        note: asked.note.clone().unwrap_or_default(),
        began,
        ended: None,
        told: None,
        result: RunResult::Running,
        pipelines: pipelines.iter().map(recorded).collect::<Result<_>>()?,
        pipelines_left_out: 0,
        other: Map::new(),
    })
}

/// The directory for what the stages of a run say. Those of runs long ago are removed.
fn logs(out: &Path, id: &RunId) -> Result<PathBuf> {
    let all = out.join("runs");
    let own = all.join(id.as_str());
    fs::create_dir_all(&own).with_context(|| format!("could not create the directory `{}`", own.display()))?;
    let entries = fs::read_dir(&all).with_context(|| format!("could not read `{}`", all.display()))?;
    let mut runs: Vec<RunId> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    runs.sort();
    for old in runs.iter().rev().skip(KEPT_LOGS) {
        let old = all.join(old.as_str());
        if let Err(error) = fs::remove_dir_all(&old) {
            warning(format_args!("could not remove the old logs in `{}`: {error}", old.display()));
        }
    }
    Ok(own)
}
