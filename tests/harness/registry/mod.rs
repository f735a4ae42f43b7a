//! Debian's registry in two versions, and skopeo, umoci, containerd and Docker as what people have: unpacked from their packages,
//! run on loopback, never installed (the packaged registry listens on all interfaces).

mod authority;
mod clients;
mod fake;
mod packages;
mod server;
mod serving;
mod tap;
mod tools;

pub use authority::Authority;
pub use clients::{Containerd, Docker};
pub use fake::{Answer, Asked, FakeRegistry};
pub use packages::Debian;
pub use server::{BUILDER, PASSWORD, RegistryOptions, RegistryServer, Request, USER};
pub use serving::Serving;
pub use tap::Tap;
pub use tools::{Tools, oci_image, oci_index};

/// Has all packages on this machine, for whoever is in a network of their own by the time that they are needed.
///
/// # Errors
/// When one can't be had.
pub fn fetch() -> anyhow::Result<()> {
    Tools::get()?;
    Debian::Twelve.unpacked(&clients::PACKAGES)?;
    Debian::ALL.into_iter().try_for_each(|debian| debian.unpacked(&server::PACKAGES).map(drop))
}
