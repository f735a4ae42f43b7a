//! What would be done to servers that were read just now, with what was read: for a program that shows it first, and for one
//! that does it at once. Also of a push as a whole: undone, or tried again where it failed.

use anyhow::{Result, ensure};
use bucket::{AppName, Bucket, PushKind, Release, ServerName, Timestamp};
use futures_util::{StreamExt, stream};

use crate::{
    account::{Account, AccountRow},
    operation::{Intent, JustRead},
    plan::{Proposal, propose, propose_removal},
    push::Seen,
    redo::{app_of, failed, rows_of, undone},
    retry::current_on,
    server::Server,
};

/// Servers that are looked at at the same time.
const AT_ONCE: usize = 16;

/// What would be done to one server, or why nothing can.
#[derive(Debug)]
pub struct Proposed {
    /// The server.
    pub server: ServerName,
    /// What would change, and what was read for it.
    pub proposal: Result<(Proposal, JustRead)>,
}

impl Proposed {
    /// What is wanted of the server for a push of that kind, if something can be done.
    pub fn into_intent(self, kind: &PushKind) -> Result<(Intent, JustRead)> {
        let (Proposal { server, app, from, to, .. }, just_read) = self.proposal?;
        Ok((Intent { server, app, from, to, kind: kind.clone() }, just_read))
    }
}

/// What a push of a release would do to a server.
///
/// # Errors
/// When its document could not be read.
pub fn proposal(server: &Server, release: &Release, kind: &PushKind, now: Timestamp) -> Result<(Proposal, JustRead)> {
    let seen = Seen::of(server)?;
    Ok((propose(server, release, kind, now), JustRead { release: Some(release.clone()), seen }))
}

/// What taking an app off a server would do.
///
/// # Errors
/// When its document could not be read.
pub fn removal(server: &Server, app: &AppName, now: Timestamp) -> Result<(Proposal, JustRead)> {
    let seen = Seen::of(server)?;
    Ok((propose_removal(server, app, now), JustRead { release: None, seen }))
}

/// What undoing a push would do, on some of its servers or on all that it was written to.
///
/// # Errors
/// When one of the servers is none of the push.
pub async fn undo(bucket: &Bucket, account: &Account, servers: &[ServerName]) -> Result<Vec<Proposed>> {
    let rows = rows_of(account, servers)?.into_iter().map(|row| undo_one(bucket, account, row));
    Ok(stream::iter(rows.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await)
}

async fn undo_one(bucket: &Bucket, account: &Account, row: &AccountRow) -> Proposed {
    Proposed { server: row.row.server.clone(), proposal: undo_proposal(bucket, account, row).await }
}

async fn undo_proposal(bucket: &Bucket, account: &Account, row: &AccountRow) -> Result<(Proposal, JustRead)> {
    let (proposal, just_read) = match undone(bucket, account, row).await? {
        Some(release) => proposal(&row.server, &release, &PushKind::Undo, bucket.now())?,
        None => removal(&row.server, app_of(&account.push)?, bucket.now())?,
    };
    // What was there before is not misspelt.
    Ok((Proposal { objection: None, ..proposal }, just_read))
}

/// What trying a push again where its release failed would do.
///
/// # Errors
/// When it has not failed anywhere.
pub async fn retry(bucket: &Bucket, account: &Account) -> Result<Vec<Proposed>> {
    let push = &account.push;
    let rows: Vec<&AccountRow> = failed(account).collect();
    ensure!(!rows.is_empty(), "push {} has not failed on any server: {}", push.id, account.summary());
    Ok(retry_on(bucket, app_of(push)?, rows.into_iter().map(|row| row.server.clone())).await)
}

/// What trying the release of an app again would do on some servers.
pub async fn retry_on(bucket: &Bucket, app: &AppName, servers: impl IntoIterator<Item = Server>) -> Vec<Proposed> {
    let servers: Vec<Server> = servers.into_iter().collect();
    let rows = stream::iter(servers).map(async |server| {
        let release = current_on(bucket, app, &server).await;
        let proposal = release.and_then(|release| proposal(&server, &release, &PushKind::Retry, bucket.now()));
        Proposed { server: server.name, proposal }
    });
    rows.buffered(AT_ONCE).collect().await
}
