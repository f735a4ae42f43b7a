//! `push channel list` and `push channel show`.

use std::time::Duration;

use anyhow::Result;
use bucket::{AppName, AppState, Channel};
use console::{Cell, Color, Table, count, print, print_json, print_line, safe};
use fleet::{
    channel::change::Moves,
    condition::{app_label, apps},
    follow::{Follower, Seen, followers, read, unreadable},
    policy::{ChannelRules, Pattern},
    server::Server,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    super::command::{AT_ONCE, Command, ago, cut, painted},
    ensure_configured, of_app, servers,
};
use crate::badge;

/// Moves that `push channel show` shows.
const MOVES: usize = 10;

pub(super) async fn list(command: &Command, app: Option<&AppName>) -> Result<bool> {
    ensure_configured(command, app)?;
    let rules: Vec<&ChannelRules> = of_app(command, app).collect();
    let servers = servers(command, &rules).await?;
    let channels: Vec<Seen> =
        stream::iter(&rules).map(|rules| read(&command.bucket, rules)).buffered(AT_ONCE).try_collect().await?;
    if command.json {
        let channels = rules.iter().zip(&channels).map(|(rules, seen)| as_json(rules, seen, &servers));
        print_json(&json!({ "channels": channels.collect::<Vec<_>>() }))?;
        return Ok(true);
    }
    let mut table = Table::new(&["APP", "CHANNEL", "COMMIT", "MOVED", "FOLLOWERS", ""]);
    for (rules, Seen { channel, .. }) in rules.iter().zip(&channels) {
        let (commit, moved) = channel.release.as_ref().map_or((String::new(), String::new()), |release| {
            (release.commit().short().to_owned(), ago(channel.moved, command.now()))
        });
        let frozen = channel.frozen.as_ref().map_or(String::new(), |frozen| format!("frozen: {}", frozen.why));
        table.row([
            rules.app.as_str().into(),
            rules.channel.as_str().into(),
            commit.into(),
            moved.into(),
            on_it(rules, channel, &servers).into(),
            Cell::new(console::cut(&frozen, 60), Color::Notice),
        ]);
    }
    print(&table.show())?;
    Ok(true)
}

pub(super) async fn show(command: &Command, rules: &ChannelRules) -> Result<bool> {
    let of_it = [rules];
    let (servers, seen) = tokio::try_join!(servers(command, &of_it), read(&command.bucket, rules))?;
    if command.json {
        print_json(&as_json(rules, &seen, &servers))?;
        return Ok(true);
    }
    let (now, channel) = (command.now(), &seen.channel);
    let line = |what: &str, text: &str| print_line(format_args!("{what:<11}{}", safe(text)));
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
    if let Some(asked) = &rules.asked {
        line("waves", &asked.to_string())?;
    }
    if let Some(from) = &rules.from {
        let soak = if rules.soak > Duration::ZERO { console::duration::show(rules.soak) } else { "no time".to_owned() };
        line("from", &format!("{from}, after {soak} there"))?;
    }
    if let Some(frozen) = &channel.frozen {
        line("frozen", &format!("{} by {}: {}", ago(frozen.at, now), frozen.by, frozen.why))?;
    }
    for entry in &channel.rolled_back {
        let (commit, age) = (entry.release.commit().short(), ago(entry.at, now));
        line("rolled back", &format!("{commit} by {} {age}: {}", entry.server, entry.why))?;
    }
    line("followers", &on_it(rules, channel, &servers))?;
    let mut table = Table::new(&["SERVER", "COMMIT", "STATE", ""]);
    for follower in followers(rules, &servers) {
        let (state, color) = state(rules, &follower).map(badge::of_app).map(painted).unwrap_or_default();
        table.row([
            follower.server.name.as_str().into(),
            follower.release.map_or("", |release| release.commit().short()).into(),
            Cell::new(state, color),
            if is_on_it(channel, &follower) { "" } else { "another release" }.into(),
        ]);
    }
    print(&format!("\n{}", table.show()))?;
    if !channel.history.is_empty() {
        let mut table = Table::new(&["MOVED", "BY", "COMMIT", "REASON"]);
        for entry in channel.history.iter().take(MOVES) {
            let (by, commit) = (entry.by.as_str().into(), entry.release.commit().short().into());
            table.row([ago(entry.at, now).into(), by, commit, cut(&entry.why, 60)]);
        }
        print(&format!("\n{}", table.show()))?;
    }
    Ok(true)
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
fn state(rules: &ChannelRules, follower: &Follower) -> Option<AppState> {
    follower.release?;
    apps(follower.server).into_iter().find(|row| row.app == rules.app.as_str()).map(|row| row.state)
}

fn as_json(rules: &ChannelRules, Seen { generation, channel }: &Seen, servers: &[Server]) -> Value {
    let followers = followers(rules, servers).map(|follower| {
        let state = state(rules, &follower).map(app_label);
        json!({ "server": follower.server.name, "release": follower.release, "state": state })
    });
    json!({
        "app": rules.app,
        "channel": rules.channel,
        "repo": rules.repo.as_str(),
        "branch": rules.branch.as_str(),
        "servers": rules.servers.iter().map(Pattern::to_string).collect::<Vec<_>>(),
        "moves": rules.moves.as_str(),
        "release": channel.release,
        "moved": channel.release.as_ref().map(|_| channel.moved),
        "by": channel.by,
        "why": channel.why,
        "frozen": channel.frozen,
        "rolled_back": channel.rolled_back,
        "history": channel.history,
        "generation": generation,
        "followers": followers.collect::<Vec<_>>(),
    })
}
