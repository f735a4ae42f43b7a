//! A halt: nothing is pushed forward in the whole fleet until it is lifted. One object, `halt.json`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Bucket, Error, Generation, Metadata, Object, layout};

/// Most bytes of the object that are read.
const MAX_SIZE: u64 = 16 << 10;

/// Who halted all pushes, and why. Unknown fields are ignored by readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// The version of the format: 1.
    pub schema: u32,
    /// Who did.
    pub by: String,
    /// The reason, in their words.
    pub why: String,
    /// When, by the clock of whoever did.
    pub at: Timestamp,
}

impl Bucket {
    /// The halt that is in force, with its generation; `None` when there is none.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: what can't be understood is in force too.
    pub async fn halt(&self) -> Result<Option<(Generation, Halt)>, Error> {
        let path = layout::halt();
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed =
            |error: serde_json::Error| Error::Malformed { object: path.to_string(), reason: error.to_string() };
        Ok(Some((generation, serde_json::from_slice(&content).map_err(malformed)?)))
    }

    /// Halts all pushes.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when they are halted already.
    pub async fn begin_halt(&self, halt: &Halt) -> Result<Generation, Error> {
        let content = serde_json::to_vec_pretty(halt).expect("a halt is JSON");
        self.create(&layout::halt(), content.into(), &Metadata::new()).await
    }

    /// Lifts the halt, whatever its object says; whether there was one.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is another one by now.
    pub async fn lift_halt(&self) -> Result<bool, Error> {
        let path = layout::halt();
        let Some(found) = self.head(&path).await? else { return Ok(false) };
        self.delete(&path, found.generation).await.map(|()| true)
    }
}
