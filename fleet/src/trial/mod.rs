//! Trials: a release runs on a server for a while, and then what was there before is put back. `release run` calls this.
//!
//! A trial is a push with a hold of its own, which is written first and says what is needed to put things back. So at whatever
//! moment a runner dies, the next one that wants the server finds the hold once it is over, and puts back what the dead one would
//! have. [`begin`] waits for its turn and pushes, [`outcome`] waits for the agent, and [`end`] is called whatever came of both.

mod decide;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bucket::{
    AppName, Bucket, Error, Generation, HeldTrial, Hold, Holds, PushHead, PushId, PushKind, ReleaseName, ServerName,
    Timestamp,
};
use futures_util::FutureExt as _;
use jiff::SignedDuration;
use tokio::time::{Instant, sleep};

use self::decide::{Standing, Turn, standing, turn};
use crate::{
    account::{self, Stage},
    hold::{self, in_words},
    lookup::ensure_known,
    operation::{Intent, JustRead, NotPushed, Operator, PushResult, carry_out_as, find},
    outcome::{Outcome, follow},
    policy::{Case, Reason},
    push, redo,
    rollback::with_told,
    server,
};

/// How often a run looks whether it is its turn.
const PERIOD: Duration = Duration::from_secs(1);

/// How much longer the hold of a trial lasts than the trial may take: for putting back what was there, over a slow network.
const MARGIN: Duration = Duration::from_mins(5);

/// How often a write is decided upon anew because somebody else wrote.
const MAX_WRITES: u32 = 10;

/// Most entries of a server's history, and most pushes, that are read to see who pushed there since a trial began.
const MAX_SINCE: usize = 1000;

/// What a trial that was given up comes to.
const GIVEN_UP: &str = "nothing was written: the trial was given up";

/// How much earlier than a hold's a push after it may seem to be, because two clocks disagree.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(10);

/// What is to be tried where, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// What it is called: one of its own for each trial ([`PushId::random`]).
    pub id: PushId,
    /// The server.
    pub server: ServerName,
    /// The release.
    pub release: ReleaseName,
    /// How long it may take until it is its turn, and then again until the agent has converged.
    pub wait: Duration,
    /// How long what is done with the running release may take.
    pub test: Duration,
}

/// What became of a trial when it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The document has again what it had for the app.
    PutBack,
    /// There was nothing to put back: it was never written, or the document has what it had already.
    AsBefore,
    /// Somebody has pushed the app there since, or changed its entry by hand: that stays.
    Theirs(Theirs),
}

/// What somebody else made of an app while it was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theirs {
    app: AppName,
    server: ServerName,
    /// Who, if it was a push.
    by: Option<String>,
    now: Option<ReleaseName>,
}

impl fmt::Display for Theirs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, server, by, now } = self;
        let by = by.as_ref().map_or("by hand".to_owned(), |by| format!("by `{}`", console::safe(by)));
        let now = now.as_ref().map_or("nothing".to_owned(), |now| format!("`{}`", now.stem()));
        write!(f, "`{app}` on `{server}` was changed {by} while it was tried: it stays as it is now, {now}")
    }
}

/// Waits for the trial's turn on its server, puts the app there on hold and pushes the release: by the policy, the history and the
/// generation, as any push. Gives the generation that names it. `say` is told what it waits for and what to know.
///
/// Whoever no longer wants it says so by `is_given_up`, and waits for the end all the same: what is being written is then either
/// written or not when [`end`] looks.
///
/// An operator's hold is not waited for: it mostly lasts for hours, and whoever starts the run again once it is over loses less
/// than everybody who waits behind this one.
///
/// # Errors
/// Why it could not begin. [`end`] is due all the same.
pub async fn begin(
    bucket: &Bucket,
    operator: &Operator,
    trial: &Trial,
    is_given_up: impl Fn() -> bool + Send + Sync,
    say: impl Fn(&str) + Send + Sync,
) -> Result<Generation> {
    let (server, app) = (&trial.server, trial.release.app());
    let release = find(bucket, &trial.release).await?;
    ensure_known(bucket, &server::read(bucket, server).await).await?;
    let dirty = release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty);
    let reason = Reason::Given(&operator.reason);
    operator.policy.judge(&operator.who, Case { server, app, dirty, reason })?;
    let operator = own(operator);
    let mut push = take_turn(bucket, &operator, trial, &is_given_up, &say).boxed().await?;
    if let Some(untold) = hold::untold(bucket, server).await {
        say(&untold.to_string());
    }
    for _ in 0..MAX_WRITES {
        ensure!(!is_given_up(), GIVEN_UP);
        let seen = push::read(bucket, server).await?;
        let before = seen.document.release_of(app).cloned();
        ensure!(
            note(bucket, trial, &push, before.as_ref()).await?,
            "nothing was written: the hold of this trial on `{server}` has ended meanwhile"
        );
        let (server, app, to) = (server.clone(), app.clone(), Some(trial.release.clone()));
        let intent = Intent { server, app, from: before, to, kind: PushKind::Trial };
        let just_read = JustRead { release: Some(release.clone()), seen };
        let pushed = write(bucket, &operator, (push, None), intent, just_read).await?;
        match pushed.result {
            Ok(generation) => {
                pushed.incomplete.iter().for_each(|incomplete| say(&incomplete.to_string()));
                return Ok(generation);
            }
            // Somebody wrote the document since it was read: what it had before may be something else.
            Err(NotPushed::Conflict(_)) => push = PushId::random(),
            Err(error) => return Err(error.into()),
        }
    }
    bail!("nothing was written: the document of `{server}` changed {MAX_WRITES} times meanwhile: try again")
}

/// Waits until the agent has converged or rolled back. `say` is told how far it is.
pub async fn outcome(
    bucket: &Bucket,
    trial: &Trial,
    generation: Generation,
    say: impl Fn(&str) + Send + Sync,
) -> Outcome {
    follow(bucket, &trial.server, (Some(&trial.release), generation), trial.wait, say).await
}

/// Ends a trial, whatever came of it: puts back exactly what the document had for the app, unless somebody has changed that since,
/// and ends its hold. `say` is told what to know.
///
/// # Errors
/// When it could not be put back. Then the trial is left over, and the next one on this server puts it back.
pub async fn end(
    bucket: &Bucket,
    operator: &Operator,
    trial: &Trial,
    say: impl Fn(&str) + Send + Sync,
) -> Result<Ended> {
    let server = &trial.server;
    let holds = bucket.holds(server).await.with_context(|| format!("could not read the holds of `{server}`"))?;
    let own_one = |hold: &&Hold| hold.trial.as_ref().is_some_and(|held| held.id == trial.id);
    let Some(hold) = holds.and_then(|(_, holds)| holds.holds.iter().find(own_one).cloned()) else {
        return Ok(Ended::AsBefore);
    };
    let operator = own(operator);
    let ended = put_back(bucket, &operator, server, &hold, &say).boxed().await;
    if ended.is_err() {
        // Whoever comes next need not wait for it. What this comes to is as good as if this process had died.
        let over = |hold: &mut Hold, now| hold.until = hold.until.min(now);
        if let Err(error) = change_own(bucket, server, &trial.id, over).await {
            say(&format!("{error:#}"));
        }
    }
    ended
}

/// Whoever tries something pushes under the hold of the trial.
fn own(operator: &Operator) -> Operator {
    Operator { held: true, without_waves: false, channel: None, ..operator.clone() }
}

/// Waits until nobody else tries something on the server and puts the app there on hold. What a trial left over there that died
/// is put back first. Gives what the push will be called.
async fn take_turn(
    bucket: &Bucket,
    operator: &Operator,
    trial: &Trial,
    is_given_up: &(impl Fn() -> bool + Sync),
    say: &(impl Fn(&str) + Sync),
) -> Result<PushId> {
    let Trial { id, server, release, wait, test } = trial;
    let app = release.app();
    let lasts = SignedDuration::try_from(wait.saturating_add(*test).saturating_add(MARGIN));
    let lasts = lasts.ok().filter(|lasts| *lasts <= hold::MAX).context("a trial cannot take longer than a hold")?;
    let end = Instant::now() + *wait;
    let (mut waits_for, mut given_up) = (None, BTreeSet::new());
    loop {
        ensure!(!is_given_up(), GIVEN_UP);
        let read = bucket.holds(server).await.with_context(|| format!("could not read the holds of `{server}`"))?;
        let (seen, mut holds) = read.map_or((None, Holds::default()), |(seen, holds)| (Some(seen), holds));
        let now = bucket.now();
        if let Some((hold, left)) = holds.left_over(now).find(|(_, left)| !given_up.contains(&left.id)) {
            take_over(bucket, operator, server, (hold, left), say).await;
            given_up.insert(left.id.clone());
            continue;
        }
        match turn(&holds, server, app, now)? {
            Turn::Ours => {
                let push = PushId::random();
                let before = push::read(bucket, server).await?.document.release_of(app).cloned();
                let held = HeldTrial { id: id.clone(), push: push.clone(), release: release.clone(), before };
                holds.holds.retain(|hold| hold.until > now || hold.trial.is_some());
                holds.holds.push(Hold {
                    app: Some(app.clone()),
                    by: operator.who.name.clone(),
                    why: operator.reason.clone(),
                    at: now,
                    until: now.checked_add(lasts).context("the hold ends too late")?,
                    trial: Some(held),
                    other: serde_json::Map::new(),
                });
                match bucket.write_holds(server, &holds, seen).await {
                    Ok(_) => return Ok(push),
                    Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => continue,
                    Err(error) => {
                        return Err(error).with_context(|| format!("could not write the holds of `{server}`"));
                    }
                }
            }
            Turn::After(other, tried) => {
                let told = in_words(other, now);
                ensure!(Instant::now() < end, "timed out waiting for its turn on `{server}`: {told}");
                if waits_for.as_ref() != Some(&tried.id) {
                    say(&format!("waits for its turn on {server}: {told}"));
                    waits_for = Some(tried.id.clone());
                }
            }
        }
        sleep(PERIOD).await;
    }
}

/// Puts back what a trial left over that died. Of another app than this one it is nobody's business who may not push that.
async fn take_over(
    bucket: &Bucket,
    operator: &Operator,
    server: &ServerName,
    (hold, left): (&Hold, &HeldTrial),
    say: &(impl Fn(&str) + Sync),
) {
    let tried = left.release.stem();
    if let Err(error) = end_cut_off(bucket, operator, (hold, left)).await {
        say(&format!("could not end a push of the trial of `{tried}` on {server}, which was cut off: {error:#}"));
    }
    match put_back(bucket, operator, server, hold, say).await {
        Ok(Ended::PutBack) => {
            say(&format!("put back what `{tried}` had replaced on {server}, which a trial left over"));
        }
        Ok(Ended::AsBefore) => {}
        Ok(Ended::Theirs(theirs)) => say(&theirs.to_string()),
        Err(error) => say(&format!("could not put back what `{tried}` had replaced on {server}: {error:#}")),
    }
}

/// Ends the pushes of a trial that died, both that which it tried by and those that were to put things back, as far as they were
/// recorded and never written: a trial is not continued, so they would stay cut off.
async fn end_cut_off(bucket: &Bucket, operator: &Operator, (hold, left): (&Hold, &HeldTrial)) -> Result<()> {
    let pushes = bucket.pushes_since(since(hold), MAX_SINCE).await.context("could not list the last pushes")?;
    let is_of_it = |head: &&PushHead| head.id == left.push || head.of.as_ref() == Some(&left.push);
    for head in pushes.iter().filter(is_of_it).filter(|head| head.unwritten.is_none()) {
        let account = account::read(bucket, &head.id).await?;
        if account.stage != Stage::Over {
            redo::stop(bucket, &account, &operator.policy, &operator.who).await?;
        }
    }
    Ok(())
}

/// Since when pushes may be of a trial.
fn since(hold: &Hold) -> Timestamp {
    hold.at.saturating_sub(CLOCKS_APART).unwrap_or(hold.at)
}

/// Notes what the trial's push is called and what it replaces; whether its hold is still in force.
async fn note(bucket: &Bucket, trial: &Trial, push: &PushId, before: Option<&ReleaseName>) -> Result<bool> {
    let mut is_held = false;
    change_own(bucket, &trial.server, &trial.id, |hold, now| {
        is_held = hold.until > now;
        if let Some(held) = hold.trial.as_mut().filter(|_| is_held) {
            (held.push, held.before) = (push.clone(), before.cloned());
        }
    })
    .await?;
    Ok(is_held)
}

/// Changes the hold of a trial, if it has one.
async fn change_own(
    bucket: &Bucket,
    server: &ServerName,
    id: &PushId,
    mut change: impl FnMut(&mut Hold, Timestamp),
) -> Result<()> {
    let now = bucket.now();
    let is_own = |hold: &&mut Hold| hold.trial.as_ref().is_some_and(|held| held.id == *id);
    hold::change(bucket, server, |holds| holds.holds.iter_mut().filter(is_own).for_each(|hold| change(hold, now))).await
}

/// Puts back what a trial replaced, if the document still has what it wrote, and takes its hold away.
async fn put_back(
    bucket: &Bucket,
    operator: &Operator,
    server: &ServerName,
    hold: &Hold,
    say: &(impl Fn(&str) + Sync),
) -> Result<Ended> {
    let Some(tried) = &hold.trial else { return Ok(Ended::AsBefore) };
    let ended = restore(bucket, operator, server, (hold, tried), say)
        .await
        .with_context(|| format!("could not put back what `{}` has replaced on `{server}`", tried.release.stem()))?;
    let is_own = |hold: &Hold| hold.trial.as_ref().is_some_and(|known| known.id == tried.id);
    hold::change(bucket, server, |holds| holds.holds.retain(|hold| !is_own(hold))).await?;
    if let Some(untold) = hold::untold(bucket, server).await {
        say(&untold.to_string());
    }
    Ok(ended)
}

/// Writes what the document had before, over the generation by which that was decided.
async fn restore(
    bucket: &Bucket,
    operator: &Operator,
    server: &ServerName,
    (hold, tried): (&Hold, &HeldTrial),
    say: &(impl Fn(&str) + Sync),
) -> Result<Ended> {
    let HeldTrial { push, release, before, .. } = tried;
    for _ in 0..MAX_WRITES {
        let seen = push::read(bucket, server).await?;
        let history = bucket.history_since(server, since(hold), MAX_SINCE).await;
        let history = history.with_context(|| format!("could not read the history of `{server}`"))?;
        let history = match seen.generation {
            Some(generation) => with_told(history, server, generation, &seen.document),
            None => history,
        };
        match standing(tried, &seen.document, &history) {
            Standing::Tried => {}
            Standing::AsBefore => return Ok(Ended::AsBefore),
            Standing::Changed { by } => {
                let (app, now) = (release.app().clone(), seen.document.release_of(release.app()).cloned());
                return Ok(Ended::Theirs(Theirs { app, server: server.clone(), by, now }));
            }
        }
        let (server, app, from) = (server.clone(), release.app().clone(), Some(release.clone()));
        let intent = Intent { server, app, from, to: before.clone(), kind: PushKind::TrialEnd };
        // What was there goes back whatever it is, and also if it is gone from the bucket: the agent may have it.
        let just_read = JustRead { release: None, seen };
        let pushed = write(bucket, operator, (PushId::random(), Some(push)), intent, just_read).await?;
        match pushed.result {
            Ok(_) => {
                pushed.incomplete.iter().for_each(|incomplete| say(&incomplete.to_string()));
                return Ok(Ended::PutBack);
            }
            Err(NotPushed::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("its document changed {MAX_WRITES} times meanwhile")
}

/// Carries one push to one server out.
async fn write(
    bucket: &Bucket,
    operator: &Operator,
    push: (PushId, Option<&PushId>),
    intent: Intent,
    just_read: JustRead,
) -> Result<PushResult> {
    let pushed = carry_out_as(bucket, operator, push, vec![(intent, Some(just_read))], |_, _| ()).boxed().await;
    pushed.into_iter().next().context("a push to one server has one result")
}
