//! What a repository says in `.pipeline/config.yaml` of how its services are built, tested, released and tried.
//!
//! [`read`] makes [`Pipelines`] of the files, with every default filled in, or says all that is wrong with them, each with its
//! line and column. Nothing here does I/O, takes a clock or runs anything.

#![doc(html_no_source)]

mod actions;
mod check;
mod config;
mod execution;
mod fields;
mod image;
mod problem;
mod stage;
mod template;
mod trial;
mod variants;
mod yaml;

pub use actions::{Action, Build, ChannelMove, Copy, Deploy, Export, Publish, Run};
pub use check::{Checked, FILE, Known, Leads, read};
pub use config::{Pipeline, Pipelines};
pub use execution::Order;
pub use image::{Image, check_image_name, image_name};
pub use problem::{Place, Problem};
pub use stage::{SETUP_VALUES, Stage};
pub use template::{Piece, Template};
pub use variants::{Variant, Variants};
pub use yaml::MAX_SIZE;
