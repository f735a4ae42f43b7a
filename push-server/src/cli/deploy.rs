//! `push deploy`: an operator chooses a release for servers.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bucket::{AppName, Bucket, ChannelName, PushKind, Release, ReleaseName, ServerName};
use clap::Args;
use console::{UsageError, count, note};
use fleet::{
    follow,
    lookup::{ensure_app, ensure_server},
    operation::{JustRead, Operator, find},
    plan::{Insistence, Objection, Proposal},
    policy::{Reason, Refusal, Way},
    proposed::proposal,
};

use super::{
    command::Command,
    configured::find as find_channel,
    pending::{DeployOptions, PendingPush, carry_out_by, operator},
    targets::{Chosen, Targets},
    waves::{WaveOptions, begin},
};

/// The shortest beginning of a commit.
const SHORTEST: usize = 4;

/// Deploy a release to servers
///
/// APP alone means its newest clean release, by when it was uploaded. A dirty or adopted release must be named in full, and so
/// must one whose name has a time after its upload.
/// A server that has other apps but not this one needs --install. A server that has never reported and has no document
/// needs --force, because its name may be misspelt; --force includes --install.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push deploy web web-1 web-2 -m 'login fix'
  push deploy web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433 web-1
  push deploy web@7e0ff60 web-1 --dry-run
  push deploy web group:prod -m 'login fix' --wait
  push deploy web group:prod --waves 1,10%,rest --settle 2m -m 'login fix' --wait
  push deploy web 'app:web state:failed'
  push deploy web group:prod --waves all -m 'the site is down'
  push deploy web web-1 --channel prod -m 'done debugging'
  push deploy api web-1 --install --wait")]
pub(crate) struct Deploy {
    /// Release to deploy: an app, a release name (with or without directory and .deb), or APP@COMMIT
    #[arg(value_name = "APP|RELEASE")]
    release: String,
    /// Servers to deploy to: by name, or all that a filter matches (`group:prod`, `app:web state:failed`); `-` reads them
    /// from stdin
    #[arg(required = true, value_name = "SERVER|FILTER")]
    servers: Vec<String>,
    /// Deploy what this channel of the app points to, so that the servers follow it again; APP alone is then that release
    #[arg(long, value_name = "NAME")]
    channel: Option<ChannelName>,
    #[command(flatten)]
    options: DeployOptions,
    #[command(flatten)]
    waves: WaveOptions,
    /// Deploy also to servers that have other apps but not this one
    #[arg(long)]
    install: bool,
    /// Deploy also to servers that have never reported and have no document; includes --install
    #[arg(long)]
    force: bool,
}

impl Deploy {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let bucket = &command.bucket;
        // Side by side: over a long way each answer takes its time.
        let targets = Targets::parse(&self.servers)?;
        let (release, servers) = tokio::join!(self.choose(command), targets.read(command));
        let (release, servers) = (release?, servers?);
        let insistence = Insistence { install: self.install || self.force, new_servers: self.force, held: false };
        let (mut pending, mut left_out) = (Vec::new(), 0);
        for Chosen { server, is_named } in servers {
            let is_left_out =
                |proposal: &Proposal| proposal.objection.as_ref().is_some_and(|objection| objection.stands(insistence));
            let proposal = match proposal(&server, &release, &PushKind::Deploy, command.now()) {
                // Of a filter nobody meant each server that it matches.
                Ok((proposal, _)) if !is_named && is_left_out(&proposal) => {
                    left_out += 1;
                    continue;
                }
                Ok(found) => unobjected(bucket, found, insistence).await,
                Err(error) => Err(error),
            };
            pending.push(PendingPush { server: server.name, proposal, kind: PushKind::Deploy });
        }
        if left_out > 0 {
            let (app, servers) = (release.name.app(), count(left_out, "server"));
            note(format_args!("left out {servers} without `{app}`: --install installs it there"));
        }
        self.carry_out(command, &release, pending).await
    }

    /// The release that is deployed: what the arguments name, which is what the channel points to if there is one.
    async fn choose(&self, command: &Command) -> Result<Release> {
        let (bucket, text) = (&command.bucket, self.release.as_str());
        let Some(channel) = &self.channel else { return choose(bucket, text).await };
        let app =
            parse_release(text).map_or_else(|| app_and_commit(text).map(|(app, _)| app), |it| Ok(it.app().clone()))?;
        let rules = find_channel(command, &app, channel)?;
        let of_images =
            || UsageError::new(format!("the channel `{channel}` of `{app}` is of images: no server follows it"));
        ensure!(rules.image.is_none(), of_images());
        let Some(pointed) = follow::read(bucket, rules).await?.channel.release else {
            bail!(
                "the channel `{channel}` of `{app}` points to nothing yet: the first round of `push watch` points it, or \
                   `push channel set`"
            );
        };
        if text != app.as_str() {
            let named = choose(bucket, text).await?.name;
            ensure!(
                named == pointed,
                "the channel `{channel}` of `{app}` points to `{}`, not to `{}`: leave out --channel to take the servers over, or \
                 point the channel there (`push channel set`)",
                pointed.stem(),
                named.stem()
            );
        }
        find(bucket, &pointed).await
    }

    /// All at once, or in waves if the operator says some or the policy asks for them.
    async fn carry_out(&self, command: &Command, release: &Release, pending: Vec<PendingPush>) -> Result<bool> {
        let options = &self.options;
        let operator = Operator { channel: self.channel.clone(), ..operator(command, options)? };
        let changing = pending
            .iter()
            .filter(|pending| pending.proposal.as_ref().is_ok_and(|(proposal, _)| !proposal.is_no_change()));
        let changing: Vec<&ServerName> = changing.map(|pending| &pending.server).collect();
        let (who, reason) = (&operator.who, Reason::Given(&operator.reason));
        let way = operator.policy.way(who, release.name.app(), &changing, reason, &self.waves.said());
        let way = way.map_err(|refusal| match refusal {
            Refusal::NoWaves => UsageError::new(refusal.to_string()).into(),
            refusal => anyhow::Error::from(refusal),
        });
        match way? {
            Way::Waves { wish, asked_for } => {
                if let Some(why) = asked_for {
                    note(format_args!("note: {why}; --waves says others"));
                }
                begin(command, options, &operator, &wish, release, pending).await
            }
            Way::AtOnce { instead_of } => {
                if let Some(waves) = &instead_of {
                    note(format_args!("note: all servers at once, and not in the waves that are asked for: {waves}"));
                }
                let operator = Operator { without_waves: instead_of.is_some(), ..operator };
                carry_out_by(command, options, &operator, None, pending).await
            }
        }
    }
}

/// A proposal, unless there is an objection to it that stands.
async fn unobjected(
    bucket: &Bucket,
    found: (Proposal, JustRead),
    insistence: Insistence,
) -> Result<(Proposal, JustRead)> {
    match found.0.objection.as_ref().filter(|objection| objection.stands(insistence)) {
        None => Ok(found),
        Some(Objection::NewServer(server)) => {
            ensure_server(bucket, server)
                .await
                .map_err(|error| anyhow!("{error:#} (use --force to deploy to a new server)"))?;
            Ok(found)
        }
        Some(objection @ Objection::NewApp(..)) => bail!("{objection}; use --install to install it there"),
    }
}

/// The release that an argument names: an app's newest clean one, one by name, or one by app and commit.
pub(super) async fn choose(bucket: &Bucket, text: &str) -> Result<Release> {
    if let Some(name) = parse_release(text) {
        return find(bucket, &name).await;
    }
    let (app, commit) = app_and_commit(text)?;
    if let Some(commit) = commit {
        let Some(release) = of_commit(bucket, &app, commit).await? else {
            ensure_app(bucket, &app).await?;
            bail!(
                "`{app}` has no release of a commit that begins with `{commit}`; `push list {app}` lists the releases"
            );
        };
        return Ok(release);
    }
    let (releases, rejected) = tokio::join!(newest(bucket, &app), bucket.rejected(&app));
    let releases = releases?;
    let rejected = rejected.with_context(|| format!("could not read which releases of `{app}` are rejected"))?;
    if releases.is_empty() {
        ensure_app(bucket, &app).await?;
    }
    let why_not = releases.first().map(|release| match release.passed_over() {
        None if rejected.contains(&release.name) => "rejected".to_owned(),
        passed_over => passed_over.map(|reason| reason.to_string()).unwrap_or_default(),
    });
    let may_be_chosen = |release: &Release| release.passed_over().is_none() && !rejected.contains(&release.name);
    releases.into_iter().find(may_be_chosen).with_context(|| {
        format!(
            "`{app}` has no release that can be chosen for being the newest: the last one is passed over ({}); \
             `push list {app}` lists the releases, and any of them can be named in full",
            why_not.unwrap_or_default()
        )
    })
}

/// The release of an app whose commit begins so, or counts as one that does; `None` if there is none.
pub(super) async fn of_commit(bucket: &Bucket, app: &AppName, commit: &str) -> Result<Option<Release>> {
    ensure_commit_prefix(commit)?;
    let mut matching = newest(bucket, app)
        .await?
        .into_iter()
        .filter(|release| [release.name.commit(), release.commit()].iter().any(|own| own.as_str().starts_with(commit)));
    match (matching.next(), matching.next()) {
        (Some(one), Some(other)) => bail!(
            "`{app}@{commit}` is ambiguous, it matches `{}` and `{}`: use the full release name",
            one.name.stem(),
            other.name.stem()
        ),
        (one, _) => Ok(one),
    }
}

async fn newest(bucket: &Bucket, app: &AppName) -> Result<Vec<Release>> {
    let releases = bucket.newest_releases(app, 1000).await;
    releases.with_context(|| format!("could not list the releases of `{app}`"))
}

/// That what somebody typed can be the beginning of a commit.
pub(super) fn ensure_commit_prefix(text: &str) -> Result<()> {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    ensure!(
        text.len() >= SHORTEST && text.chars().all(hex),
        UsageError::new(format!("`{text}` is not a commit prefix: use at least {SHORTEST} hex digits"))
    );
    Ok(())
}

/// An app, and the beginning of a commit if one is named: `web`, `web@7e0ff60`.
pub(super) fn app_and_commit(text: &str) -> Result<(AppName, Option<&str>)> {
    let (app, commit) = text.split_once('@').map_or((text, None), |(app, commit)| (app, Some(commit)));
    let app =
        app.parse().map_err(|error| UsageError::new(format!("`{text}` is neither an app nor a release: {error}")))?;
    Ok((app, commit))
}

pub(super) fn parse_release(text: &str) -> Option<ReleaseName> {
    text.parse().ok().or_else(|| ReleaseName::from_stem(text.strip_suffix(".deb").unwrap_or(text)).ok())
}
