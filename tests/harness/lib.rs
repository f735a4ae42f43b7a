//! What the tests, the demo and the benchmark stand on: real Debian machines, and the real programs.
//!
//! A [`Machine`] is a container with systemd as PID 1, real dpkg and real D-Bus, up in half a second.
//! It boots from an [`Image`]: a read-only Debian, made once and cached, with or without pulld installed.
//! A [`Scenario`] puts a bucket, git repositories ([`Service`]) and machines together; [`Programs`] are our own, built as they are now.
//!
//! Whatever happens to the process that made a machine (return, panic, Ctrl-C, `kill -9`), the machine goes with it:
//! `keeper.rs` says how.
//!
//! [`registry`] has Debian's registries of container images, and skopeo and umoci.
//! [`metadata`], [`compute`], [`gcs`] and [`pubsub`] stand in for Google Cloud, of which nothing is to be reached from a test.

mod agent;
mod background;
mod base64;
mod cache;
mod command;
pub mod compute;
pub mod gcs;
mod image;
mod keeper;
mod link;
mod machine;
pub mod metadata;
mod network;
pub mod oauth;
mod programs;
pub mod pubsub;
pub mod registry;
mod scenario;
mod service;
mod settled;

pub use agent::AgentRepo;
pub use base64::{base64, base64url};
pub use cache::{Slot, TempDir, clean_up_when_interrupted, kept_directory};
pub use command::{Output, quote, run};
pub use image::Image;
pub use keeper::control_groups_of;
pub use link::Link;
pub use machine::{Machine, MachineOptions};
pub use network::{Response, in_own_network};
pub use programs::Programs;
pub use scenario::Scenario;
pub use service::{Repo, Service, Target, Version};
