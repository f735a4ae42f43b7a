//! `push watch`: channels move forward, and their followers get what they point to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use bucket::{
    AppName, Bucket, BucketOptions, BucketUrl, ChannelName, PubSubOptions, ServerName, Subscription, SubscriptionName,
    Topic, TopicName,
};
use clap::Args;
use console::{Person, UsageError, note, print_json, print_line};
use fleet::{
    identity::{Identity, Origin},
    poke::PokeSettings,
    policy::watched::Watched,
};
use registry::{Client, ClientOptions, Host, Logins};
use sd_notify::NotifyState;
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tracing::Level;

use super::command::operator_name;
use crate::watch::{
    counts::Counts,
    fetches::Fetches,
    listen::listen,
    messages::Messages,
    mirror::Mirrors,
    outcome::{Done, Fate, Going, Outcome},
    record::{record, report},
    rollouts::{CARRIED_ON_EVERY, Looked, Rollouts},
    round::Round,
    watcher::Watcher,
};

/// Move channels to the furthest release of their branch, and push it to their followers
///
/// It works from the state, in rounds: whatever a round could not do, the next one does. Two of them at once do no harm.
/// What goes out in waves is carried on between them; a rollout that ends begins the next round.
/// `Channels` in the policy file says which channels there are (--config). What git says comes from mirrors of their
/// repositories.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push watch --config skiapush.conf
  push watch --config skiapush.conf --once
  push watch --config skiapush.conf --listen 127.0.0.1:8001

Exit status of --once:
  0  all is done, there is nothing to do, or a rollout waits
  1  something failed
  2  usage error")]
pub(crate) struct Watch {
    /// One round, then end
    #[arg(long)]
    once: bool,
    /// Interval between rounds
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = poll)]
    poll: Duration,
    /// Directory of the mirrors; default: `mirrors` in the state directory that systemd gives, else in `~/.cache/push`
    #[arg(long, value_name = "DIRECTORY")]
    mirrors: Option<PathBuf>,
    /// Address for `/healthz` and `/metrics`, which need no authentication; without it nothing is listened on
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "once")]
    listen: Option<SocketAddr>,
    /// Pub/Sub subscription, `projects/PROJECT/subscriptions/NAME`, whose messages begin a round at once
    #[arg(long, value_name = "NAME", conflicts_with = "once")]
    subscription: Option<SubscriptionName>,
    /// Pub/Sub topic, `projects/PROJECT/topics/NAME`, to which the build message of an image is sent again once its channel
    /// has moved: builders of what stands on it begin
    #[arg(long, value_name = "NAME")]
    announce: Option<TopicName>,
    /// Token server on another host than the registry of an image, which may have the credential for that
    #[arg(long = "realm", value_name = "HOST", env = "PUSH_REALMS", value_delimiter = ',')]
    realms: Vec<Host>,
    /// Google Cloud project of the instances to poke; without it, or with `none`, servers pick up the change at their
    /// next poll
    #[arg(long, value_name = "PROJECT", env = "PUSH_GCE_PROJECT")]
    project: Option<String>,
}

/// The shortest time between two polls, and between a round and what is due after it.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a registry may take to answer: the other channels of the round wait for that.
const ANSWERS: Duration = Duration::from_secs(5);

/// How long the step that a round is at may take once the process was asked to end; systemd waits for a minute
/// (`push-watcher.service`).
const LAST_STEP: Duration = Duration::from_secs(20);

/// What was told already, which is not told again.
#[derive(Debug, Default)]
struct Told {
    /// The followers that were left alone or wait, and why.
    followers: BTreeMap<(AppName, ChannelName, ServerName), String>,
    /// How far rollouts are.
    rollouts: BTreeMap<(AppName, ChannelName), String>,
    /// What keeps channels where they are, and what was passed over.
    channels: Lines,
}

/// Sentences about channels.
type Lines = BTreeSet<(AppName, ChannelName, String)>;

impl Watch {
    pub(crate) async fn run(
        self,
        bucket: Bucket,
        url: &BucketUrl,
        policy: Option<PathBuf>,
        json: bool,
    ) -> Result<bool> {
        let poke = PokeSettings::from_env(self.project.as_deref(), |key: &str| std::env::var(key).ok());
        let poke = poke.map_err(|error| UsageError::new(format!("{error:#}")))?;
        let policy = Arc::new(Watched::open(policy)?);
        let none = "no channel is configured: `Channels` in the policy file says which there are (--config)";
        if policy.get().0.channels().is_empty() {
            return Err(UsageError::new(none).into());
        }
        let mut fetches = Fetches::into(Mirrors::new(self.directory()?));
        let counts = Arc::new(Counts::new(policy.get().0.channels()));
        let registry = Arc::new(registries(&self.realms)?);
        let announce = self.announce.as_ref().map(topic).transpose()?.map(Arc::new);
        let (mut rollouts, mut told) = (Rollouts::default(), Told::default());
        let host = Person::find(|key| std::env::var(key).ok()).host;
        let mut stop = stop_at_sigterm()?;
        let mut messages = self.begin(url, &policy, &counts, &stop).await?;
        loop {
            let (policy, problem) = policy.get();
            if let Some(problem) = problem {
                note(format_args!("warning: the policy from before is used: {problem}"));
            }
            let who = Identity { name: operator_name(), origin: Origin::Local };
            let (poke, registry, announce) = (poke.clone(), registry.clone(), announce.clone());
            let watcher = Watcher { bucket: bucket.clone(), policy: policy.clone(), who, poke, registry, announce };
            let caused = messages.take();
            let round = Box::pin(watcher.round(&mut fetches, &mut rollouts, stop.clone(), self.once));
            let round = async { tokio::join!(round, report(&bucket, &host, self.poll)) };
            let Some((round, reported)) = in_time(round, stop.clone()).await else { return Ok(!self.once) };
            if let Err(error) = reported.context("could not record that this watcher runs") {
                note(format_args!("warning: {}", console::safe(&format!("{error:#}"))));
            }
            let due = round.as_ref().ok().and_then(|round| round.due(bucket.now()));
            let pause = due.map_or(self.poll, |due| due.clamp(SHORTEST_PAUSE, self.poll));
            let seen = round.as_ref().ok().map(|round| round.outcomes.as_slice());
            counts.count(policy.channels(), seen);
            messages.settle(caused, seen, *stop.borrow());
            let (succeeded, calls_for_round) = match round {
                Ok(Round { outcomes, calls_for_round }) => {
                    show(&outcomes, &mut told, json)?;
                    if !*stop.borrow() {
                        for problem in record(&bucket, &outcomes).await {
                            note(format_args!("warning: {problem}"));
                        }
                    }
                    (!outcomes.iter().any(Outcome::has_failed), calls_for_round)
                }
                Err(error) if self.once => return Err(error),
                Err(error) => {
                    note(format_args!("error: {error:#}; the next round tries again"));
                    (false, false)
                }
            };
            if self.once {
                return Ok(succeeded && !*stop.borrow());
            }
            let waits = (&mut messages, &mut fetches, &mut stop);
            if !calls_for_round && self.between(pause, (&watcher, &mut rollouts), waits, (&mut told, json)).await? {
                messages.end().await;
                return Ok(true);
            }
        }
    }

    /// Carries rollouts on until the next round: when it is time for that, a message comes, a repository was fetched for which the
    /// last one did not wait, or a rollout wants it. Whether the process is to end.
    async fn between(
        &self,
        pause: Duration,
        (watcher, rollouts): (&Watcher, &mut Rollouts),
        (messages, fetches, stop): (&mut Messages, &mut Fetches, &mut watch::Receiver<bool>),
        (told, json): (&mut Told, bool),
    ) -> Result<bool> {
        let next = Instant::now() + pause;
        loop {
            let look = Instant::now() + CARRIED_ON_EVERY;
            let has_come = tokio::select! {
                () = sleep_until(if rollouts.are_open() { next.min(look) } else { next }) => false,
                () = messages.come() => true,
                () = fetches.come() => true,
                _ = stop.wait_for(|stop| *stop) => return Ok(true),
            };
            if has_come || Instant::now() >= next {
                return Ok(false);
            }
            let looking = Box::pin(watcher.carry_on(rollouts, stop));
            let Some(looked) = in_time(looking, stop.clone()).await else { return Ok(true) };
            show_looked(&looked, told, json)?;
            if *stop.borrow() {
                return Ok(true);
            }
            if looked.iter().any(|looked| looked.calls_for_round) {
                return Ok(false);
            }
        }
    }

    /// What is there from the start to the end, unless it is one round.
    async fn begin(
        &self,
        url: &BucketUrl,
        policy: &Arc<Watched>,
        counts: &Arc<Counts>,
        stop: &watch::Receiver<bool>,
    ) -> Result<Messages> {
        if self.once {
            return Ok(Messages::none());
        }
        console::logging::start(Level::WARN, &[]);
        if let Some(address) = self.listen {
            let address = listen(address, counts.clone(), stop.clone()).await?;
            note(format_args!("listening on http://{address}/metrics"));
        }
        let messages = match &self.subscription {
            Some(name) => {
                let options = PubSubOptions::from_env(|key| std::env::var(key).ok())?;
                let subscription = Subscription::open(name.clone(), &options);
                let subscription = subscription.map_err(|reason| anyhow!("could not open `{name}`: {reason}"))?;
                let of_google = match url {
                    BucketUrl::Gcs(name) => Some(name.clone()),
                    BucketUrl::File(_) => None,
                };
                Messages::of(subscription, policy.clone(), of_google, counts.clone())
            }
            None => Messages::none(),
        };
        // To systemd, if that started it. Who else did doesn't wait for it.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        Ok(messages)
    }

    fn directory(&self) -> Result<PathBuf> {
        if let Some(directory) = &self.mirrors {
            return Ok(directory.clone());
        }
        let given = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache =
            || given("XDG_CACHE_HOME").or_else(|| Some(given("HOME")?.join(".cache"))).map(|cache| cache.join("push"));
        let base = given("STATE_DIRECTORY").or_else(cache);
        let none = "no directory for the mirrors: use --mirrors, or set HOME";
        Ok(base.as_deref().map(|base: &Path| base.join("mirrors")).ok_or_else(|| UsageError::new(none))?)
    }
}

/// What speaks to the registries of images, with the credentials that the environment names.
fn registries(realms: &[Host]) -> Result<Client> {
    let lookup = |key: &str| std::env::var(key).ok();
    let google = BucketOptions::from_env(lookup).map(|options| options.credentials)?;
    let options = ClientOptions { logins: Logins::from_env(google, lookup), realms: realms.to_vec(), timeout: ANSWERS };
    Client::new(options).map_err(|reason| anyhow!("could not get ready for registries of images: {reason}"))
}

/// Where it is announced that images moved.
fn topic(name: &TopicName) -> Result<Topic> {
    let options = PubSubOptions::from_env(|key| std::env::var(key).ok())?;
    Topic::open(name.clone(), &options).map_err(|reason| anyhow!("could not open `{name}`: {reason}"))
}

/// The time between two rounds, as a person writes it.
fn poll(text: &str) -> Result<Duration, String> {
    let poll = console::duration::parse(text).map_err(|error| error.to_string())?;
    if poll < SHORTEST_PAUSE { Err("must be at least 1s".to_owned()) } else { Ok(poll) }
}

/// What says `true` once systemd, or somebody else, wants the process to end.
fn stop_at_sigterm() -> Result<watch::Receiver<bool>> {
    let mut end = signal(SignalKind::terminate()).context("could not wait for SIGTERM")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        end.recv().await;
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        stop.send_replace(true);
    });
    Ok(stopped)
}

/// What work comes to; `None`, which is said, when the process should have ended before since it was asked to.
async fn in_time<T>(work: impl Future<Output = T>, mut stop: watch::Receiver<bool>) -> Option<T> {
    let overdue = async {
        match stop.wait_for(|stop| *stop).await.map(drop) {
            Ok(()) => sleep(LAST_STEP).await,
            // Nobody can ask any more.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        done = work => return Some(done),
        () = overdue => {}
    }
    note(format_args!(
        "warning: what was under way did not end within {} after the end was asked for, and was left: the next round makes up \
         for it",
        console::duration::show(LAST_STEP)
    ));
    None
}

fn show(outcomes: &[Outcome], told: &mut Told, json: bool) -> Result<()> {
    if json {
        return print_json(&json!({ "channels": outcomes.iter().map(as_json).collect::<Vec<_>>() }));
    }
    let (mut still, mut lines) = (BTreeMap::new(), Lines::new());
    for Outcome { app, channel, moved, result } in outcomes {
        if let Some(release) = moved {
            print_line(format_args!("{app} {channel}: moved to {}", release.stem()))?;
        }
        let done = match result {
            Ok(done) => done,
            Err(error) => {
                note(format_args!("{app} {channel}: error: {}", console::safe(&format!("{error:#}"))));
                continue;
            }
        };
        if let Some(tag) = &done.tagged {
            print_line(format_args!("{app} {channel}: {tag} is now its image"))?;
        }
        if let Some(commit) = &done.configured {
            print_line(format_args!("{app} {channel}: its configuration names that image since {}", commit.short()))?;
        }
        let kept = done.kept.iter().map(|kept| console::safe(kept));
        lines.extend(kept.map(|kept| (app.clone(), channel.clone(), kept)));
        if let Some(would) = &done.would {
            let stays = format!("stays, and would otherwise move to {}", would.stem());
            lines.insert((app.clone(), channel.clone(), stays));
        }
        if let Some(diverged) = &done.diverged {
            note(format_args!("{app} {channel}: error: {diverged}"));
        }
        let mut passed_over: Vec<String> = done.why_passed_over.iter().map(|why| console::safe(why)).collect();
        if done.unreadable > passed_over.len() {
            passed_over.push(console::count(done.unreadable - passed_over.len(), "more unreadable release"));
        }
        lines.extend(passed_over.into_iter().map(|what| (app.clone(), channel.clone(), format!("passed over {what}"))));
        for warning in &done.warnings {
            note(format_args!("{app} {channel}: warning: {}", console::safe(warning)));
        }
        for going in &done.rollouts {
            told.rollout(app, channel, going.to_string())?;
        }
        for (server, fate) in &done.followers {
            let mut once = |what: &str, why: String| {
                let key = (app.clone(), channel.clone(), server.clone());
                if told.followers.get(&key) != Some(&why) {
                    print_line(format_args!("{app} {channel}: {server}: {what}: {}", console::safe(&why)))?;
                }
                still.insert(key, why);
                anyhow::Ok(())
            };
            match fate {
                Fate::There => {}
                Fate::Pushed => print_line(format_args!("{app} {channel}: {server}: pushed"))?,
                Fate::Failed(why) => note(format_args!("{app} {channel}: {server}: error: {}", console::safe(why))),
                Fate::Waits(why) => once("waits", why.clone())?,
                Fate::LeftAlone(why) => once("left alone", why.to_string())?,
            }
        }
    }
    told.followers = still;
    for (app, channel, line) in told.news(lines) {
        note(format_args!("{app} {channel}: {line}"));
    }
    Ok(())
}

impl Told {
    /// What of this was not told last time.
    fn news(&mut self, lines: Lines) -> Lines {
        let news = lines.difference(&self.channels).cloned().collect();
        self.channels = lines;
        news
    }

    /// Tells how far the rollout of a channel is, unless that was told last.
    fn rollout(&mut self, app: &AppName, channel: &ChannelName, text: String) -> Result<()> {
        let key = (app.clone(), channel.clone());
        if self.rollouts.get(&key) != Some(&text) {
            print_line(format_args!("{app} {channel}: {}", console::safe(&text)))?;
            self.rollouts.insert(key, text);
        }
        Ok(())
    }
}

/// What has changed about rollouts between two rounds.
fn show_looked(looked: &[Looked], told: &mut Told, json: bool) -> Result<()> {
    for Looked { app, channel, going, .. } in looked {
        let text = going.as_ref().map_or_else(|error| format!("warning: {error}"), Going::to_string);
        if !json {
            told.rollout(app, channel, text)?;
        } else if told.rollouts.insert((app.clone(), channel.clone()), text.clone()).as_ref() != Some(&text) {
            let rollouts: Vec<Value> = going.iter().map(going_as_json).collect();
            let error = going.as_ref().err();
            print_json(&json!({ "app": app, "channel": channel, "rollouts": rollouts, "error": error }))?;
        }
    }
    Ok(())
}

fn going_as_json(Going { id, release, stage, why }: &Going) -> Value {
    json!({ "id": id, "release": release, "stage": stage, "why": why.as_deref().map(console::safe) })
}

fn as_json(Outcome { app, channel, moved, result }: &Outcome) -> Value {
    let done = match result {
        Ok(done) => done,
        Err(error) => {
            let error = console::safe(&format!("{error:#}"));
            return json!({ "app": app, "channel": channel, "moved": moved, "error": error });
        }
    };
    let Done { from, release, would, diverged, place, behind, later, unreadable, why_passed_over, stale, push, .. } =
        done;
    let followers = done.followers.iter().map(|(server, fate)| {
        let mut follower = json!({ "server": server, "result": fate.label() });
        match fate {
            Fate::There | Fate::Pushed => {}
            Fate::Waits(why) => follower["why"] = console::safe(why).into(),
            Fate::LeftAlone(why) => follower["why"] = why.to_string().into(),
            Fate::Failed(error) => follower["error"] = error.as_str().into(),
        }
        follower
    });
    json!({
        "app": app, "channel": channel, "moved": moved, "from": from, "release": release, "would": would, "diverged": diverged.is_some(),
        "place": place, "behind": behind, "later": later,
        "unreadable": unreadable, "why_passed_over": why_passed_over, "stale": stale, "push": push, "tag": done.tagged.as_ref().map(ToString::to_string), "warnings": done.warnings,
        "configuration": { "commit": done.configured, "kept": done.kept },
        "rollouts": done.rollouts.iter().map(going_as_json).collect::<Vec<_>>(), "followers": followers.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_channel_where_it_is_is_told_once_and_again_when_it_comes_back() {
        let lines = |texts: &[&str]| -> Lines {
            let line = |text: &&str| ("web".parse().unwrap(), "prod".parse().unwrap(), (*text).to_owned());
            texts.iter().map(line).collect()
        };
        let mut told = Told::default();
        for (seen, news) in [
            (&["stays"][..], &["stays"][..]),
            (&["stays"], &[]),
            (&["passed over", "stays"], &["passed over"]),
            (&[], &[]),
            (&["stays"], &["stays"]),
        ] {
            assert_eq!(told.news(lines(seen)), lines(news), "{seen:?}");
        }
    }
}
