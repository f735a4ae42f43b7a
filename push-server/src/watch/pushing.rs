//! Pushing what a channel points to, to the followers that are behind.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use bucket::{Channel, MoveKind, PushKind, Release, ReleaseName, ServerName};
use fleet::{
    channel::{
        follower::{Choice, Follows, LeftAlone, follows},
        line::Line,
    },
    follow::Follower,
    guard, hold,
    operation::{Intent, JustRead, NotPushed, Operator, carry_out},
    policy::{Case, ChannelRules, Reason, Way},
    push::Seen,
    server::Server,
    wish::Said as Wished,
};

use super::{
    outcome::{Done, Fate},
    watcher::{Fleet, Watcher, cut},
};

/// Entries of a server's history in which somebody's choice is looked for.
const LOOKED_BACK: usize = 100;

impl Watcher {
    /// Pushes to the followers that are behind.
    pub(super) async fn push(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        line: &Line,
        fleet: &Fleet,
        (followers, dirty): (&[Follower<'_>], &BTreeSet<ReleaseName>),
        done: &mut Done,
    ) {
        let mut behind = Vec::new();
        for follower in followers {
            let name = follower.server.name.clone();
            let fate = match self.follows(rules, channel, line, follower, dirty).await {
                Ok(Follows::Behind) => {
                    behind.push(*follower);
                    continue;
                }
                Ok(Follows::There) => Fate::There,
                Ok(Follows::LeftAlone(why)) => Fate::LeftAlone(why),
                Err(error) => Fate::Failed(format!("{error:#}")),
            };
            done.followers.insert(name, fate);
        }
        let Some(wanted) = channel.release.as_ref().filter(|_| !behind.is_empty()) else { return };
        let release = match self.bucket.release(wanted).await {
            Ok(Some(release)) => Ok(release),
            Ok(None) => Err(format!("`{}` is no longer in the bucket", wanted.stem())),
            Err(error) => Err(format!("could not read the channel's release: {error}")),
        };
        match release {
            Ok(release) => self.carry_out(rules, channel, &release, fleet, &behind, done).await,
            Err(why) => {
                let failed = behind.iter().map(|it| (it.server.name.clone(), Fate::Failed(why.clone())));
                done.followers.extend(failed);
            }
        }
    }

    /// What becomes of a follower, as far as that is its own.
    async fn follows(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        line: &Line,
        follower: &Follower<'_>,
        dirty: &BTreeSet<ReleaseName>,
    ) -> Result<Follows> {
        let server = follower.server;
        let others = self.policy.channels().iter();
        let mut others = others.filter(|other| other.app == rules.app && other.channel != rules.channel);
        if let Some(other) = others.find(|other| other.matches(&server.name)) {
            return Ok(Follows::LeftAlone(LeftAlone::TwoChannels(other.channel.clone())));
        }
        let is_dirty = follower.release.is_some_and(|release| dirty.contains(release));
        let pushes = server.document().map(|document| document.metadata().pushes()).unwrap_or_default();
        let last = pushes.iter().find(|push| push.app == rules.app);
        let last = match last {
            // What it tries again somebody chose before.
            Some(push) if !Choice::is_made_by(&push.kind) && follower.release != channel.release.as_ref() => {
                let history = self.bucket.newest_history(&server.name, LOOKED_BACK).await;
                let history = history.context("could not read who chose its release")?;
                let mut of_app = history.iter().filter(|entry| entry.app.as_ref() == Some(&rules.app));
                of_app.find(|entry| Choice::is_made_by(&entry.kind)).map(Choice::from)
            }
            last => last.map(Choice::from),
        };
        Ok(follows(channel, line, follower.release, is_dirty, last.as_ref()))
    }

    async fn carry_out(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        release: &Release,
        fleet: &Fleet,
        behind: &[Follower<'_>],
        done: &mut Done,
    ) {
        let (operator, kind) = self.operator(rules, channel, release);
        let mut intents = Vec::new();
        for follower in behind {
            let server = follower.server.name.clone();
            if let Some(why) = self.judge(rules, &operator, &kind, release, fleet, follower.server) {
                done.followers.insert(server, Fate::LeftAlone(why));
                continue;
            }
            let (app, from, to) = (rules.app.clone(), follower.release.cloned(), Some(release.name.clone()));
            let seen = Seen::of(follower.server).ok();
            let just_read = seen.map(|seen| JustRead { release: Some(release.clone()), seen });
            intents.push((Intent { server, app, from, to, kind: kind.clone() }, just_read));
        }
        if intents.is_empty() {
            return;
        }
        let names: Vec<&ServerName> = intents.iter().map(|(intent, _)| &intent.server).collect();
        if let Some(waves) = self.waves(rules, &operator, &names) {
            let why =
                format!("it is to go out in waves ({waves}), which `push watch` does not do yet: push it by hand");
            done.followers.extend(names.into_iter().map(|name| (name.clone(), Fate::Failed(why.clone()))));
            return;
        }
        for result in carry_out(&self.bucket, &operator, intents, |_, _| ()).await {
            let server = result.intent.server;
            done.push = done.push.take().or(result.push);
            done.warnings.extend(result.incomplete.iter().map(|incomplete| format!("{server}: {incomplete}")));
            let fate = match result.result {
                Ok(_) => Fate::Pushed,
                // Another watcher was faster.
                Err(NotPushed::Conflict(conflict)) if conflict.now.as_ref() == Some(&release.name) => Fate::There,
                Err(error) => Fate::Failed(error.to_string()),
            };
            done.followers.insert(server, fate);
        }
    }

    /// The waves in which a push to these servers is to go out, in words, if it is.
    fn waves(&self, rules: &ChannelRules, operator: &Operator, servers: &[&ServerName]) -> Option<String> {
        let reason = Reason::Given(&operator.reason);
        let own = rules.asked.as_ref().map(ToString::to_string);
        let own = own.or_else(|| rules.max_down.map(|share| format!("at most {share} out at a time")));
        match self.policy.way(&operator.who, &rules.app, servers, reason, &Wished::default()) {
            Ok(Way::AtOnce { .. }) => own,
            Ok(Way::Waves { wish, .. }) => own.or_else(|| Some(wish.waves.to_string())),
            Err(refusal) => own.or_else(|| Some(refusal.to_string())),
        }
    }

    /// As whom, why, and what for.
    fn operator(&self, rules: &ChannelRules, channel: &Channel, release: &Release) -> (Operator, PushKind) {
        let note = release.metadata.as_ref().map_or("", |metadata| metadata.note.as_str());
        let reason = format!("channel {}: {note}", rules.channel);
        let last = channel.history.first().map(|last| last.kind);
        let kind = if last == Some(MoveKind::Rollback) { PushKind::Rollback } else { PushKind::Deploy };
        let operator = Operator {
            who: self.who.clone(),
            reason: cut(&reason).to_owned(),
            policy: self.policy.clone(),
            poke: self.poke.clone(),
            held: false,
            without_waves: false,
            channel: Some(rules.channel.clone()),
        };
        (operator, kind)
    }

    /// What keeps a server from being pushed to now, before a push is made for it.
    fn judge(
        &self,
        rules: &ChannelRules,
        operator: &Operator,
        kind: &PushKind,
        release: &Release,
        fleet: &Fleet,
        server: &Server,
    ) -> Option<LeftAlone> {
        let dirty = release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty);
        let case = Case { server: &server.name, app: &rules.app, dirty, reason: Reason::Given(&operator.reason) };
        if let Err(refusal) = self.policy.judge(&operator.who, case) {
            return Some(LeftAlone::Refused(refusal.to_string()));
        }
        if let Err(guarded) = guard::judge(fleet.halt.as_ref(), &fleet.rejected, kind, Some(&release.name)) {
            return Some(LeftAlone::Guarded(guarded.to_string()));
        }
        let (app, who) = (Some(&rules.app), &operator.who.name);
        let judged = hold::judge_among(&fleet.holds, &server.name, app, who, operator.held, self.bucket.now());
        judged.err().map(|not_free| LeftAlone::Guarded(not_free.to_string()))
    }
}
