//! `[candidates]`: where changes are recorded that are not merged yet.

use anyhow::{Context, Result, bail};
use bucket::BucketUrl;
use console::Keys;
use toml::Table;

use super::{
    images::check_registry,
    keys::{Place, known},
};

/// `[candidates]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// Where changes are recorded that are not merged yet.
    pub(crate) bucket: BucketUrl,
    /// The branch that they are to be merged into.
    pub(crate) branch: Option<String>,
    /// Where images that were built from changes go: a registry, and what their names are below there.
    pub(crate) registry: Option<String>,
}

impl Candidates {
    pub(super) fn parse(table: Table, bucket: Option<&BucketUrl>) -> Result<Self> {
        let mut keys = Keys::new("[candidates]", table, &known(Place::Candidates))?;
        let url: BucketUrl =
            keys.required_text("bucket", "\"gs://acme-ci\"")?.parse().context("[candidates]: invalid `bucket`")?;
        if bucket == Some(&url) {
            bail!("[candidates]: `bucket` is that of the releases: what is not merged has a bucket of its own");
        }
        let (branch, registry) = (keys.text("branch")?, keys.text("registry")?);
        if let Some(registry) = &registry {
            check_registry("[candidates]", registry)?;
        }
        Ok(Self { bucket: url, branch, registry })
    }
}
