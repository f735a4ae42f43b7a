//! The pages, one file each.

pub(crate) mod apps;
pub(crate) mod changes;
pub(crate) mod channels;
pub(crate) mod choose;
pub(crate) mod compare;
pub(crate) mod halt;
pub(crate) mod history;
pub(crate) mod overview;
pub(crate) mod plan;
pub(crate) mod push;
pub(crate) mod recent;
pub(crate) mod release;
pub(crate) mod retire;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod server;
pub(crate) mod servers;
