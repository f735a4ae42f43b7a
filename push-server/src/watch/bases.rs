//! Images that others are built on: what stands on an older one than its channel points to, and that builders are told when it moved.

use std::collections::BTreeSet;

use anyhow::Result;
use bucket::{Announcement, AppName, Channel, ChannelState, OnOlderBase, Timestamp};
use fleet::channel::observe::tagged;
use registry::Manifest;

use super::{
    images::Images,
    outcome::{Done, Outcome, Stands},
    watcher::Watcher,
};

impl Watcher {
    /// Notes in each outcome which apps' last images are built on an older image than the channel points to.
    pub(super) async fn compare_bases(&self, outcomes: &mut [Outcome]) {
        let stands = |outcome: &Outcome| Some((outcome.app.clone(), outcome.result.as_ref().ok()?.stands.clone()?));
        let all: Vec<(AppName, Stands)> = outcomes.iter().filter_map(stands).collect();
        for outcome in outcomes {
            let Ok(Done { stands: Some(base), on_older, warnings, .. }) = &mut outcome.result else { continue };
            let found = standing_on(base, &all);
            if found.iter().all(|found| found.base.ends_with(&base.digest.to_string())) {
                *on_older = Some(Vec::new());
                continue;
            }
            match self.parts(base).await {
                Ok(parts) => *on_older = Some(older(found, &parts)),
                Err(error) => warnings.push(format!("could not see what is built on an older one: {error:#}")),
            }
        }
    }

    /// Everything that one would be built on who names the image of now, or a newer one: itself, and what it lists.
    async fn parts(&self, base: &Stands) -> Result<BTreeSet<String>> {
        let mut parts = BTreeSet::new();
        for digest in [&base.digest].into_iter().chain(&base.newer) {
            let manifest = self.registry.by_digest(&base.name, digest).await?;
            // A newer one may be gone by now.
            let listed = manifest.iter().flat_map(Manifest::children).map(|child| child.digest.to_string());
            parts.extend(listed.chain([digest.to_string()]));
        }
        Ok(parts)
    }

    /// The channel with that its tag is its image now. The first time that is announced, if a topic is named for that: builders of
    /// what stands on it begin. Before it is written: whoever is killed in between says it twice rather than never.
    pub(super) async fn seen_in_line(
        &self,
        images: &Images<'_>,
        channel: &Channel,
        now: Timestamp,
        warnings: &mut Vec<String>,
    ) -> Channel {
        let noted = tagged(channel, now);
        if let Some(topic) = self.announce.as_ref().filter(|_| noted != *channel)
            && let Some(commit) =
                channel.release.as_ref().and_then(|release| images.recorded(release)).map(|image| &image.commit)
        {
            let (image, repo) = (images.image.name.to_string(), images.rules().repo.to_string());
            let published = topic.publish(&[Announcement::of_build(&image, commit.as_str(), &repo)]).await;
            warnings.extend(published.err().map(|error| format!("could not announce that the image moved: {error}")));
        }
        noted
    }
}

/// The apps whose last image is built on any image of this name.
fn standing_on(base: &Stands, all: &[(AppName, Stands)]) -> Vec<OnOlderBase> {
    let mut found: Vec<OnOlderBase> = Vec::new();
    for (app, Stands { last, .. }) in all {
        let on = last.base.as_ref().filter(|on| on.repository == base.name && on.digest.is_some());
        if let Some(on) = on.filter(|_| !found.iter().any(|found| found.app == *app)) {
            found.push(OnOlderBase { app: app.clone(), commit: last.commit.clone(), base: on.to_string() });
        }
    }
    found
}

/// Those of them that are built on none of these.
fn older(found: Vec<OnOlderBase>, parts: &BTreeSet<String>) -> Vec<OnOlderBase> {
    let is_older = |found: &OnOlderBase| !parts.iter().any(|part| found.base.ends_with(part.as_str()));
    found.into_iter().filter(is_older).take(ChannelState::MAX_ON_OLDER).collect()
}
