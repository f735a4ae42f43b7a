//! Retiring servers, and taking that back.
//!
//! The order is such that whoever is killed between any two requests is finished by the same command again: the document is
//! kept in `retired/` with the push that does it, deleted with the generation that was read, recorded in the history, and
//! then the report goes. What is kept counts only once there is no document.

use anyhow::{Context, anyhow, bail};
use bucket::{
    AppName, Bucket, Error, Generation, HistoryEntry, Object, PushId, PushKind, PushRow, RetiredDocument, Retirement,
    ServerDocument, ServerName, UnwrittenCause, UnwrittenRow,
};
use futures_util::{FutureExt as _, StreamExt, stream};

use crate::{
    account::{Account, AccountRow},
    guard::{Guard, Intended},
    lookup::ensure_server,
    operation::{NotPushed, Operator},
    policy::Reason,
    push::{Incomplete, record},
    push_object::PushObject,
};

/// Servers that are written at the same time.
const AT_ONCE: usize = 16;

/// How one server went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The server.
    pub server: ServerName,
    /// The push that it is a row of, if one was written.
    pub push: Option<PushId>,
    /// Why nothing was written, if so.
    pub result: Result<(), NotPushed>,
    /// What failed after the write.
    pub incomplete: Vec<Incomplete>,
}

/// What became of one row: by which push, and what to know.
type Written = (PushId, Vec<Incomplete>);

/// Retires servers: each document is kept in `retired/` and deleted, and so is the report. What an interrupted retirement
/// left is finished under its own ID.
pub async fn retire(bucket: &Bucket, operator: &Operator, servers: Vec<ServerName>) -> Vec<Retired> {
    let push = object(bucket, operator, PushKind::Retire, None, &servers);
    let guard = Guard::new(bucket, []);
    let retired = stream::iter(servers).map(async |server| {
        let result = retire_one(bucket, operator, &guard, &push, &server).boxed().await;
        outcome(server, result)
    });
    let retired: Vec<Retired> = retired.buffered(AT_ONCE).collect().await;
    end(operator, &push, retired).await
}

/// Restores what a push retired: each document comes back byte for byte, with its metadata, unless the server has one.
///
/// # Errors
/// When the push has not retired servers.
pub async fn restore(
    bucket: &Bucket,
    operator: &Operator,
    account: &Account,
    rows: &[&AccountRow],
) -> anyhow::Result<Vec<Retired>> {
    let of = &account.push;
    if of.kind != PushKind::Retire {
        bail!("push {} restored servers: `push retire` retires them again", of.id);
    }
    let servers: Vec<ServerName> = rows.iter().map(|row| row.server.name.clone()).collect();
    let push = object(bucket, operator, PushKind::Undo, Some(&of.id), &servers);
    let guard = Guard::new(bucket, []);
    let restored = stream::iter(servers).map(async |server| {
        let result = restore_one(bucket, operator, &guard, &push, (&server, &of.id)).boxed().await;
        outcome(server, result)
    });
    let restored: Vec<Retired> = restored.buffered(AT_ONCE).collect().await;
    Ok(end(operator, &push, restored).await)
}

fn object(
    bucket: &Bucket,
    operator: &Operator,
    kind: PushKind,
    of: Option<&PushId>,
    servers: &[ServerName],
) -> PushObject {
    let rows = servers.iter().map(|server| PushRow { server: server.clone(), from: None, to: None }).collect();
    PushObject::new(
        bucket,
        (PushId::random(), of),
        (None, kind),
        (operator.who.name.as_str(), operator.reason.as_str()),
        rows,
    )
}

fn outcome(server: ServerName, result: Result<Written, NotPushed>) -> Retired {
    match result {
        Ok((push, incomplete)) => Retired { server, push: Some(push), result: Ok(()), incomplete },
        Err(error) => Retired { server, push: None, result: Err(error), incomplete: Vec::new() },
    }
}

/// Ends the push, if it was begun. What an earlier one had begun is no row of it.
async fn end(operator: &Operator, push: &PushObject, mut results: Vec<Retired>) -> Vec<Retired> {
    if push.is_created() {
        let unwritten = results.iter().filter_map(|row| {
            let cause = match &row.result {
                Ok(()) if row.push.as_ref() == Some(push.id()) => return None,
                Ok(()) => UnwrittenCause::Conflict,
                Err(error) => error.cause(),
            };
            Some(UnwrittenRow { server: row.server.clone(), cause })
        });
        if let Err(error) = push.end(&operator.who.name, unwritten.collect()).await
            && let Some(first) = results.first_mut()
        {
            first.incomplete.push(Incomplete::NotEnded(error.to_string()));
        }
    }
    results
}

async fn retire_one(
    bucket: &Bucket,
    operator: &Operator,
    guard: &Guard<'_>,
    push: &PushObject,
    server: &ServerName,
) -> Result<Written, NotPushed> {
    let (document, kept, status) =
        tokio::join!(bucket.document_object(server), bucket.retired(server), bucket.status_generation(server));
    let unreadable = || format!("nothing was written: could not read what there is of `{server}`");
    let document = document.with_context(unreadable)?;
    let kept = kept.with_context(unreadable)?;
    let status = status.with_context(unreadable)?;
    judge(operator, server, document.as_ref())?;
    guard.judge(intended(operator, server, &PushKind::Retire)).await?;
    let retirement = match (&document, kept) {
        (None, None) => {
            ensure_server(bucket, server).await?;
            return Err(anyhow!("`{server}` has no document: there is nothing to retire").into());
        }
        // Somebody was interrupted after that, or it was retired long ago.
        (None, Some(kept)) => kept.retirement,
        // Somebody was interrupted before that.
        (Some(document), Some(RetiredDocument { retirement: Some(kept), .. }))
            if kept.generation == document.generation =>
        {
            Some(kept)
        }
        (Some(document), kept) => {
            push.ready().await?;
            let retirement = Retirement {
                push: push.id().clone(),
                time: bucket.now(),
                who: operator.who.name.clone(),
                why: operator.reason.clone(),
                generation: document.generation,
            };
            let before = kept.map(|kept| kept.generation);
            let written = bucket.keep_retired(server, document, &retirement, before).await;
            written.with_context(|| format!("nothing was written: could not keep the document of `{server}`"))?;
            Some(retirement)
        }
    };
    if let Some(Object { generation, .. }) = document {
        match bucket.delete_server_document(server, generation).await {
            Ok(()) => {}
            Err(Error::Conflict { .. }) => {
                let text = format!(
                    "`{server}` was not retired: another push changed its document; review the change and retire it again"
                );
                return Err(anyhow!(text).into());
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                return Err(error.context(format!("could not delete the document of `{server}`")).into());
            }
        }
    }
    let mut incomplete = Vec::new();
    if let Some(retirement) = &retirement {
        let mut entry = retirement.entry(server);
        if retirement.push == *push.id() {
            entry.why.clone_from(&operator.reason);
        }
        incomplete.extend(recorded(bucket, &entry).await);
    }
    if let Some(status) = status {
        match bucket.delete_status(server, status).await {
            Ok(()) => {}
            Err(Error::Conflict { .. }) => incomplete.push(Incomplete::StillReports),
            Err(error) => incomplete.push(Incomplete::StatusLeft(error.to_string())),
        }
    }
    Ok((retirement.map_or(push.id().clone(), |retirement| retirement.push), incomplete))
}

fn intended<'a>(operator: &'a Operator, server: &'a ServerName, kind: &'a PushKind) -> Intended<'a> {
    Intended { kind, server, app: None, release: None, who: &operator.who.name, held: operator.held }
}

/// Makes sure that the history has an entry.
async fn recorded(bucket: &Bucket, entry: &HistoryEntry) -> Option<Incomplete> {
    let has = match &entry.push {
        Some(push) => bucket.has_history(&entry.server, entry.time, push).await.unwrap_or_default(),
        None => false,
    };
    if has { None } else { record(bucket, entry).await }
}

fn judge(operator: &Operator, server: &ServerName, document: Option<&Object>) -> Result<(), NotPushed> {
    let document = document.and_then(|object| ServerDocument::parse(&object.content).ok()).unwrap_or_default();
    let apps: Vec<&AppName> = document.releases().map(bucket::ReleaseName::app).collect();
    Ok(operator.policy.judge_retirement(&operator.who, server, &apps, Reason::Given(&operator.reason))?)
}

async fn restore_one(
    bucket: &Bucket,
    operator: &Operator,
    guard: &Guard<'_>,
    push: &PushObject,
    (server, of): (&ServerName, &PushId),
) -> Result<Written, NotPushed> {
    let (document, kept) = tokio::join!(bucket.document_object(server), bucket.retired(server));
    let kept = kept.with_context(|| format!("could not read the retired document of `{server}`"))?;
    let document = document.with_context(|| format!("could not read the document of `{server}`"))?;
    let is_of_it = |kept: &RetiredDocument| kept.retirement.as_ref().is_some_and(|found| found.push == *of);
    let Some(kept) = kept.filter(is_of_it) else {
        return Err(anyhow!("nothing was written: `{server}` is no longer retired by push {of}").into());
    };
    judge(operator, server, Some(&kept.document))?;
    guard.judge(intended(operator, server, &PushKind::Undo)).await?;
    let generation: Generation = match document {
        // Somebody was interrupted after that.
        Some(found) if (&found.content, &found.metadata) == (&kept.document.content, &kept.document.metadata) => {
            push.ready().await?;
            found.generation
        }
        Some(_) => {
            return Err(anyhow!("nothing was written: `{server}` has a document again, which somebody pushed").into());
        }
        None => {
            push.ready().await?;
            let restored = bucket.restore_retired(server, &kept).await;
            restored.with_context(|| format!("could not restore the document of `{server}`"))?
        }
    };
    let entry = HistoryEntry {
        time: bucket.now(),
        id: push.id().to_string(),
        server: server.clone(),
        app: None,
        from: None,
        to: None,
        kind: PushKind::Undo,
        who: operator.who.name.clone(),
        why: operator.reason.clone(),
        generation,
        push: Some(push.id().clone()),
        without_waves: false,
        channel: None,
    };
    let mut incomplete: Vec<Incomplete> = recorded(bucket, &entry).await.into_iter().collect();
    if let Err(error) = bucket.forget_retired(server, kept.generation).await {
        incomplete.push(Incomplete::KeptLeft(error.to_string()));
    }
    Ok((push.id().clone(), incomplete))
}
