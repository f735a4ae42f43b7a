//! Copies inside a bucket: the storage rewrites an object under another name, in as many requests as it likes.

use super::{attempt::Failure, connection::Connection, rest::Rewritten, write::Write};
use crate::{Error, Generation, ObjectPath};

/// Copies a generation of an object as `write` says.
pub(super) async fn copy(
    connection: &Connection,
    from: (&ObjectPath, Generation),
    write: &Write<'_>,
) -> Result<Generation, Error> {
    let failure = match rewrite(connection, from, write).await {
        Ok(generation) => return Ok(generation),
        Err(failure) => failure,
    };
    let may_be_gone = failure.is_absent() || failure.status == Some(412);
    let error = match write.settle(connection, failure).await {
        Err(error) if may_be_gone && !matches!(error, Error::AlreadyExists { .. }) => error,
        settled => return settled,
    };
    let (path, seen) = from;
    match connection.find(path).await? {
        Some(found) if found.info.generation == seen => Err(error),
        _ => Err(Error::Gone { object: path.to_string() }),
    }
}

/// Asks for the copy until it is whole. An object of this bucket is one at once; of another place or class of storage it may
/// take several requests, each of which gets further.
async fn rewrite(
    connection: &Connection,
    (from, seen): (&ObjectPath, Generation),
    write: &Write<'_>,
) -> Result<Generation, Failure> {
    let said = write.resource();
    let (mut token, mut copied, mut idle) = (None, 0, 0);
    loop {
        let attempt =
            || write.attempt(Box::pin(connection.rest.rewrite((from, seen), write.path, &said, token.as_deref())));
        match connection.patiently(attempt).await? {
            Rewritten::Whole(generation) => return Ok(generation),
            Rewritten::Part { token: next, copied: now } => {
                idle = if now > copied { 0 } else { idle + 1 };
                if idle >= connection.attempts {
                    return Err(Failure::transient("the storage began to copy the object and gets no further"));
                }
                (token, copied) = (Some(next), now.max(copied));
            }
        }
    }
}
