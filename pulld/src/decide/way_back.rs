//! Which release a person goes back to by hand. Pure: no I/O, no clock.

use std::fmt;

use bucket::{AppName, ReleaseName};

use crate::state::{lineage::Lineage, quarantine::Quarantine};

/// Why there is nothing to go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoWayBack {
    /// The app is not installed.
    NotInstalled(AppName),
    /// That release is what is installed.
    Installed(ReleaseName),
    /// That release is of another app.
    OtherApp(AppName, ReleaseName),
    /// That release is not in the cache, which has these.
    NotCached(ReleaseName, Vec<ReleaseName>),
    /// The cache has none that came before the installed one.
    NothingBefore(ReleaseName),
}

/// The release to go back to, of those in the cache: `wanted`, or else the last one that stayed up here before the
/// `installed` one, or else the newest that was built before it. A quarantined one is only taken if it is `wanted`.
///
/// # Errors
/// Why there is none.
pub(crate) fn way_back(
    app: &AppName,
    installed: Option<&ReleaseName>,
    wanted: Option<&ReleaseName>,
    cached: &[ReleaseName],
    lineage: &Lineage,
    quarantine: &Quarantine,
) -> Result<ReleaseName, Box<NoWayBack>> {
    let Some(installed) = installed else { return Err(Box::new(NoWayBack::NotInstalled(app.clone()))) };
    if let Some(wanted) = wanted {
        let none = if wanted.app() != app {
            NoWayBack::OtherApp(app.clone(), wanted.clone())
        } else if wanted == installed {
            NoWayBack::Installed(wanted.clone())
        } else if cached.contains(wanted) {
            return Ok(wanted.clone());
        } else {
            NoWayBack::NotCached(wanted.clone(), cached.to_vec())
        };
        return Err(Box::new(none));
    }
    let is_usable = |release: &&ReleaseName| cached.contains(release) && quarantine.holds(release).is_none();
    let stayed_up = lineage.before(installed).find(is_usable);
    let built_before = || cached.iter().filter(|release| *release < installed).filter(is_usable).max();
    stayed_up.or_else(built_before).cloned().ok_or_else(|| Box::new(NoWayBack::NothingBefore(installed.clone())))
}

/// In a sentence, with what to do.
impl fmt::Display for NoWayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled(app) => write!(f, "`{app}` is not installed here, so there is nothing to roll back"),
            Self::Installed(release) => write!(f, "`{}` is what is installed here", release.stem()),
            Self::OtherApp(app, release) => write!(f, "`{}` is not a release of `{app}`", release.stem()),
            Self::NotCached(release, cached) => {
                write!(f, "`{}` is not in the cache of this server, which has ", release.stem())?;
                if cached.is_empty() {
                    f.write_str("no release of the app")?;
                }
                for (at, release) in cached.iter().enumerate() {
                    write!(f, "{}`{}`", if at > 0 { ", " } else { "" }, release.stem())?;
                }
                f.write_str(": push it, or install its .deb with `dpkg --install`")
            }
            Self::NothingBefore(installed) => write!(
                f,
                "there is nothing to go back to: the cache of this server has no release from before `{}` that stayed \
                 up here: push an earlier one, or install its .deb with `dpkg --install`",
                installed.stem()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use bucket::{Generation, Timestamp};

    use super::*;
    use crate::{
        failure::{FailureKind, Fault},
        machine::fake::release,
        state::quarantine::Quarantined,
    };

    fn web(minute: u8) -> ReleaseName {
        release("web", minute)
    }

    /// The way back from release 5 of a server where 2, 3 and 5 stayed up, in that order, and 4 is quarantined.
    fn back(wanted: Option<u8>, cached: &[u8]) -> Result<ReleaseName, Box<NoWayBack>> {
        let (mut lineage, mut quarantine) = (Lineage::default(), Quarantine::default());
        for (minute, before) in [(3, 2), (5, 3)] {
            lineage.note(&web(minute), Some(&web(before)));
        }
        let since = Timestamp::UNIX_EPOCH;
        quarantine.add(Quarantined {
            release: web(4),
            failure: Fault::told(FailureKind::UnitFailed, "it crashed").into(),
            generation: Generation(1),
            degraded: false,
            since,
            previous: None,
        });
        let cached: Vec<ReleaseName> = cached.iter().copied().map(web).collect();
        let app = "web".parse().unwrap();
        way_back(&app, Some(&web(5)), wanted.map(web).as_ref(), &cached, &lineage, &quarantine)
    }

    #[test]
    fn what_stayed_up_last_is_better_than_what_was_built_last() {
        assert_eq!(back(None, &[1, 2, 3, 4, 5]), Ok(web(3)));
        assert_eq!(back(None, &[1, 2, 4, 5]), Ok(web(2)));
        assert_eq!(back(None, &[0, 1, 4, 5, 6]), Ok(web(1)), "of what never was here, the newest before it");
        assert_eq!(back(None, &[4, 5, 6]), Err(Box::new(NoWayBack::NothingBefore(web(5)))));
    }

    #[test]
    fn a_person_may_name_any_release_of_the_cache() {
        assert_eq!(back(Some(4), &[3, 4, 5]), Ok(web(4)));
        assert_eq!(back(Some(6), &[3, 5]), Err(Box::new(NoWayBack::NotCached(web(6), vec![web(3), web(5)]))));
        assert_eq!(back(Some(5), &[5]), Err(Box::new(NoWayBack::Installed(web(5)))));
        let none =
            way_back(&"web".parse().unwrap(), None, None, &[web(1)], &Lineage::default(), &Quarantine::default());
        assert!(none.unwrap_err().to_string().contains("not installed"));
    }
}
