//! Moving a channel that is told, as a pipeline does: forward on its line only, and without freezing it. `release run` calls this,
//! with the line as its checkout knows it, which is newer than what the last round of a watcher saw.

use anyhow::{Context, Result, bail};
use bucket::{AppName, Bucket, ChannelName, Generation, MoveKind, PushKind, ReleaseName};
use thiserror::Error;

use crate::{
    channel::{
        build::Build,
        change::{Moves, Said, Set, moved},
        line::{Line, Places},
    },
    follow::{Raced, ensure_soaked, may_change, read, servers, write},
    guard::ensure_unguarded,
    identity::Identity,
    operation::find,
    policy::{ChannelRules, Policy},
    reason::ensure_short,
};

/// How often a move is decided upon anew because somebody else changed the channel.
const MAX_WRITES: u32 = 5;

/// Why a pipeline doesn't move a channel, by the policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotTold {
    /// The policy has no such channel.
    #[error("`{app}` has no channel `{channel}`: `Channels` in the policy file says which there are (PUSH_CONFIG)")]
    Unknown {
        /// The app.
        app: AppName,
        /// The channel.
        channel: ChannelName,
    },
    /// It is of images, and a pipeline has packages.
    #[error("the channel `{channel}` of `{app}` is of images: a pipeline moves only channels of packages")]
    Images {
        /// The app.
        app: AppName,
        /// The channel.
        channel: ChannelName,
    },
    /// It moves by itself.
    #[error(
        "the channel `{channel}` of `{app}` moves to every newer release by itself: a pipeline moves only a channel with \
         `Moves: \"told\"`"
    )]
    Newest {
        /// The app.
        app: AppName,
        /// The channel.
        channel: ChannelName,
    },
}

/// Why a release isn't known to be further on a line than where a channel points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotFurther {
    /// Its commit isn't on it.
    #[error("its commit has not landed there, as far as this checkout knows: push it, or `git fetch`")]
    NotLanded,
    /// Where the channel points isn't on it.
    #[error(
        "where the channel points is not on it, as far as this checkout knows: `git fetch --unshallow` gets all of its history; \
         after a branch was rewritten, `push channel set` says where the channel goes on"
    )]
    Nowhere,
    /// It landed no later than where the channel points.
    #[error("its commit landed no later than that of the channel")]
    NotLater,
}

/// What became of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It pointed there already.
    There,
    /// It points there now, and pointed to this before.
    From(Option<ReleaseName>, Generation),
}

/// The rules of a channel that a pipeline may move.
///
/// # Errors
/// Why it may not.
pub fn told<'a>(policy: &'a Policy, app: &AppName, channel: &ChannelName) -> Result<&'a ChannelRules, NotTold> {
    let rules = policy.channels().iter().find(|rules| rules.app == *app && rules.channel == *channel);
    let rules = rules.ok_or_else(|| NotTold::Unknown { app: app.clone(), channel: channel.clone() })?;
    if rules.image.is_some() {
        return Err(NotTold::Images { app: app.clone(), channel: channel.clone() });
    }
    match rules.moves {
        Moves::Told => Ok(rules),
        Moves::Newest => Err(NotTold::Newest { app: app.clone(), channel: channel.clone() }),
    }
}

/// Moves a channel of the release's app forward to it, on the line of its branch, which people know by `shown`.
///
/// # Errors
/// When the policy or somebody's role is against it, the release may not be pushed now, a follower rolled it back, the channel is
/// frozen, the release has not gone through the channel before, or it isn't known to be further on the line than where the
/// channel points. Nothing was written then.
pub async fn move_forward(
    bucket: &Bucket,
    policy: &Policy,
    who: &Identity,
    (release, channel): (&ReleaseName, &ChannelName),
    (line, shown): (&Line, &str),
    why: &str,
) -> Result<Moved> {
    let app = release.app();
    ensure_short(why)?;
    let rules = told(policy, app, channel)?;
    may_change(policy, who, rules, &servers(bucket, &[rules]).await?)?;
    let found = find(bucket, release).await?;
    if let Some(passed_over) = found.passed_over() {
        bail!("`{}` cannot be what a channel points to: {passed_over}", release.stem());
    }
    ensure_unguarded(bucket, &PushKind::Deploy, release).await?;
    let build = Build::from(found);
    for _ in 0..MAX_WRITES {
        let seen = read(bucket, rules).await?;
        let at = bucket.now();
        if seen.channel.release.as_ref() == Some(release) {
            return Ok(Moved::There);
        }
        if let Some(frozen) = &seen.channel.frozen {
            let (by, why) = (console::safe(&frozen.by), console::safe(&frozen.in_words()));
            bail!(
                "the channel `{channel}` of `{app}` is frozen by `{by}`: {why}; `push channel resume {app}` ends that"
            );
        }
        if let Some(entry) = seen.channel.rolled_back.iter().find(|entry| entry.release == *release) {
            bail!("`{}` rolled `{}` back by itself: {}", entry.server, release.stem(), console::safe(&entry.why));
        }
        let set = Set { release: release.clone(), without_soak: false };
        ensure_soaked(bucket, rules, &seen.channel, &set, at).await?;
        let own = own(bucket, seen.channel.release.as_ref()).await?;
        ensure_further(line, &build, own.as_ref()).with_context(|| {
            format!(
                "the channel `{channel}` of `{app}` moves only forward on `{shown}`, and `{}` is not further",
                release.stem()
            )
        })?;
        let said = Said { by: &who.name, why, at };
        bucket.mark().await.context("could not mark the bucket; nothing was written")?;
        let channel = moved(&seen.channel, release, MoveKind::Forward, said);
        match write(bucket, policy, channel, &seen).await {
            Ok(generation) => return Ok(Moved::From(seen.channel.release, generation)),
            Err(error) if error.is::<Raced>() => {}
            Err(error) => return Err(error),
        }
    }
    bail!(Raced::over(rules))
}

/// Where a channel points, and as which commit that landed.
async fn own(bucket: &Bucket, release: Option<&ReleaseName>) -> Result<Option<Build>> {
    let Some(release) = release else { return Ok(None) };
    find(bucket, release).await.map(|found| Some(found.into())).context("where the channel points cannot be read")
}

fn ensure_further(line: &Line, release: &Build, own: Option<&Build>) -> Result<(), NotFurther> {
    let mut places = Places::on(line);
    let place = places.learn(release).ok_or(NotFurther::NotLanded)?;
    let Some(own) = own else { return Ok(()) };
    let own = places.learn(own).ok_or(NotFurther::Nowhere)?;
    if place > own { Ok(()) } else { Err(NotFurther::NotLater) }
}

#[cfg(test)]
mod tests {
    use bucket::{Channel, Commit, RolledBackBy, ServerName};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        channel::change::{Change, changed},
        guard::{begin_halt, reject},
        simulation::world::{World, who},
    };

    const POLICY: &str = r#"{ Channels: [
        { App: "web", Repo: "https://git.example/web", Moves: "told", Servers: ["web-*"] },
        { App: "web", Channel: "beta", Repo: "https://git.example/web", Servers: ["beta-*"] },
        { App: "web", Channel: "images", Repo: "https://git.example/web", Moves: "told", Image: "i.example/web", Tag: "x" },
        { App: "web", Channel: "late", Repo: "https://git.example/web", Moves: "told", Servers: ["late-*"], From: "beta", Soak: "1h" },
    ] }"#;

    /// A channel that points to the second of three releases; of each of them the commit landed, one after the other.
    struct Stage {
        _directory: TempDir,
        bucket: Bucket,
        policy: Policy,
        releases: Vec<ReleaseName>,
    }

    fn name(text: &str) -> ChannelName {
        text.parse().unwrap()
    }

    impl Stage {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let servers: [ServerName; 1] = ["web-1".parse().unwrap()];
            let policy = Policy::parse("skiapush.conf", POLICY).unwrap();
            let world = World::new(directory.path(), 1, &servers, policy.clone()).await.unwrap();
            let bucket = world.bucket().clone();
            let releases = bucket.newest_releases(&"web".parse().unwrap(), 3).await.unwrap();
            let releases = releases.into_iter().rev().map(|release| release.name).collect();
            let stage = Self { _directory: directory, bucket, policy, releases };
            for channel in ["prod", "late"] {
                let pointed = stage.channel(channel).await;
                let said = Said { by: "dev", why: "first", at: stage.bucket.now() };
                let pointed = moved(&pointed, &stage.releases[1], MoveKind::Set, said);
                stage.bucket.write_channel(&pointed, None).await.unwrap();
            }
            stage
        }

        /// The line of what landed, as a checkout knows it.
        fn line(&self) -> Line {
            Line::new(self.releases.iter().map(|release| release.commit().clone()).collect())
        }

        async fn channel(&self, channel: &str) -> Channel {
            let (app, channel) = ("web".parse().unwrap(), name(channel));
            let read = self.bucket.channel(&app, &channel).await.unwrap();
            read.map_or_else(|| Channel::new(app, channel, "", "", self.bucket.now()), |(_, channel)| channel)
        }

        /// Writes `prod` as it is after a change.
        async fn change(&self, change: impl FnOnce(Channel) -> Channel) {
            let (generation, channel) =
                self.bucket.channel(&"web".parse().unwrap(), &name("prod")).await.unwrap().unwrap();
            self.bucket.write_channel(&change(channel), Some(generation)).await.unwrap();
        }

        async fn try_move(&self, n: usize, channel: &str) -> Result<Moved, String> {
            self.try_along(&self.line(), n, channel).await
        }

        async fn try_along(&self, line: &Line, n: usize, channel: &str) -> Result<Moved, String> {
            let (what, line) = ((&self.releases[n], &name(channel)), (line, "origin/main"));
            let moved =
                move_forward(&self.bucket, &self.policy, &who("ci"), what, line, "pipeline web, stage ship").await;
            moved.map_err(|error| format!("{error:#}"))
        }
    }

    #[tokio::test]
    async fn it_moves_forward_and_is_not_frozen_and_once_more_is_as_good() {
        let stage = Stage::new().await;
        let Moved::From(before, _) = stage.try_move(2, "prod").await.unwrap() else { panic!("it was there") };
        assert_eq!(before, Some(stage.releases[1].clone()));
        let channel = stage.channel("prod").await;
        assert_eq!((channel.release.as_ref(), &channel.frozen), (Some(&stage.releases[2]), &None));
        let last = &channel.history[0];
        assert_eq!(
            (last.by.as_str(), last.why.as_str(), &last.kind),
            ("ci", "pipeline web, stage ship", &MoveKind::Forward)
        );
        assert_eq!(stage.try_move(2, "prod").await, Ok(Moved::There));
        assert_eq!(stage.channel("prod").await, channel);
    }

    #[tokio::test]
    async fn what_speaks_against_a_move_is_said_and_nothing_is_written() {
        let stage = Stage::new().await;
        let refused = async |n: usize, channel: &str, want: &str| {
            let before = stage.channel(channel).await;
            let said = stage.try_move(n, channel).await.unwrap_err();
            assert!(said.contains(want), "{want}: {said}");
            assert_eq!(stage.channel(channel).await, before, "{want}");
        };
        refused(0, "prod", "moves only forward on `origin/main`").await;
        refused(0, "prod", "is not further: its commit landed no later than that of the channel").await;
        refused(2, "beta", "moves to every newer release by itself").await;
        refused(2, "images", "is of images").await;
        refused(2, "gamma", "has no channel `gamma`").await;
        refused(2, "late", "has not gone through the channel `beta`").await;
        let (at, why) = (stage.bucket.now(), "it crashed".to_owned());
        let (release, server) = (stage.releases[2].clone(), "web-1".parse().unwrap());
        let rolled_back = RolledBackBy { release, server, at, why, other: serde_json::Map::new() };
        stage.change(|channel| Channel { rolled_back: vec![rolled_back], ..channel }).await;
        refused(2, "prod", "`web-1` rolled `web:dev@build-1:2025-12-31T23:00:00Z").await;
        stage.change(|channel| Channel { rolled_back: Vec::new(), ..channel }).await;
        let said = Said { by: "ops", why: "the fair", at };
        stage.change(|channel| changed(&channel, &Change::Freeze, true, said).unwrap()).await;
        refused(2, "prod", "is frozen by `ops`: the fair").await;
        stage.change(|channel| Channel { frozen: None, ..channel }).await;
        begin_halt(&stage.bucket, &who("ops"), "outage").await.unwrap();
        refused(2, "prod", "halted all pushes").await;
        stage.bucket.lift_halt().await.unwrap();
        reject(&stage.bucket, &who("ops"), &stage.releases[2], "CVE").await.unwrap();
        refused(2, "prod", "is rejected").await;
    }

    #[tokio::test]
    async fn only_who_may_push_to_its_followers_moves_it() {
        let mut stage = Stage::new().await;
        let roles = r#"Roles: [{ Role: "deployer", Who: ["ops"] }, { Role: "viewer", Who: ["*"] }], Channels:"#;
        stage.policy = Policy::parse("skiapush.conf", &POLICY.replace("Channels:", roles)).unwrap();
        let said = stage.try_move(2, "prod").await.unwrap_err();
        assert!(said.contains("`ci` may not change the channel `prod` of `web`"), "{said}");
        assert_eq!(stage.channel("prod").await.release, Some(stage.releases[1].clone()));
    }

    #[tokio::test]
    async fn what_is_not_on_the_line_of_the_checkout_is_no_step_forward() {
        let stage = Stage::new().await;
        let all: Vec<Commit> = stage.releases.iter().map(|release| release.commit().clone()).collect();
        for (line, want) in [
            (&all[..2], "is not further: its commit has not landed there, as far as this checkout knows"),
            (&all[2..], "is not further: where the channel points is not on it, as far as this checkout knows"),
            (&[][..], "has not landed there"),
        ] {
            let said = stage.try_along(&Line::new(line.to_vec()), 2, "prod").await.unwrap_err();
            assert!(said.contains(want), "{want}: {said}");
        }
        assert_eq!(stage.channel("prod").await.release, Some(stage.releases[1].clone()));
        stage.try_along(&Line::new(all[1..].to_vec()), 2, "prod").await.unwrap();
    }
}
