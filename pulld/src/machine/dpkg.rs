//! dpkg, which knows what is installed (dpkg(1), dpkg-query(1)).
//!
//! Asking runs dpkg-query as a child. Changing runs dpkg in a systemd service of its own ([`super::runner`]):
//! a maintainer script may restart the agent, and dpkg must outlive that.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use bucket::ReleaseName;
use tokio::{
    io::AsyncReadExt,
    process::Command,
    sync::OnceCell,
    time::{Instant, timeout},
};

use super::{
    deb::parse_units,
    dpkg_request::{self, DpkgRequest, DpkgResult, TRANSACTION_UNIT},
    package_manager::{AvailablePackage, InstalledPackage, PackageManager, PackageState},
    systemd::{Systemd, Transient},
};

/// The longest a question may take; `--verify` reads every file of a package.
const ASK: Duration = Duration::from_mins(5);
/// Most bytes of an answer: some hundred thousand packages.
const MAX_RESPONSE: u64 = 64 << 20;
/// What the runner needs beyond the order's own limit to write the result, before systemd kills it.
const SLACK: Duration = Duration::from_mins(1);
/// How long an order that nothing is known of is waited for.
const UNKNOWN: Duration = Duration::from_mins(30);
/// How often an order is begun whose runner is killed.
const ATTEMPTS: u32 = 3;
/// Most changed files that are told of one package.
const CHANGED: usize = 20;

// Control fields are text: these two never occur in it, unlike tabs and newlines.
const FIELD: char = '\u{1f}';
const RECORD: char = '\u{1e}';

/// dpkg on this machine.
#[derive(Debug)]
pub(crate) struct Dpkg {
    systemd: Systemd,
    requests: PathBuf,
    architecture: OnceCell<String>,
}

impl Dpkg {
    /// dpkg, with orders in the directory `requests`.
    pub(crate) fn new(systemd: Systemd, requests: PathBuf) -> Self {
        Self { systemd, requests, architecture: OnceCell::new() }
    }

    /// The service that carries out an order.
    fn runner(&self, request: &DpkgRequest) -> Result<Transient> {
        let program = own_program()?.display().to_string();
        Ok(Transient {
            unit: TRANSACTION_UNIT,
            description: "Install what pulld verified",
            command: vec![program, "transact".to_owned(), self.requests.display().to_string()],
            limit: request.timeout + SLACK,
            output: None,
            unhurried: true,
        })
    }

    /// Reads the result of an order that has ended, and forgets it.
    fn take_result(&self) -> Result<Option<DpkgResult>> {
        let result = dpkg_request::load_result(&self.requests)?;
        dpkg_request::forget(&self.requests)?;
        Ok(result)
    }
}

impl PackageManager for Dpkg {
    async fn packages(&self, also: &[String]) -> Result<Vec<InstalledPackage>> {
        let format = ["Package", "Version", "db:Status-Abbrev", "Push-Release", "Push-Units"]
            .map(|field| format!("${{{field}}}"))
            .join(&FIELD.to_string());
        let listing = query("dpkg-query", &["-W", "-f", &format!("{format}{RECORD}")]).await?;
        Ok(parse_packages(&listing, also))
    }

    async fn architecture(&self) -> Result<String> {
        let query = || async { Ok(query("dpkg", &["--print-architecture"]).await?.trim().to_owned()) };
        self.architecture.get_or_try_init(query).await.cloned()
    }

    async fn available(&self) -> Result<Vec<AvailablePackage>> {
        let format = format!("${{Package}}{FIELD}${{Version}}{FIELD}${{db:Status-Abbrev}}{FIELD}${{Provides}}{RECORD}");
        Ok(parse_available(&query("dpkg-query", &["-W", "-f", &format]).await?))
    }

    async fn changed_files(&self, package: &str) -> Result<Vec<String>> {
        // It exits with 1 when something differs, which is what is asked.
        let listing = run("dpkg", &["--verify", "--", package]).await?.0;
        Ok(parse_verify(&listing))
    }

    async fn execute(&self, request: &DpkgRequest) -> Result<DpkgResult> {
        let deadline = Instant::now() + request.timeout;
        let mut request = request.clone();
        for _ in 0..ATTEMPTS {
            // Before the order is written: an earlier runner that is still at work writes its result there.
            self.systemd.wait_inactive(TRANSACTION_UNIT, deadline + SLACK).await?;
            dpkg_request::forget(&self.requests)?;
            dpkg_request::save_request(&self.requests, &request)?;
            let ran = self.systemd.run(&self.runner(&request)?).await;
            if let Some(result) = self.take_result()? {
                return Ok(result);
            }
            ran?;
            // The runner itself was killed, by a person or by the kernel: no fault of the packages.
            request.timeout = deadline.saturating_duration_since(Instant::now());
            if request.timeout.is_zero() {
                break;
            }
        }
        let why =
            format!("`{TRANSACTION_UNIT}` ended without a result; `journalctl -u {TRANSACTION_UNIT}` may say why");
        Ok(DpkgResult::failed(why))
    }

    async fn resume(&self) -> Result<Option<DpkgResult>> {
        // An order that can't be understood, another version's perhaps, is no reason never to get on.
        let request = dpkg_request::load_request(&self.requests).ok().flatten();
        let limit = request.map_or(UNKNOWN, |request| request.timeout) + SLACK;
        self.systemd.wait_inactive(TRANSACTION_UNIT, Instant::now() + limit).await?;
        self.take_result()
    }
}

/// The program that this process runs. An update has put another file in its place by now, perhaps: then that one.
fn own_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("could not find pulld's own program")?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// Runs a question to its end; an exit status other than 0 is an error with what was said.
async fn query(program: &str, arguments: &[&str]) -> Result<String> {
    let (response, good, said) = run(program, arguments).await?;
    if !good {
        bail!("`{program}` failed: {}", said.trim().escape_debug());
    }
    Ok(response)
}

/// What a program printed, whether it exited with 0, and what it complained of.
async fn run(program: &str, arguments: &[&str]) -> Result<(String, bool, String)> {
    let answered = async {
        let mut child = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not run `{program}`"))?;
        let (mut response, mut said) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = (stdout.context("no pipe")?, stderr.context("no pipe")?);
        let (mut stdout, mut stderr) = (stdout.take(MAX_RESPONSE), stderr.take(64 << 10));
        let (read, complained) = tokio::join!(stdout.read_to_end(&mut response), stderr.read_to_end(&mut said));
        read.and(complained).with_context(|| format!("could not read what `{program}` says"))?;
        let status = child.wait().await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((text(response), status.success(), text(said)))
    };
    timeout(ASK, answered).await.with_context(|| format!("`{program}` took longer than {ASK:?}"))?
}

fn records(listing: &str) -> impl Iterator<Item = Vec<&str>> {
    listing.split(RECORD).filter(|record| !record.is_empty()).map(|record| record.split(FIELD).collect())
}

fn parse_packages(listing: &str, also: &[String]) -> Vec<InstalledPackage> {
    let mut packages: BTreeMap<&str, InstalledPackage> = BTreeMap::new();
    for record in records(listing) {
        let [package, version, status, release, units] = record[..] else { continue };
        let release = ReleaseName::from_stem(release.trim()).ok();
        if release.is_none() && !also.iter().any(|name| name == package) {
            continue;
        }
        let units = parse_units(units).unwrap_or_default();
        let found = InstalledPackage {
            package: package.to_owned(),
            version: version.to_owned(),
            state: state(status),
            release,
            units,
        };
        // Of several architectures the one that is there counts.
        let known = packages.entry(package).or_insert_with(|| found.clone());
        if known.state == PackageState::Absent {
            *known = found;
        }
    }
    packages.into_values().collect()
}

fn parse_available(listing: &str) -> Vec<AvailablePackage> {
    let installed = records(listing).filter_map(|record| match record[..] {
        [package, version, status, provides] if state(status) == PackageState::Installed => Some(AvailablePackage {
            package: package.to_owned(),
            version: version.to_owned(),
            provides: provides.to_owned(),
        }),
        _ => None,
    });
    installed.collect()
}

/// dpkg-query(1), `db:Status-Abbrev`: what is wanted, what is, and whether it must be installed again.
fn state(abbreviation: &str) -> PackageState {
    let mut letters = abbreviation.chars();
    let (_wanted, is, error) = (letters.next(), letters.next(), letters.next().unwrap_or(' '));
    match (is, error) {
        (Some('i'), ' ') => PackageState::Installed,
        (Some('n' | 'c'), ' ') | (None, _) => PackageState::Absent,
        _ => PackageState::Broken(abbreviation.trim().to_owned()),
    }
}

/// dpkg(1), `--verify`: `??5?????? c /etc/x`; a `c` marks a conffile, which people are meant to change.
fn parse_verify(listing: &str) -> Vec<String> {
    let changed = listing.lines().filter_map(|line| {
        let (flags, rest) = line.split_once(' ')?;
        let rest = rest.trim_start();
        let (attribute, path) = rest.split_once(' ').unwrap_or(("", rest));
        let (attribute, path) = if attribute.len() == 1 { (attribute, path.trim_start()) } else { ("", rest) };
        let known = flags == "missing" || flags.len() == 9;
        (known && attribute != "c" && path.starts_with('/')).then(|| {
            let what = if flags == "missing" { "missing" } else { "changed" };
            format!("{} {what}", path.escape_debug())
        })
    });
    changed.take(CHANGED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEM: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";

    fn listing(records: &[[&str; 5]]) -> String {
        records.iter().map(|record| record.join(&FIELD.to_string()) + &RECORD.to_string()).collect()
    }

    #[test]
    fn only_our_packages_and_those_asked_for_are_told() {
        let listing = listing(&[
            ["bash", "5.2", "ii ", "", ""],
            ["web", "0+1", "ii ", STEM, "web.service=restart"],
            ["nginx", "1.22", "hi ", "", ""],
            ["api", "0+2", "iHR", STEM, ""],
            ["old", "", "rc ", STEM, ""],
        ]);
        let found: Vec<_> = parse_packages(&listing, &["nginx".to_owned()])
            .into_iter()
            .map(|found| (found.package, found.state))
            .collect();
        let broken = PackageState::Broken("iHR".to_owned());
        let want = [
            ("api", broken),
            ("nginx", PackageState::Installed),
            ("old", PackageState::Absent),
            ("web", PackageState::Installed),
        ];
        assert_eq!(found, want.map(|(name, state)| (name.to_owned(), state)));
    }

    #[test]
    fn states_are_read_as_dpkg_writes_them() {
        for (text, want) in [
            ("ii ", PackageState::Installed),
            ("hi ", PackageState::Installed),
            ("ri ", PackageState::Installed),
            ("rc ", PackageState::Absent),
            ("un ", PackageState::Absent),
            ("", PackageState::Absent),
            ("iU ", PackageState::Broken("iU".into())),
            ("iF ", PackageState::Broken("iF".into())),
            ("iHR", PackageState::Broken("iHR".into())),
            ("it ", PackageState::Broken("it".into())),
        ] {
            assert_eq!(state(text), want, "{text}");
        }
    }

    #[test]
    fn a_changed_conffile_is_not_drift() {
        let listing =
            "??5?????? c /etc/web.conf\n??5??????   /usr/bin/web\nmissing     /usr/share/web/a b\nmissing   c /etc/x\n";
        assert_eq!(parse_verify(listing), ["/usr/bin/web changed", "/usr/share/web/a b missing"]);
    }
}
