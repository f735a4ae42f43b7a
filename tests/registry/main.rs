//! The client of registries against Debian's own, in both versions, and against fakes that misbehave.

mod copying;
mod credentials;
mod reading;
mod refusals;
mod removing;
mod tagging;
mod uploading;
mod world;
