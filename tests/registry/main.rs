//! The client of registries against Debian's own, in both versions, and against fakes that misbehave; and what pipelines publish.

mod candidates;
mod copying;
mod credentials;
mod gating;
mod memory;
mod programs;
mod publishing;
mod reading;
mod refusals;
mod removing;
mod serving;
mod tagging;
mod tls;
mod together;
mod uploading;
mod whose;
mod world;
