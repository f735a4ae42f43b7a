//! Scenarios on real machines.
