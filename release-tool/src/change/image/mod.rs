//! Images of changes that are not merged yet. Each has a tag of its own for as long as it is a candidate, and what is recorded of
//! it says which: the record comes before the tag, and goes after it.
//!
//! - [`name`] is how people say which image is meant
//! - [`record`] makes one a candidate in the registry of candidates, [`gate`] in production's
//! - [`judge`] says whether one is promoted, a pure function; [`promote`] does it
//! - [`remove`] takes the tag of one away that is of no use any more

pub(crate) mod gate;
pub(crate) mod judge;
pub(crate) mod name;
pub(crate) mod promote;
pub(crate) mod record;
pub(crate) mod remove;
