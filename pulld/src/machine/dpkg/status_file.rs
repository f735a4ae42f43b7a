//! dpkg's main file, `/var/lib/dpkg/status` (dpkg(1), "FILES"), read without a process: right before and right after a run
//! of dpkg, whose start and end it would delay.
//!
//! It has all that dpkg knows once that has ended in good order. Else there is something in its journal beside it, and
//! dpkg-query(1), which knows how to read that, has to be asked.

use std::{fs, path::Path};

use bucket::Control;

use super::super::{package_changes::AllPackages, package_state::PackageState};

/// Every package of the database in that directory, named as dpkg-query's `${binary:Package}` does; `None` when dpkg-query
/// has to be asked.
pub(in crate::machine) fn all_packages(directory: &Path) -> Option<AllPackages> {
    if fs::read_dir(directory.join("updates")).ok()?.next().is_some() {
        return None;
    }
    parse(&String::from_utf8_lossy(&fs::read(directory.join("status")).ok()?))
}

/// `None` when there is anything that dpkg would not write.
fn parse(text: &str) -> Option<AllPackages> {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.trim_matches('\n')).filter(|text| !text.is_empty());
    let paragraphs = paragraphs.map(|paragraph| Control::parse(format!("{paragraph}\n").as_bytes()).ok());
    let paragraphs: Vec<Control> = paragraphs.collect::<Option<_>>()?;
    // dpkg's own package is of the machine's architecture.
    let native = paragraphs.iter().find(|paragraph| paragraph.get("Package") == Some("dpkg"))?.get("Architecture")?;
    let mut packages = AllPackages::new();
    for paragraph in &paragraphs {
        let (package, letters) = (paragraph.get("Package")?, letters(paragraph.get("Status")?)?);
        if letters.chars().nth(1) == Some('n') {
            continue;
        }
        let is_qualified = |architecture: &&str| {
            paragraph.get("Multi-Arch") == Some("same") || ![native, "all"].contains(architecture)
        };
        let name = match paragraph.get("Architecture").filter(is_qualified) {
            Some(architecture) => format!("{package}:{architecture}"),
            None => package.to_owned(),
        };
        let version = paragraph.get("Version").unwrap_or_default().to_owned();
        packages.insert(name, (version, PackageState::parse(&letters)));
    }
    Some(packages)
}

/// What dpkg-query(1) calls `db:Status-Abbrev`: a letter each for what is wanted, for the state, and for an error.
fn letters(status: &str) -> Option<String> {
    let [want, error, state] = status.split(' ').collect::<Vec<_>>()[..] else { return None };
    let want = match want {
        "unknown" => 'u',
        "install" => 'i',
        "hold" => 'h',
        "deinstall" => 'r',
        "purge" => 'p',
        _ => return None,
    };
    let state = match state {
        "not-installed" => 'n',
        "config-files" => 'c',
        "half-installed" => 'H',
        "unpacked" => 'U',
        "half-configured" => 'F',
        "triggers-awaited" => 'W',
        "triggers-pending" => 't',
        "installed" => 'i',
        _ => return None,
    };
    let error = match error {
        "ok" => ' ',
        "reinstreq" => 'R',
        _ => return None,
    };
    Some([want, state, error].iter().collect())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{
        super::{
            database::DIRECTORY,
            parse::{ALL_PACKAGES, parse_all_packages},
        },
        *,
    };

    /// What dpkg-query says of the database in that directory.
    fn by_query(directory: &Path) -> AllPackages {
        let mut query = Command::new("dpkg-query");
        query.arg(format!("--admindir={}", directory.display())).args(["--show", "--showformat", ALL_PACKAGES]);
        let output = query.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        parse_all_packages(&String::from_utf8_lossy(&output.stdout))
    }

    #[test]
    fn it_says_what_dpkg_query_says_of_this_machine() {
        let directory = Path::new(DIRECTORY);
        let read = all_packages(directory).expect("no dpkg runs here");
        assert!(read.len() > 50);
        assert_eq!(read, by_query(directory));
    }

    #[test]
    fn it_says_what_dpkg_query_says_of_every_state_and_of_other_architectures() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("updates")).unwrap();
        let mut text = String::new();
        let mut add = |package: &str, status: &str, architecture: &str, more: &str| {
            text.extend([format!(
                "Package: {package}\nStatus: {status}\nMaintainer: A <a@example.com>\nArchitecture: {architecture}\n{more}\
                 Version: 1:2-3\nDescription: x\n Status: no field\n\n"
            )]);
        };
        let native = Command::new("dpkg").arg("--print-architecture").output().unwrap();
        let native = String::from_utf8(native.stdout).unwrap();
        let native = native.trim();
        add("dpkg", "install ok installed", native, "");
        add("tzdata", "hold ok installed", "all", "Multi-Arch: foreign\n");
        add("libc6", "install ok installed", native, "Multi-Arch: same\n");
        add("libc6", "install ok installed", "i386", "Multi-Arch: same\n");
        add("wine", "deinstall ok config-files", "i386", "");
        add("gone", "purge ok not-installed", native, "");
        for (package, state) in [
            ("a", "reinstreq half-installed"),
            ("b", "ok unpacked"),
            ("c", "ok half-configured"),
            ("d", "ok triggers-awaited"),
            ("e", "ok triggers-pending"),
        ] {
            let more = match state {
                "ok triggers-awaited" => "Triggers-Awaited: e\n",
                "ok triggers-pending" => "Triggers-Pending: /usr/x\n",
                "ok half-configured" => "Config-Version: 1:2-3\n",
                _ => "",
            };
            add(package, &format!("install {state}"), native, more);
        }
        std::fs::write(directory.path().join("status"), text).unwrap();
        let read = all_packages(directory.path()).unwrap();
        assert_eq!(read, by_query(directory.path()));
        assert_eq!(read.len(), 10);
    }

    #[test]
    fn what_dpkg_has_not_put_in_order_is_left_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let good = "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
        std::fs::create_dir(directory.path().join("updates")).unwrap();
        assert_eq!(all_packages(directory.path()), None);
        for (status, is_read) in [(good, true), ("", false), ("Package: dpkg\nStatus: install ok fine\n", false)] {
            std::fs::write(directory.path().join("status"), status).unwrap();
            assert_eq!(all_packages(directory.path()).is_some(), is_read, "{status}");
        }
        std::fs::write(directory.path().join("status"), good).unwrap();
        std::fs::write(directory.path().join("updates/0000"), good).unwrap();
        assert_eq!(all_packages(directory.path()), None);
    }
}
