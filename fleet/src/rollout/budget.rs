//! How many servers of a group may be out at a time while a release is rolled out. Pure.

use std::collections::BTreeSet;

use bucket::{Budget, ServerName};

use crate::wish::Share;

/// A group of the policy, as far as a rollout looks at it.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its servers that have the app, or get it.
    pub servers: Vec<ServerName>,
    /// How many of them the policy allows to be out.
    pub max_down: Option<Share>,
}

/// The budgets of a rollout to `servers`. What an operator says (`max_down`) goes before what the policy says. Servers that are
/// in no group count as one.
pub fn budgets(servers: &[ServerName], groups: Vec<Group>, max_down: Option<Share>) -> Vec<Budget> {
    let mut ungrouped: BTreeSet<&ServerName> = servers.iter().collect();
    let mut budgets = Vec::new();
    for group in groups {
        let is_concerned = servers.iter().any(|server| group.servers.contains(server));
        for server in &group.servers {
            ungrouped.remove(server);
        }
        if is_concerned {
            let share = max_down.or(group.max_down).unwrap_or(Share::QUARTER);
            let allowed = share.of(group.servers.len());
            budgets.push(Budget { group: Some(group.name.to_owned()), servers: group.servers, allowed });
        }
    }
    if !ungrouped.is_empty() {
        let allowed = max_down.unwrap_or(Share::QUARTER).of(ungrouped.len());
        budgets.push(Budget { group: None, servers: ungrouped.into_iter().cloned().collect(), allowed });
    }
    budgets
}
