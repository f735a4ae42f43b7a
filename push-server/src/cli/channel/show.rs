//! `push channel list` and `push channel show`.

use std::time::Duration;

use anyhow::Result;
use bucket::{AppName, AppState, Channel, ChannelState, Rollout, Timestamp};
use console::{Cell, Color, Table, count, note, print, print_json, print_line, safe};
use fleet::{
    channel::{
        change::Moves,
        seen::{Place, silence, why_off},
    },
    condition::{app_label, apps},
    follow::{self, Follower, Seen, followers, newest_watcher, read, servers, unreadable},
    policy::{ChannelRules, Pattern},
    server::Server,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::super::{
    command::{AT_ONCE, Command, ago, cut, painted},
    configured::{ensure_configured, of_app},
};
use crate::badge;

/// Moves that `push channel show` shows, and commits.
const MOVES: usize = 10;
const COMMITS: usize = 20;

/// What is known of a channel.
struct Known {
    seen: Seen,
    state: Option<ChannelState>,
    rollout: Option<Rollout>,
}

impl Known {
    fn outlook(&self, rules: &ChannelRules) -> String {
        follow::outlook(&self.seen.channel, rules.moves, self.state.as_ref(), self.rollout.as_ref())
    }
}

/// What a round saw of a channel; what of it can't be read is said and does no harm.
async fn state(command: &Command, rules: &ChannelRules) -> Option<ChannelState> {
    follow::state(&command.bucket, rules).await.unwrap_or_else(|error| {
        note(format_args!("warning: {}", safe(&format!("{error:#}"))));
        None
    })
}

/// Says if nothing seems to move channels any more.
async fn warn_of_silence(command: &Command) {
    let problem = match newest_watcher(&command.bucket).await {
        Ok(newest) => silence(newest.as_ref(), command.now()),
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(problem) = problem {
        note(format_args!("warning: {}", safe(&problem)));
    }
}

pub(super) async fn list(command: &Command, app: Option<&AppName>) -> Result<bool> {
    ensure_configured(command, app)?;
    let rules: Vec<&ChannelRules> = of_app(command, app).collect();
    let servers = servers(&command.bucket, &rules).await?;
    let all = async |rules: &&ChannelRules| {
        let (seen, state) = (read(&command.bucket, rules).await?, state(command, rules).await);
        let rollout = follow::rollout(&command.bucket, state.as_ref()).await;
        anyhow::Ok(Known { seen, state, rollout })
    };
    let channels: Vec<Known> = stream::iter(&rules).map(all).buffered(AT_ONCE).try_collect().await?;
    warn_of_silence(command).await;
    if command.json {
        let channels = rules.iter().zip(&channels);
        let channels = channels.map(|(rules, known)| as_json(rules, known, &servers));
        print_json(&json!({ "channels": channels.collect::<Vec<_>>() }))?;
        return Ok(true);
    }
    let mut table = Table::new(&["APP", "CHANNEL", "COMMIT", "MOVED", "PLACE", "FOLLOWERS", ""]);
    for (rules, Known { seen: Seen { channel, .. }, state, .. }) in rules.iter().zip(&channels) {
        let (commit, moved) = channel.release.as_ref().map_or((String::new(), String::new()), |release| {
            (release.commit().short().to_owned(), ago(channel.moved, command.now()))
        });
        let frozen = channel.frozen.as_ref().map(|frozen| format!("frozen: {}", frozen.in_words()));
        let problem = state.as_ref().and_then(|state| state.problem.as_ref());
        let place = Place::of(channel, state.as_ref()).map(|place| place.words(rules.branch.as_str()));
        table.row([
            rules.app.as_str().into(),
            rules.channel.as_str().into(),
            commit.into(),
            moved.into(),
            place.unwrap_or_default().into(),
            match &rules.image {
                Some(image) => format!("tag {}", image.tag).into(),
                None => on_it(rules, channel, &servers).into(),
            },
            match problem {
                Some(problem) => Cell::new(console::cut(problem, 60), Color::Bad),
                None => Cell::new(console::cut(&frozen.unwrap_or_default(), 60), Color::Notice),
            },
        ]);
    }
    print(&table.show())?;
    Ok(true)
}

pub(super) async fn show(command: &Command, rules: &ChannelRules) -> Result<bool> {
    let of_it = [rules];
    let (servers, seen) = tokio::try_join!(servers(&command.bucket, &of_it), read(&command.bucket, rules))?;
    let state = state(command, rules).await;
    let rollout = follow::rollout(&command.bucket, state.as_ref()).await;
    let known = Known { seen, state, rollout };
    warn_of_silence(command).await;
    if command.json {
        print_json(&as_json(rules, &known, &servers))?;
        return Ok(true);
    }
    let (now, channel, state) = (command.now(), &known.seen.channel, known.state.as_ref());
    let line = |what: &str, text: &str| print_line(format_args!("{what:<12}{}", safe(text)));
    line("channel", &format!("{} of {}", rules.channel, rules.app))?;
    line("release", channel.release.as_ref().map_or("nothing yet", |release| release.stem()))?;
    if channel.release.is_some() {
        line("moved", &format!("{} by {}: {}", ago(channel.moved, now), channel.by, channel.why))?;
    }
    let moves = match rules.moves {
        Moves::Newest => "every newer release of",
        Moves::Told => "only when told, on",
    };
    line("moves", &format!("{moves} {} of {}", rules.branch, rules.repo))?;
    if let Some(place) = Place::of(channel, state) {
        line("place", &place.words(rules.branch.as_str()))?;
    }
    if let Some(state) = state {
        line("seen", &format!("first seen so {}", ago(state.at, now)))?;
        if let Some(problem) = &state.problem {
            line("problem", problem)?;
        }
        if state.unreadable > 0 {
            line("passed over", &count(state.unreadable, "unreadable release"))?;
            for why in state.named_passed_over() {
                line("", &why)?;
            }
        }
    }
    if let Some(state) = state.filter(|state| !state.on_older.is_empty()) {
        let apps = state.on_older.iter().map(|older| format!("{} {}", older.app, older.commit.short()));
        line("to rebuild", &apps.collect::<Vec<_>>().join(", "))?;
    }
    line("next round", &known.outlook(rules))?;
    if let Some(asked) = &rules.asked {
        line("waves", &asked.to_string())?;
    }
    if let Some(from) = &rules.from {
        let soak = if rules.soak > Duration::ZERO { console::duration::show(rules.soak) } else { "no time".to_owned() };
        line("from", &format!("{from}, after {soak} there"))?;
    }
    if let Some(frozen) = &channel.frozen {
        line("frozen", &format!("{} by {}: {}", ago(frozen.at, now), frozen.by, frozen.in_words()))?;
    }
    for entry in &channel.rolled_back {
        let (commit, age) = (entry.release.commit().short(), ago(entry.at, now));
        line("rolled back", &format!("{commit} by {} {age}: {}", entry.server, entry.why))?;
    }
    if let Some(image) = &rules.image {
        line("image", &format!("{}, whose tag `{}` is moved", image.name, image.tag))?;
        if let Some(config) = &rules.config {
            let files: Vec<&str> = config.paths().collect();
            let (branch, repo) = (&config.branch, &config.repo);
            line("config", &format!("{} on {branch} of {repo}", files.join(", ")))?;
        }
        show_later(state)?;
        return show_moves(channel, now).map(|()| true);
    }
    line("followers", &on_it(rules, channel, &servers))?;
    let mut table = Table::new(&["SERVER", "COMMIT", "STATE", ""]);
    for follower in followers(rules, &servers) {
        let (badge, color) = app_state(rules, &follower).map(badge::of_app).map(painted).unwrap_or_default();
        table.row([
            follower.server.name.as_str().into(),
            follower.release.map_or("", |release| release.commit().short()).into(),
            Cell::new(badge, color),
            match why_off(channel, state, &follower.server.name) {
                _ if is_on_it(channel, &follower) => "".into(),
                Some(why) => safe(why).into(),
                None => "another release".into(),
            },
        ]);
    }
    print(&format!("\n{}", table.show()))?;
    show_later(state)?;
    show_moves(channel, now).map(|()| true)
}

/// The commits that landed after the channel's, with their releases.
fn show_later(state: Option<&ChannelState>) -> Result<()> {
    if let Some(state) = state.filter(|state| !state.later.is_empty()) {
        let mut table = Table::new(&["LATER COMMIT", "RELEASE"]);
        for later in state.later.iter().take(COMMITS) {
            let release = later.release.as_ref().map_or("none", |release| release.stem());
            table.row([later.commit.short().into(), release.into()]);
        }
        print(&format!("\n{}", table.show()))?;
        let more = state.behind.unwrap_or(state.later.len()).saturating_sub(COMMITS);
        if more > 0 {
            print_line(format_args!("… and {} before these", count(more, "commit")))?;
        }
    }
    Ok(())
}

/// Where it pointed.
fn show_moves(channel: &Channel, now: Timestamp) -> Result<()> {
    if !channel.history.is_empty() {
        let mut table = Table::new(&["MOVED", "BY", "COMMIT", "REASON"]);
        for entry in channel.history.iter().take(MOVES) {
            let (by, commit) = (entry.by.as_str().into(), entry.release.commit().short().into());
            let mark = if entry.without_soak { "without soak: " } else { "" };
            table.row([ago(entry.at, now).into(), by, commit, cut(&format!("{mark}{}", entry.why), 60)]);
        }
        print(&format!("\n{}", table.show()))?;
    }
    Ok(())
}

/// How many followers have what the channel points to: `3 of 4 servers`.
fn on_it(rules: &ChannelRules, channel: &Channel, servers: &[Server]) -> String {
    let all = followers(rules, servers).count();
    let on_it = followers(rules, servers).filter(|follower| is_on_it(channel, follower)).count();
    let unreadable = unreadable(rules, servers).count();
    let more = if unreadable > 0 { format!(", and {unreadable} whose document cannot be read") } else { String::new() };
    format!("{on_it} of {}{more}", count(all, "server"))
}

fn is_on_it(channel: &Channel, follower: &Follower) -> bool {
    channel.release.is_some() && follower.release == channel.release.as_ref()
}

/// How the app is on a follower; `None` of a placeholder.
fn app_state(rules: &ChannelRules, follower: &Follower) -> Option<AppState> {
    follower.release?;
    apps(follower.server).into_iter().find(|row| row.app == rules.app.as_str()).map(|row| row.state)
}

fn as_json(rules: &ChannelRules, known: &Known, servers: &[Server]) -> Value {
    let (Seen { generation, channel }, seen) = (&known.seen, known.state.as_ref());
    let followers = followers(rules, servers).map(|follower| {
        let state = app_state(rules, &follower).map(app_label);
        let why = why_off(channel, seen, &follower.server.name).filter(|_| !is_on_it(channel, &follower));
        json!({ "server": follower.server.name, "release": follower.release, "state": state, "why": why })
    });
    json!({
        "app": rules.app,
        "channel": rules.channel,
        "repo": rules.repo.as_str(),
        "branch": rules.branch.as_str(),
        "servers": rules.servers.iter().map(Pattern::to_string).collect::<Vec<_>>(),
        "image": rules.image.as_ref().map(|image| image.reference().to_string()),
        "config": rules.config.as_ref().map(|config| {
            json!({ "repo": config.repo.as_str(), "branch": config.branch.as_str(), "files": config.paths().collect::<Vec<_>>() })
        }),
        "moves": rules.moves.as_str(),
        "release": channel.release,
        "moved": channel.release.as_ref().map(|_| channel.moved),
        "by": channel.by,
        "why": channel.why,
        "frozen": channel.frozen,
        "rolled_back": channel.rolled_back,
        "history": channel.history,
        "generation": generation,
        "seen": seen,
        "next": known.outlook(rules),
        "followers": followers.collect::<Vec<_>>(),
    })
}
