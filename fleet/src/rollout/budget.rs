//! How many servers of a group may be out at a time while a release is rolled out. Pure.

use std::{collections::BTreeSet, fmt, str::FromStr};

use bucket::{Budget, ServerName};
use thiserror::Error;

/// A number of servers, or a share of a group: `4`, `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many servers.
    Count(usize),
    /// So many of a hundred.
    Percent(u8),
}

/// The text is neither a number nor a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be a number of servers, at least 1, or a share from `1%` to `100%`")]
pub struct NoShare;

impl Share {
    /// Of servers whose number nobody gave: a quarter of a group.
    pub const QUARTER: Self = Self::Percent(25);

    /// How many of a group of `size` that are: at least one.
    pub fn of(self, size: usize) -> usize {
        match self {
            Self::Count(count) => count.max(1),
            Self::Percent(percent) => (size * usize::from(percent) / 100).max(1),
        }
    }
}

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Self::Percent),
            None => text.parse().ok().filter(|count| *count > 0).map(Self::Count),
        };
        share.ok_or(NoShare)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_nothing() {
        for (share, size, expected) in [("10%", 40, 4), ("10%", 9, 1), ("25%", 3, 1), ("3", 40, 3), ("100%", 7, 7)] {
            let share: Share = share.parse().unwrap();
            assert_eq!(share.of(size), expected, "{share} of {size}");
        }
        for wrong in ["", "0", "0%", "101%", "-1", "x"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
