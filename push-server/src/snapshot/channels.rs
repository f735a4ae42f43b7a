//! The channels, what rounds of the watcher saw of them, and the watcher that reported last: listings, and what has changed is
//! read.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};
use bucket::{
    AppName, Bucket, Channel, ChannelName, ChannelState, ChannelSummary, Error, Generation, ServerName, WatcherReport,
};
use fleet::server::Reading;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

/// Channels that are kept, and bytes of their objects together; likewise of what was seen of them.
const KEPT: (usize, u64) = (1000, 32 << 20);
/// Objects that are read at the same time.
const AT_ONCE: usize = 16;

/// What is known of channels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Channels {
    /// Each that was ever moved or frozen.
    pub channels: OfChannels<Channel>,
    /// What a round last saw of each.
    pub states: OfChannels<ChannelState>,
    /// The machine of the watcher that reported last, and its report.
    pub watcher: Option<(ServerName, KnownObject<WatcherReport>)>,
}

/// An object of each channel.
pub(super) type OfChannels<T> = BTreeMap<(AppName, ChannelName), KnownObject<T>>;

/// An object, and which generation of it that is.
#[derive(Debug, Clone)]
pub struct KnownObject<T> {
    /// The generation.
    pub generation: Generation,
    /// What was read.
    pub read: Reading<Arc<T>>,
}

/// What an object is doesn't change without its generation.
impl<T> PartialEq for KnownObject<T> {
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation && self.read.error() == other.read.error()
    }
}

/// The channels that are in the bucket; what is `known` of the same generation isn't read again. Where there is none, no
/// watcher has anything to say either.
pub(super) async fn read(bucket: &Bucket, known: &Channels) -> Result<Channels> {
    let listed = kept(bucket.channels()).await.context("could not list the channels")?;
    if listed.is_empty() {
        return Ok(Channels::default());
    }
    let channels = changed(listed, &known.channels, |app, channel| {
        let bucket = bucket.clone();
        async move { bucket.channel(&app, &channel).await }
    });
    let states = async {
        let listed = kept(bucket.channel_states()).await.context("could not list what was seen of channels")?;
        let read = |app, channel| {
            let bucket = bucket.clone();
            async move { bucket.channel_state(&app, &channel).await }
        };
        anyhow::Ok(changed(listed, &known.states, read).await)
    };
    let watcher = async {
        let newest = bucket.newest_watcher().await.context("could not list the watchers")?;
        let Some((host, generation)) = newest else { return anyhow::Ok(None) };
        let known = known.watcher.as_ref().filter(|(known, _)| *known == host).map(|(_, known)| known);
        let read = object(generation, known, bucket.watcher(&host)).await;
        Ok(read.map(|read| (host, read)))
    };
    let (channels, states, watcher) = tokio::join!(channels, states, watcher);
    Ok(Channels { channels, states: states?, watcher: watcher? })
}

async fn kept(listed: impl Stream<Item = Result<ChannelSummary, Error>>) -> Result<Vec<ChannelSummary>, Error> {
    let listed: Vec<_> = listed.take(KEPT.0).try_collect().await?;
    let mut bytes = 0_u64;
    let fits = |summary: &ChannelSummary| {
        bytes = bytes.saturating_add(summary.size);
        bytes <= KEPT.1
    };
    Ok(listed.into_iter().take_while(fits).collect())
}

async fn changed<T: Clone, F: Future<Output = Result<Option<(Generation, T)>, Error>>>(
    listed: Vec<ChannelSummary>,
    known: &OfChannels<T>,
    read: impl Fn(AppName, ChannelName) -> F,
) -> OfChannels<T> {
    let found = listed.into_iter().map(|ChannelSummary { app, channel, generation, .. }| {
        let read = read(app.clone(), channel.clone());
        let key = (app, channel);
        let known = known.get(&key);
        async move { Some((key, object(generation, known, read).await?)) }
    });
    stream::iter(found).buffer_unordered(AT_ONCE).filter_map(async |found| found).collect().await
}

/// An object of which the listing says that it has a generation; `None` if it is gone by now.
pub(super) async fn object<T: Clone>(
    generation: Generation,
    known: Option<&KnownObject<T>>,
    read: impl Future<Output = Result<Option<(Generation, T)>, Error>>,
) -> Option<KnownObject<T>> {
    if let Some(known) = known.filter(|known| known.generation == generation && known.read.error().is_none()) {
        return Some(known.clone());
    }
    match read.await {
        Ok(Some((generation, read))) => Some(KnownObject { generation, read: Reading::Known(Arc::new(read)) }),
        Ok(None) => None,
        Err(error) => Some(KnownObject { generation, read: Reading::Unreadable(error.to_string()) }),
    }
}
