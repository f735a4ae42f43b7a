//! Who pushes for a run, for which reason, and by which rules.

use std::{env::var, sync::Arc};

use anyhow::Result;
use console::Person;
use fleet::{
    identity::{Identity, Origin},
    operation::Operator,
    poke::PokeSettings,
};

use crate::options::policy;

/// Whoever started the run, for a stage of it.
pub(super) fn operator(pipeline: &str, stage: &str) -> Result<Operator> {
    let name = Person::find(|key| var(key).ok()).to_string();
    Ok(Operator {
        who: Identity { name: console::safe(&name), origin: Origin::Local },
        reason: format!("pipeline {pipeline}, stage {stage}"),
        policy: Arc::new(policy()?.unwrap_or_default()),
        poke: PokeSettings::from_env(None, |key| var(key).ok())?,
        held: false,
        without_waves: false,
        channel: None,
    })
}
