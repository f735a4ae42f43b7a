//! Reading what there is around a rollout again and again: only what has changed is read.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use bucket::{Bucket, DocumentSummary, Generation, Hold, Rollout, ServerName, StatusSummary, Timestamp};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    hold::{self, AllHolds},
    server::{self, Reading, Server},
};

/// Servers that are read at the same time.
const AT_ONCE: usize = 32;

/// What was read of servers, and as which generations, and the holds.
#[derive(Debug, Default)]
pub struct Reader {
    servers: BTreeMap<ServerName, Server>,
    generations: BTreeMap<ServerName, (Option<Generation>, Option<Generation>)>,
    holds: AllHolds,
}

/// What a step of a rollout goes by.
#[derive(Debug)]
pub struct Around<'a> {
    /// The rollout's servers and those of their groups.
    pub servers: &'a BTreeMap<ServerName, Server>,
    /// Its servers that are on hold for it, each until when.
    pub held: BTreeMap<ServerName, Timestamp>,
    /// Whether all pushes are halted.
    pub halted: bool,
}

/// The servers that a rollout looks at: its own, and those of their groups.
pub fn names(rollout: &Rollout) -> BTreeSet<ServerName> {
    let own = rollout.rows().map(|row| &row.server);
    own.chain(rollout.budgets.iter().flat_map(|budget| &budget.servers)).cloned().collect()
}

/// The servers of a rollout that are on hold for it, each until when: not by whoever has it written in spite of their own holds.
///
/// # Errors
/// When it can't be read whether one is: then nothing may be written.
pub fn held(rollout: &Rollout, holds: &AllHolds, now: Timestamp) -> Result<BTreeMap<ServerName, Timestamp>> {
    let who = rollout.undo.as_ref().map_or(&rollout.who, |undo| &undo.who);
    let binds = |hold: &&Hold| !rollout.held || hold.by != *who;
    let mut held = BTreeMap::new();
    for row in rollout.rows() {
        match holds.get(&row.server).map(|(_, holds)| holds) {
            Some(Reading::Known(holds)) => {
                let until = holds.in_force(Some(&rollout.app), now).filter(binds).map(|hold| hold.until).max();
                held.extend(until.map(|until| (row.server.clone(), until)));
            }
            Some(Reading::Unreadable(error)) => bail!("could not read whether `{}` is on hold: {error}", row.server),
            Some(Reading::Absent) | None => {}
        }
    }
    Ok(held)
}

impl Reader {
    /// What there is around a rollout now.
    ///
    /// # Errors
    /// When something of it can't be read.
    pub async fn around(&mut self, bucket: &Bucket, rollout: &Rollout) -> Result<Around<'_>> {
        let halted = bucket.halt().await.context("could not read whether all pushes are halted")?.is_some();
        self.holds = hold::all(bucket, &self.holds).await?;
        let held = held(rollout, &self.holds, bucket.now())?;
        Ok(Around { servers: self.read(bucket, &names(rollout)).await?, held, halted })
    }

    /// The servers as they are now; their reports bear the bucket's time.
    ///
    /// # Errors
    /// When documents or reports can't be listed. What can't be read of one server is said in it.
    pub async fn read(
        &mut self,
        bucket: &Bucket,
        names: &BTreeSet<ServerName>,
    ) -> Result<&BTreeMap<ServerName, Server>> {
        let documents = bucket.servers().map_ok(|found| (found.server.clone(), found)).try_collect();
        let statuses = bucket.statuses().map_ok(|found| (found.server.clone(), found)).try_collect();
        let (documents, statuses) = tokio::join!(documents, statuses);
        let documents: BTreeMap<ServerName, DocumentSummary> =
            documents.context("could not list the server documents")?;
        let statuses: BTreeMap<ServerName, StatusSummary> = statuses.context("could not list the reports")?;
        let listed = |name: &ServerName| {
            let document = documents.get(name).map(|found| found.generation);
            (document, statuses.get(name).map(|found| found.generation))
        };
        self.servers.retain(|name, _| names.contains(name));
        let is_new = |name: &&ServerName| {
            let is_whole = self.servers.get(*name).is_some_and(|server| server.errors().next().is_none());
            !is_whole || self.generations.get(*name) != Some(&listed(name))
        };
        let changed: Vec<ServerName> = names.iter().filter(is_new).cloned().collect();
        let read = stream::iter(changed).map(async |name| {
            let written = statuses.get(&name).map(|listed| listed.updated);
            let server = server::read_listed(bucket, &name, written).await;
            (name, server)
        });
        let read: Vec<(ServerName, Server)> = read.buffer_unordered(AT_ONCE).collect().await;
        for (name, server) in read {
            self.generations.insert(name.clone(), listed(&name));
            self.servers.insert(name, server);
        }
        Ok(&self.servers)
    }
}
