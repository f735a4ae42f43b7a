//! What both backends must do alike.

pub(crate) mod documents;
pub(crate) mod guards;
pub(crate) mod images;
pub(crate) mod listings;
pub(crate) mod objects;
pub(crate) mod pushes;
pub(crate) mod runs;
