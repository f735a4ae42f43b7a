//! Carrying a rollout on, one step at a time, by whoever is there.
//!
//! Any number of programs may drive one rollout: what a step decides is written over the generation that was read, before it is
//! done. Each document is written with the generation that was noted then, so that each server is written at most once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use bucket::{
    Bucket, ChannelName, DocumentMetadata, Driven, Error, Generation, NewBucket, Push, PushEnd, PushId, PushKind,
    PushRow, Rollout, RolloutStage, ServerName, Undo, UnwrittenCause, UnwrittenRow, WaveRow,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;
use tokio::sync::watch;

use super::{
    next::{Next, Surroundings, Waiting, next},
    observe::observe,
};
use crate::{
    account,
    guard::Guarded,
    identity::{Identity, Origin},
    operation::{Intent, JustRead, NotPushed, Operator, PushResult, carry_wave, find},
    poke::PokeSettings,
    policy::Policy,
    push::Seen,
    redo::undone,
    rollback::find_or_cached,
    server::{Server, Servers},
};

/// How often a rollout that nothing happens to says that it is driven.
const SAYS_SO: SignedDuration = SignedDuration::from_mins(1);

/// Documents that are closed to other drivers at the same time.
const AT_ONCE: usize = 16;

/// Who drives rollouts, and by which rules.
#[derive(Debug, Clone)]
pub struct Driver {
    /// The program and its machine.
    pub name: String,
    /// The rules of today.
    pub policy: Arc<Policy>,
    /// Whether and how servers are poked.
    pub poke: PokeSettings,
    /// What says `true` once the program is to end, if it listens to that: it then ends the writes that it has begun.
    pub stop: Option<watch::Receiver<bool>>,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Something was done, and more may be to do.
    Moved(Box<Rollout>),
    /// Nothing can be done before that.
    Waits(Box<Rollout>, Waiting),
    /// Another driver was faster, or somebody decided something.
    Contended,
}

impl Driver {
    /// Does what there is to do about a rollout now. `servers` are those of the rollout and of its groups, read after the rollout:
    /// else what another driver wrote in between would look like somebody's push. Their reports bear the bucket's time; `held` are
    /// those that nobody may write.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn step(
        &self,
        bucket: &Bucket,
        (generation, before): (Generation, Rollout),
        servers: &dyn Servers,
        held: &BTreeMap<ServerName, bucket::Timestamp>,
        halted: bool,
    ) -> Result<Step> {
        let now = bucket.now();
        let mut after = observe(before.clone(), servers);
        let decided = next(&after, Surroundings { servers, held, halted, now });
        match &decided {
            Next::Write(names) | Next::Undo(names) => {
                let names: BTreeSet<&ServerName> = names.iter().collect();
                for row in after.rows_mut().filter(|row| names.contains(&row.server)) {
                    let document = servers.get(&row.server).and_then(|server| server.document.known());
                    row.noted = Some(document.map_or(Generation(0), |(generation, _)| *generation));
                }
            }
            Next::Stop(stop) => {
                (after.stage, after.stopped) = (RolloutStage::Stopped, Some(stop.to_string()));
                if after.rules.undo_on_stop {
                    let (who, signed_in) = (after.who.clone(), after.signed_in);
                    begin_undo(
                        &mut after,
                        Undo { id: PushId::random(), began: now, who, signed_in, why: stop.to_string() },
                    );
                }
            }
            Next::End(stage) => {
                // First what others go by: whoever is killed in between does both again.
                end(bucket, &after, &self.name).await?;
                after.stage = stage.clone();
            }
            Next::Close(_) | Next::Wait(_) => {}
        }
        let is_told = after.driven.as_ref().is_some_and(|driven| now.duration_since(driven.at) < SAYS_SO);
        let is_driven =
            !after.stage.is_over() && !matches!(after.stage, RolloutStage::Stopped | RolloutStage::Other(_));
        let mut generation = generation;
        if after != before || (is_driven && !is_told) {
            after.driven = Some(Driven { by: self.name.clone(), at: now });
            match bucket.write_rollout(&after, Some(generation)).await {
                Ok(written) => generation = written,
                Err(Error::Conflict { .. }) => return Ok(Step::Contended),
                Err(error) => return Err(error).with_context(|| format!("could not write rollout {}", after.id)),
            }
        }
        match decided {
            Next::Write(names) => self.write(bucket, generation, after, &names, servers).await,
            Next::Close(names) => close(bucket, after, names).await,
            Next::Undo(names) => self.undo(bucket, generation, after, &names, servers).await,
            Next::Stop(_) | Next::End(_) => Ok(Step::Moved(Box::new(after))),
            Next::Wait(waiting) => Ok(Step::Waits(Box::new(after), waiting)),
        }
    }

    async fn write(
        &self,
        bucket: &Bucket,
        generation: Generation,
        mut rollout: Rollout,
        names: &[ServerName],
        servers: &dyn Servers,
    ) -> Result<Step> {
        let release = find(bucket, &rollout.release).await?;
        let rows: BTreeMap<&ServerName, &WaveRow> = rollout.rows().map(|row| (&row.server, row)).collect();
        let intents = names.iter().filter_map(|name| rows.get(name)).map(|row| {
            let intent = Intent {
                server: row.server.clone(),
                app: rollout.app.clone(),
                from: row.from.clone(),
                to: Some(rollout.release.clone()),
                kind: PushKind::Deploy,
            };
            Ok((intent, JustRead { release: Some(release.clone()), seen: seen(servers, &row.server)? }))
        });
        let intents = readable(intents)?;
        let settle = Some(rollout.rules.settle_seconds).filter(|seconds| *seconds > 0);
        let channel = rollout.channel.clone();
        let operator = self.operator((&rollout.who, rollout.signed_in), &rollout.why, rollout.held, channel);
        let results = carry_wave(bucket, &operator, (push_of(&rollout), settle), intents, || self.goes_on()).await;
        let goes_on = self.goes_on();
        // What the rules forbid by now, as to who lost the role, and a release that was rejected stop the rollout; what else
        // went wrong is tried again.
        let refused = results.iter().find_map(|result| match &result.result {
            // Whoever drives it next writes what this program doesn't come to.
            Err(NotPushed::Stopped) if !goes_on => None,
            Err(error @ (NotPushed::Refused(_) | NotPushed::Guarded(Guarded::Rejected(_)) | NotPushed::Stopped)) => {
                Some(format!("{}: {error}", result.intent.server))
            }
            _ => None,
        });
        if let Some(why) = refused {
            (rollout.stage, rollout.stopped) = (RolloutStage::Stopped, Some(why));
            match bucket.write_rollout(&rollout, Some(generation)).await {
                Ok(_) | Err(Error::Conflict { .. }) => {}
                Err(error) => return Err(error).context("could not write that the rollout stopped"),
            }
        }
        ended(rollout, &results)
    }

    async fn undo(
        &self,
        bucket: &Bucket,
        generation: Generation,
        mut rollout: Rollout,
        names: &[ServerName],
        servers: &dyn Servers,
    ) -> Result<Step> {
        let undo = rollout.undo.clone().context("the rollout does not say by which push it is undone")?;
        let (push, mut impossible) = undo_push(bucket, &rollout, &undo).await?;
        let rows: BTreeMap<&ServerName, &PushRow> = push.rows.iter().map(|row| (&row.server, row)).collect();
        for name in names.iter().filter(|name| !rows.contains_key(name)) {
            // That push is never changed: nothing more comes of it.
            impossible
                .entry(name.clone())
                .or_insert_with(|| "the push that undoes the rollout does not have it".to_owned());
        }
        if !impossible.is_empty() {
            for row in rollout.rows_mut() {
                if let Some(why) = impossible.get(&row.server) {
                    row.left = Some(format!("it could not be undone: {why}"));
                }
            }
            match bucket.write_rollout(&rollout, Some(generation)).await {
                Ok(_) => {}
                Err(Error::Conflict { .. }) => return Ok(Step::Contended),
                Err(error) => return Err(error).context("could not write what can't be undone"),
            }
        }
        let mut intents = Vec::new();
        for row in names.iter().filter_map(|name| rows.get(name)) {
            let server = servers.get(&row.server);
            let release = match &row.to {
                Some(to) => Some(find_or_cached(bucket, to, server.and_then(Server::status)).await?),
                None => None,
            };
            let intent = Intent {
                server: row.server.clone(),
                app: rollout.app.clone(),
                from: row.from.clone(),
                to: row.to.clone(),
                kind: PushKind::Undo,
            };
            intents.push(seen(servers, &row.server).map(|seen| (intent, JustRead { release, seen })));
        }
        let intents = readable(intents)?;
        // Whoever undoes what a channel brought takes the servers over.
        let operator = self.operator((&undo.who, undo.signed_in), &undo.why, rollout.held, None);
        let results = carry_wave(bucket, &operator, (push, None), intents, || self.goes_on()).await;
        ended(rollout, &results)
    }

    fn goes_on(&self) -> bool {
        self.stop.as_ref().is_none_or(|stop| !*stop.borrow())
    }

    fn operator(
        &self,
        (who, signed_in): (&str, bool),
        why: &str,
        held: bool,
        channel: Option<ChannelName>,
    ) -> Operator {
        let origin = if signed_in { Origin::SignedIn } else { Origin::Local };
        let who = Identity { name: who.to_owned(), origin };
        Operator {
            who,
            reason: why.to_owned(),
            policy: self.policy.clone(),
            poke: self.poke.clone(),
            held,
            without_waves: false,
            channel,
        }
    }
}

/// The document of a server, as it was noted.
fn seen(servers: &dyn Servers, name: &ServerName) -> Result<Seen> {
    servers.get(name).map_or_else(|| Ok(Seen::default()), Seen::of)
}

/// What can be written now: a document that can't be read keeps no other from that.
///
/// # Errors
/// When none can be read of those that there are.
fn readable(intents: impl IntoIterator<Item = Result<(Intent, JustRead)>>) -> Result<Vec<(Intent, JustRead)>> {
    let (mut readable, mut unreadable) = (Vec::new(), None);
    for intent in intents {
        match intent {
            Ok(intent) => readable.push(intent),
            Err(error) => unreadable = Some(error),
        }
    }
    unreadable.filter(|_| readable.is_empty()).map_or(Ok(readable), Err)
}

/// Writes documents once more as they are, over the generation that somebody noted: then nobody does who noted it.
async fn close(bucket: &Bucket, rollout: Rollout, names: Vec<ServerName>) -> Result<Step> {
    let noted: BTreeMap<&ServerName, Option<Generation>> = rollout.rows().map(|row| (&row.server, row.noted)).collect();
    let close = async |name: &ServerName| -> Result<(), Error> {
        let Some(document) = bucket.document_object(name).await? else { return Ok(()) };
        if noted.get(name) != Some(&Some(document.generation)) {
            return Ok(());
        }
        let metadata = DocumentMetadata::from(document.metadata.clone());
        let again = metadata.clone().telling(&metadata.holds(), document.generation);
        match bucket.write_document_metadata(name, document, &again).await {
            Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    };
    let closed = stream::iter(&names).map(close).buffer_unordered(AT_ONCE).try_collect::<()>().await;
    closed.context("could not close what other drivers have noted")?;
    Ok(Step::Moved(Box::new(rollout)))
}

/// What a step came to that wrote.
///
/// # Errors
/// When nothing could be written for a reason that isn't somebody else's push.
fn ended(rollout: Rollout, results: &[PushResult]) -> Result<Step> {
    // None is left to be written if none can be undone.
    let has_moved = results.is_empty() || results.iter().any(PushResult::is_pushed);
    if has_moved || rollout.stage == RolloutStage::Stopped {
        return Ok(Step::Moved(Box::new(rollout)));
    }
    let failed = results.iter().find_map(|result| match &result.result {
        Err(error @ (NotPushed::Failed(_) | NotPushed::Refused(_))) => {
            Some(format!("{}: {error}", result.intent.server))
        }
        _ => None,
    });
    match failed {
        Some(error) => bail!(error),
        // Somebody pushed in between, halted all pushes or set a hold.
        None => Ok(Step::Contended),
    }
}

/// Records a rollout, and its push, so that lists have it before something is written. Says so if the bucket was none before.
///
/// # Errors
/// When it can't be recorded. Nothing was written then.
pub async fn begin(bucket: &Bucket, rollout: &Rollout) -> Result<Option<NewBucket>> {
    let push = push_of(rollout);
    ensure!(
        push.rows_that_fit() == push.rows.len(),
        "nothing was written: a push of {} servers is too large, at most {} of these fit into one: push to fewer at a time",
        push.rows.len(),
        push.rows_that_fit()
    );
    ensure!(
        rollout.has_room(),
        "nothing was written: a rollout to {} servers is too large, because what becomes of each is noted in it: push to fewer \
         at a time",
        push.rows.len()
    );
    let new = bucket.mark().await.context("could not mark the bucket; nothing was written")?;
    let created = bucket.write_rollout(rollout, None).await;
    created.context("could not record the rollout; nothing was written")?;
    // If that fails, or this process ends here, whoever drives the rollout records its push.
    let _ = bucket.create_push(&push).await;
    Ok(new)
}

/// From now on a rollout is undone.
pub fn begin_undo(rollout: &mut Rollout, undo: Undo) {
    (rollout.stage, rollout.undo) = (RolloutStage::Undoing, Some(undo));
}

/// The push that a rollout carries out.
pub fn push_of(rollout: &Rollout) -> Push {
    let to = Some(rollout.release.clone());
    let row = |row: &WaveRow| PushRow { server: row.server.clone(), from: row.from.clone(), to: to.clone() };
    Push {
        id: rollout.id.clone(),
        time: rollout.began,
        app: Some(rollout.app.clone()),
        kind: PushKind::Deploy,
        of: None,
        who: rollout.who.clone(),
        why: rollout.why.clone(),
        rollout: true,
        rows: rollout.rows().map(row).collect(),
        without_waves: false,
        channel: rollout.channel.clone(),
    }
}

/// The push that undoes a rollout: as somebody recorded it, or else as it is to be; and what can't be undone, with the reason.
///
/// It has every row that was written or that some driver has noted: that driver may write it yet, and the push is never changed.
async fn undo_push(bucket: &Bucket, rollout: &Rollout, undo: &Undo) -> Result<(Push, BTreeMap<ServerName, String>)> {
    let known = known_undo(bucket, undo).await?;
    if let Some(push) = known {
        return Ok((push, BTreeMap::new()));
    }
    let account = account::read(bucket, &rollout.id).await?;
    let noted: BTreeSet<&ServerName> =
        rollout.rows().filter(|row| row.noted.is_some() && row.left.is_none()).map(|row| &row.server).collect();
    let (mut rows, mut impossible) = (Vec::new(), BTreeMap::new());
    for row in &account.rows {
        let (server, from) = (row.row.server.clone(), row.row.to.clone());
        if row.written.is_some() {
            match undone(bucket, &account, row).await {
                Ok(release) => rows.push(PushRow { server, from, to: release.map(|release| release.name) }),
                Err(error) => drop(impossible.insert(server, format!("{error:#}"))),
            }
        } else if noted.contains(&server) {
            rows.push(PushRow { server, from, to: row.row.from.clone() });
        }
    }
    let push = Push {
        id: undo.id.clone(),
        time: undo.began,
        app: Some(rollout.app.clone()),
        kind: PushKind::Undo,
        of: Some(rollout.id.clone()),
        who: undo.who.clone(),
        why: undo.why.clone(),
        rollout: true,
        rows,
        without_waves: false,
        channel: None,
    };
    Ok((push, impossible))
}

/// The push that undoes a rollout, if somebody has recorded it.
async fn known_undo(bucket: &Bucket, undo: &Undo) -> Result<Option<Push>> {
    bucket.push(undo.began, &undo.id).await.context("could not read the push that undoes the rollout")
}

/// Ends the pushes of a rollout: what was not written never will be.
pub(super) async fn end(bucket: &Bucket, rollout: &Rollout, who: &str) -> Result<()> {
    let unwritten = |server: &ServerName, cause| UnwrittenRow { server: server.clone(), cause };
    let rows = rollout.rows().filter(|row| row.written.is_none());
    let rows = rows.map(|row| unwritten(&row.server, cause(rollout, row)));
    let mut ends = vec![(rollout.began, rollout.id.clone(), rows.collect::<Vec<_>>())];
    if let Some(undo) = &rollout.undo {
        let push = known_undo(bucket, undo).await?;
        let undone: BTreeSet<&ServerName> = rollout.rows().filter(|row| row.undone).map(|row| &row.server).collect();
        let left = push.iter().flat_map(|push| &push.rows).filter(|row| !undone.contains(&row.server));
        ends.push((
            undo.began,
            undo.id.clone(),
            left.map(|row| unwritten(&row.server, UnwrittenCause::Conflict)).collect(),
        ));
    }
    for (began, id, rows) in ends {
        let end = PushEnd { time: bucket.now(), who: who.to_owned(), rows };
        bucket.end_push(began, &id, &end).await.with_context(|| format!("could not end push {id}"))?;
    }
    Ok(())
}

/// Why a server of a rollout that ends was not written.
fn cause(rollout: &Rollout, row: &WaveRow) -> UnwrittenCause {
    match rollout.stage {
        _ if row.left.is_some() => UnwrittenCause::Conflict,
        // Of what a channel brings that runs to its end, only who is on hold is left.
        RolloutStage::Running => UnwrittenCause::Hold,
        _ => UnwrittenCause::Stopped,
    }
}
