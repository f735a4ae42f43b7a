//! Changes that are not merged yet: what is recorded of them, what they become, and what is built of them.

pub(crate) mod candidates;
pub(crate) mod image;
pub(crate) mod line;
pub(crate) mod promotion;
pub(crate) mod record;
pub(crate) mod runs;
pub(crate) mod target;
pub(crate) mod update;
pub(crate) mod upload;
