//! Finding the instances of servers and setting their attribute, with retries.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use backon::{ExponentialBuilder, Retryable};
use bucket::{ReleaseName, ServerName};
use futures_util::{StreamExt, future::join_all, stream};
use tokio::time::timeout;

use super::{
    api::{Api, Failure},
    instance::{self, Candidate, Found, InstanceMetadata, choose},
    settings::{ComputeSettings, PokeSettings},
};

/// The attribute that pulld watches.
const ATTRIBUTE: &str = "pushrev";
/// Servers whose instances are looked up with one request: each answer carries all their metadata.
const NAMES_PER_LIST: usize = 10;
/// Servers poked at the same time.
const AT_ONCE: usize = 8;

/// Pokes servers.
#[derive(Debug)]
pub struct Poker {
    api: Api,
    settings: ComputeSettings,
}

/// The instances of servers, or why one has none that can be told from others.
#[derive(Debug)]
pub struct Prepared(BTreeMap<ServerName, Result<(Candidate, Option<InstanceMetadata>)>>);

impl Poker {
    /// A poker, or `None` when nothing is to be poked.
    ///
    /// # Errors
    /// When the credentials can't be loaded.
    pub fn new(settings: &PokeSettings) -> Result<Option<Self>> {
        let PokeSettings::Compute(settings) = settings else { return Ok(None) };
        Ok(Some(Self { api: Api::new(settings)?, settings: settings.clone() }))
    }

    /// Looks up the instances of servers, which may take as long as what is to be told to them takes to be written. Of a
    /// few servers it reads the metadata too.
    pub async fn prepare(&self, servers: &BTreeSet<ServerName>) -> Prepared {
        let names: Vec<&ServerName> = servers.iter().collect();
        // Without a token nothing below can work, and a thousand servers would each wait for that.
        if let Err(failure) = self.authenticate().await {
            let failed = |name: &&ServerName| ((*name).clone(), Err(anyhow!("{}", failure.reason)));
            return Prepared(names.iter().map(failed).collect());
        }
        let mut prepared = BTreeMap::new();
        for names in names.chunks(NAMES_PER_LIST) {
            for (name, found) in self.find(names).await {
                prepared.insert(name.clone(), found.map(|instance| (instance, None)));
            }
        }
        if prepared.len() <= AT_ONCE {
            let read = prepared.values_mut().flatten().map(async |(instance, metadata)| {
                // What can't be read now is tried again when it counts.
                *metadata = self.api.metadata(instance).await.ok();
            });
            join_all(read).await;
        }
        Prepared(prepared)
    }

    /// Pokes each server once, whatever the number of releases it got, and says how each went.
    pub async fn poke(
        &self,
        prepared: Prepared,
        pushed: &BTreeMap<ServerName, Vec<ReleaseName>>,
    ) -> BTreeMap<ServerName, Result<()>> {
        let nonce = jiff::Timestamp::now().as_nanosecond();
        let writes = prepared.0.into_iter().filter_map(|(name, found)| {
            let value = value(pushed.get(&name)?, nonce);
            Some(async move {
                let poked = match found {
                    Ok((instance, metadata)) => self.poke_one(&instance, metadata, &value).await,
                    Err(error) => Err(error),
                };
                (name, poked)
            })
        });
        stream::iter(writes).buffer_unordered(AT_ONCE).collect().await
    }

    /// Makes sure that there is an access token, with a few attempts in quick succession.
    async fn authenticate(&self) -> Result<(), Failure> {
        let pauses = ExponentialBuilder::default().with_jitter().with_min_delay(self.settings.first_retry);
        let attempt = || self.api.authenticate();
        attempt.retry(pauses.with_max_times(2)).when(|failure: &Failure| failure.retry).await
    }

    /// The instances of the servers named.
    async fn find<'a>(&self, names: &[&'a ServerName]) -> Vec<(&'a ServerName, Result<Candidate>)> {
        let project = &self.settings.project;
        let (good, bad): (Vec<&ServerName>, Vec<_>) = names.iter().partition(|name| instance::is_name(name.as_str()));
        let mut results: Vec<(&ServerName, Result<Candidate>)> = bad
            .into_iter()
            .map(|name| (name, Err(anyhow!("`{name}` cannot be the name of a Compute Engine instance"))))
            .collect();
        if good.is_empty() {
            return results;
        }
        if let Some(zone) = &self.settings.zone {
            let here = |name: &ServerName| Candidate { zone: zone.clone(), name: name.to_string() };
            results.extend(good.into_iter().map(|name| (name, Ok(here(name)))));
            return results;
        }
        let list = || self.list(&good);
        match self.retrying(list).await {
            Ok(found) => results.extend(good.into_iter().map(|name| (name, choose(&found, name.as_str(), project)))),
            Err(error) => {
                let reason = format!("{error:#}");
                results.extend(good.into_iter().map(|name| (name, Err(anyhow!("{reason}")))));
            }
        }
        results
    }

    async fn list(&self, names: &[&ServerName]) -> Result<Found, Failure> {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let mut found = Found::default();
        let mut page = None;
        for _ in 0..instance::MAX_PAGES {
            let listed = self.api.list(&names, page.as_deref()).await?;
            page = found.add(listed);
            if page.is_none() {
                return Ok(found);
            }
        }
        Err(Failure::permanent(format!("the list of instances has more than {} pages", instance::MAX_PAGES)))
    }

    async fn poke_one(&self, instance: &Candidate, mut metadata: Option<InstanceMetadata>, value: &str) -> Result<()> {
        let attempt = || self.set(instance, metadata.take(), value);
        self.retrying(attempt).await.with_context(|| {
            format!("could not set `{ATTRIBUTE}` of instance `{}` in `{}`", instance.name, instance.zone)
        })
    }

    /// One attempt, with the metadata that was read a moment ago or else from a fresh read: what a lost answer or another
    /// writer left is seen, not guessed.
    async fn set(&self, instance: &Candidate, metadata: Option<InstanceMetadata>, value: &str) -> Result<(), Failure> {
        let metadata = match metadata {
            Some(metadata) => metadata,
            None => self.api.metadata(instance).await?,
        };
        if metadata.get(ATTRIBUTE) == Some(value) {
            return Ok(());
        }
        let operation = self.api.set_metadata(instance, &metadata.with(ATTRIBUTE, value)).await?;
        self.api.finish(instance, operation).await
    }

    /// Tries until it succeeds, cannot succeed, or the time is up.
    async fn retrying<T, Tried: Future<Output = Result<T, Failure>>>(
        &self,
        attempt: impl FnMut() -> Tried,
    ) -> Result<T> {
        let limit = self.settings.timeout;
        let attempts = attempt
            .retry(
                ExponentialBuilder::default()
                    .with_jitter()
                    .with_min_delay(self.settings.first_retry)
                    .with_max_delay(self.settings.first_retry * 16)
                    .with_max_times(8),
            )
            .when(|failure: &Failure| failure.retry)
            .adjust(|failure, delay| delay.map(|delay| delay.max(failure.retry_after.unwrap_or(Duration::ZERO))));
        match timeout(limit, attempts).await {
            Ok(result) => result.map_err(|failure| anyhow!("{}", failure.reason)),
            Err(_) => Err(anyhow!("timed out after {} s waiting for the Compute API", limit.as_secs())),
        }
    }
}

/// What is written: for people who look at it. The nonce makes every poke a change.
fn value(releases: &[ReleaseName], nonce: i128) -> String {
    // An attribute holds 256 KiB; nobody reads a hundred names.
    const SHOWN: usize = 3;
    let mut words: Vec<String> = releases.iter().take(SHOWN).map(|release| release.stem().to_owned()).collect();
    if releases.len() > SHOWN {
        words.push(format!("+{}", releases.len() - SHOWN));
    }
    words.push(format!("{nonce:x}"));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_the_releases_and_never_repeats() {
        let release: ReleaseName =
            "web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb".parse().unwrap();
        let one = value(std::slice::from_ref(&release), 0x1f);
        assert_eq!(one, "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433 1f");
        assert_ne!(one, value(std::slice::from_ref(&release), 0x20));
        assert!(value(&vec![release; 500], 1).ends_with(" +497 1"));
    }
}
