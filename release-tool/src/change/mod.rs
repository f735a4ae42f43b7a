//! Changes that are not merged yet: what they become.

pub(crate) mod update;
