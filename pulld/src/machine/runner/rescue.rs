//! The rescue: restores the pulld that was installed before a new one that has not passed its health gate.
//!
//! Started by [`super::super::guard`]'s timer as `pulld rescue`, from a copy of the program that armed it: nothing here
//! needs the new one, its package or its units. It may be interrupted at any moment and begins again, at the next boot
//! at the latest. It waits for the dpkg lock as long as it takes, and never ends a dpkg that somebody else runs.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bucket::Timestamp;
use console::duration::show;

use crate::{
    failure::DpkgEnd,
    service::events,
    state::{
        checksum::hash_file,
        rescue::{Armed, Rescue},
    },
};

use super::{
    super::{
        baseline,
        dpkg_request::DpkgRequest,
        guard::{Guard, systemctl},
        package_changes::PackageChange,
        package_manager::OWN_PACKAGE,
        service_manager::OWN_UNIT,
    },
    Before, JournalStream,
    listing::all_packages,
    lock::lock,
    run_dpkg,
    writable::ensure_writable,
};

/// How long one attempt waits for the dpkg lock. The service is started again for the next one.
const LOCK_TIMEOUT: Duration = Duration::from_mins(10);

/// Whose baseline it is that lies beside the rescue's other files.
const NAME: &str = "rescue";

/// Time limit for dpkg and the maintainer scripts of pulld.
const DPKG_TIMEOUT: Duration = Duration::from_mins(10);

/// Restores the previous pulld if the rescue in `directory` is armed; otherwise removes what was left of it.
///
/// # Errors
/// What keeps it from that. systemd starts it again.
pub(crate) fn run(directory: &Path, journal: JournalStream) -> Result<()> {
    let rescue = Rescue::new(directory.to_owned());
    if !rescue.is_armed() {
        return Guard::of_this_machine().remove(&rescue);
    }
    let _lock = between_fail_points!(lock(Instant::now() + LOCK_TIMEOUT), "rescue.lock")?;
    // Whatever comes of it, and whatever an attempt before left stopped: a server without pulld is reached by nothing.
    let ended = put_right(&rescue, journal);
    if !matches!(ended, Ok(Ended::AsItWas | Ended::Unable(_)))
        && let Err(error) = systemctl(&["daemon-reload"])
    {
        tracing::warn!("{error:#}");
    }
    let command = if matches!(ended, Ok(Ended::Restored)) { "restart" } else { "start" };
    let started = systemctl(&[command, "--no-block", OWN_UNIT]);
    match ended {
        Ok(Ended::Unable(why)) => Err(why),
        ended => ended.and(started),
    }
}

/// How an attempt ended.
enum Ended {
    /// With the pulld that it found, which may run.
    AsItWas,
    /// With the previous pulld, which does not run yet.
    Restored,
    /// With the pulld that it found, because it has nothing to restore it from: that may run.
    Unable(anyhow::Error),
}

/// Restores the previous pulld, unless it is installed or the new one has passed its health gate by now.
fn put_right(rescue: &Rescue, journal: JournalStream) -> Result<Ended> {
    let called_off = || Guard::of_this_machine().remove(rescue).map(|()| Ended::AsItWas);
    let Some(armed) = rescue.armed()? else { return called_off() };
    if is_restored(&armed)? {
        tracing::info!(message_id = events::SELF_UPDATE, "the previous pulld is installed; nothing to restore");
        // The run of a rescue that was interrupted then.
        if let Some(before) = baseline::load(&rescue.baseline(), NAME) {
            match all_packages() {
                Ok(now) => {
                    note_unplanned(rescue, &before.changes(&now, &now, &planned()));
                }
                Err(error) => tracing::warn!("could not see what else dpkg changed: {error:#}"),
            }
        }
        return Ok(Ended::AsItWas);
    }
    if let Err(why) = ensure_able(rescue, &armed, ensure_writable) {
        // Its package goes when the new pulld passes its health gate.
        return if rescue.is_armed() { Ok(Ended::Unable(why)) } else { called_off() };
    }
    let was = state_of_agent();
    // A new pulld that hangs need not answer. Where the package has no unit any more, there is none to stop.
    for command in [&["stop", "--no-block", OWN_UNIT][..], &["kill", "--signal=KILL", OWN_UNIT]] {
        if let Err(error) = systemctl(command) {
            tracing::debug!("{error:#}");
        }
    }
    if !rescue.is_armed() {
        // It passed its health gate in this very moment.
        return called_off();
    }
    restore(rescue, &armed, &was, journal)?;
    Ok(Ended::Restored)
}

/// Makes sure, before anything is stopped, that there is something to restore, and that dpkg can write where that goes.
/// Otherwise whatever runs is left alone, and people are told, once: in the journal, and by what is left in the rescue's
/// place.
fn ensure_able(rescue: &Rescue, armed: &Armed, can_write: impl Fn(&DpkgRequest) -> Result<()>) -> Result<()> {
    let deb = rescue.deb();
    let by_hand = ": install pulld by hand (`dpkg --install`)";
    let wrong = match (hash_file(&deb), &armed.sha256) {
        (Err(error), _) => Some((format!("{error:#}"), by_hand)),
        (Ok(actual), Some(sha256)) if actual != *sha256 => {
            Some((format!("`{}` has the sha256 `{actual}`, expected `{sha256}`", deb.display()), by_hand))
        }
        (Ok(_), _) => {
            can_write(&request(rescue)).err().map(|error| (format!("{error:#}"), ", and the rescue tries again"))
        }
    };
    let sentence = wrong.map(|(wrong, to_do)| {
        format!(
            "the new pulld has not passed its health gate, and the previous one cannot be restored: {wrong}; what runs is \
             left alone{to_do}"
        )
    });
    if !rescue.is_noted(sentence.as_deref()) {
        if let Some(sentence) = &sentence {
            tracing::error!(message_id = events::SELF_UPDATE, "{sentence}");
        }
        if let Err(error) = rescue.note_unable(sentence.as_deref()) {
            tracing::warn!("`pulld status` will not say whether the previous pulld can be restored: {error:#}");
        }
    }
    ensure!(sentence.is_none(), "the previous pulld can still not be restored");
    Ok(())
}

/// The dpkg run that restores the previous pulld.
fn request(rescue: &Rescue) -> DpkgRequest {
    DpkgRequest { install: vec![rescue.deb()], timeout: DPKG_TIMEOUT, planned: planned(), ..DpkgRequest::default() }
}

/// Has dpkg install the previous pulld. That it does is noted before, so that whichever pulld runs next knows.
fn restore(rescue: &Rescue, armed: &Armed, was: &str, journal: JournalStream) -> Result<()> {
    let sentence = format!(
        "{}: the new pulld had not passed its health gate {} after its installation ({was})",
        Timestamp::now(),
        show(armed.within)
    );
    tracing::warn!(message_id = events::SELF_UPDATE, "restoring the previous pulld: {sentence}");
    if let Err(error) = rescue.note(&sentence) {
        tracing::warn!("the restored pulld will not know why it was: {error:#}");
    }
    let before = Before::begin(all_packages(), &rescue.baseline(), Some(NAME));
    let request = request(rescue);
    let result = run_dpkg(&request, &before, journal, Instant::now() + request.timeout);
    // What others change from now on is not blamed on the next attempt.
    if let Some(changes) = &result.changes
        && note_unplanned(rescue, changes)
        && let Err(error) = baseline::end(&rescue.baseline(), NAME, changes)
    {
        tracing::warn!("{error:#}");
    }
    let is_done = result.end == DpkgEnd::Exited(0) && (armed.previous.is_none() || is_restored(armed)?);
    let how = match &result.end {
        DpkgEnd::Exited(status) => format!("dpkg exited with {status}, after what it printed above"),
        DpkgEnd::Failed(reason) => reason.clone(),
    };
    ensure!(is_done, "could not restore the previous pulld, will retry: {how}");
    tracing::info!(message_id = events::SELF_UPDATE, "restored the previous pulld");
    Ok(())
}

/// The packages that the rescue is about.
fn planned() -> Vec<String> {
    vec![OWN_PACKAGE.to_owned()]
}

/// Leaves word for the restored pulld of what else changed, instead of what an attempt before this one saw. Says whether that
/// worked.
fn note_unplanned(rescue: &Rescue, changes: &[PackageChange]) -> bool {
    let clauses: Vec<String> = changes.iter().map(PackageChange::to_string).collect();
    let noted = rescue.note_unplanned(&clauses.join(", "));
    noted
        .inspect_err(|error| tracing::warn!("the restored pulld will not know what else dpkg changed: {error:#}"))
        .is_ok()
}

/// Whether dpkg has the release that would be restored.
fn is_restored(armed: &Armed) -> Result<bool> {
    let Some(previous) = &armed.previous else { return Ok(false) };
    let format = "-f=${db:Status-Abbrev}${Push-Release}";
    let listing = output("dpkg-query", &["--show", format, "--", OWN_PACKAGE])?;
    // dpkg-query(1): what is wanted of it, what it is, and what is wrong with it.
    Ok(listing.get(1..).is_some_and(|is| is.strip_prefix("i ") == Some(previous.stem())))
}

/// How the new pulld was when its time had passed, for people.
fn state_of_agent() -> String {
    let properties = "--property=ActiveState,SubState,Result,NRestarts";
    let listing = output("systemctl", &["show", properties, OWN_UNIT]).unwrap_or_default();
    let get = |name: &str| listing.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or("?");
    let (state, sub, result) = (get("ActiveState"), get("SubState"), get("Result"));
    format!("`{OWN_UNIT}` was {state} ({sub}), with the result {result} and {} restarts", get("NRestarts"))
}

/// What a program prints.
fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("could not run `{program}`"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_damaged_or_gone_is_told_until_it_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let (cached, rescue) = (directory.path().join("cached"), Rescue::new(directory.path().join("rescue")));
        std::fs::write(&cached, "the previous pulld").unwrap();
        let armed = Armed { sha256: hash_file(&cached).ok(), ..Armed::default() };
        rescue.arm(&armed, &cached).unwrap();
        assert!(ensure_able(&rescue, &armed, |_| Ok(())).is_ok() && rescue.unable().is_none());
        for damage in [Some("another"), None] {
            std::fs::remove_file(rescue.deb()).unwrap();
            if let Some(content) = damage {
                std::fs::write(rescue.deb(), content).unwrap();
            }
            assert!(ensure_able(&rescue, &armed, |_| Ok(())).is_err());
            let told = rescue.unable().unwrap();
            assert!(told.contains("cannot be restored") && told.contains("pulld.deb"), "{told}");
            std::fs::copy(&cached, rescue.deb()).unwrap();
            assert!(ensure_able(&rescue, &armed, |_| Ok(())).is_ok() && rescue.unable().is_none());
        }
        std::fs::remove_file(rescue.deb()).unwrap();
        assert!(ensure_able(&rescue, &armed, |_| Ok(())).is_err());
        rescue.disarm().unwrap();
        assert!(rescue.unable().is_none(), "the new pulld is well");
    }

    #[test]
    fn where_dpkg_cannot_write_nothing_is_begun_and_that_is_told_until_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let (cached, rescue) = (directory.path().join("cached"), Rescue::new(directory.path().join("rescue")));
        std::fs::write(&cached, "the previous pulld").unwrap();
        let armed = Armed { sha256: hash_file(&cached).ok(), ..Armed::default() };
        rescue.arm(&armed, &cached).unwrap();
        let is_read_only = |request: &DpkgRequest| {
            assert_eq!(request.install, [rescue.deb()]);
            anyhow::bail!("dpkg was not run: `/usr` is a read-only file system")
        };
        assert!(ensure_able(&rescue, &armed, is_read_only).is_err());
        let quoted = Some("the disk says \"no\"");
        rescue.note_unable(quoted).unwrap();
        assert!(rescue.is_noted(quoted) && !rescue.is_noted(None), "it is told once, whatever is in it");
        assert!(ensure_able(&rescue, &armed, is_read_only).is_err());
        let told = rescue.unable().unwrap();
        assert!(
            told.contains("`/usr` is a read-only file system; what runs is left alone, and the rescue tries"),
            "{told}"
        );
        assert!(ensure_able(&rescue, &armed, |_| Ok(())).is_ok() && rescue.unable().is_none());
    }

    #[test]
    fn what_an_attempt_before_saw_is_told_no_more_when_it_was_repaired() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rescue");
        let rescue = Rescue::new(path.clone());
        let change =
            PackageChange { package: "nginx".to_owned(), before: Some("1".to_owned()), after: None, since: None };
        std::fs::write(&path, "what can't be written keeps nothing from going on").unwrap();
        assert!(!note_unplanned(&rescue, std::slice::from_ref(&change)));
        std::fs::remove_file(&path).unwrap();
        assert!(note_unplanned(&rescue, &[change]));
        assert_eq!(rescue.unplanned().unwrap().unwrap(), "`nginx` 1 was removed");
        assert!(note_unplanned(&rescue, &[]));
        assert_eq!(rescue.unplanned().unwrap(), None);
    }
}
