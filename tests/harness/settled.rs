//! What is known of a server for pulld's checker, asked of the machine itself.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use bucket::{Bucket, OwnedUnit, ReleaseName, ServerDocument, ServerName, Status};
use pulld::checker::{Dpkg, Package, Record, Unit, check};
use tokio::runtime::Runtime;

use crate::Machine;

/// Longest time until the agent has nothing left to do.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until the rules of pulld's checker hold of a server that pulls from this bucket.
pub(crate) fn wait_until_settled(server: &Machine, bucket: &Bucket, runtime: &Runtime) -> Result<()> {
    let name: ServerName = server.name().parse()?;
    server.wait_until("what must hold of a server holds", PATIENCE, |server| {
        let (status, document) = runtime.block_on(async {
            // One that can't be read is what the report is about then.
            (bucket.status(&name).await, bucket.server_document(&name).await.ok().flatten())
        });
        let (_, status) = status?.context("it has not reported yet")?;
        check_rules(document.as_ref().map(|(_, document)| document), &status, server)?;
        Ok(Some(()))
    })
}

/// Stands between two answers.
const NEXT: char = '\u{1e}';

/// Every answer at once, so that they are of one moment: packages, what is wrong with them, when each was unpacked, units
/// (those that releases own, and those that run or have failed though their files are gone), and the agent's files. When a package was unpacked, the list of its files tells: dpkg writes that then.
const QUESTIONS: &str = r#"
dpkg-query -W -f '${Package}\t${db:Status-Abbrev}\t${Push-Release}\t${Push-Units}\n'; printf '\036'
dpkg --audit; printf '\036'
(cd /var/lib/dpkg/info && stat --format '%n %.6Y' *.list); printf '\036'
for unit in $(dpkg-query -W -f '${Push-Units} ' | tr ' ' '\n' | sed -n '/@\./d; s/=.*//p'
    systemctl list-units --all --state=not-found --plain --no-legend | sed -n '/ inactive /d; s/ .*//p'); do
    echo "Name=$unit"
    systemctl show --timestamp=us --property=ActiveState,LoadState,ExecMainStartTimestamp,MainPID "$unit" | while read -r line; do
        echo "$line"
        case $line in
            MainPID=0) ;;
            MainPID=*) echo "Program=$(readlink "/proc/${line#*=}/exe")" ;;
            ExecMainStartTimestamp=?*) echo "Started=$(date -d "${line#*=}" +%s.%6N)" ;;
        esac
    done
done; printf '\036'
cd /var/lib/pulld
cat transaction.json 2>/dev/null; printf '\036'
cat quarantine.json 2>/dev/null; printf '\036'
cat pauses.json 2>/dev/null
true
"#;

/// Sees that every rule holds of a server with that document, which has reported this.
fn check_rules(document: Option<&ServerDocument>, status: &Status, server: &Machine) -> Result<()> {
    let answers = server.sh(QUESTIONS)?;
    let answers: Vec<&str> = answers.split(NEXT).collect();
    let [packages, audit, unpacked, units, transaction, quarantine, pauses] = answers[..] else {
        anyhow::bail!("{} answers: {answers:?}", answers.len());
    };
    let times = times(unpacked);
    let packages = packages.lines().map(|line| package(line, &times)).collect::<Result<_>>()?;
    let dpkg = Dpkg { packages, audit: audit.trim().to_owned(), foreign: server.foreign_packages().to_vec() };
    let there = |content: &str| (!content.is_empty()).then(|| content.to_owned());
    let (quarantine, pauses) = (there(quarantine), there(pauses));
    let record = Record::parse(there(transaction), quarantine.as_deref(), pauses.as_deref())?;
    let violations = check(document, status, &dpkg, &self::units(units), &record);
    let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
    ensure!(violations.is_empty(), "these rules do not hold of `{}`:\n{}", server.name(), violations.join("\n"));
    Ok(())
}

fn package(line: &str, unpacked: &BTreeMap<&str, u64>) -> Result<Package> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [name, status, release, units] = columns[..] else { anyhow::bail!("not a package: {line:?}") };
    Ok(Package {
        name: name.to_owned(),
        status: status.trim_end().to_owned(),
        release: ReleaseName::from_stem(release).ok(),
        units: OwnedUnit::parse_all(units).with_context(|| format!("the units of `{name}`"))?,
        unpacked: unpacked.get(name).copied(),
    })
}

/// When each package was unpacked, by what `stat` says of `NAME.list` or `NAME:ARCHITECTURE.list`.
fn times(listing: &str) -> BTreeMap<&str, u64> {
    let files = listing.lines().filter_map(|line| line.split_once(' '));
    files
        .filter_map(|(file, time)| Some((file.split(':').next()?.trim_end_matches(".list"), microseconds(time)?)))
        .collect()
}

/// A time in seconds with six decimals.
fn microseconds(time: &str) -> Option<u64> {
    time.replace('.', "").parse().ok()
}

fn units(listing: &str) -> BTreeMap<String, Unit> {
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    let mut current = String::new();
    for (key, value) in listing.lines().filter_map(|line| line.split_once('=')) {
        if key == "Name" {
            value.clone_into(&mut current);
        }
        let unit = units.entry(current.clone()).or_insert_with(|| {
            let active = String::new();
            Unit { active, is_gone: false, started: None, program: None }
        });
        match key {
            "ActiveState" => value.clone_into(&mut unit.active),
            "LoadState" => unit.is_gone = value == "not-found",
            "Started" => unit.started = microseconds(value),
            "Program" if !value.is_empty() => unit.program = Some(value.to_owned()),
            _ => {}
        }
    }
    units
}
