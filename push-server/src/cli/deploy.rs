//! `push deploy`: an operator chooses a release for servers.

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{AppName, Bucket, Generation, HistoryEntry, PushKind, Release, ReleaseName, ServerName, Timestamp};
use clap::Args;
use serde_json::{Value, json};

use super::{Command, Misused, Span, print, print_json, show, wait, who};
use fleet::{
    identity::{Identity, Origin},
    operation::{self, Intent, Operator, find},
    plan::{Proposal, propose},
    poke::PokeSettings,
    policy::Change,
    server,
};

/// Chooses the release that servers should have.
///
/// APP alone means its newest clean release; a dirty one must be named in full.
/// A server that doesn't have the app yet needs --force: a misspelt name would otherwise make a new server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push deploy web web-1 web-2 -m 'login fix'
  push deploy web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433 web-1
  push deploy web@7e0ff60 web-1 --dry-run
  push deploy web new-server --force --wait")]
pub(crate) struct Deploy {
    /// What: an app, a release name (with or without directory and .deb), or APP@COMMIT.
    #[arg(value_name = "APP|RELEASE")]
    what: String,
    /// Where to.
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<ServerName>,
    #[command(flatten)]
    how: How,
    /// Do it although a server doesn't have the app yet.
    #[arg(long)]
    force: bool,
}

/// How a deploy or a rollback is done.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Why, for the history.
    #[arg(short = 'm', long = "reason", value_name = "REASON", default_value = "")]
    pub(crate) reason: String,
    /// Say what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Follow the servers until they run it, or went back.
    #[arg(long)]
    pub(crate) wait: bool,
    /// The longest to wait.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub(crate) timeout: Span,
    /// The Google Cloud project whose instances are woken at once; without it, or with `none`, they find out by polling.
    #[arg(long, value_name = "PROJECT", env = "PUSH_GCE_PROJECT")]
    pub(crate) project: Option<String>,
}

/// One server's push, from what was read to how it ended.
pub(crate) struct Work {
    pub(crate) server: ServerName,
    pub(crate) proposal: Result<Proposal>,
    pub(crate) kind: PushKind,
}

impl Deploy {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let release = choose(&command.bucket, &self.what).await?;
        let mut works = Vec::new();
        for server in unique(self.servers) {
            let proposal = look(&command.bucket, &server, &release).await;
            let proposal = proposal.and_then(|proposal| match proposal.objection {
                Some(objection) if !self.force => bail!("{objection}; if it is meant, use --force"),
                _ => Ok(proposal),
            });
            works.push(Work { server, proposal, kind: PushKind::Deploy });
        }
        carry_out(command, &self.how, works).await
    }
}

/// Servers in the order given, each once.
pub(crate) fn unique(servers: Vec<ServerName>) -> Vec<ServerName> {
    let mut seen = std::collections::BTreeSet::new();
    servers.into_iter().filter(|server| seen.insert(server.clone())).collect()
}

/// Reads what is needed to know what a push would do to one server.
pub(crate) async fn look(bucket: &Bucket, server: &ServerName, release: &Release) -> Result<Proposal> {
    let seen = server::read(bucket, server).await;
    if let Some(error) = seen.document_error {
        bail!("could not read the document of `{server}`, nothing was written: {error}");
    }
    let document = seen.document.as_ref().map(|(_, document)| document);
    Ok(propose(server, document, release, seen.status.as_ref(), Timestamp::now()))
}

/// The release that `what` names: an app's newest clean one, one by name, or one by app and commit.
async fn choose(bucket: &Bucket, what: &str) -> Result<Release> {
    if let Some(name) = parse_release(what) {
        return find(bucket, &name).await;
    }
    let (app, commit) = what.split_once('@').map_or((what, None), |(app, commit)| (app, Some(commit)));
    let app: AppName =
        app.parse().map_err(|e| Misused(format!("`{}` is neither an app nor a release: {e}", show::safe(what))))?;
    if let Some(commit) = commit {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        ensure!(
            commit.len() >= 4 && commit.chars().all(hex),
            Misused(format!(
                "`{}` isn't the beginning of a commit: give 4 of its hex digits at least",
                show::safe(what)
            ))
        );
    }
    let releases =
        bucket.newest_releases(&app, 1000).await.with_context(|| format!("could not list the releases of `{app}`"))?;
    let mut fitting = releases.into_iter().filter(|release| match commit {
        Some(commit) => release.name.commit().as_str().starts_with(commit),
        None => release.metadata.as_ref().is_ok_and(|metadata| !metadata.dirty),
    });
    match (fitting.next(), commit) {
        (Some(release), None) => Ok(release),
        (Some(release), Some(commit)) => match fitting.next() {
            Some(other) => bail!(
                "`{app}@{commit}` fits several releases, `{}` and `{}` among them: name it in full",
                release.name.stem(),
                other.name.stem()
            ),
            None => Ok(release),
        },
        (None, Some(commit)) => bail!(
            "`{app}` has no release of a commit that begins with `{}`; `push list {app}` lists them",
            show::safe(commit)
        ),
        (None, None) => bail!(
            "`{app}` has no clean release; `push list {app}` lists what there is, and a dirty one can be named in full"
        ),
    }
}

fn parse_release(what: &str) -> Option<ReleaseName> {
    what.parse().ok().or_else(|| ReleaseName::from_stem(what.strip_suffix(".deb").unwrap_or(what)).ok())
}

/// Writes what was proposed, a line for each server, and follows it if asked to.
pub(crate) async fn carry_out(command: &Command, how: &How, works: Vec<Work>) -> Result<bool> {
    if how.reason.len() > HistoryEntry::MAX_WHY {
        bail!(Misused(format!("the reason is longer than {} bytes", HistoryEntry::MAX_WHY)));
    }
    let lookup = |key: &str| std::env::var(key).ok();
    let poke = PokeSettings::from_env(how.project.as_deref(), lookup).map_err(|e| Misused(format!("{e:#}")))?;
    let operator = Operator {
        who: Identity { name: who(), origin: Origin::Local },
        reason: how.reason.clone(),
        policy: command.policy.clone(),
        poke,
    };
    let mut rows: Vec<Row> = works.into_iter().map(|work| row(&operator, work)).collect();
    if how.dry_run {
        for row in &mut rows {
            if row.error.is_none() {
                row.result = "dry-run";
            }
            row.tell(command)?;
        }
    } else {
        write(command, &operator, &mut rows).await?;
    }
    let mut good = rows.iter().all(|row| row.error.is_none());
    let mut results: Vec<Value> = rows.iter().map(Row::as_json).collect();
    if how.wait {
        let written = rows.iter().filter_map(|row| {
            let proposal = row.proposal.as_ref()?;
            Some((row.server.clone(), proposal.to.clone(), row.generation?))
        });
        for outcome in wait::follow(&command.bucket, written.collect(), how.timeout.0).await {
            good &= outcome.good;
            if !command.json {
                print(&format!("{}: {}\n", outcome.server, outcome.line))?;
            }
            if let Some(result) = results.iter_mut().find(|result| result["server"] == outcome.server.as_str()) {
                result["outcome"] = outcome.word.into();
                result["outcome_text"] = outcome.line.into();
            }
        }
    }
    if command.json {
        print_json(&json!({ "pushes": results }))?;
    }
    Ok(good)
}

/// One server's line.
struct Row {
    server: ServerName,
    kind: PushKind,
    proposal: Option<Proposal>,
    result: &'static str,
    warnings: Vec<String>,
    generation: Option<Generation>,
    error: Option<String>,
}

/// What is known of a push before it is written, the policy's word too.
fn row(operator: &Operator, work: Work) -> Row {
    let (proposal, mut error) = match work.proposal {
        Ok(proposal) => (Some(proposal), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    if let Some(proposal) = &proposal {
        let change =
            Change { server: &work.server, app: proposal.to.app(), dirty: proposal.dirty, reason: &operator.reason };
        error = operator.policy.judge(&operator.who, change).err();
    }
    let warnings = proposal.as_ref().map(|proposal| proposal.warnings.clone()).unwrap_or_default();
    Row { server: work.server, kind: work.kind, proposal, result: "failed", warnings, generation: None, error }
}

async fn write(command: &Command, operator: &Operator, rows: &mut [Row]) -> Result<()> {
    let going = |row: &&Row| row.error.is_none();
    let intents = rows.iter().filter(going).filter_map(|row| {
        let proposal = row.proposal.as_ref()?;
        let (server, release) = (row.server.clone(), proposal.to.clone());
        Some(Intent { server, release, from: proposal.from.clone(), kind: row.kind })
    });
    let intents: Vec<Intent> = intents.collect();
    let outcomes = operation::carry_out(&command.bucket, operator, intents, |_, _| ()).await;
    let mut outcomes = outcomes.into_iter();
    for row in rows {
        if row.error.is_none()
            && let Some(outcome) = outcomes.next()
        {
            match outcome.result {
                Ok(generation) => (row.result, row.generation) = ("pushed", Some(generation)),
                Err(error) => row.error = Some(error),
            }
            row.warnings.extend(outcome.warnings);
        }
        row.tell(command)?;
    }
    Ok(())
}

impl Row {
    fn tell(&self, command: &Command) -> Result<()> {
        let server = &self.server;
        if let Some(error) = &self.error {
            eprintln!("{server}: error: {}", show::safe(error));
            return Ok(());
        }
        if let (Some(proposal), false) = (&self.proposal, command.json) {
            let verb = if self.generation.is_some() { "pushed" } else { "would be pushed" };
            let from = proposal.from.as_ref().map_or("(nothing)", |from| from.stem());
            print(&format!("{server}: {verb}: {from} → {}\n", proposal.to.stem()))?;
        }
        for warning in &self.warnings {
            eprintln!("{server}: warning: {}", show::safe(warning));
        }
        Ok(())
    }

    fn as_json(&self) -> Value {
        let mut value = json!({ "server": self.server, "result": self.result });
        if let Some(error) = &self.error {
            value["result"] = "failed".into();
            value["error"] = show::safe(error).into();
        } else if let Some(proposal) = &self.proposal {
            value["from"] = json!(proposal.from);
            value["to"] = json!(proposal.to);
            value["warnings"] = json!(self.warnings);
            value["generation"] = json!(self.generation);
        }
        value
    }
}
