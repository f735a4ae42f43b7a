//! I/O errors as the bucket's callers know them.

use crate::Error;

/// What an I/O error means to the caller of a verb.
pub(super) fn failed(verb: &'static str, object: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Error::Forbidden { verb, object: object.to_owned(), reason: error.to_string() }
        }
        _ => unavailable(verb, object, &error.to_string()),
    }
}

/// A failure that another try may get past.
pub(super) fn unavailable(verb: &'static str, object: &str, reason: &str) -> Error {
    Error::Unavailable { verb, object: object.to_owned(), reason: reason.to_owned() }
}
