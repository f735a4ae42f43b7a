//! The subcommands, one file each.

pub(crate) mod adopt;
pub(crate) mod announce;
pub(crate) mod build;
pub(crate) mod buildset;
pub(crate) mod candidate;
pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod plan;
pub(crate) mod promote;
pub(crate) mod publish;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod show;
pub(crate) mod sweep;
pub(crate) mod upload;
