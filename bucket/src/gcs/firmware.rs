//! Whether this machine is one of Google's, decided without asking the network.
//!
//! A probe with a short time limit takes a slow network at boot for "not on Google Cloud", and one with a long limit
//! makes people wait; what the firmware says needs neither.

use std::{ffi::OsString, fs::File, io::Read, path::Path};

/// Where Linux shows the product name of the machine's firmware (DMI).
pub const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";

/// What the firmware says of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// Compute Engine's.
    Google,
    /// Another maker's product, by its name.
    Other(String),
    /// It says nothing, as in some containers, and why.
    Silent(String),
}

/// What the firmware says, by its `product_name` as Linux shows it (DMI).
pub fn firmware(product_name: &Path) -> Firmware {
    let mut text = Vec::new();
    let read = File::open(product_name).and_then(|file| file.take(256).read_to_end(&mut text));
    if let Err(error) = read {
        return Firmware::Silent(format!("could not read `{}`: {error}", product_name.display()));
    }
    match String::from_utf8_lossy(&text).trim() {
        "Google Compute Engine" | "Google" => Firmware::Google,
        other => Firmware::Other(other.escape_debug().to_string()),
    }
}

/// Refuses application default credentials where there can't be any: nothing is configured, and a machine that isn't
/// Google's has no metadata server.
pub(super) fn may_have_tokens(lookup: impl Fn(&str) -> Option<OsString>, product_name: &Path) -> Result<(), String> {
    if lookup("GOOGLE_APPLICATION_CREDENTIALS").is_some() || lookup("GCE_METADATA_HOST").is_some() {
        return Ok(());
    }
    let well_known = |home: OsString| Path::new(&home).join(".config/gcloud/application_default_credentials.json");
    if lookup("HOME").map(well_known).is_some_and(|file| file.exists()) {
        return Ok(());
    }
    match firmware(product_name) {
        Firmware::Google | Firmware::Silent(_) => Ok(()),
        Firmware::Other(name) => Err(format!(
            "there are no Google credentials: this machine is a `{name}` and not on Google Cloud; run `gcloud auth \
             application-default login`, or set `GOOGLE_APPLICATION_CREDENTIALS` to the path of a key file (or \
             `GCE_METADATA_HOST`, where something else gives out tokens as the metadata server does)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_is_told_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("product_name");
        for (name, expected) in [
            ("Google Compute Engine\n", Firmware::Google),
            ("Google", Firmware::Google),
            ("Standard PC (Q35)\u{1b}[2J\n", Firmware::Other("Standard PC (Q35)\\u{1b}[2J".to_owned())),
        ] {
            std::fs::write(&file, name).unwrap();
            assert_eq!(firmware(&file), expected);
        }
        assert!(matches!(firmware(&directory.path().join("absent")), Firmware::Silent(why) if why.contains("absent")));
    }

    #[test]
    fn only_where_there_can_be_no_token_is_that_said_at_once() {
        let home = tempfile::tempdir().unwrap();
        let other = home.path().join("product_name");
        std::fs::write(&other, "Standard PC\n").unwrap();
        let google = home.path().join("google");
        std::fs::write(&google, "Google Compute Engine\n").unwrap();
        let ask = |set: &[&str], product_name: &Path| {
            let lookup = |key: &str| match key {
                "HOME" => Some(home.path().into()),
                key => set.contains(&key).then(|| OsString::from("x")),
            };
            may_have_tokens(lookup, product_name)
        };
        for (set, product_name) in [
            (&["GOOGLE_APPLICATION_CREDENTIALS"][..], &other),
            (&["GCE_METADATA_HOST"], &other),
            (&[], &google),
            (&[], &home.path().join("absent")),
        ] {
            assert_eq!(ask(set, product_name), Ok(()), "{set:?} {product_name:?}");
        }
        let refused = ask(&[], &other).unwrap_err();
        assert!(refused.contains("`Standard PC`") && refused.contains("gcloud auth"), "{refused}");
        std::fs::create_dir_all(home.path().join(".config/gcloud")).unwrap();
        std::fs::write(home.path().join(".config/gcloud/application_default_credentials.json"), "{}").unwrap();
        assert_eq!(ask(&[], &other), Ok(()));
    }
}
