//! Images that others are built on: what stands on an older one than its channel points to, and that builders are told when it moved.

use anyhow::Result;
use bucket::{Announcement, AppName, Channel, ChannelState, OnOlderBase, Timestamp};
use fleet::channel::observe::tagged;
use registry::{Digest, Manifest};

use super::{
    images::Images,
    outcome::{Done, LastBuilt, Outcome, Stands},
    watcher::Watcher,
};

impl Watcher {
    /// Notes in each outcome which apps' last images are built on an older image than the channel points to.
    pub(super) async fn compare_bases(&self, outcomes: &mut [Outcome]) {
        let last = |outcome: &Outcome| {
            let stands = outcome.result.as_ref().ok()?.stands.as_ref()?;
            Some((outcome.app.clone(), stands.last.clone()))
        };
        let all: Vec<(AppName, LastBuilt)> = outcomes.iter().filter_map(last).collect();
        for outcome in outcomes {
            let Ok(Done { stands: Some(base), on_older, warnings, .. }) = &mut outcome.result else { continue };
            match self.older(base, standing_on(base, &all)).await {
                Ok(older) => *on_older = Some(older),
                Err(error) => warnings.push(format!("could not see what is built on an older one: {error:#}")),
            }
        }
    }

    /// Those that are built neither on the image of now or a newer one, nor on what these list.
    async fn older(&self, base: &Stands, mut found: Vec<OnOlderBase>) -> Result<Vec<OnOlderBase>> {
        let is_on = |found: &OnOlderBase, digest: &Digest| found.base.ends_with(&digest.to_string());
        for digest in [&base.digest].into_iter().chain(&base.newer) {
            found.retain(|found| !is_on(found, digest));
            if found.is_empty() {
                break;
            }
            // A newer one may be gone by now.
            let manifest = self.registry.by_digest(&base.name, digest).await?;
            let listed = || manifest.iter().flat_map(Manifest::children);
            found.retain(|found| !listed().any(|child| is_on(found, &child.digest)));
        }
        found.truncate(ChannelState::MAX_ON_OLDER);
        Ok(found)
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
fn standing_on(base: &Stands, all: &[(AppName, LastBuilt)]) -> Vec<OnOlderBase> {
    let mut found: Vec<OnOlderBase> = Vec::new();
    for (app, last) in all {
        let on = last.base.as_ref().filter(|on| on.repository == base.name && on.digest.is_some());
        if let Some(on) = on.filter(|_| !found.iter().any(|found| found.app == *app)) {
            found.push(OnOlderBase { app: app.clone(), commit: last.commit.clone(), base: on.to_string() });
        }
    }
    found
}
