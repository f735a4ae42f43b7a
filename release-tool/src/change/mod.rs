//! Changes that are not merged yet: what they become, and which of them are ahead of one.

pub(crate) mod ahead;
pub(crate) mod update;
