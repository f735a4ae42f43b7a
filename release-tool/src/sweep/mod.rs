//! What is left of tries and is of no use any more: [`decide`] says which, of what [`find`] has read.

pub(crate) mod decide;
pub(crate) mod find;
