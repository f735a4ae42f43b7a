//! The subcommands, one file each.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod list;
pub(crate) mod publish;
pub(crate) mod reference;
pub(crate) mod schema;
pub(crate) mod upload;
