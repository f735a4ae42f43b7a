//! Whether this machine has a metadata server, decided without using the network.
//!
//! A probe with a short time limit takes a slow network at boot for "not on Google Cloud"; what the firmware says
//! does not depend on the network.

use std::{fmt, path::Path, str::FromStr};

use bucket::{Firmware, firmware};

/// The address of the metadata server; its name would need a working DNS.
const ADDRESS: &str = "169.254.169.254";

/// The configuration key `metadata`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// Watch if this machine is one of Compute Engine.
    #[default]
    Auto,
    /// Watch, whatever the firmware says.
    On,
    /// Only poll.
    Off,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("must be `auto`, `on` or `off`".to_owned()),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Detected {
    /// There is a metadata server at this `host` or `host:port`.
    Server(String),
    /// There is none to watch, and why.
    None(String),
}

/// Decides by the configuration, then by `GCE_METADATA_HOST` (`host`), then by the firmware's `product_name`.
pub(crate) fn detect(mode: Mode, host: Option<&str>, product_name: &Path) -> Detected {
    let host = host.filter(|host| !host.is_empty());
    let server = || Detected::Server(host.unwrap_or(ADDRESS).to_owned());
    match mode {
        Mode::Off => Detected::None("`metadata` is `off`".to_owned()),
        Mode::On => server(),
        Mode::Auto if host.is_some() => server(),
        Mode::Auto => match firmware(product_name) {
            Firmware::Google => server(),
            Firmware::Other(name) => Detected::None(format!("this machine is a `{name}`")),
            Firmware::Silent(why) => Detected::None(why),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_goes_before_environment_before_firmware() {
        let directory = tempfile::tempdir().unwrap();
        let firmware = |name: &str| {
            let path = directory.path().join(name.split(' ').next().unwrap());
            std::fs::write(&path, format!("{name}\n")).unwrap();
            path
        };
        let (google, other) = (firmware("Google Compute Engine"), firmware("Standard PC\u{1b}[2J"));
        let absent = directory.path().join("absent");
        let server = |host: &str| Some(host.to_owned());
        for (mode, host, product_name, expected) in [
            (Mode::Auto, None, &google, server(ADDRESS)),
            (Mode::Auto, Some(""), &google, server(ADDRESS)),
            (Mode::Auto, Some("127.0.0.1:8080"), &google, server("127.0.0.1:8080")),
            (Mode::Auto, Some("127.0.0.1:8080"), &absent, server("127.0.0.1:8080")),
            (Mode::Auto, None, &other, None),
            (Mode::Auto, None, &absent, None),
            (Mode::On, None, &absent, server(ADDRESS)),
            (Mode::On, Some("mds"), &other, server("mds")),
            (Mode::Off, Some("127.0.0.1:8080"), &google, None),
        ] {
            match (detect(mode, host, product_name), expected) {
                (Detected::Server(host), Some(expected)) => assert_eq!(host, expected),
                (Detected::None(why), None) => assert!(!why.contains('\u{1b}'), "{why:?}"),
                (got, expected) => panic!("{mode:?} {host:?} {product_name:?}: {got:?}, expected {expected:?}"),
            }
        }
    }
}
