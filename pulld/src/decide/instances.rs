//! The instances of templates: systemd runs them, and is never asked of the templates themselves. Pure.

use std::collections::BTreeMap;

use bucket::{OwnedUnit, UnitAction, UnitName};

use crate::machine::{ActiveState, UnitState};

/// The units that stand for those that a release `owned`s, where systemd has loaded the instances `known`: a template
/// gives way to the instances that run, have failed or are enabled, besides those that the release owns by name.
///
/// Those were not the release's wish, so that they may be disabled.
pub(crate) fn with_instances(owned: &[OwnedUnit], known: &BTreeMap<String, UnitState>) -> Vec<OwnedUnit> {
    let by_name = |name: &UnitName| owned.iter().any(|unit| unit.name == *name);
    let mut units: Vec<OwnedUnit> = owned.iter().filter(|unit| !unit.name.is_template()).cloned().collect();
    for template in owned.iter().filter(|unit| unit.name.is_template()) {
        let used = known.iter().filter(|(_, state)| is_used(state));
        let names = used.filter_map(|(name, state)| Some((name.parse::<UnitName>().ok()?, state)));
        let instances = names.filter(|(name, _)| name.template().as_ref() == Some(&template.name) && !by_name(name));
        units.extend(instances.map(|(name, state)| OwnedUnit {
            disabled: true,
            ..OwnedUnit::new(name, action_of_instance(template, state))
        }));
    }
    units
}

/// What happens to an instance that no release owns by name: what its template says, except where something else starts
/// it, as a socket does for each connection.
pub(crate) fn action_of_instance(template: &OwnedUnit, state: &UnitState) -> UnitAction {
    if state.triggered_by.is_empty() { template.action } else { UnitAction::None }
}

/// Whether somebody wants the unit: another one that only names it makes systemd load it too.
pub(crate) fn is_used(state: &UnitState) -> bool {
    state.is_running() || state.active == ActiveState::Failed || state.file_state.as_str().starts_with("enabled")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::{running, unit_state};

    #[test]
    fn a_template_stands_for_the_instances_that_the_machine_has() {
        let named = UnitState { file_state: "disabled".to_owned().into(), ..unit_state("inactive", "dead") };
        let by_hand = UnitState { file_state: "disabled".to_owned().into(), ..running("a") };
        let known = [
            ("x@a.service", running("a")),
            ("x@b.service", by_hand),
            ("x@c.service", unit_state("inactive", "dead")),
            ("x@d.service", named),
            ("x@e.service", UnitState { triggered_by: vec!["x.socket".to_owned()], ..running("e") }),
            ("y@a.service", running("a")),
        ];
        let known = known.map(|(name, state)| (name.to_owned(), state)).into();
        let owned = OwnedUnit::parse_all("x@.service=reload x@a.service=restart web.service=restart").unwrap();
        let units: Vec<String> = with_instances(&owned, &known).iter().map(ToString::to_string).collect();
        let expected = [
            "x@a.service=restart",
            "web.service=restart",
            "x@b.service=reload,disabled",
            "x@c.service=reload,disabled",
            "x@e.service=none,disabled",
        ];
        assert_eq!(units, expected);
    }
}
