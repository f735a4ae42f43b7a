//! What is done about a push as a whole: undone, tried again where it failed, continued, or stopped.

use anyhow::{Context, Result, bail, ensure};
use bucket::{
    AppName, AppState, Bucket, HistoryEntry, Push, PushEnd, PushKind, Release, ReleaseName, ServerName, UnwrittenCause,
    UnwrittenRow,
};

use crate::{
    account::{Account, AccountRow, RowState, Stage},
    history::{about, before_push},
    identity::Identity,
    operation::{Intent, JustRead, Operator, PushResult, carry_on, find},
    policy::{Policy, Role},
    push::Seen,
    rollback::{find_or_cached, with_told},
    server::Reading,
};

/// As far back as is looked for what ran before a push, in pushes.
const MAX_DEPTH: usize = 500;

/// The rows of a push that an undo is about: all that were written, or those of some servers.
///
/// # Errors
/// When one of the servers is none of the push, or it goes out in waves.
pub fn rows_of<'a>(account: &'a Account, servers: &[ServerName]) -> Result<Vec<&'a AccountRow>> {
    ensure_at_once(&account.push, "undo")?;
    if let Some(other) = servers.iter().find(|name| !account.rows.iter().any(|row| row.row.server == **name)) {
        bail!("push {} did not go to `{other}`", account.push.id);
    }
    let wanted = |row: &&AccountRow| {
        if servers.is_empty() { row.written.is_some() } else { servers.contains(&row.row.server) }
    };
    Ok(account.rows.iter().filter(wanted).collect())
}

/// Sees that a push doesn't go out in waves: what is done about one of those keeps to its waves and its budget.
fn ensure_at_once(push: &Push, verb: &str) -> Result<()> {
    ensure!(!push.rollout, "push {0} goes out in waves: use `push rollout {verb} {0}`", push.id);
    Ok(())
}

/// The release that an undo of one row of a push restores: what ran there before it; `None` when the app was not there, so
/// that it is taken off the server.
///
/// # Errors
/// When the row was not written, somebody has pushed since, nothing that was there stayed up, or it can't be had.
pub async fn undone(bucket: &Bucket, account: &Account, row: &AccountRow) -> Result<Option<Release>> {
    let (push, server) = (&account.push, &row.server);
    let app = app_of(push)?;
    let written = row.written.as_ref().with_context(|| format!("push {} did not change it", push.id))?;
    ensure!(row.state != RowState::Superseded, "somebody has pushed `{app}` since: undo that push first");
    ensure!(row.row.from != row.row.to, "push {} left the release as it was: there is nothing to undo", push.id);
    if written.from.is_none() {
        return Ok(None);
    }
    let history = bucket.newest_history(&server.name, MAX_DEPTH).await;
    let history = history.with_context(|| format!("could not read the history of `{}`", server.name))?;
    let mut pushes: Vec<HistoryEntry> = match &server.document {
        Reading::Known((generation, document)) => with_told(history, &server.name, *generation, document),
        _ => history,
    };
    pushes.sort_by_key(|push| push.generation);
    let before = before_push(&pushes, app, written, server.reported(app.as_str()));
    let before = before.with_context(|| {
        format!("nothing that stayed up was there before: `push remove` takes `{app}` off the server")
    })?;
    find_or_cached(bucket, before, server.status()).await.map(Some).context("could not undo")
}

/// The app of a push that is about one.
///
/// # Errors
/// When it is about whole servers.
pub fn app_of(push: &Push) -> Result<&AppName> {
    push.app.as_ref().with_context(|| format!("push {} is about whole servers, and not about an app", push.id))
}

/// The rows of a push whose release failed there: those that a retry is about.
pub fn failed(account: &Account) -> impl Iterator<Item = &AccountRow> {
    account.rows.iter().filter(|row| has_failed(&row.state))
}

/// Whether a retry is about a row.
pub fn has_failed(state: &RowState) -> bool {
    matches!(state, RowState::Written(AppState::Failed | AppState::Quarantined | AppState::Degraded))
}

/// What is left to write of a push that was cut off, in the order of its rows.
///
/// # Errors
/// When it is under way, or over.
pub fn left(account: &Account) -> Result<Vec<Intent>> {
    let push = &account.push;
    ensure_at_once(push, "continue")?;
    match account.stage {
        Stage::CutOff => {}
        Stage::Over => bail!("push {} is over: there is nothing to continue", push.id),
        Stage::UnderWay => bail!(
            "push {} is under way: it can be continued when nothing was written for {} min",
            push.id,
            crate::account::CUT_OFF_AFTER.as_mins()
        ),
    }
    ensure!(
        !matches!(push.kind, PushKind::Retire | PushKind::Trial | PushKind::TrialEnd | PushKind::Other(_)),
        "a push of kind `{}` cannot be continued by this program: stop it",
        push.kind.as_str().escape_debug()
    );
    let app = app_of(push)?;
    let intents = account.unwritten().map(|row| Intent {
        server: row.row.server.clone(),
        app: app.clone(),
        from: row.row.from.clone(),
        to: row.row.to.clone(),
        kind: push.kind.clone(),
    });
    Ok(intents.collect())
}

/// Writes the rows of a push that was cut off and that nobody has written ([`left`]), under its ID, and ends it.
///
/// # Errors
/// When it is under way, or over.
pub async fn carry_on_with(
    bucket: &Bucket,
    operator: &Operator,
    account: &Account,
    report: impl Fn(usize, &PushResult),
) -> Result<Vec<PushResult>> {
    let mut intents = Vec::new();
    for (intent, row) in left(account)?.into_iter().zip(account.unwritten()) {
        let just_read = just_read(bucket, intent.to.as_ref(), row).await;
        intents.push((intent, just_read));
    }
    Ok(carry_on(bucket, operator, account.push.clone(), intents, report).await)
}

/// What was read of a row, if its release can be had as it is.
async fn just_read(bucket: &Bucket, release: Option<&ReleaseName>, row: &AccountRow) -> Option<JustRead> {
    let release = match release {
        Some(release) => Some(find(bucket, release).await.ok()?),
        None => None,
    };
    Some(JustRead { release, seen: Seen::of(&row.server).ok()? })
}

/// Ends a push: what was not written by then never will be. A process that is still at it stops within seconds.
///
/// # Errors
/// When it is over, who asks may not push to all that is left, or it can't be written.
pub async fn stop(bucket: &Bucket, account: &Account, policy: &Policy, who: &Identity) -> Result<usize> {
    let push = &account.push;
    ensure_at_once(push, "stop")?;
    let may = |row: &&AccountRow| match &push.app {
        Some(app) => policy.role(who, app, &row.row.server) >= Role::Deployer,
        None => policy.highest_role(who) >= Role::Admin,
    };
    if let Some(row) = account.unwritten().find(|row| !may(row)) {
        bail!(
            "`{}` may not push `{}` to `{}`, which is left: somebody has to stop it who may",
            who.name,
            about(push.app.as_ref()),
            row.row.server
        );
    }
    ensure!(account.stage != Stage::Over, "push {} is over: there is nothing to stop", push.id);
    let rows =
        account.unwritten().map(|row| UnwrittenRow { server: row.row.server.clone(), cause: UnwrittenCause::Stopped });
    let end = PushEnd { time: bucket.now(), who: who.name.clone(), rows: rows.collect() };
    let ended = bucket.end_push(push.time, &push.id, &end).await.context("could not stop the push")?;
    ensure!(ended, "push {} has ended meanwhile", push.id);
    Ok(end.rows.len())
}
