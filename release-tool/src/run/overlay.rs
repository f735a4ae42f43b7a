//! Where a run of a change tries what it has built: in the overlay of a buildset of that change, whose agents read nothing else, and
//! on the servers that the branch allows which it is to be merged into.

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{Bucket, Buildset, CandidatePlace, ChangeId, Error, Overlay, RecordedCandidate, ReleaseName, ServerName};
use console::{age, quoted};
use fleet::{
    plan::overdue,
    policy::Pattern,
    server::{self, Reading},
};
use pipeline::{Action, Place};

use crate::{
    buildset::{make::url, running::running},
    change::record::read_known,
    manifest::Candidates,
    run::{ATTEMPTS, running::Made},
};

/// Where a change may be tried, as far as it may.
#[derive(Debug)]
pub(crate) struct Trials {
    /// The overlay of the buildset that the run is in, and whose that is; else why there is none.
    overlay: Result<(Bucket, Buildset), String>,
    /// The servers that its target branch allows.
    servers: Vec<Pattern>,
    /// That branch, for people.
    branch: String,
}

impl Trials {
    /// Finds the buildset that the run is in. That it is in none, or that it can't be told, keeps nothing but trials from going on.
    pub(super) async fn find(
        id: &ChangeId,
        candidates: Option<&Candidates>,
        (servers, branch): (Vec<Pattern>, String),
    ) -> Self {
        let found = async {
            let Some(candidates) = candidates else { return Ok(None) };
            running(&candidates.open_within(Some(ATTEMPTS)).await?, id).await
        };
        let overlay = match found.await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(format!(
                "a change is tried on a server only inside of a buildset of it: `release buildset run --change {id} -- release run …`"
            )),
            Err(error) => Err(format!("the buildset that this runs in is not known: {error:#}")),
        };
        Self { overlay, servers, branch }
    }

    /// What speaks against an action before anything runs. Which server it is may be known only when it is its turn.
    pub(super) fn refused(&self, action: &Action) -> Vec<(Place, String)> {
        let Action::Deploy(deploy) = action else { return Vec::new() };
        let none = self.overlay.as_ref().err().map(|why| (deploy.place, why.clone()));
        let not_there = match deploy.server.text() {
            Some(server) => self.not_allowed(&server),
            None if self.servers.is_empty() => self.not_allowed(""),
            None => None,
        };
        none.into_iter().chain(not_there.map(|why| (deploy.server.place, why))).collect()
    }

    /// Why nothing of a change is tried on a server.
    fn not_allowed(&self, server: &str) -> Option<String> {
        if self.servers.iter().any(|pattern| pattern.matches(server)) {
            return None;
        }
        let branch = &self.branch;
        Some(if self.servers.is_empty() {
            format!(
                "nothing of a change is tried on a server: the release.toml of `{branch}` has no `servers` in [pipeline]"
            )
        } else {
            let shown: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
            let server = console::cut(server, 80);
            format!(
                "nothing of a change is tried on `{server}`: `servers` in [pipeline] of the release.toml of `{branch}` has {}",
                quoted(&shown)
            )
        })
    }

    /// Puts a release into the overlay, unless it is there, for a server whose agent reads that: the bucket of the trial. `made` is
    /// what the run has built of the app, and `candidates` where that lies.
    pub(super) async fn put(
        &self,
        candidates: &Bucket,
        id: &ChangeId,
        (server, release): (&ServerName, &ReleaseName),
        made: Option<Made>,
    ) -> Result<Bucket> {
        let (bucket, buildset) = self.overlay.as_ref().map_err(|why| anyhow::anyhow!("{why}"))?;
        if let Some(why) = self.not_allowed(server.as_str()) {
            bail!("{why}");
        }
        let overlay = Overlay::of(bucket, buildset).await.context("could not read the overlay")?;
        let overlay = overlay.with_context(|| {
            format!("the overlay of the buildset `{}` is gone: its try has ended meanwhile", buildset.buildset)
        })?;
        ensure_read_by(bucket, buildset, server).await?;
        let candidate = made.filter(|made| made.release == *release).and_then(|made| made.candidate);
        if let Some(path) = candidate {
            let (place, recorded) = recorded(candidates, id, &path).await?;
            take(bucket, &overlay, candidates, (&place, &recorded)).await?;
        } else {
            let there = bucket.release(release).await.context("could not read the overlay")?;
            ensure!(
                there.is_some(),
                "`{}` is not in the overlay, and this run has not built it: a change tries what its own run has built, or what its \
                 overlay has",
                release.stem()
            );
        }
        Ok(bucket.clone())
    }
}

/// Where a candidate lies, and what is recorded of it.
async fn recorded(candidates: &Bucket, id: &ChangeId, path: &str) -> Result<(CandidatePlace, RecordedCandidate)> {
    let change = read_known(candidates, id).await?;
    let recorded = change.candidates.into_iter().find(|known| known.path == path);
    let recorded = recorded.with_context(|| format!("`{path}` is recorded with `{id}` no more"))?;
    Ok((recorded.place(id).map_err(anyhow::Error::msg)?, recorded))
}

/// Takes a candidate into the overlay as the release that it would be. What is there already must be the same.
async fn take(
    bucket: &Bucket,
    overlay: &Overlay,
    candidates: &Bucket,
    (place, recorded): (&CandidatePlace, &RecordedCandidate),
) -> Result<()> {
    let release = place.release();
    let failed = || format!("could not take `{}` into the overlay", release.stem());
    match overlay.take_candidate(candidates, place, (&recorded.sha256, recorded.size)).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => bail!("{}: the candidate is gone: build it again", failed()),
        Err(Error::AlreadyExists { .. }) => {
            let there = bucket.release(release).await.with_context(failed)?.and_then(|there| there.metadata.ok());
            ensure!(
                there.is_some_and(|there| there.sha256 == recorded.sha256),
                "{}: it has other bytes under that name, of another build in the same second: build it again",
                failed()
            );
            Ok(())
        }
        Err(error) => Err(error).with_context(failed),
    }
}

/// Makes sure that the agent of a server reports to the overlay, as one that reads it does.
async fn ensure_read_by(bucket: &Bucket, buildset: &Buildset, server: &ServerName) -> Result<()> {
    let shown = url(buildset);
    match server::read(bucket, server).await.status {
        Reading::Known(status) => match overdue(&status, bucket.now()) {
            None => Ok(()),
            Some(silent) => bail!(
                "the agent of `{server}` does not read the overlay any more: it last reported there {} ago",
                age(silent)
            ),
        },
        Reading::Absent => bail!(
            "no agent of `{server}` reads the overlay, as none has reported there: let the agent have `bucket = \"{shown}\"` and \
             report once before it is tried"
        ),
        Reading::Unreadable(reason) => {
            bail!("whether the agent of `{server}` reads the overlay is not known: its report cannot be read: {reason}")
        }
    }
}
