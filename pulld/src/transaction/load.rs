//! Reads the record of a transaction that an earlier process, or an earlier cycle, left unfinished.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{service::events, state::persist};

use super::{
    record::{SCHEMA, Transaction},
    schema_1,
};

/// Most bytes of a record that are read.
const MAX_SIZE: u64 = 16 << 20;

/// What every record has, whatever its schema.
#[derive(Deserialize)]
struct Envelope {
    schema: u32,
}

/// The record on disk, if there is a valid one. An invalid one is put aside: dpkg knows what is installed.
pub(crate) fn load(path: &Path) -> Option<Transaction> {
    let read = persist::read(path, MAX_SIZE).and_then(|content| content.map(|content| parse(&content)).transpose());
    read.unwrap_or_else(|error| {
        tracing::warn!(
            message_id = events::STATE_LOST,
            path = %path.display(),
            "could not read the transaction record, falling back to the dpkg database: {error:#}"
        );
        if let Err(error) = persist::rename(path, &path.with_extension("json.unreadable")) {
            tracing::warn!(message_id = events::STATE_LOST, "{error:#}");
        }
        None
    })
}

fn parse(content: &[u8]) -> Result<Transaction> {
    match serde_json::from_slice::<Envelope>(content)?.schema {
        SCHEMA => Ok(serde_json::from_slice(content)?),
        1 => schema_1::parse(content).context("invalid record of schema 1"),
        other => bail!("its schema is {other}, expected {SCHEMA} or 1"),
    }
}
