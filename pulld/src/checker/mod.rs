//! What must hold of a server whose agent has nothing left to do: named rules, and which of them do not hold. Pure.
//!
//! For tests, in memory and on real machines, after whatever they did to a server. Nothing that the agent concluded is
//! believed: its report is compared with the document, with dpkg, with systemd and with the files that it keeps.

mod facts;
mod rules;
#[cfg(test)]
mod tests;

pub use facts::{Dpkg, Package, Record, Unit};
pub use rules::{Rule, Violation, check};
