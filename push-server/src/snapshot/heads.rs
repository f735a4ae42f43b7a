//! The last pushes, as they lie in the bucket: their heads from one listing of what is new, and the rows of the newest.
//!
//! A push is never changed, and its end lies beside it: so a round lists from the oldest push on that nobody has ended, and
//! reads an object only once. Of a push that was cut off long ago the end is looked for now and then.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use anyhow::{Context, Result};
use bucket::{Bucket, HistoryEntry, Push, PushEnd, PushHead, PushId, PushRow, ServerName, SharedNames, Timestamp};
use futures_util::{StreamExt, stream};
use jiff::SignedDuration;

use super::recent_push::{Evidence, RecentPush, RecentRows, push_of};
use fleet::{history::about, server::Server};

/// Heads that are kept.
const KEPT: usize = 500;
/// Pushes whose rows are kept, and rows of all of them together.
const WITH_ROWS: (usize, usize) = (100, 20_000);
/// Objects that are read at the same time.
const AT_ONCE: usize = 16;
/// Clocks of those who push may be apart by so much: a push may be listed before one that was there earlier.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(10);
/// For so long each round looks whether a push has ended.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);
/// One round of so many looks for the ends of all that are kept.
const THOROUGH: u32 = 30;

/// How pushes are read, round by round.
#[derive(Debug, Default)]
pub(super) struct Heads {
    rounds: u32,
}

/// What was read of a push: its rows and its end, if they are to be kept.
type Found = (PushHead, Option<(Push, Option<PushEnd>)>);

/// What a read has found.
#[derive(Debug, Default)]
pub(super) struct News(Vec<Found>);

impl News {
    /// Has the names of releases in memory once with equal ones.
    pub(super) fn share_names(&mut self, names: &mut SharedNames) {
        for (_, rows) in &mut self.0 {
            for row in rows.iter_mut().flat_map(|(push, _)| &mut push.rows) {
                [&mut row.from, &mut row.to].into_iter().flatten().for_each(|name| names.share(name));
            }
        }
    }
}

impl Heads {
    /// What is new since the last round.
    pub(super) async fn read(&mut self, bucket: &Bucket, known: &[Arc<RecentPush>]) -> Result<News> {
        let is_thorough = self.rounds.is_multiple_of(THOROUGH);
        self.rounds = self.rounds.wrapping_add(1);
        read(bucket, known, is_thorough, self.rounds == 1).await
    }
}

/// What is new, and which pushes have ended: after something of ours.
pub(super) async fn read_newest(bucket: &Bucket, known: &[Arc<RecentPush>]) -> Result<News> {
    read(bucket, known, true, false).await
}

async fn read(bucket: &Bucket, known: &[Arc<RecentPush>], is_thorough: bool, is_first: bool) -> Result<News> {
    let heads = if is_first {
        bucket.newest_pushes(KEPT).await
    } else {
        bucket.pushes_since(beginning(known, is_thorough, bucket.now()), KEPT).await
    };
    let heads = heads.context("could not list the pushes")?;
    let kept: BTreeMap<&PushId, &Arc<RecentPush>> = known.iter().map(|push| (&push.head.id, push)).collect();
    let unread = |head: &PushHead| kept.get(&head.id).is_none_or(|push| push.head != *head || push.rows.is_none());
    let all = merged_heads(known, &heads);
    let wanted: HashSet<&PushId> = with_rows(&all).filter(|head| unread(head)).map(|head| &head.id).collect();
    let new = heads
        .iter()
        .filter(|head| wanted.contains(&head.id) || kept.get(&head.id).is_none_or(|push| push.head != **head));
    let again = all.iter().filter(|head| wanted.contains(&head.id) && heads.iter().all(|new| new.id != head.id));
    let reads = stream::iter(new.chain(again).cloned().collect::<Vec<_>>()).map(async |head: PushHead| {
        // One that can't be read is a head without rows: the next round tries again.
        let rows = if wanted.contains(&head.id) { rows(bucket, &head).await.ok().flatten() } else { None };
        (head, rows)
    });
    Ok(News(reads.buffer_unordered(AT_ONCE).collect().await))
}

async fn rows(bucket: &Bucket, head: &PushHead) -> Result<Option<(Push, Option<PushEnd>)>, bucket::Error> {
    let Some(push) = bucket.push(head.time, &head.id).await? else { return Ok(None) };
    let end = match head.unwritten {
        None => None,
        Some(_) => bucket.push_end(head.time, &head.id).await?,
    };
    Ok(Some((push, end)))
}

/// From when on pushes are listed: since the oldest that nobody has ended.
fn beginning(known: &[Arc<RecentPush>], is_thorough: bool, now: Timestamp) -> Timestamp {
    let ours = known.iter().filter(|push| !push.is_foreign).map(|push| &push.head);
    let open = ours.clone().filter(|head| head.unwritten.is_none());
    let oldest_open =
        open.filter(|head| is_thorough || now.duration_since(head.time) < PATIENCE).map(|head| head.time).min();
    let newest = ours.map(|head| head.time).max().unwrap_or(now).min(now);
    let newest = newest.saturating_sub(CLOCKS_APART).unwrap_or(Timestamp::MIN);
    oldest_open.map_or(newest, |open| open.min(newest))
}

fn merged_heads(known: &[Arc<RecentPush>], heads: &[PushHead]) -> Vec<PushHead> {
    let mut all: BTreeMap<&PushId, &PushHead> =
        known.iter().filter(|push| !push.is_foreign).map(|push| (&push.head.id, &push.head)).collect();
    all.extend(heads.iter().map(|head| (&head.id, head)));
    let mut all: Vec<PushHead> = all.into_values().cloned().collect();
    all.sort_by(|a, b| (b.time, &b.id).cmp(&(a.time, &a.id)));
    all.truncate(KEPT);
    all
}

/// Of pushes, newest first, those whose rows are kept.
fn with_rows(heads: &[PushHead]) -> impl Iterator<Item = &PushHead> {
    let mut room = WITH_ROWS.1;
    heads.iter().take(WITH_ROWS.0).filter(move |head| {
        let fits = head.rows <= room;
        room = room.saturating_sub(if fits { head.rows } else { 0 });
        fits
    })
}

/// The pushes that are kept, with what was found: newest first. What only a document or the history tells of is among them.
pub(super) fn merged(
    known: &[Arc<RecentPush>],
    News(news): News,
    servers: &BTreeMap<ServerName, Arc<Server>>,
    entries: &[Arc<HistoryEntry>],
) -> Vec<Arc<RecentPush>> {
    let mut found: BTreeMap<PushId, Found> = news.into_iter().map(|found| (found.0.id.clone(), found)).collect();
    let heads: Vec<PushHead> = found.values().map(|(head, _)| head.clone()).collect();
    let mut kept: BTreeMap<PushId, Arc<RecentPush>> =
        known.iter().filter(|push| !push.is_foreign).map(|push| (push.head.id.clone(), push.clone())).collect();
    let all = merged_heads(known, &heads);
    let keeps_rows: HashSet<&PushId> = with_rows(&all).map(|head| &head.id).collect();
    let mut evidence = Evidence::new(servers, entries);
    let mut pushes: Vec<Arc<RecentPush>> = Vec::new();
    for head in &all {
        let before = kept.remove(&head.id);
        let read = found.remove(&head.id).and_then(|(_, rows)| rows);
        let keeps = keeps_rows.contains(&head.id);
        let push = match (before, read) {
            (before, Some((push, end))) if keeps => {
                let mut rows = RecentRows::new(push, end);
                rows.follow(&mut evidence, None);
                let push = RecentPush { head: head.clone(), is_foreign: false, rows: Some(rows) };
                before.filter(|before| **before == push).unwrap_or_else(|| Arc::new(push))
            }
            (Some(before), _) if before.head == *head && (keeps || before.rows.is_none()) => before,
            (before, _) => {
                let rows = before.filter(|_| keeps).and_then(|before| before.rows.clone());
                Arc::new(RecentPush { head: head.clone(), is_foreign: false, rows })
            }
        };
        pushes.push(push);
    }
    let oldest = all.last().map(|head| head.time).filter(|_| all.len() == KEPT);
    let ids: HashSet<&str> = all.iter().map(|head| head.id.as_str()).collect();
    let strangers =
        entries.iter().filter(|entry| !ids.contains(push_of(entry)) && oldest.is_none_or(|it| entry.time > it));
    for push in foreign(strangers.map(|entry| &**entry)) {
        let mut rows = RecentRows::new(push, None);
        rows.follow(&mut evidence, None);
        let head = PushHead { unwritten: Some(0), ..rows.push.head() };
        let push = RecentPush { head, is_foreign: true, rows: Some(rows) };
        let before = known.iter().find(|before| ***before == push).cloned();
        pushes.push(before.unwrap_or_else(|| Arc::new(push)));
    }
    pushes.sort_by(|a, b| (b.head.time, &b.head.id).cmp(&(a.head.time, &a.head.id)));
    pushes.truncate(KEPT);
    pushes
}

/// Pushes that have no object of their own, as far as the history has them.
fn foreign<'a>(entries: impl Iterator<Item = &'a HistoryEntry>) -> Vec<Push> {
    let mut pushes: BTreeMap<(&str, &str), Push> = BTreeMap::new();
    for entry in entries {
        let Ok(id) = push_of(entry).parse::<PushId>() else { continue };
        let push = pushes.entry((push_of(entry), about(entry.app.as_ref()))).or_insert_with(|| Push {
            id,
            time: entry.time,
            app: entry.app.clone(),
            kind: entry.kind.clone(),
            of: None,
            rollout: false,
            who: entry.who.clone(),
            why: entry.why.clone(),
            rows: Vec::new(),
            without_waves: entry.without_waves,
            channel: entry.channel.clone(),
        });
        push.time = push.time.min(entry.time);
        push.rows.push(PushRow { server: entry.server.clone(), from: entry.from.clone(), to: entry.to.clone() });
    }
    for push in pushes.values_mut() {
        push.rows.sort_by(|a, b| a.server.cmp(&b.server));
    }
    pushes.into_values().collect()
}

/// The pushes as they are when some servers, or what the history has of them, have changed.
pub(super) fn followed(
    pushes: &[Arc<RecentPush>],
    servers: &BTreeMap<ServerName, Arc<Server>>,
    entries: &[Arc<HistoryEntry>],
    changed: &HashSet<&ServerName>,
) -> Vec<Arc<RecentPush>> {
    let mut evidence = Evidence::new(servers, entries);
    let follow = |push: &Arc<RecentPush>| {
        let rows = push.rows.as_ref().filter(|rows| rows.push.rows.iter().any(|row| changed.contains(&row.server)));
        let Some(mut rows) = rows.cloned() else { return push.clone() };
        rows.follow(&mut evidence, Some(changed));
        if push.rows.as_ref() == Some(&rows) {
            push.clone()
        } else {
            Arc::new(RecentPush { rows: Some(rows), ..(**push).clone() })
        }
    };
    pushes.iter().map(follow).collect()
}
