//! What a round leaves behind for pages and programs: what it saw of each channel, and that the watcher lives.
//!
//! Both are derived, and may be lost. What is the same as before isn't written again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bucket::{Bucket, ChannelState, Error, Generation, OffChannel, OffState, RolloutStage, ServerName, WatcherReport};
use fleet::channel::seen::is_to_report;
use futures_util::{StreamExt as _, stream};
use serde_json::Map;

use super::outcome::{Done, Fate, Outcome};

/// Channels of which is written at the same time.
const AT_ONCE: usize = 16;

/// Writes what a round saw; what could not be written, in sentences.
pub async fn record(bucket: &Bucket, outcomes: &[Outcome]) -> Vec<String> {
    let states = outcomes.iter().map(async |outcome| {
        let Outcome { app, channel, .. } = outcome;
        let written = record_state(bucket, outcome).await;
        written.with_context(|| format!("could not record what this round saw of the channel `{channel}` of `{app}`"))
    });
    let states: Vec<_> = stream::iter(states).buffered(AT_ONCE).collect().await;
    states.into_iter().filter_map(Result::err).map(|error| console::safe(&format!("{error:#}"))).collect()
}

/// Writes, as a round begins, that the watcher lives, each quarter of an hour: however long the round takes, somebody watches.
///
/// # Errors
/// When it could not be written, which harms nothing.
pub async fn report(bucket: &Bucket, host: &str, poll: Duration) -> Result<()> {
    let host: ServerName = host.parse()?;
    let (seen, last) = bucket.watcher(&host).await?.unzip();
    let (now, poll_seconds) = (bucket.now(), poll.as_secs());
    if !is_to_report(last.as_ref(), now) && last.as_ref().is_some_and(|last| last.poll_seconds == poll_seconds) {
        return Ok(());
    }
    let (version, other) = (env!("CARGO_PKG_VERSION").to_owned(), last.map(|last| last.other).unwrap_or_default());
    let report = WatcherReport { schema: 1, host, at: now, poll_seconds, version, other };
    Ok(unless_raced(bucket.write_watcher(&report, seen).await)?)
}

async fn record_state(bucket: &Bucket, outcome: &Outcome) -> Result<(), Error> {
    let found = bucket.channel_state(&outcome.app, &outcome.channel).await?;
    let (seen, before) = found.unzip();
    let state = state(outcome, before.as_ref(), bucket.now());
    if before.is_some_and(|before| before.says_the_same(&state)) {
        return Ok(());
    }
    unless_raced(bucket.write_channel_state(&state, seen).await)
}

/// Another watcher, which saw the same a moment ago.
fn unless_raced(written: Result<Generation, Error>) -> Result<(), Error> {
    match written {
        Ok(_) | Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a round saw of a channel; of one that failed, what the one before saw, and why it failed.
fn state(outcome: &Outcome, before: Option<&ChannelState>, now: bucket::Timestamp) -> ChannelState {
    let Outcome { app, channel, result, .. } = outcome;
    let nothing = || ChannelState {
        schema: 1,
        app: app.clone(),
        channel: channel.clone(),
        at: now,
        problem: None,
        release: None,
        place: None,
        behind: None,
        would: None,
        soaking: None,
        rollout: None,
        unreadable: 0,
        passed_over: Vec::new(),
        why_passed_over: Vec::new(),
        followers: 0,
        off: Vec::new(),
        later: Vec::new(),
        on_older: Vec::new(),
        other: Map::new(),
    };
    let before = before.cloned().unwrap_or_else(nothing);
    let Done {
        release,
        place,
        behind,
        would,
        soaking,
        diverged,
        rollouts,
        unreadable,
        passed_over,
        why_passed_over,
        followers,
        later,
        on_older,
        ..
    } = match result {
        Ok(done) => done,
        Err(error) => return ChannelState { at: now, problem: Some(problem(&format!("{error:#}"))), ..before },
    };
    let off = followers.iter().filter_map(|(server, fate)| {
        let (state, why) = match fate {
            Fate::There | Fate::Pushed => return None,
            Fate::Waits(why) => (OffState::Waits, why.clone()),
            Fate::LeftAlone(why) => (OffState::LeftAlone, why.to_string()),
            Fate::Failed(why) => (OffState::Failed, why.clone()),
        };
        Some(OffChannel { server: server.clone(), state, why: cut(&why, ChannelState::MAX_WHY) })
    });
    ChannelState {
        at: now,
        problem: diverged.as_ref().map(|diverged| problem(&diverged.to_string())),
        release: release.clone(),
        place: *place,
        behind: *behind,
        would: would.clone(),
        soaking: soaking.clone(),
        rollout: rollouts.last().filter(|going| going.stage != RolloutStage::Done).map(|going| going.id.clone()),
        unreadable: *unreadable,
        passed_over: passed_over.clone(),
        why_passed_over: why_passed_over.iter().map(|why| problem(why)).collect(),
        followers: followers.len(),
        off: off.take(ChannelState::MAX_OFF).collect(),
        later: later.clone(),
        on_older: on_older.clone().unwrap_or_else(|| before.on_older.clone()),
        ..before
    }
}

/// As much of a problem as is kept.
fn problem(text: &str) -> String {
    cut(text, ChannelState::MAX_PROBLEM)
}

/// As much of a text as is kept of it.
fn cut(text: &str, most: usize) -> String {
    let text = console::one_line(text);
    text[..text.floor_char_boundary(most)].to_owned()
}
