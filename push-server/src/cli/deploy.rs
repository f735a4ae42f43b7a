//! `push deploy`: an operator chooses a release for servers.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use bucket::{AppName, Bucket, Generation, PushKind, Release, ReleaseName, ServerName, Timestamp};
use clap::Args;
use serde_json::{Value, json};

use super::{Command, Misused, Span, print, print_json, show, wait, who};
use crate::{
    fleet,
    plan::{Proposal, propose},
    poke::{PokeSettings, Poker},
    push::{self, Request},
};

/// Chooses the release that servers should have.
///
/// APP alone means its newest clean release; a dirty one must be named in full.
/// A server that doesn't have the app yet needs --force: a misspelt name would otherwise make a new server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push deploy web web-1 web-2 -m 'login fix'
  push deploy web:ana@ws1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433 web-1
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
    let seen = fleet::server(bucket, server).await;
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

/// A release by name, which must exist and be known by its facts.
pub(crate) async fn find(bucket: &Bucket, name: &ReleaseName) -> Result<Release> {
    let found = bucket.release(name).await.with_context(|| format!("could not look for `{}`", name.stem()))?;
    let release = found.with_context(|| {
        format!("there is no release `{}`; `push list {}` lists what there is", name.stem(), name.app())
    })?;
    if let Err(reason) = &release.metadata {
        bail!("`{}` can't be deployed: {reason}", name.stem());
    }
    Ok(release)
}

/// Writes what was proposed, a line for each server, and follows it if asked to.
pub(crate) async fn carry_out(command: &Command, how: &How, works: Vec<Work>) -> Result<bool> {
    let lookup = |key: &str| std::env::var(key).ok();
    let poke_settings =
        PokeSettings::from_env(how.project.as_deref(), lookup).map_err(|e| Misused(format!("{e:#}")))?;
    let mut good = true;
    let mut results: Vec<Value> = Vec::new();
    let mut written = Vec::new();
    for work in works {
        let server = &work.server;
        let mut result = json!({ "server": server });
        match one(command, how, &work).await {
            Ok(done) => {
                if !command.json {
                    print(&format!("{server}: {}\n", done.line))?;
                }
                for warning in &done.warnings {
                    eprintln!("{server}: warning: {}", show::safe(warning));
                }
                result["result"] = done.result.into();
                result["from"] = json!(done.proposal.from);
                result["to"] = json!(done.proposal.to);
                result["warnings"] = json!(done.warnings);
                result["generation"] = json!(done.generation);
                written.extend(done.generation.map(|generation| (server.clone(), done.proposal.to, generation)));
            }
            Err(error) => {
                good = false;
                let error = show::safe(&format!("{error:#}"));
                eprintln!("{server}: error: {error}");
                result["result"] = "failed".into();
                result["error"] = error.into();
            }
        }
        results.push(result);
    }
    for (server, warning) in wake(&poke_settings, &written).await {
        eprintln!("{server}: warning: {}", show::safe(&warning));
        let result = results.iter_mut().find(|result| result["server"] == server.as_str());
        if let Some(warnings) = result.and_then(|result| result["warnings"].as_array_mut()) {
            warnings.push(warning.into());
        }
    }
    if how.wait {
        for outcome in wait::follow(&command.bucket, written, how.timeout.0).await {
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

/// Pokes the servers that were pushed to. The pushes stand whatever comes of it, so what failed is a warning.
async fn wake(settings: &PokeSettings, written: &[(ServerName, ReleaseName, Generation)]) -> Vec<(ServerName, String)> {
    let mut pushed: BTreeMap<ServerName, Vec<ReleaseName>> = BTreeMap::new();
    for (server, release, _) in written {
        pushed.entry(server.clone()).or_default().push(release.clone());
    }
    if pushed.is_empty() {
        return Vec::new();
    }
    let warn = |error: &anyhow::Error| format!("not poked, so it finds out when it polls next: {error:#}");
    match Poker::new(settings) {
        Ok(None) => Vec::new(),
        Ok(Some(poker)) => {
            let outcomes = poker.poke(&pushed).await.into_iter();
            outcomes.filter_map(|(server, outcome)| Some((server, warn(&outcome.err()?)))).collect()
        }
        Err(error) => pushed.into_keys().map(|server| (server, warn(&error))).collect(),
    }
}

struct Done {
    proposal: Proposal,
    result: &'static str,
    line: String,
    warnings: Vec<String>,
    generation: Option<Generation>,
}

async fn one(command: &Command, how: &How, work: &Work) -> Result<Done> {
    let proposal = match &work.proposal {
        Ok(proposal) => proposal.clone(),
        Err(error) => bail!("{error:#}"),
    };
    let mut warnings = proposal.warnings.clone();
    let change = format!("{} → {}", proposal.from.as_ref().map_or("(nothing)", |from| from.stem()), proposal.to.stem());
    if how.dry_run {
        let line = format!("would be pushed: {change}");
        return Ok(Done { proposal, result: "dry-run", line, warnings, generation: None });
    }
    let request = Request {
        server: work.server.clone(),
        release: proposal.to.clone(),
        from: proposal.from.clone(),
        kind: work.kind,
        who: who(),
        why: how.reason.clone(),
    };
    let pushed = push::push(&command.bucket, &request).await?;
    warnings.extend(pushed.warnings);
    Ok(Done {
        proposal,
        result: "pushed",
        line: format!("pushed: {change}"),
        warnings,
        generation: Some(pushed.generation),
    })
}
