//! `release change`: what is proposed for merging, as whatever tries it says.

use anyhow::{Result, ensure};
use bucket::{Ahead, ArtifactType, Bucket, Change as Recorded, ChangeId, ChangeState, Timestamp};
use clap::{Args, Subcommand};
use console::{Table, UsageError, ago, note, print, print_json, print_line, safe, size};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use crate::{
    change::{
        line::{checked_out, target_branch},
        record::{ahead, by, read, read_known, unknown, update},
        runs::{LastRun, last_runs},
        target::TargetBranch,
        update::{Opened, ended, opened},
    },
    git::Git,
    options::{Options, wait_for},
};

/// Record and show changes that are not merged yet
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  release change open web/12                      record the commit that is checked out as change 12 of web
  release change open web/12 --needs lib/11       the same, and that it needs change 11 of lib
  release change merged web/12                    it was merged
  release change show web/12                      show it, its candidates, what is ahead of it, and its last runs
  release change list web                         list the changes of web

Changes are recorded in the candidate bucket: `[candidates] bucket` in release.toml.
The same command again changes nothing and succeeds.")]
pub(crate) struct Change {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Record the commit that is checked out as the last patchset of a change
    Open(Open),
    /// Record that a change was merged
    Merged(Named),
    /// Record that a change will not be merged
    Abandoned(Named),
    /// Show a change, what was built of it, which open changes are ahead of it, and the last run of each of its pipelines
    Show(Named),
    /// List the changes of a project, or of all
    List {
        /// Project whose changes to list [default: all]
        project: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// Change, as in web/12
    #[arg(value_name = "PROJECT/ID")]
    id: ChangeId,
}

#[derive(Debug, Args)]
struct Open {
    #[command(flatten)]
    named: Named,
    /// Number of the patchset [default: the next one if the commit is another]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    patchset: Option<u32>,
    /// Branch that is recorded as the one that it is to be merged into [default: that of --target, else `[candidates] branch`]
    #[arg(long)]
    branch: Option<String>,
    /// Change that it needs, which is not merged yet; these replace those recorded before
    #[arg(long, value_name = "PROJECT/ID")]
    needs: Vec<ChangeId>,
    #[command(flatten)]
    target: TargetBranch,
    /// Record changes that it needs although nothing is known of them
    #[arg(long, requires = "needs")]
    needs_unknown: bool,
}

impl Change {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        match self.verb {
            Verb::Open(open) => open.run(options),
            Verb::Merged(named) => named.end(options, ChangeState::Merged),
            Verb::Abandoned(named) => named.end(options, ChangeState::Abandoned),
            Verb::Show(named) => named.show(options),
            Verb::List { project } => list(options, project.as_deref()),
        }
    }
}

impl Open {
    fn run(self, options: &Options) -> Result<()> {
        let directory = options.directory()?;
        let candidates = options.candidates_of(Some(&self.target.manifest(&directory)?))?;
        let git = Git::at(&directory);
        let (commit, tree) = checked_out(&git)?;
        let branch = self.branch.or_else(|| self.target.named()).or_else(|| candidates.branch.clone());
        let branch = target_branch(&git, branch)?;
        let needs = (!self.needs.is_empty()).then_some(self.needs);
        let said = Opened { commit, tree, patchset: self.patchset, branch, needs };
        let by = by()?;
        let id = &self.named.id;
        wait_for(async {
            let bucket = candidates.open().await?;
            let change = update(&bucket, id, async |before| {
                let change = opened(id, before, said.clone(), (&by, bucket.now()))?;
                if before != Some(&change) {
                    let Ahead { ended, unknown, .. } = ahead(&bucket, id, &change).await?;
                    // Those of what it needs are the business of who recorded that.
                    let unknown: Vec<String> =
                        unknown.iter().filter(|need| change.needs.contains(need)).map(shown).collect();
                    ensure!(
                        unknown.is_empty() || self.needs_unknown || said.needs.is_none(),
                        "nothing is known of {}: record what `{id}` needs first, or say --needs-unknown",
                        unknown.join(", ")
                    );
                    for (need, state) in ended.iter().filter(|(need, _)| change.needs.contains(need)) {
                        note(format_args!("note: `{need}`, which `{id}` needs, is {}", state.as_str()));
                    }
                }
                Ok(change)
            });
            tell(options, id, &change.await?)
        })
    }
}

impl Named {
    fn end(self, options: &Options, state: ChangeState) -> Result<()> {
        let (by, id) = (by()?, &self.id);
        let candidates = options.candidates()?;
        wait_for(async {
            let bucket = candidates.open().await?;
            let change = update(&bucket, id, async |before| {
                let Some(before) = before else { return Err(unknown(&bucket, id).await) };
                ended(id, before, state, (&by, bucket.now()))
            });
            tell(options, id, &change.await?)
        })
    }

    fn show(self, options: &Options) -> Result<()> {
        let id = &self.id;
        let candidates = options.candidates()?;
        wait_for(async {
            let bucket = candidates.open().await?;
            let change = read_known(&bucket, id).await?;
            let ahead = ahead(&bucket, id, &change).await?;
            let runs = last_runs(&bucket, id).await?;
            if options.json {
                let mut shown = with_ahead(&change, &ahead);
                shown["runs"] = json!(runs);
                return print_json(&shown);
            }
            show(id, &change, &ahead, &bucket)?;
            show_candidates(&change, bucket.now())?;
            show_runs(&runs, bucket.now())
        })
    }
}

fn shown(id: &ChangeId) -> String {
    format!("`{id}`")
}

fn tell(options: &Options, id: &ChangeId, change: &Recorded) -> Result<()> {
    if options.json {
        return print_json(change);
    }
    print_line(format_args!("{id}: patchset {}, {}", change.patchset, change.state.as_str()))
}

fn with_ahead(change: &Recorded, Ahead { open, ended, unknown }: &Ahead) -> Value {
    let mut shown = json!(change);
    let open = open.iter().map(|(id, change, steps)| {
        json!({ "change": id, "patchset": change.patchset, "commit": change.commit, "steps": steps })
    });
    shown["ahead"] = open.collect();
    shown["ended"] = ended.iter().map(|(id, state)| json!({ "change": id, "state": state })).collect();
    shown["unknown"] = json!(unknown);
    shown
}

fn show(id: &ChangeId, change: &Recorded, Ahead { open, ended, unknown }: &Ahead, bucket: &Bucket) -> Result<()> {
    let now = bucket.now();
    print_line(format_args!("change    {id}, patchset {}", change.patchset))?;
    print_line(format_args!("state     {}", change.state.as_str()))?;
    print_line(format_args!("commit    {}, for {}", change.commit, safe(&change.branch)))?;
    print_line(format_args!("recorded  {} by {}", ago(now.duration_since(change.updated)), safe(&change.by)))?;
    if !open.is_empty() {
        let mut table = Table::new(&["AHEAD", "STEPS", "PATCHSET", "COMMIT"]);
        for (id, change, steps) in open {
            let commit = change.commit.short().to_owned();
            table.row([id.to_string(), steps.to_string(), change.patchset.to_string(), commit].map(Into::into));
        }
        print_line("")?;
        print(&table.show())?;
    }
    for (need, state) in ended {
        note(format_args!("note: `{need}`, which is needed, is {}", state.as_str()));
    }
    for need in unknown {
        note(format_args!("warning: nothing is known of `{need}`, which is needed"));
    }
    Ok(())
}

/// What was built of the last patchset, the one last that was recorded last.
fn show_candidates(change: &Recorded, now: Timestamp) -> Result<()> {
    let of_last: Vec<_> = change.candidates.iter().filter(|known| known.patchset == change.patchset).collect();
    if of_last.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["CANDIDATE", "TYPE", "SIZE", "GATED", "RECORDED", "LANDED"]);
    for known in of_last {
        let (name, kind) = match (&known.artifact, &known.image) {
            (ArtifactType::Image, Some(image)) => (safe(image), "image"),
            (ArtifactType::Image, None) => (known.app.to_string(), "image"),
            (ArtifactType::Deb, _) => (known.release.stem().to_owned(), "package"),
            (ArtifactType::Other(_), _) => (known.release.stem().to_owned(), "unknown"),
        };
        let gated = if known.gate { "yes" } else { "-" }.to_owned();
        let landed = known.landed.as_ref().map_or_else(|| "-".to_owned(), |commit| commit.short().to_owned());
        let recorded = ago(now.duration_since(known.at));
        table.row([name, kind.to_owned(), size(known.size), gated, recorded, landed].map(Into::into));
    }
    print_line("")?;
    print(&table.show())
}

fn show_runs(runs: &[LastRun], now: Timestamp) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["PIPELINE", "RESULT", "PATCHSET", "BEGAN", "RUN"]);
    for LastRun { pipeline, result, run, patchset, began } in runs {
        let patchset = patchset.map_or_else(|| "-".to_owned(), |patchset| patchset.to_string());
        let began = ago(now.duration_since(*began));
        table.row([pipeline.to_string(), safe(result), patchset, began, run.to_string()].map(Into::into));
    }
    print_line("")?;
    print(&table.show())
}

fn list(options: &Options, project: Option<&str>) -> Result<()> {
    if let Some(project) = project {
        ChangeId::new(project, "1").map_err(|error| UsageError::new(error.to_string()))?;
    }
    let candidates = options.candidates()?;
    wait_for(async {
        let bucket = &candidates.open().await?;
        let unlisted = |error| anyhow::Error::new(error).context("could not list the changes");
        let listed = bucket.changes(project).map_err(unlisted);
        let read = listed
            .map_ok(async |found| anyhow::Ok((read(bucket, &found.id).await, found.id)))
            .try_buffered(Ahead::AT_ONCE);
        let (mut changes, mut unreadable) = (Vec::new(), 0);
        let mut read = std::pin::pin!(read);
        while let Some((read, id)) = read.try_next().await? {
            match read {
                Ok(found) => changes.extend(found.map(|(_, change)| (id, change))),
                Err(error) => {
                    console::warning(format_args!("{error:#}"));
                    unreadable += 1;
                }
            }
        }
        if options.json {
            print_json(&json!({ "changes": changes.iter().map(|(_, change)| change).collect::<Vec<_>>() }))?;
        } else if changes.is_empty() {
            note("no changes: `release change open PROJECT/ID` records one");
        } else {
            print(&table(&changes, bucket))?;
        }
        ensure!(unreadable == 0, "{} could not be read", console::count(unreadable, "change"));
        Ok(())
    })
}

fn table(changes: &[(ChangeId, Recorded)], bucket: &Bucket) -> String {
    let mut table = Table::new(&["CHANGE", "STATE", "PATCHSET", "COMMIT", "RECORDED", "NEEDS"]);
    let now = bucket.now();
    for (id, change) in changes {
        let needs: Vec<String> = change.needs.iter().map(ToString::to_string).collect();
        let cells = [
            id.to_string(),
            change.state.as_str().to_owned(),
            change.patchset.to_string(),
            change.commit.short().to_owned(),
            ago(now.duration_since(change.updated)),
            needs.join(" "),
        ];
        table.row(cells.map(Into::into));
    }
    table.show()
}
