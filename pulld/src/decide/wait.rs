//! What the agent waits for before it does anything more. Pure.

use std::fmt;

use crate::machine::LockHolder;

/// What the agent waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wait {
    /// dpkg's lock, which another program holds.
    DpkgLock(LockHolder),
    /// The end of another program's dpkg run, which has a package of the agent's half-done.
    HalfDone {
        /// Whose run it is.
        holder: LockHolder,
        /// The package.
        package: String,
    },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DpkgLock(holder) => write!(f, "waiting for the dpkg lock, held by {holder}"),
            Self::HalfDone { holder, package } => {
                write!(f, "waiting until {holder} is done with `{}`", package.escape_debug())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_is_named() {
        let apt = LockHolder { process: 7, program: "apt".to_owned() };
        assert_eq!(Wait::DpkgLock(apt.clone()).to_string(), "waiting for the dpkg lock, held by `apt` (process 7)");
        let half_done = Wait::HalfDone { holder: apt, package: "web".to_owned() };
        assert_eq!(half_done.to_string(), "waiting until `apt` (process 7) is done with `web`");
    }
}
