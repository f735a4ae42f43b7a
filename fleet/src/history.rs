//! What a server had before, from the pushes to it.

use bucket::{AppName, HistoryEntry, PushKind, ReleaseName};

/// What was done, in a word, as pages and the command say it. Of a kind that this program doesn't know it is foreign text.
pub fn word(kind: &PushKind) -> &str {
    match kind {
        PushKind::Deploy => "deployed",
        PushKind::Rollback => "rolled back",
        PushKind::Retry => "retried",
        PushKind::Undo => "undone",
        PushKind::Remove => "removed",
        PushKind::Retire => "retired",
        PushKind::Trial => "tried",
        PushKind::Other(kind) => kind,
    }
}

/// The release that a server had before `current`, from its history, oldest push first.
///
/// Every deploy goes on top of what was there, every rollback takes the top off: so rolling back twice goes back
/// twice, and never forward again. `None` when the history doesn't know of anything before.
pub fn previous<'a>(
    pushes: impl IntoIterator<Item = &'a HistoryEntry>,
    app: &AppName,
    current: &ReleaseName,
) -> Option<&'a ReleaseName> {
    let mut stack: Vec<&ReleaseName> = Vec::new();
    for push in pushes {
        if push.app != *app {
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
    match stack.iter().rposition(|release| *release == current) {
        Some(at) => at.checked_sub(1).map(|before| stack[before]),
        // Changed by hand since the last push: what was pushed last is what it had before.
        None => stack.last().copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            app: "web".parse().unwrap(),
            from: from.map(release),
            to: Some(release(to)),
            kind,
            who: "dev@build-1".into(),
            why: String::new(),
            generation: Generation(1),
            push: None,
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
            let got = previous(&pushes, &"web".parse().unwrap(), &release(current));
            assert_eq!(got, want.map(release).as_ref(), "{name}");
        }
    }

    #[test]
    fn other_apps_pushes_are_passed_over() {
        let mut other = push(PushKind::Deploy, Some(3), 4);
        other.app = "api".parse().unwrap();
        let pushes = [push(PushKind::Deploy, Some(1), 2), other];
        assert_eq!(previous(&pushes, &"web".parse().unwrap(), &release(2)), Some(&release(1)));
    }
}
