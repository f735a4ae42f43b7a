//! Why a package can't be installed on a server, by what it says of itself.

use std::fmt;

use bucket::{AppName, ReleaseName};
use serde::{Deserialize, Serialize};

/// Why a package can't be installed on this server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PackageFault {
    /// It is that of another release.
    OtherRelease(ReleaseName),
    /// It has the name of pulld's own package and is another app, or the other way round.
    Reserved {
        /// Its name.
        package: String,
        /// The name that is reserved.
        reserved: String,
    },
    /// Another app of the same document has it too.
    OfTwoApps {
        /// Its name.
        package: String,
    },
    /// It is installed from a release of another app.
    OfAnotherApp {
        /// Its name.
        package: String,
        /// That app.
        app: AppName,
    },
    /// dpkg would refuse it.
    Unmet(Vec<Obstacle>),
}

/// Something that a package needs and that a server does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Obstacle {
    /// It is built for another architecture.
    Architecture {
        /// That of the package.
        package: String,
        /// That of the server.
        server: String,
    },
    /// Nobody knows what it depends on.
    UnreadableDependencies {
        /// As the package has them.
        depends: String,
        /// What is wrong with them.
        error: String,
    },
    /// None of these, of which it needs one, is installed.
    Dependency {
        /// As the package has them.
        alternatives: Vec<String>,
    },
    /// Others, so many that they are left out.
    More(usize),
}

impl fmt::Display for PackageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherRelease(release) => {
                write!(f, "the .deb does not match the release name: its `Push-Release` field is `{}`", release.stem())
            }
            Self::Reserved { package, reserved } => write!(
                f,
                "the .deb contains package `{package}`; the package name `{reserved}` is reserved for the app of the same \
                 name"
            ),
            Self::OfTwoApps { package } => {
                write!(f, "the package `{package}` is that of another app in the same document")
            }
            Self::OfAnotherApp { package, app } => {
                write!(f, "the package `{package}` is installed from another app, `{app}`")
            }
            Self::Unmet(obstacles) => {
                let obstacles: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
                write!(f, "release cannot be installed on this server: {}", obstacles.join("; "))
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Architecture { package, server } => {
                write!(f, "the package is built for `{package}`, this server is `{server}`")
            }
            Self::UnreadableDependencies { depends, error } => {
                write!(f, "could not parse its dependencies `{}`: {error}", depends.escape_debug())
            }
            Self::Dependency { alternatives } => write!(
                f,
                "the package depends on `{}`, which is not installed: add it to the base image",
                alternatives.join(" | ").escape_debug()
            ),
            Self::More(more) => write!(f, "and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    #[test]
    fn what_is_wrong_with_a_package_is_said() {
        let (web, package) = (release("web", 1), || "web".to_owned());
        let unmet = vec![
            Obstacle::Architecture { package: "arm64".to_owned(), server: "amd64".to_owned() },
            Obstacle::UnreadableDependencies { depends: "a (\u{1b}".to_owned(), error: "no version".to_owned() },
            Obstacle::Dependency { alternatives: vec!["a (>= 1)".to_owned(), "b".to_owned()] },
            Obstacle::More(3),
        ];
        for (fault, words) in [
            (
                PackageFault::OtherRelease(web.clone()),
                format!("the .deb does not match the release name: its `Push-Release` field is `{}`", web.stem()),
            ),
            (
                PackageFault::Reserved { package: package(), reserved: "pulld".to_owned() },
                "the .deb contains package `web`; the package name `pulld` is reserved for the app of the same name"
                    .to_owned(),
            ),
            (
                PackageFault::OfTwoApps { package: package() },
                "the package `web` is that of another app in the same document".to_owned(),
            ),
            (
                PackageFault::OfAnotherApp { package: package(), app: "db".parse().unwrap() },
                "the package `web` is installed from another app, `db`".to_owned(),
            ),
            (
                PackageFault::Unmet(unmet),
                "release cannot be installed on this server: the package is built for `arm64`, this server is `amd64`; \
                 could not parse its dependencies `a (\\u{1b}`: no version; the package depends on `a (>= 1) | b`, which \
                 is not installed: add it to the base image; and 3 more"
                    .to_owned(),
            ),
        ] {
            assert_eq!(fault.to_string(), words);
            let read: PackageFault = serde_json::from_value(serde_json::to_value(&fault).unwrap()).unwrap();
            assert_eq!(read, fault);
        }
    }
}
