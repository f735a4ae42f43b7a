//! What a server had before, from the pushes to it.

use bucket::{AppName, AppState, AppStatus, HistoryEntry, PushKind, ReleaseName};

/// What is said of a push that an admin had written so where the policy asks for waves.
pub const WITHOUT_WAVES: &str = "all at once";

/// What was done, in a word or two, as the command says it. Of a kind that this program doesn't know it is foreign text.
pub fn word(kind: &PushKind, without_waves: bool) -> &str {
    match kind {
        PushKind::Deploy if without_waves => "deployed all at once",
        PushKind::Deploy => "deployed",
        PushKind::Rollback => "rolled back",
        PushKind::Retry => "retried",
        PushKind::Undo => "undone",
        PushKind::Remove => "removed",
        PushKind::Retire => "retired",
        PushKind::Trial => "tried",
        PushKind::TrialEnd => "put back",
        PushKind::Other(kind) => kind,
    }
}

/// What a push is about, in words: its app, or the whole server.
pub fn about(app: Option<&AppName>) -> &str {
    app.map_or("(whole server)", AppName::as_str)
}

/// The release that a server goes back to from `current`, from its history, oldest push first, and from what its agent
/// says of the app. A release that was rolled back there is none to go back to; and if the current one never ran, what is
/// installed is what it goes back to. Without a report the history decides alone.
pub fn way_back<'a>(
    pushes: impl IntoIterator<Item = &'a HistoryEntry>,
    app: &AppName,
    current: &ReleaseName,
    reported: Option<&'a AppStatus>,
) -> Option<&'a ReleaseName> {
    let rolled_back = reported.map(|app| app.rolled_back.as_slice()).unwrap_or_default();
    let installed = reported.and_then(|app| app.installed.as_ref());
    installed
        .filter(|installed| *installed != current && !rolled_back.contains(installed))
        .filter(|_| reported.is_some_and(|app| never_ran(app, current)))
        .or_else(|| previous(pushes, app, current, rolled_back))
}

/// The release that ran on a server before a push to it, from its history, oldest push first: what the push replaced, or,
/// if that was rolled back there, what stayed up before.
pub fn before_push<'a>(
    pushes: &'a [HistoryEntry],
    app: &AppName,
    push: &'a HistoryEntry,
    reported: Option<&AppStatus>,
) -> Option<&'a ReleaseName> {
    let rolled_back = reported.map(|app| app.rolled_back.as_slice()).unwrap_or_default();
    let from = push.from.as_ref()?;
    if !rolled_back.contains(from) {
        return Some(from);
    }
    let earlier = pushes.iter().filter(|earlier| earlier.generation < push.generation);
    previous(earlier, app, from, rolled_back)
}

/// Whether an agent says of a release that it never stayed up there.
fn never_ran(app: &AppStatus, release: &ReleaseName) -> bool {
    let has_failed = matches!(app.state, AppState::Quarantined | AppState::Failed);
    app.rolled_back.contains(release) || (has_failed && app.desired.as_ref() == Some(release))
}

/// The release that a server had before `current`, from its history, oldest push first, none of those `passed_over`.
///
/// Every deploy goes on top of what was there, every rollback takes the top off: so rolling back twice goes back
/// twice, and never forward again. `None` when the history doesn't know of anything before.
fn previous<'a>(
    pushes: impl IntoIterator<Item = &'a HistoryEntry>,
    app: &AppName,
    current: &ReleaseName,
    passed_over: &[ReleaseName],
) -> Option<&'a ReleaseName> {
    let mut stack: Vec<&ReleaseName> = Vec::new();
    for push in pushes {
        // What was there for a while is nothing to go back to.
        let is_trial = matches!(push.kind, PushKind::Trial | PushKind::TrialEnd);
        if push.app.as_ref() != Some(app) || is_trial {
            continue;
        }
        // What a person wrote into the document by hand shows as a `from` that nobody pushed.
        if let Some(from) = &push.from
            && stack.last() != Some(&from)
        {
            stack.push(from);
        }
        match (&push.kind, &push.to) {
            // Taken off, or tried again: what was there before is no other.
            (_, None) | (PushKind::Retry, _) => {}
            (PushKind::Rollback | PushKind::Undo, Some(to)) => match stack.iter().rposition(|release| *release == to) {
                Some(at) => stack.truncate(at + 1),
                None => stack.push(to),
            },
            (_, Some(to)) if stack.last() != Some(&to) => stack.push(to),
            _ => {}
        }
    }
    // Changed by hand since the last push: what was pushed last is what it had before.
    let top = stack.iter().rposition(|release| *release == current).unwrap_or(stack.len());
    stack[..top].iter().rev().copied().find(|release| *release != current && !passed_over.contains(release))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Reading;
    use bucket::Generation;

    fn release(n: u8) -> ReleaseName {
        format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb")
            .parse()
            .unwrap()
    }

    fn push(kind: PushKind, from: Option<u8>, to: u8) -> HistoryEntry {
        HistoryEntry {
            time: "2026-11-20T20:00:00Z".parse().unwrap(),
            id: "0".into(),
            server: "web-1".parse().unwrap(),
            app: "web".parse().ok(),
            from: from.map(release),
            to: Some(release(to)),
            kind,
            who: "dev@build-1".into(),
            why: String::new(),
            generation: Generation(1),
            push: None,
            without_waves: false,
            channel: None,
        }
    }

    #[test]
    fn rolling_back_twice_goes_back_twice() {
        use PushKind::{Deploy, Rollback};
        let cases: [(&str, Vec<HistoryEntry>, u8, Option<u8>); 8] = [
            ("nothing before the first", vec![push(Deploy, None, 1)], 1, None),
            ("the one before", vec![push(Deploy, None, 1), push(Deploy, Some(1), 2)], 2, Some(1)),
            (
                "after a rollback, one further",
                vec![
                    push(Deploy, None, 1),
                    push(Deploy, Some(1), 2),
                    push(Deploy, Some(2), 3),
                    push(Rollback, Some(3), 2),
                ],
                2,
                Some(1),
            ),
            (
                "never forward again",
                vec![push(Deploy, None, 1), push(Deploy, Some(1), 2), push(Rollback, Some(2), 1)],
                1,
                None,
            ),
            (
                "a deploy after a rollback goes on top",
                vec![
                    push(Deploy, None, 1),
                    push(Deploy, Some(1), 2),
                    push(Rollback, Some(2), 1),
                    push(Deploy, Some(1), 3),
                ],
                3,
                Some(1),
            ),
            (
                "changed by hand: what was pushed last",
                vec![push(Deploy, None, 1), push(Deploy, Some(1), 2)],
                9,
                Some(2),
            ),
            ("set by hand before a push", vec![push(Deploy, Some(7), 8)], 8, Some(7)),
            (
                "pushed twice",
                vec![push(Deploy, None, 1), push(Deploy, Some(1), 2), push(Deploy, Some(2), 2)],
                2,
                Some(1),
            ),
        ];
        for (name, pushes, current, want) in cases {
            let got = way_back(&pushes, &"web".parse().unwrap(), &release(current), None);
            assert_eq!(got, want.map(release).as_ref(), "{name}");
        }
    }

    #[test]
    fn other_apps_pushes_are_passed_over() {
        let mut other = push(PushKind::Deploy, Some(3), 4);
        other.app = "api".parse().ok();
        let pushes = [push(PushKind::Deploy, Some(1), 2), other];
        assert_eq!(way_back(&pushes, &"web".parse().unwrap(), &release(2), None), Some(&release(1)));
    }

    #[test]
    fn what_ran_decides_and_not_what_was_chosen() {
        use AppState::{Converged, Failed, Pending, Quarantined};
        use PushKind::{Deploy, Retry, Rollback};
        let pushes = [push(Deploy, None, 1), push(Deploy, Some(1), 2), push(Deploy, Some(2), 3)];
        let report = |state: AppState, desired: u8, installed: Option<u8>, rolled_back: &[u8]| {
            let mut app = crate::condition::tests::server(1, 1, 1, state, bucket::ServerState::Failed);
            let Reading::Known(status) = &mut app.status else { panic!("it has a report") };
            let mut app = status.apps.remove(0);
            (app.desired, app.installed) = (Some(release(desired)), installed.map(release));
            app.rolled_back = rolled_back.iter().copied().map(release).collect();
            app
        };
        for (case, current, report, want) in [
            ("both were rolled back", 3, report(Quarantined, 3, Some(1), &[3, 2]), Some(1)),
            ("the last runs, the one before was rolled back", 3, report(Converged, 3, Some(3), &[2]), Some(1)),
            ("the last could not even be installed", 3, report(Failed, 3, Some(2), &[]), Some(2)),
            ("an earlier agent keeps no list", 3, report(Quarantined, 3, Some(1), &[]), Some(1)),
            ("what is installed was rolled back too", 3, report(Quarantined, 3, Some(2), &[3, 2]), Some(1)),
            ("it has not come to it yet", 3, report(Pending, 2, Some(2), &[]), Some(2)),
            ("nothing is installed", 3, report(Failed, 3, None, &[3]), Some(2)),
            ("nothing ever stayed up", 3, report(Quarantined, 3, None, &[3, 2, 1]), None),
            ("by hand something else was installed", 3, report(Converged, 3, Some(9), &[]), Some(2)),
        ] {
            let got = way_back(&pushes, &"web".parse().unwrap(), &release(current), Some(&report));
            assert_eq!(got, want.map(release).as_ref(), "{case}");
        }
        let retried = [&pushes[..2], &[push(Retry, Some(2), 2)]].concat();
        assert_eq!(way_back(&retried, &"web".parse().unwrap(), &release(2), None), Some(&release(1)));
        let undone = [&pushes[..], &[push(PushKind::Undo, Some(3), 2), push(Rollback, Some(2), 1)]].concat();
        assert_eq!(way_back(&undone, &"web".parse().unwrap(), &release(1), None), None);
    }
}
