//! Records of schema 1: read, never written.
//!
//! Their fields allowed combinations that no transaction had. Those are invalid here.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bucket::{AppName, Check, Generation, ReleaseName, Timestamp};
use serde::Deserialize;

use crate::{
    decide::{
        rollback::{Previous, PreviousPackage},
        units::UnitBefore,
    },
    failure::{FailureKind, Fault, NoRollbackTarget},
    machine::OWN_PACKAGE,
};

use super::{
    progress::{Failed, Outcome, Progress},
    record::{Phase, Transaction},
    update::{AppUpdate, Target},
};

#[derive(Deserialize)]
struct Record {
    started: Timestamp,
    generation: Option<Generation>,
    phase: OldPhase,
    resumptions: u32,
    sent_by: Option<String>,
    changes: Vec<Element>,
}

#[derive(Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OldPhase {
    Installing,
    Restarting,
    Gating,
    RollingBack,
    GatingBack,
    UpdatingAgent,
    Done,
}

#[derive(Deserialize)]
struct Element {
    app: AppName,
    package: String,
    target: Target,
    before: Option<Before>,
    first: bool,
    way_back: OldRollbackTarget,
    check: Option<Check>,
    units: Vec<UnitBefore>,
    replaced: bool,
    trouble: Option<OldFailure>,
    outcome: Option<Outcome>,
}

#[derive(Deserialize)]
struct Before {
    package: String,
    release: ReleaseName,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OldRollbackTarget {
    Deb(PathBuf),
    Remove,
    None { reason: String },
}

#[derive(Deserialize)]
struct OldFailure {
    reason: String,
    blamed: bool,
}

/// Reads a record of schema 1 as one of today's.
pub(super) fn parse(content: &[u8]) -> Result<Transaction> {
    let record: Record = serde_json::from_slice(content)?;
    let going_back = record.phase >= OldPhase::RollingBack;
    let updates = record.changes.into_iter().map(|element| element.update(going_back)).collect::<Result<_>>()?;
    let mut transaction = Transaction::new(record.started, record.generation, None, updates);
    transaction.phase = record.phase.into();
    transaction.resumptions = record.resumptions;
    transaction.self_update_by = record.sent_by;
    Ok(transaction)
}

impl Element {
    fn update(self, going_back: bool) -> Result<AppUpdate> {
        let before = self.before.map(|Before { package, release }| PreviousPackage { package, release });
        let previous = match (before, self.way_back) {
            (None, OldRollbackTarget::Remove) => Previous::Nothing,
            (Some(installed), OldRollbackTarget::Deb(deb)) => {
                let adds_package = self.first && installed.package != self.package;
                Previous::Package { installed, deb, adds_package }
            }
            (installed, OldRollbackTarget::None { reason }) => {
                Previous::Unavailable { installed, reason: NoRollbackTarget::Told(reason) }
            }
            (Some(_), OldRollbackTarget::Remove) | (None, OldRollbackTarget::Deb(_)) => {
                bail!("what was installed of `{}` contradicts its rollback target", self.app)
            }
        };
        let failure = self.trouble.map(|OldFailure { reason, blamed }| Failed {
            failure: Fault::told(FailureKind::Unknown, reason).into(),
            release_at_fault: blamed,
        });
        let progress = match (self.outcome, failure) {
            (Some(outcome), _) => Progress::Ended(outcome),
            // pulld itself is rolled back in a phase of its own.
            (None, Some(failure)) if going_back && self.package != OWN_PACKAGE => {
                Progress::RollingBack { failure, replaced: self.replaced }
            }
            (None, Some(failure)) => Progress::Failed(failure),
            (None, None) => Progress::Forward,
        };
        let Self { app, package, target, check, units, .. } = self;
        Ok(AppUpdate { app, package, target, previous, check, units, unplanned: None, progress })
    }
}

impl From<OldPhase> for Phase {
    fn from(phase: OldPhase) -> Self {
        match phase {
            OldPhase::Installing => Self::Installing,
            OldPhase::Restarting => Self::Restarting,
            OldPhase::Gating => Self::Gating,
            OldPhase::RollingBack => Self::RollingBack,
            OldPhase::GatingBack => Self::CheckingRollback,
            OldPhase::UpdatingAgent => Self::UpdatingAgent,
            OldPhase::Done => Self::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    /// Records that agents of schema 1 wrote, one of each phase.
    const SAMPLES: [(&str, Phase); 7] = [
        (include_str!("samples/schema-1-installing.json"), Phase::Installing),
        (include_str!("samples/schema-1-restarting.json"), Phase::Restarting),
        (include_str!("samples/schema-1-gating.json"), Phase::Gating),
        (include_str!("samples/schema-1-rolling-back.json"), Phase::RollingBack),
        (include_str!("samples/schema-1-gating-back.json"), Phase::CheckingRollback),
        (include_str!("samples/schema-1-updating-agent.json"), Phase::UpdatingAgent),
        (include_str!("samples/schema-1-done.json"), Phase::Done),
    ];

    fn sample(phase: Phase) -> Transaction {
        let (text, _) = SAMPLES.iter().find(|(_, of)| *of == phase).unwrap();
        parse(text.as_bytes()).unwrap()
    }

    fn update(transaction: &Transaction, app: &str) -> AppUpdate {
        transaction.updates.iter().find(|update| update.app.as_str() == app).unwrap().clone()
    }

    #[test]
    fn a_record_of_each_phase_is_read_and_survives_being_written_anew() {
        for (text, phase) in SAMPLES {
            let transaction = parse(text.as_bytes()).unwrap();
            assert_eq!(transaction.phase, phase);
            assert!(transaction.generation.is_some() && !transaction.updates.is_empty(), "{phase:?}");
            let written = serde_json::to_vec(&transaction).unwrap();
            assert_eq!(serde_json::from_slice::<Transaction>(&written).unwrap(), transaction, "{phase:?}");
        }
    }

    #[test]
    fn an_update_means_what_it_meant() {
        let rolling_back = sample(Phase::RollingBack);
        let web = update(&rolling_back, "web");
        assert!(matches!(&web.progress, Progress::RollingBack { failure, replaced: true } if failure.release_at_fault));
        let Previous::Package { installed, deb, adds_package: false } = &web.previous else { panic!("{web:?}") };
        assert_eq!((installed.package.as_str(), &installed.release), ("web", &release("web", 1)));
        assert!(deb.starts_with("/var/lib/pulld/cache"));
        assert_eq!(update(&rolling_back, "db").progress, Progress::Ended(Outcome::Done));

        let restarting = sample(Phase::Restarting);
        assert_eq!(update(&restarting, "web").progress, Progress::Forward);
        assert_eq!(update(&restarting, "web").previous, Previous::Nothing);
        assert!(matches!(update(&restarting, "db").progress, Progress::Failed(_)));

        let updating = sample(Phase::UpdatingAgent);
        assert_eq!(update(&updating, "pulld").progress, Progress::Forward);
        assert!(matches!(update(&updating, "web").progress, Progress::Ended(Outcome::RolledBack(_))));
    }

    #[test]
    fn a_removal_and_a_failed_self_update_are_read_too() {
        let record = |package: &str, trouble: &str| {
            let release = release(package, 1);
            format!(
                r#"{{"schema":1,"started":"2026-11-27T02:43:27Z","generation":7,"phase":"updating-agent","resumptions":2,
                "sent_by":"1-2","changes":[{{"app":"{package}","package":"{package}","target":{{"removed":{{"release":"{release}"}}}},
                "before":{{"package":"{package}","release":"{release}"}},"first":false,
                "way_back":{{"none":{{"reason":"a removal isn't undone"}}}},"check":null,"units":[],"replaced":false,
                "trouble":{trouble},"outcome":null}}]}}"#
            )
        };
        let removal = parse(record("web", "null").as_bytes()).unwrap();
        assert_eq!((removal.resumptions, removal.self_update_by.as_deref()), (2, Some("1-2")));
        assert!(matches!(&removal.updates[0].previous, Previous::Unavailable { installed: Some(_), .. }));
        let own = parse(record("pulld", r#"{"reason":"it broke","blamed":true}"#).as_bytes()).unwrap();
        assert!(
            matches!(own.updates[0].progress, Progress::Failed(_)),
            "pulld has a phase of its own for its rollback"
        );
    }

    #[test]
    fn combinations_that_no_transaction_had_are_invalid() {
        let text = SAMPLES[0].0;
        assert!(parse(text.as_bytes()).is_ok());
        let contradiction = text.replacen(
            "\"way_back\": {\n                \"deb\":",
            "\"way_back\": \"remove\", \"x\": {\n                \"deb\":",
            1,
        );
        assert_ne!(contradiction, text);
        assert!(parse(contradiction.as_bytes()).unwrap_err().to_string().contains("contradicts"));
    }
}
