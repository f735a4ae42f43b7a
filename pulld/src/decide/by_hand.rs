//! What is said of a change by hand. Pure: no I/O, no clock.

use std::fmt;

use bucket::{AppName, ReleaseName, Timestamp};

use crate::{
    machine::{InstalledPackage, PackageState},
    state::seen::{Change, Packages},
};

use super::{
    plan::{Plan, Step},
    report::{Cause, PlanReport},
};

/// A change by hand, and what the agent does about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByHand {
    /// What changed.
    change: Change,
    /// The app that the package is, or was, of.
    pub(crate) app: AppName,
    /// When.
    pub(crate) when: When,
    /// What the agent does.
    then: Then,
}

/// When something was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Then, as dpkg says.
    At(Timestamp),
    /// Before it was seen then; dpkg does not say.
    SeenAt(Timestamp),
}

/// What the agent does about a change by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    /// It installs what the document says.
    Install(ReleaseName),
    /// It removes what the document does not list.
    Remove,
    /// Nothing: it is what the document says.
    AsDesired,
    /// It leaves it, for this reason.
    Leave(Box<Cause>),
}

impl When {
    /// When dpkg says so, unless it is a time to come: a clock was set back then.
    pub(crate) fn of(dpkg: Option<Timestamp>, now: Timestamp) -> Self {
        dpkg.filter(|time| *time <= now).map_or(Self::SeenAt(now), Self::At)
    }

    /// The time.
    pub(crate) fn time(self) -> Timestamp {
        match self {
            Self::At(time) | Self::SeenAt(time) => time,
        }
    }
}

/// What counts of the packages that dpkg has.
pub(crate) fn packages(installed: &[InstalledPackage]) -> Packages {
    let there = installed.iter().filter(|package| package.state != PackageState::Absent);
    there.map(|package| (package.package.clone(), package.release.clone())).collect()
}

/// What is said of a change, with the plan that was made after it; nothing of a package that is, and was, of no release.
pub(crate) fn by_hand(change: Change, when: When, plan: &Plan, report: &PlanReport) -> Option<ByHand> {
    let app = change.to.as_ref().or(change.from.as_ref())?.app().clone();
    let then = match plan.steps.iter().find(|step| *step.app() == app) {
        Some(Step::Install { release, .. }) => Then::Install(release.clone()),
        Some(Step::Remove { .. }) => Then::Remove,
        None => match report.of(&app) {
            Cause::InPlace => Then::AsDesired,
            cause => Then::Leave(Box::new(cause)),
        },
    };
    Some(ByHand { change, app, when, then })
}

/// The change in a sentence.
impl fmt::Display for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { change, app, when, then } = self;
        match &change.to {
            Some(release) => write!(f, "`{app}` was changed by hand to `{}`", release.stem())?,
            None => write!(f, "`{app}` was removed or replaced by hand")?,
        }
        match when {
            When::At(time) => write!(f, " at {time:.0}; ")?,
            When::SeenAt(time) => write!(f, " before {time:.0}; ")?,
        }
        match then {
            Then::Install(release) => write!(f, "installing `{}` as the server document says", release.stem()),
            Then::Remove => f.write_str("removing it, because the server document does not list it"),
            Then::AsDesired => f.write_str("that agrees with the server document"),
            Then::Leave(cause) => write!(f, "it stays as it is: {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decide::{
            allowed_apps::AllowedApps,
            plan::{self, Decision, Situation},
        },
        machine::{InstalledPackage, PackageState, fake::release},
        state::{pauses::Pauses, quarantine::Quarantine},
    };
    use bucket::ServerDocument;

    /// What is said when `web` becomes the release of that minute on a server whose document has `document`.
    fn told(document: &str, to: Option<u8>, allowed: &str) -> String {
        let document = ServerDocument::parse(document.as_bytes()).unwrap();
        let to = to.map(|minute| release("web", minute));
        let installed: Vec<InstalledPackage> = to
            .iter()
            .map(|release| InstalledPackage {
                package: "web".into(),
                version: "1".into(),
                state: PackageState::Installed,
                on_hold: false,
                release: Some(release.clone()),
                units: vec![],
            })
            .collect();
        let Decision { plan, report } = plan::plan(&Situation {
            document: Some(&document),
            settled: true,
            installed: &installed,
            quarantine: &Quarantine::default(),
            pauses: &Pauses::default(),
            allowed: &AllowedApps::new(vec![allowed.into()]).unwrap(),
            prune: true,
        });
        let change = Change { package: "web".into(), from: Some(release("web", 2)), to };
        let when = When::of("2026-11-20T14:02:00Z".parse().ok(), "2026-11-20T15:00:00Z".parse().unwrap());
        by_hand(change, when, &plan, &report).unwrap().to_string()
    }

    #[test]
    fn the_change_is_said_with_what_follows_from_it() {
        let (one, two, db) = (release("web", 1), release("web", 2), release("db", 1));
        let changed = format!("`web` was changed by hand to `{}` at 2026-11-20T14:02:00Z; ", one.stem());
        let install = format!("installing `{}` as the server document says", two.stem());
        let listed = format!("[\"{two}\"]");
        assert_eq!(told(&listed, Some(1), "*"), changed.clone() + &install);
        let removed = "`web` was removed or replaced by hand at 2026-11-20T14:02:00Z; ";
        assert_eq!(told(&listed, None, "*"), removed.to_owned() + &install);
        let as_desired = "that agrees with the server document";
        assert_eq!(told(&format!("[\"{one}\"]"), Some(1), "*"), changed.clone() + as_desired);
        let unlisted = "removing it, because the server document does not list it";
        assert_eq!(told(&format!("[\"{db}\"]"), Some(1), "*"), changed.clone() + unlisted);
        let refused = "it stays as it is: blocked by `allowed_apps` in the pulld configuration";
        assert_eq!(told(&listed, Some(1), "db"), changed + refused);
    }

    #[test]
    fn a_time_to_come_is_not_believed() {
        let [now, later] = [1, 2].map(|second| Timestamp::from_second(second).unwrap());
        assert_eq!(When::of(Some(now), later), When::At(now));
        assert_eq!(When::of(Some(later), now), When::SeenAt(now));
        assert_eq!(When::of(None, now), When::SeenAt(now));
    }
}
