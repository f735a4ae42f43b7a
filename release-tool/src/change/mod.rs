//! Changes that are not merged yet: what is recorded of them, and what they become.

pub(crate) mod record;
pub(crate) mod update;
