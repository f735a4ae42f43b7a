//! What can go wrong between a caller and a registry, with only the cases that a caller branches on.

/// Why a registry did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The credential is missing, wrong, or not enough.
    #[error("not allowed to {verb} `{what}`: {reason}")]
    Forbidden {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
        /// As the registry says, or what is missing.
        reason: String,
    },
    /// The registry could not be reached, or refused.
    #[error("could not {verb} `{what}`: {reason}")]
    Unavailable {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
        /// As the registry says, or the network.
        reason: String,
    },
    /// The registry gave no answer in time: it is likely that it gives none to anything else now.
    #[error("could not {verb} `{what}`: {reason}")]
    Silent {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
        /// How long it was waited.
        reason: String,
    },
    /// What came from the registry isn't what it should be.
    #[error("`{what}` cannot be used: {reason}")]
    Malformed {
        /// Which manifest or blob.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else wrote meanwhile.
    #[error("`{what}` was changed concurrently: {reason}")]
    Changed {
        /// Which tag.
        what: String,
        /// What it has now.
        reason: String,
    },
}
