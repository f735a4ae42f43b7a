//! What the agents of the fleet say.

use anyhow::Result;
use bucket::{
    AgentStatus, AppState, AppStatus, BadEntry, DocumentStatus, Event, Generation, ReleaseName, ServerState, Status,
    Timestamp, UnitStatus,
};
use jiff::SignedDuration;

use super::{Fleet, HOSTILE};

/// How an agent says that a release is.
pub(crate) fn app(
    desired: &ReleaseName,
    installed: Option<&ReleaseName>,
    state: AppState,
    since: Timestamp,
) -> AppStatus {
    let reason = match state {
        AppState::Quarantined => Some("`web.service` does not stay up: systemd restarted it 4 times"),
        AppState::Failed => Some("could not download the release: the bucket is unavailable: status 503"),
        AppState::Degraded => Some(
            "`api.service` does not stay up: systemd restarted it 4 times; cannot roll back: the previous package is neither in the cache nor in the bucket",
        ),
        AppState::Refused => Some("blocked by `allowed_apps` in the pulld configuration"),
        AppState::Orphan => Some("installed, but not listed in the server document"),
        _ => None,
    };
    let drift: &[&str] = match state {
        AppState::Drifted => &["`/etc/web/web.conf` was changed by hand", "`web.service` is stopped (inactive, dead)"],
        _ => &[],
    };
    let unit = UnitStatus {
        name: format!("{}.service", desired.app()),
        active: if state == AppState::Degraded { "failed" } else { "active" }.to_owned(),
        sub: if state == AppState::Degraded { "failed" } else { "running" }.to_owned(),
        since: Some(since),
        restarts: if state == AppState::Quarantined { 4 } else { 0 },
    };
    AppStatus {
        app: desired.app().to_string(),
        desired: (state != AppState::Orphan).then(|| desired.clone()),
        installed: installed.cloned(),
        package: Some(desired.app().to_string()),
        state,
        activity: None,
        activity_since: None,
        since,
        reason: reason.map(str::to_owned),
        drift: drift.iter().map(|drift| (*drift).to_owned()).collect(),
        units: if installed.is_some() { vec![unit] } else { Vec::new() },
        rolled_back: Vec::new(),
        cached: Vec::new(),
    }
}

/// A report.
pub(crate) fn status(server: &str, document: Generation, apps: Vec<AppStatus>, written: Timestamp) -> Status {
    let mut status = Status {
        server: server.parse().expect("it is a good name"),
        machine: "9b1c".repeat(8),
        written,
        state: ServerState::Converged,
        summary: String::new(),
        agent: AgentStatus {
            version: "0.1.0".to_owned(),
            started: written - SignedDuration::from_hours(100),
            poll_seconds: 300,
            heartbeat_seconds: 900,
            next_poll: None,
            health_window_seconds: None,
        },
        document: DocumentStatus { generation: Some(document), error: None, bad_entries: Vec::new(), bad_count: None },
        apps,
        holds: Vec::new(),
        warnings: Vec::new(),
        events: Vec::new(),
        not_compared: Vec::new(),
    };
    conclude(&mut status, document, written);
    status
}

/// Makes the whole follow from its apps.
pub(crate) fn conclude(status: &mut Status, document: Generation, written: Timestamp) {
    let worst = status.apps.iter().map(|app| app.state.of_server());
    status.state = worst.max().unwrap_or(ServerState::Converged);
    let good = status.apps.iter().filter(|app| app.state == AppState::Converged).count();
    status.summary = format!("{good} of {} apps match document generation {document}", status.apps.len());
    (status.written, status.document.generation) = (written, Some(document));
}

/// Documents and reports of every kind.
pub(crate) async fn fill(
    fleet: &Fleet<'_>,
    web: &[ReleaseName],
    api: &[ReleaseName],
    pulld: &[ReleaseName],
    mail: &ReleaseName,
) -> Result<()> {
    use AppState::{Converged, Degraded, Drifted, Failed, Orphan, Pending, Quarantined};
    let own = |state| app(&pulld[1], Some(&pulld[1]), state, fleet.ago(60 * 23));
    let good = |release: &ReleaseName, minutes| app(release, Some(release), Converged, fleet.ago(minutes));
    let rows: Vec<(&str, Vec<&ReleaseName>, Vec<AppStatus>, i64)> = vec![
        ("web-1", vec![&web[2], &pulld[1]], vec![good(&web[2], 60 * 24), own(Converged)], 3),
        (
            "web-2",
            vec![&web[4], &pulld[1]],
            vec![app(&web[4], Some(&web[2]), Quarantined, fleet.ago(39)), own(Converged)],
            4,
        ),
        ("web-3", vec![&web[4], &pulld[1]], vec![good(&web[4], 38), own(Converged)], 2),
        (
            "web-4",
            vec![&web[4], &pulld[1]],
            vec![app(&web[4], Some(&web[1]), Pending, fleet.ago(1)), own(Converged)],
            0,
        ),
        ("web-stage", vec![&web[5], &pulld[1]], vec![good(&web[5], 25), own(Converged)], 8),
        ("api-1", vec![&api[1], &pulld[0]], vec![good(&api[1], 60 * 25), good(&pulld[0], 60 * 24 * 10)], 11),
        ("api-2", vec![&api[1]], vec![app(&api[1], Some(&api[2]), Degraded, fleet.ago(9)), own(Orphan)], 5),
        ("db-1", vec![&pulld[1]], vec![own(Converged)], 6),
        ("mail-1", vec![mail, &pulld[1]], vec![app(mail, Some(mail), Drifted, fleet.ago(60 * 3)), own(Converged)], 7),
        ("batch-1", vec![&api[2]], vec![app(&api[2], None, Failed, fleet.ago(100))], 10),
        ("old-1", vec![&web[0]], vec![good(&web[0], 60 * 24 * 8)], 60 * 30),
    ];
    for (server, releases, apps, minutes) in rows {
        let generation = fleet.document(server, &releases).await?;
        let mut report = status(server, generation, apps, fleet.ago(minutes));
        if server == "mail-1" {
            let text = format!(
                "`mail` was changed by hand to `{0}` at {1:.0}; that agrees with the server document",
                mail.stem(),
                fleet.ago(60 * 3)
            );
            report.events = vec![Event { at: fleet.ago(60 * 3), app: Some("mail".to_owned()), text }];
        }
        if server == "web-stage" && fleet.hostile == HOSTILE {
            spoil(&mut report);
        }
        fleet.report(&report).await?;
    }
    fleet.document("new-1", &[&web[4]]).await?;
    Ok(())
}

/// Puts text that means harm wherever an agent can say anything.
fn spoil(report: &mut Status) {
    let [web, own, ..] = report.apps.as_mut_slice() else { return };
    report.warnings = vec![HOSTILE.to_owned()];
    report.events = vec![Event { at: report.written, app: None, text: HOSTILE.to_owned() }];
    report.document.bad_entries = vec![BadEntry { entry: HOSTILE.to_owned(), reason: HOSTILE.to_owned() }];
    web.reason = Some(HOSTILE.to_owned());
    web.drift = vec![HOSTILE.to_owned()];
    let unit = web.units.iter_mut().flat_map(|unit| [&mut unit.name, &mut unit.active]);
    for text in unit.chain([&mut own.app, &mut report.summary, &mut report.agent.version]) {
        HOSTILE.clone_into(text);
    }
}
