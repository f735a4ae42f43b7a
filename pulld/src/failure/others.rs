//! What an update changed beside its own package.

use std::fmt;

use bucket::AppName;
use serde::{Deserialize, Serialize};

/// Other packages that an update has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OtherPackages {
    /// What changed, in clauses.
    pub(crate) changes: String,
    /// The app for which a person can end that state; `None` when it isn't known.
    pub(crate) app: Option<AppName>,
}

impl fmt::Display for OtherPackages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "other packages changed with it: {}", self.changes)?;
        match &self.app {
            Some(app) => write!(
                f,
                "; `/var/log/dpkg.log` there tells more, and `pulld retry {app}` there ends this state when the server is \
                 as it should be"
            ),
            None => Ok(()),
        }
    }
}
