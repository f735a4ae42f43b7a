//! Servers are retired, and that is undone, from pages and by programs. The core does it ([`fleet::retire`]).

use axum::http::StatusCode;
use bucket::{PushKind, ServerName};
use console::count;
use fleet::{
    account::Account,
    operation::{NotPushed, Operator},
    poke::PokeSettings,
    reason::ensure_short,
    redo::rows_of,
    retire::{self, Retired},
};

use super::{redo::NotDone, view::View};

/// Retires servers.
///
/// # Errors
/// When the reason is too long; how each server went is in its result.
pub(crate) async fn retire(
    view: &View,
    servers: Vec<ServerName>,
    reason: &str,
    held: bool,
) -> anyhow::Result<Vec<Retired>> {
    let operator = operator(view, reason, held)?;
    let rows = retire::retire(view.web.refresher.bucket(), &operator, servers).await;
    refresh(view, &rows).await;
    Ok(rows)
}

/// Restores the documents of servers that a push retired; of all of them, if none is named.
///
/// # Errors
/// When the push has not retired them, or the reason is too long; how each server went is in its result.
pub(crate) async fn restore(
    view: &View,
    account: &Account,
    servers: &[ServerName],
    reason: &str,
) -> Result<Vec<Retired>, NotDone> {
    let impossible = |error: anyhow::Error| NotDone::Impossible(format!("{error:#}"));
    let operator = operator(view, reason, false).map_err(impossible)?;
    let rows = rows_of(account, servers).map_err(impossible)?;
    let restored = retire::restore(view.web.refresher.bucket(), &operator, account, &rows).await.map_err(impossible)?;
    refresh(view, &restored).await;
    Ok(restored)
}

/// Whether undoing a push restores documents, rather than releases.
pub(crate) fn is_retirement(account: &Account) -> bool {
    account.push.kind == PushKind::Retire
}

fn operator(view: &View, reason: &str, held: bool) -> anyhow::Result<Operator> {
    let reason = reason.trim().to_owned();
    ensure_short(&reason)?;
    Ok(Operator {
        who: view.who.clone(),
        reason,
        policy: view.policy.clone(),
        poke: PokeSettings::None,
        held,
        without_waves: false,
        channel: None,
    })
}

async fn refresh(view: &View, rows: &[Retired]) {
    let names: Vec<ServerName> = rows.iter().map(|row| row.server.clone()).collect();
    view.web.refresher.refresh_servers(&names).await;
    view.web.refresher.refresh_pushes().await;
}

/// What to answer if some servers were left as they were: the status, and which and why. `done` is what the others are.
pub(crate) fn failure(rows: &[Retired], done: &str) -> Option<(StatusCode, String)> {
    let failed: Vec<(&Retired, &NotPushed)> =
        rows.iter().filter_map(|row| Some((row, row.result.as_ref().err()?))).collect();
    let (first, why) = failed.first()?;
    let is_forbidden = failed.iter().all(|(_, why)| matches!(why, NotPushed::Refused(_)));
    let status = if is_forbidden { StatusCode::FORBIDDEN } else { StatusCode::CONFLICT };
    let text = if rows.len() == 1 {
        why.to_string()
    } else {
        let (not, all) = (failed.len(), count(rows.len(), "server"));
        format!("{not} of {all} were not {done}, as `{}`: {why}", first.server)
    };
    Some((status, text))
}
