//! The server document as last read: what this server should have.

use bucket::{DocumentStatus, Error, Fetched, Generation, ServerDocument, ServerName};
use console::count;

use crate::{service::events, store::bucket::Bucket};

/// The desired state, and how reading it went.
#[derive(Debug, Default)]
pub(super) struct Desired {
    last: Last,
    error: Option<ReadError>,
    /// The generation of a document that was read, while the bucket has none any more.
    gone: Option<Generation>,
    /// Since when the document that this server matched once says what it says: what differs from it later was changed by hand.
    settled: Option<Generation>,
}

/// The last document that could be used.
#[derive(Debug, Default)]
enum Last {
    /// None was read yet.
    #[default]
    Unread,
    /// The bucket has none for this server.
    Absent,
    /// This one.
    Document(Generation, ServerDocument),
}

/// Why the newest document cannot be used.
#[derive(Debug)]
struct ReadError {
    text: String,
    /// Reads in a row that failed and may succeed when repeated soon.
    attempts: u32,
    /// Whether the bucket does not answer.
    unreachable: bool,
}

impl Desired {
    /// Reads the document if its generation changed, and returns whether it says something new. An error changes nothing.
    /// `remembered` is the generation that an earlier process has read, if it did.
    pub(super) async fn read(&mut self, bucket: &Bucket, server: &ServerName, remembered: Option<Generation>) -> bool {
        let seen = match (&self.last, &self.error) {
            (Last::Document(generation, _), None) => Some(*generation),
            _ => None,
        };
        let fetched = match seen {
            Some(seen) => bucket.server_document_if_changed(server, seen).await,
            None => bucket.server_document(server).await.map(Fetched::from),
        };
        match fetched {
            Ok(Fetched::Unchanged) => self.error = None,
            Ok(Fetched::Absent) => {
                let was_there = match self.last {
                    Last::Absent => None,
                    Last::Unread => remembered,
                    Last::Document(generation, _) => Some(generation),
                };
                if let Some(generation) = was_there {
                    self.gone = Some(generation);
                    tracing::warn!(message_id = events::DOCUMENT_READ, %server, "{}", gone(generation));
                } else if matches!(self.last, Last::Unread) {
                    tracing::info!(
                        message_id = events::DOCUMENT_READ,
                        %server,
                        "no server document in the bucket for `{server}`; nothing to install or remove"
                    );
                }
                (self.last, self.error) = (Last::Absent, None);
            }
            Ok(Fetched::Found(generation, document)) => {
                let is_new = self.said_since() != Some(document.metadata().said_since(generation));
                if is_new {
                    log_document(generation, &document);
                }
                (self.last, self.error, self.gone) = (Last::Document(generation, document), None, None);
                return is_new;
            }
            Err(error) => self.note(&error),
        }
        false
    }

    fn note(&mut self, error: &Error) {
        let unreachable = matches!(error, Error::Unavailable { .. });
        let text = if unreachable { format!("the bucket is unreachable: {error}") } else { error.to_string() };
        let before = self.error.take();
        if before.as_ref().is_none_or(|before| before.text != text) {
            tracing::warn!(
                message_id = events::DOCUMENT_UNREADABLE,
                "cannot use the server document, so everything stays as it is: {text}"
            );
        }
        // A document that was read but is invalid does not improve by being read more often.
        let is_malformed = matches!(error, Error::Malformed { .. });
        let attempts = if is_malformed { 0 } else { before.map_or(0, |before| before.attempts) + 1 };
        self.error = Some(ReadError { text, attempts, unreachable });
    }

    /// The last document that could be used, with its generation; `None` when there is none.
    pub(super) fn document(&self) -> Option<(Generation, &ServerDocument)> {
        match &self.last {
            Last::Document(generation, document) => Some((*generation, document)),
            Last::Absent | Last::Unread => None,
        }
    }

    /// The generation of [`Desired::document`].
    pub(super) fn generation(&self) -> Option<Generation> {
        self.document().map(|(generation, _)| generation)
    }

    /// Why the newest document cannot be used.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_ref().map(|error| error.text.as_str())
    }

    /// How many reads in a row failed for a reason that may pass.
    pub(super) fn failed_reads(&self) -> u32 {
        self.error.as_ref().map_or(0, |error| error.attempts)
    }

    /// Whether the bucket did not answer the last read.
    pub(super) fn is_unreachable(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.unreachable)
    }

    /// Whether the bucket has said what document there is, or that there is none.
    pub(super) fn is_read(&self) -> bool {
        !matches!(self.last, Last::Unread)
    }

    /// A person has deleted what was kept of the document that is gone.
    pub(super) fn accept_gone(&mut self) {
        self.gone = None;
    }

    /// That a document was read and is gone, as a sentence.
    pub(super) fn gone(&self) -> Option<String> {
        self.gone.map(gone)
    }

    /// Notes that the server matches the document.
    pub(super) fn settle(&mut self) {
        self.settled = self.said_since();
    }

    /// Whether the server matched this very document before.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.is_some() && self.settled == self.said_since()
    }

    /// The first generation that said what [`Desired::document`] says: later ones only told of holds.
    fn said_since(&self) -> Option<Generation> {
        self.document().map(|(generation, document)| document.metadata().said_since(generation))
    }
}

fn gone(generation: Generation) -> String {
    format!(
        "nothing is updated any more, because the server document is gone: generation {generation} was read before, and \
         the bucket has none now; what is installed stays as it is: push to this server to write a new document; if it \
         was retired, remove `pulld` from it, or delete `/var/lib/pulld/document.json` there to end this warning"
    )
}

fn log_document(generation: Generation, document: &ServerDocument) {
    let apps = document.releases().count();
    tracing::info!(
        message_id = events::DOCUMENT_READ,
        %generation,
        apps,
        "read server document generation {generation} with {}",
        count(apps, "app")
    );
    let mut bad = document.bad_entries();
    for (entry, reason) in bad.by_ref().take(DocumentStatus::MAX_BAD_ENTRIES) {
        tracing::warn!(message_id = events::ENTRY_REFUSED, entry, reason, "ignoring document entry {entry}: {reason}");
    }
    let more = bad.count() + document.unread();
    if more > 0 {
        tracing::warn!(message_id = events::ENTRY_REFUSED, more, "ignoring {}", count(more, "more invalid entry"));
    }
}
