//! The configuration that says which image runs: its lines are brought in line with the channel, by one commit for each move.
//!
//! Who applies it is somebody else: what follows a repository of manifests, or `kubectl apply` of whoever does that by hand.

use anyhow::{Context as _, Result, bail};
use bucket::{Channel, Commit};
use fleet::{
    channel::image_lines::{Retagged, retagged},
    follow::{self, Raced},
    policy::{ChannelRules, ConfigRules},
};
use registry::Tag;

use super::{
    commits::{BranchFile, Words},
    images::Images,
    mirror::Mirror,
    outcome::Done,
    watcher::Watcher,
};

/// How often a commit is made anew because somebody else pushed in between.
const TRIES: usize = 3;

/// What became of the configuration of a channel.
#[derive(Debug, Default)]
struct Configured {
    /// What was pushed, if something had to be.
    commit: Option<Commit>,
    /// The lines of the image that were left alone, each as a sentence.
    kept: Vec<String>,
}

impl Watcher {
    /// Has the tag and the configuration be what the channel says; `mirrors` are those of the configuration.
    ///
    /// # Errors
    /// When that can't be done, or somebody changed the channel meanwhile ([`Raced`]).
    pub(super) async fn bring_in_line(
        &self,
        images: &Images<'_>,
        channel: &Channel,
        mirrors: &[&Mirror],
        done: &mut Done,
    ) -> Result<()> {
        done.tagged = self.point(images, channel).await?;
        let rules = images.rules();
        let (Some(config), [mirror]) = (&rules.config, mirrors) else { return Ok(()) };
        let configured = self.configure((rules, config), images, channel, mirror).await;
        let Configured { commit, kept } = configured.context("could not write the configuration")?;
        (done.configured, done.kept) = (commit, kept);
        Ok(())
    }

    /// Has the lines of the image in the configuration name the commit that the channel points to.
    async fn configure(
        &self,
        (rules, config): (&ChannelRules, &ConfigRules),
        images: &Images<'_>,
        channel: &Channel,
        mirror: &Mirror,
    ) -> Result<Configured> {
        let Some(image) = channel.release.as_ref().and_then(|release| images.recorded(release)) else {
            return Ok(Configured::default());
        };
        let tag = Tag::from(&image.commit);
        let (mut mirror, matcher) = (mirror.clone(), config.matcher());
        let mut tries = 0;
        loop {
            let no_branch = || format!("`{}` has no branch `{}`, so no file there changes", config.repo, config.branch);
            let tip = mirror.tip(&config.branch).with_context(no_branch)?;
            let files = mirror.files(tip, |path| matcher.is_match(path)).await?;
            let (changed, kept) = self.changes((rules, config), &files, &tag)?;
            if changed.is_empty() {
                return Ok(Configured { commit: None, kept });
            }
            // Whoever pointed the channel elsewhere meanwhile may have committed that already.
            if follow::read(&self.bucket, rules).await?.channel.release != channel.release {
                bail!(Raced::over(rules));
            }
            let message =
                format!("{}: {} is now {}\n\n{}:{tag}\n", rules.app, rules.channel, image.commit.short(), image.name);
            let commit = mirror.commit(tip, &changed, &Words { who: &self.who.name, message: &message }).await?;
            let Err(refused) = mirror.push(&commit, &config.branch).await else {
                return Ok(Configured { commit: Some(commit), kept });
            };
            let fetched = mirror.fetched_anew().await?;
            if fetched.tip(&config.branch) == Some(tip) {
                return Err(refused);
            }
            tries += 1;
            if tries > TRIES {
                let said = format!("somebody else pushed in between, {TRIES} times; the next round tries again");
                return Err(refused.context(said));
            }
            mirror = fetched;
        }
    }

    /// The files in which something changes, and the lines that were left alone.
    fn changes(
        &self,
        (rules, config): (&ChannelRules, &ConfigRules),
        files: &[BranchFile],
        tag: &Tag,
    ) -> Result<(Vec<BranchFile>, Vec<String>)> {
        let Some(image) = &rules.image else { return Ok(Default::default()) };
        let (mut changed, mut all_kept) = (Vec::new(), Vec::new());
        for file in files {
            let Ok(text) = str::from_utf8(&file.content) else {
                all_kept.push(format!("`{}` stays as it is, because it is not UTF-8 text", file.path));
                continue;
            };
            let Retagged { text, kept } = retagged(text, &image.name, tag);
            if text.is_none() && kept.is_empty() {
                continue;
            }
            if let Some(other) = self.other_of(rules, config, &file.path) {
                bail!(
                    "`{}` of `{}` is also of the channel `{other}`, so neither writes it: have each name files of its own",
                    file.path,
                    config.repo
                );
            }
            let line = |(line, why)| format!("line {line} of `{}` stays as it is, because it {why}", file.path);
            all_kept.extend(kept.into_iter().map(line));
            changed.extend(text.map(|text| file.with(text.into_bytes())));
        }
        Ok((changed, all_kept))
    }

    /// Another channel that would change the same lines of a file.
    fn other_of(&self, rules: &ChannelRules, config: &ConfigRules, path: &str) -> Option<String> {
        let name = |rules: &ChannelRules| rules.image.as_ref().map(|image| image.name.clone());
        let writes = |other: &&ChannelRules| {
            let there =
                other.config.as_ref().filter(|there| there.repo == config.repo && there.branch == config.branch);
            let is_other = (&other.app, &other.channel) != (&rules.app, &rules.channel);
            is_other && name(other) == name(rules) && there.is_some_and(|there| there.matcher().is_match(path))
        };
        let other = self.policy.channels().iter().find(writes)?;
        Some(format!("{} {}", other.app, other.channel))
    }
}
