//! Errors, with only the cases a caller branches on.

/// Why a verb on the bucket failed.
///
/// Absence is never an error here: verbs that may find nothing return an `Option` or [`crate::Fetched::Absent`].
/// So [`Error::Forbidden`] and [`Error::Unavailable`] can't be taken for "there is no such object".
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `create` found an object of that name. Nothing was written.
    #[error("`{object}` already exists")]
    AlreadyExists {
        /// The object's path.
        object: String,
    },
    /// `replace` or `delete` stated a generation that is no longer the object's. Nothing was written.
    #[error("`{object}` changed since generation {expected} was read")]
    Conflict {
        /// The object's path.
        object: String,
        /// The generation the caller had read.
        expected: crate::Generation,
    },
    /// The object, or the pinned generation of it, was deleted while it was being read.
    #[error("`{object}` no longer exists")]
    Gone {
        /// The object's path.
        object: String,
    },
    /// The bucket answered that these credentials may not (401, 403, EACCES).
    #[error("not allowed to {verb} `{object}`: {reason}")]
    Forbidden {
        /// What was tried: `read`, `write`, `list`, `delete`.
        verb: &'static str,
        /// The object's path, or the prefix that was listed.
        object: String,
        /// The bucket's own words.
        reason: String,
    },
    /// The bucket couldn't be reached or didn't answer usefully (5xx, 429, timeout, reset, I/O error). Worth another try.
    #[error("could not {verb} `{object}`: {reason}")]
    Unavailable {
        /// What was tried: `read`, `write`, `list`, `delete`.
        verb: &'static str,
        /// The object's path, or the prefix that was listed.
        object: String,
        /// The cause, in the words of whoever failed.
        reason: String,
    },
    /// The object is larger than its kind may be; its content wasn't read.
    #[error("`{object}` has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The object's path.
        object: String,
        /// Its size in bytes.
        size: u64,
        /// The most that is read of this kind of object, in bytes.
        limit: u64,
    },
    /// The object was read but isn't what its place in the bucket promises.
    #[error("`{object}` is malformed: {reason}")]
    Malformed {
        /// The object's path.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bucket can't be used as configured (no such bucket, bad URL, unusable credentials file).
    #[error("bucket `{url}` cannot be used: {reason}")]
    Unusable {
        /// The bucket's URL as configured.
        url: String,
        /// What is wrong, and what to do about it.
        reason: String,
    },
}
