//! Debian's registry in two versions, and skopeo and umoci as what people have: unpacked from their packages, run on loopback,
//! never installed (the packaged registry listens on all interfaces).

mod fake;
mod packages;
mod server;
mod tools;

pub use fake::{Answer, Asked, FakeRegistry};
pub use packages::Debian;
pub use server::{PASSWORD, RegistryOptions, RegistryServer, Request, USER};
pub use tools::{Tools, oci_image, oci_index};
