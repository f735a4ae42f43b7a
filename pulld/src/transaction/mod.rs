//! Changing the machine so that a crash at any moment leaves it repairable.
//!
//! The [`record`] says on disk how far a transaction is; the [`executor`] carries it out from any phase; the [`gate`]
//! judges what was installed; [`rollback`] says what undoing takes; [`rescue`] is the last resort for pulld itself.

pub(crate) mod executor;
pub(crate) mod gate;
pub(crate) mod record;
pub(crate) mod rescue;
pub(crate) mod rollback;
