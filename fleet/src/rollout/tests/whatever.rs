//! What never happens to a rollout, whatever its servers do.

use bucket::{AppState, RolloutStage, WaveRow};
use proptest::prelude::*;

use super::story::Story;
use crate::rollout::observe::RowState;

/// What an agent does in a minute, whatever the release.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Nothing,
    Converges,
    Fails,
    Hand,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![3 => Just(Fate::Nothing), 6 => Just(Fate::Converges), 1 => Just(Fate::Fails), 1 => Just(Fate::Hand)]
}

/// Which state the story's servers may not be in, whatever happens to them.
fn violation(story: &Story, before: usize) -> Option<String> {
    let rollout = &story.rollout;
    let wave_of =
        |server: &str| rollout.waves.iter().position(|wave| wave.rows.iter().any(|row| row.server.as_str() == server));
    let failed_before =
        rollout.rows().filter(|row| story.state(row.server.as_str()).has_failed() && row.counts()).count();
    let new = &story.written[before..];
    if failed_before >= rollout.rules.stop_at && !new.is_empty() && rollout.stage == RolloutStage::Running {
        return Some(format!("{new:?} were written though {failed_before} had failed"));
    }
    for server in new {
        let wave = wave_of(server)?;
        let is_open = |row: &&WaveRow| {
            row.counts()
                && !matches!(
                    story.state(row.server.as_str()),
                    RowState::Settled | RowState::Left(_) | RowState::Failed(_) | RowState::Silent
                )
        };
        if let Some(row) = rollout.waves[..wave].iter().flat_map(|wave| &wave.rows).find(is_open) {
            return Some(format!("{server} was written before {} had settled", row.server));
        }
    }
    let written = |server: &str| story.written.iter().filter(|written| *written == server).count();
    rollout.rows().find(|row| written(row.server.as_str()) > 1).map(|row| format!("{} was written twice", row.server))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_no_wave_is_written_too_early(
        count in 2..9_usize,
        waves in prop_oneof![Just("1,rest"), Just("1,2,rest"), Just("25%,50%,rest")],
        allowed in 1..4_usize,
        stop_at in 1..3_usize,
        fates in prop::collection::vec(prop::collection::vec(fate(), 9), 1..40),
    ) {
        let mut story = Story::new(count, waves);
        story.rollout.budgets[0].allowed = allowed;
        story.rollout.rules.stop_at = stop_at;
        for minute in fates {
            let before = story.written.len();
            // By hand is not by the rollout.
            let decided = story.drive();
            prop_assert_eq!(violation(&story, before), None, "{:?}", decided);
            let out = story.rollout.rows().filter(|row| story.state(row.server.as_str()).is_out()).count();
            prop_assert!(story.written.len() == before || out <= allowed, "{} out, {} allowed", out, allowed);
            story.pass(1);
            for (server, fate) in story.rollout.rows().map(|row| row.server.clone()).zip(minute).collect::<Vec<_>>() {
                let is_written = story.rollout.row(&server).is_some_and(|row| row.written.is_some());
                match fate {
                    Fate::Converges => story.converge(&[server.as_str()]),
                    Fate::Fails if is_written => story.report(server.as_str(), AppState::Quarantined),
                    Fate::Hand if !is_written => {
                        story.push(server.as_str(), "other", 3);
                        story.written.pop();
                    }
                    Fate::Nothing | Fate::Fails | Fate::Hand => {}
                }
            }
        }
    }
}
