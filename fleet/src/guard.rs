//! What keeps everybody from pushing, whatever their role: a halt of everything, releases that were rejected, and holds.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use bucket::{AppName, Bucket, Halt, Holds, PushKind, Rejection, ReleaseName, ServerName, Timestamp};
use futures_util::future::try_join_all;
use thiserror::Error;
use tokio::{
    sync::{Mutex, OnceCell},
    time::{Duration, Instant},
};

use crate::{
    hold::{self, AllHolds, OnHold},
    identity::Identity,
    policy::{Policy, Role},
    reason::ensure_short,
    server::Reading,
};

/// For how long what was read of a halt and of holds counts while a push is being written.
const HALT_LASTS: Duration = Duration::from_secs(5);

/// Why nobody may push that now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Guarded {
    /// All pushes are halted.
    #[error("nothing was written: `{}` halted all pushes at {}: {}; `push halt --lift` ends that, and undo and rollback work meanwhile", console::safe(&.0.by), .0.at, console::safe(&.0.why))]
    Halted(Box<Halt>),
    /// The release was rejected.
    #[error("nothing was written: `{}` is rejected: choose another release; `push unreject` takes that back", .0.stem())]
    Rejected(Box<ReleaseName>),
    /// Somebody works on the server.
    #[error(transparent)]
    Held(#[from] Box<OnHold>),
}

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intended<'a> {
    /// What the push is for.
    pub(crate) kind: &'a PushKind,
    /// The server.
    pub(crate) server: &'a ServerName,
    /// The app; `None` if it is about the whole server.
    pub(crate) app: Option<&'a AppName>,
    /// The release, if there is one.
    pub(crate) release: Option<&'a ReleaseName>,
    /// Who pushes.
    pub(crate) who: &'a str,
    /// Whether they push in spite of their own hold.
    pub(crate) held: bool,
}

/// What is known of halts and rejections while a push is being written.
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    bucket: &'a Bucket,
    apps: BTreeSet<AppName>,
    rejected: OnceCell<BTreeSet<ReleaseName>>,
    /// When it was read, and what was found.
    halt: Mutex<Option<(Instant, Option<Halt>)>>,
    /// When they were listed, and what was read.
    holds: Mutex<Option<(Instant, AllHolds)>>,
}

impl<'a> Guard<'a> {
    /// Of a push of these apps. Nothing is read yet.
    pub(crate) fn new(bucket: &'a Bucket, apps: impl IntoIterator<Item = AppName>) -> Self {
        let apps = apps.into_iter().collect();
        Self { bucket, apps, rejected: OnceCell::new(), halt: Mutex::new(None), holds: Mutex::new(None) }
    }

    /// Sees whether a row may be written now. Rejections are read once, a halt and holds again every few seconds.
    ///
    /// # Errors
    /// The [`Guarded`] reason why not, or that it can't be read: then nothing may be written either.
    pub(crate) async fn judge(&self, row: Intended<'_>) -> Result<()> {
        let rejected = self.rejected.get_or_try_init(|| self.read_rejected());
        let (rejected, halt, holds) = tokio::join!(rejected, self.halt(), self.holds(row.server));
        judge(halt?.as_ref(), rejected?, row.kind, row.release)?;
        if let Some(holds) = holds? {
            let now = self.bucket.now();
            hold::judge(&holds, row.server, row.app, row.who, row.held, now).map_err(Guarded::Held)?;
        }
        Ok(())
    }

    /// The holds of a server, if it has some.
    async fn holds(&self, server: &ServerName) -> Result<Option<Holds>> {
        let mut known = self.holds.lock().await;
        if known.as_ref().is_none_or(|(read, _)| read.elapsed() >= HALT_LASTS) {
            let before = known.take().map(|(_, holds)| holds).unwrap_or_default();
            let holds = hold::all(self.bucket, &before).await;
            let holds = holds.context("nothing was written: could not read which servers are on hold")?;
            *known = Some((Instant::now(), holds));
        }
        match known.as_ref().and_then(|(_, holds)| holds.get(server)) {
            Some((_, Reading::Known(holds))) => Ok(Some(holds.clone())),
            Some((_, Reading::Unreadable(error))) => {
                bail!("nothing was written: could not read whether `{server}` is on hold: {error}")
            }
            Some((_, Reading::Absent)) | None => Ok(None),
        }
    }

    async fn read_rejected(&self) -> Result<BTreeSet<ReleaseName>> {
        let rejected = self.apps.iter().map(async |app| {
            let rejected = self.bucket.rejected(app).await;
            rejected
                .with_context(|| format!("nothing was written: could not read which releases of `{app}` are rejected"))
        });
        Ok(try_join_all(rejected).await?.into_iter().flatten().collect())
    }

    async fn halt(&self) -> Result<Option<Halt>> {
        let mut known = self.halt.lock().await;
        if let Some((read, halt)) = &*known
            && read.elapsed() < HALT_LASTS
        {
            return Ok(halt.clone());
        }
        let halt = halt(self.bucket).await?;
        *known = Some((Instant::now(), halt.clone()));
        Ok(halt)
    }
}

async fn halt(bucket: &Bucket) -> Result<Option<Halt>> {
    let read = bucket.halt().await.context("nothing was written: could not read whether all pushes are halted")?;
    Ok(read.map(|(_, halt)| halt))
}

/// Reads whether a halt or a rejection keeps everybody from pushing a release now.
///
/// # Errors
/// The [`Guarded`] reason why nobody may, or that it can't be read.
pub async fn ensure_unguarded(bucket: &Bucket, kind: &PushKind, release: &ReleaseName) -> Result<()> {
    let guard = Guard::new(bucket, [release.app().clone()]);
    let (halt, rejected) = tokio::join!(guard.halt(), guard.read_rejected());
    Ok(judge(halt?.as_ref(), &rejected?, kind, Some(release))?)
}

/// Whether a halt or a rejection keeps everybody from pushing a release. Going back is never halted, and an undo restores even
/// what was rejected since, as the end of a trial does. Taking an app off a server, without a release, is not going back.
///
/// # Errors
/// Which of them does.
pub fn judge(
    halt: Option<&Halt>,
    rejected: &BTreeSet<ReleaseName>,
    kind: &PushKind,
    release: Option<&ReleaseName>,
) -> Result<(), Guarded> {
    let restores = matches!(kind, PushKind::Undo | PushKind::TrialEnd);
    let goes_back = restores || *kind == PushKind::Rollback;
    match halt {
        Some(halt) if !goes_back => return Err(Guarded::Halted(Box::new(halt.clone()))),
        _ => {}
    }
    match release.filter(|release| !restores && rejected.contains(release)) {
        Some(release) => Err(Guarded::Rejected(Box::new(release.clone()))),
        None => Ok(()),
    }
}

/// Who may not decide that for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAllowed {
    /// Only an admin may halt everything, and lift that.
    #[error("`{0}` may not halt pushes or lift a halt: that takes the role `admin`")]
    NotAdmin(String),
    /// Only who may push the app may reject its releases.
    #[error(
        "`{0}` may not reject releases of `{1}`: that takes the role `deployer` for it on every server that has it"
    )]
    NotDeployer(String, AppName),
}

/// Whether somebody may halt all pushes, and lift that.
///
/// # Errors
/// Why not.
pub fn may_halt(policy: &Policy, who: &Identity) -> Result<(), NotAllowed> {
    if policy.highest_role(who) < Role::Admin {
        return Err(NotAllowed::NotAdmin(who.name.clone()));
    }
    Ok(())
}

/// Whether somebody may reject releases of an app that `servers` have, and take that back. Of one that no server has, as a container
/// image, it takes the role for the app wherever that is.
///
/// # Errors
/// Why not.
pub fn may_reject<'a>(
    policy: &Policy,
    who: &Identity,
    app: &AppName,
    servers: impl IntoIterator<Item = &'a ServerName>,
) -> Result<(), NotAllowed> {
    let least = servers.into_iter().map(|server| policy.role(who, app, server)).min();
    if least.unwrap_or(policy.role_for(who, app)) < Role::Deployer {
        return Err(NotAllowed::NotDeployer(who.name.clone(), app.clone()));
    }
    Ok(())
}

/// Whoever meets it later must be able to read why.
fn ensure_reason(why: &str) -> Result<()> {
    ensure!(!why.trim().is_empty(), "no reason specified: say why, for everybody who would push");
    ensure_short(why)
}

/// Halts all pushes, or says who has.
pub async fn begin_halt(bucket: &Bucket, who: &Identity, why: &str) -> Result<()> {
    ensure_reason(why)?;
    let halt = Halt { schema: 1, by: who.name.clone(), why: why.to_owned(), at: Timestamp::now() };
    match bucket.begin_halt(&halt).await {
        Ok(_) => Ok(()),
        Err(bucket::Error::AlreadyExists { .. }) => {
            let halted = self::halt(bucket).await?.map(|halt| Guarded::Halted(Box::new(halt)).to_string());
            anyhow::bail!(halted.unwrap_or_else(|| "a halt was lifted at this moment: try again".to_owned()))
        }
        Err(error) => Err(error).context("could not halt pushes"),
    }
}

/// Rejects a release.
pub async fn reject(bucket: &Bucket, who: &Identity, release: &ReleaseName, why: &str) -> Result<()> {
    ensure_reason(why)?;
    let at = Timestamp::now();
    let rejection = Rejection { schema: 1, release: release.clone(), by: who.name.clone(), why: why.to_owned(), at };
    match bucket.reject(&rejection).await {
        // Whoever was first: it is rejected.
        Ok(_) | Err(bucket::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("could not reject `{}`", release.stem())),
    }
}

/// Takes back the rejection of a release.
///
/// # Errors
/// Also that it is not rejected.
pub async fn unreject(bucket: &Bucket, release: &ReleaseName) -> Result<()> {
    let was_rejected = bucket.unreject(release).await.context("could not take back the rejection")?;
    ensure!(was_rejected, "`{}` is not rejected", release.stem());
    Ok(())
}

/// Lifts the halt; whether there was one.
pub async fn lift_halt(bucket: &Bucket) -> Result<bool> {
    bucket.lift_halt().await.context("could not lift the halt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::tests::{now, release};

    #[test]
    fn going_back_is_never_halted_and_an_undo_restores_what_was_rejected() {
        use PushKind::{Deploy, Retry, Rollback, Trial, Undo};
        let halt = Halt { schema: 1, by: "dev".into(), why: "outage".into(), at: now() };
        let rejected = BTreeSet::from([release(1)]);
        for kind in [Deploy, Retry, Trial, PushKind::Remove, PushKind::Other("tomorrow".into())] {
            let halted = judge(Some(&halt), &BTreeSet::new(), &kind, Some(&release(2))).unwrap_err();
            assert!(halted.to_string().contains("`dev` halted all pushes"), "{kind}: {halted}");
            assert_eq!(
                judge(None, &rejected, &kind, Some(&release(1))),
                Err(Guarded::Rejected(Box::new(release(1)))),
                "{kind}"
            );
            assert_eq!(judge(None, &rejected, &kind, Some(&release(2))), Ok(()), "{kind}");
        }
        // A removal names no release that could be rejected, and is halted unless it undoes something.
        assert_eq!(judge(None, &rejected, &PushKind::Remove, None), Ok(()));
        assert!(judge(Some(&halt), &rejected, &PushKind::Remove, None).is_err());
        assert_eq!(judge(Some(&halt), &rejected, &Undo, None), Ok(()));
        assert_eq!(judge(Some(&halt), &rejected, &Rollback, Some(&release(2))), Ok(()));
        assert_eq!(
            judge(Some(&halt), &rejected, &Rollback, Some(&release(1))),
            Err(Guarded::Rejected(Box::new(release(1))))
        );
        for restores in [Undo, PushKind::TrialEnd] {
            assert_eq!(judge(Some(&halt), &rejected, &restores, Some(&release(1))), Ok(()));
        }
    }
}
