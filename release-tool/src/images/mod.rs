//! The registry of a buildset: it serves the images of its overlay, and reads others through from the registries that are named.
//!
//! [`layout`] is where the overlay has its images, [`name`] what a request is about, [`caller`] who asks, [`answer`] what is
//! answered, with [`uploads`] on their way in and [`through`] for what is elsewhere. [`certificate`] makes what the connection is
//! trusted by, [`serve`] runs all of it, and [`configure`] writes configurations of clients. [`take`] puts images of changes there
//! when an overlay is made.

mod answer;
mod caller;
mod certificate;
pub(crate) mod configure;
mod layout;
mod name;
pub(crate) mod serve;
pub(crate) mod take;
mod through;
mod uploads;
