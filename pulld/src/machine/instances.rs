//! How the instances of templates are, by name.

use std::collections::BTreeMap;

use anyhow::Result;
use bucket::OwnedUnit;

use super::{service_manager::ServiceManager, unit_state::UnitState};

/// The state of every loaded instance of the templates among some units.
pub(crate) async fn instances<'a>(
    services: &impl ServiceManager,
    owned: impl Iterator<Item = &'a OwnedUnit>,
) -> Result<BTreeMap<String, UnitState>> {
    let mut states = BTreeMap::new();
    for template in owned.filter(|unit| unit.name.is_template()) {
        for instance in services.instances(&template.name).await? {
            states.insert(instance.to_string(), services.unit(instance.as_str()).await?);
        }
    }
    Ok(states)
}
