//! The runner: carries out one dpkg request, in a systemd service of its own.
//!
//! Started by the agent ([`super::dpkg::Dpkg`]) as `pulld transact`, perhaps before there is a request, and needing nobody
//! once there is: the agent may be restarted or killed meanwhile, and reads the result when it is back. What the runner
//! leaves half-done when it is killed itself, the next run repairs: half-installed packages need installing again,
//! `dpkg --configure -a` alone does not repair them.

mod listing;
mod lock;
mod output;
mod process;
pub(crate) mod rescue;
mod unpacked;
mod validate;
mod writable;

use std::{
    io::{BufRead, Write},
    path::Path,
    thread::JoinHandle,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{failure::DpkgEnd, state::rescue::Rescue};

pub(crate) use self::output::JournalStream;

use self::{
    listing::{Listing, all_packages, is_something_half_done},
    lock::{LockedOut, lock},
    output::Output,
    process::{Ended, dpkg},
    unpacked::Unpacked,
    validate::{Foreseen, ensure_verified, validate},
    writable::ensure_writable,
};

use super::{
    baseline::{self, Baseline},
    dpkg_request::{DpkgRequest, DpkgResult, baseline_file, load_request, save_result},
    guard::{Guard, systemctl},
    package_changes::{AllPackages, is_named},
    package_state::PackageState,
    service_manager::OWN_UNIT,
};

/// How often dpkg is run when something kills it.
const ATTEMPTS: u32 = 3;

/// Waits for the end of `input`, and carries out the request that is in `directory` then. It may install packages of the cache
/// beside it; `input` names some of them before, one in a line. What dpkg and its scripts print goes to `journal`.
pub(crate) fn run(directory: &Path, input: impl BufRead, mut journal: JournalStream) -> Result<()> {
    let cache = &directory.with_file_name("cache");
    fail_point!("runner.stand_by");
    // What takes time and doesn't depend on the request.
    let listing = std::thread::spawn(Listing::read);
    let foreseen = Foreseen::until_end(input, cache).context("could not wait for the request")?;
    let Some(request) = load_request(directory)? else {
        writeln!(journal, "no dpkg request came, and nothing was done")?;
        return Ok(());
    };
    let result = match validate(&request, cache) {
        Ok(()) => carry_out(&request, listing, &foreseen, directory, journal),
        Err(error) => DpkgResult::failed(format!("{error:#}")),
    };
    let succeeded = result.end == DpkgEnd::Exited(0);
    save_result(directory, result)?;
    if request.restart_agent && succeeded {
        restart_agent()?;
    }
    Ok(())
}

/// Takes dpkg's lock and carries out the request in `directory`. The rescue guards a new pulld before dpkg installs it, and
/// its time begins when that is done, before the lock is free for the rescue.
fn carry_out(
    request: &DpkgRequest,
    listing: JoinHandle<Listing>,
    foreseen: &Foreseen,
    directory: &Path,
    journal: JournalStream,
) -> DpkgResult {
    let (rescue, guard) = (&Rescue::new(directory.with_file_name("rescue")), Guard::of_this_machine());
    let deadline = Instant::now() + request.timeout;
    let prepare = || {
        let lock = between_fail_points!(lock(deadline), "runner.lock")?;
        let armed = if request.restart_agent { rescue.armed()? } else { None };
        if let Some(armed) = &armed {
            guard.arm(rescue, armed).context("could not arm the rescue of pulld")?;
        }
        Ok::<_, anyhow::Error>((lock, armed.is_some()))
    };
    let (_lock, is_guarded) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) if error.is::<LockedOut>() => return DpkgResult::locked_out(format!("{error:#}")),
        Err(error) => return DpkgResult::failed(format!("{error:#}")),
    };
    let (checked, before) = std::thread::scope(|scope| {
        let before = scope.spawn(|| {
            // Whatever went wrong with it, the packages are listed again.
            let listing = listing.join().unwrap_or_default();
            Before::begin(listing.now(), &baseline_file(directory), request.transaction.as_deref())
        });
        let verified = scope.spawn(|| ensure_verified(request, foreseen));
        let writable = ensure_writable(request);
        let verified = verified.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let checked = writable.and(verified);
        (checked, before.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    if let Err(error) = checked {
        return DpkgResult::failed(format!("{error:#}"));
    }
    let result = run_dpkg(request, &before, journal, deadline);
    // If its time has passed meanwhile, the rescue waits for the lock, and is called off.
    if is_guarded && let Err(error) = guard.begin() {
        tracing::warn!("{error:#}");
    }
    result
}

/// What dpkg has before a run.
struct Before {
    /// What the changes are compared with: what there was before an earlier run, if that one's changes were not noted; and
    /// what there is. `None` when dpkg's packages can't be listed.
    listed: Option<(Baseline, AllPackages)>,
    /// Whether an interrupted run has left something to repair.
    half_done: bool,
}

impl Before {
    /// Takes what there is, and has it in the file of the baseline, unless that has an earlier one of the same name. That
    /// it can't be listed keeps no release from being restored.
    fn begin(now: Result<AllPackages>, file: &Path, of: Option<&str>) -> Self {
        match now {
            Ok(now) => {
                let half_done = is_something_half_done(&now);
                Self { listed: Some((baseline::begin(file, of, &now), now)), half_done }
            }
            Err(error) => {
                tracing::warn!("will not see what else dpkg changes: {error:#}");
                Self { listed: None, half_done: false }
            }
        }
    }
}

/// Runs the commands of a request, with what they print in the journal and in the result, and with what they changed.
fn run_dpkg(request: &DpkgRequest, before: &Before, journal: JournalStream, deadline: Instant) -> DpkgResult {
    let (output, unpacked) = (Output::to_journal(journal), Unpacked::default());
    let end = run_to_its_end(request, before.half_done, &output, &unpacked, deadline);
    let end = end.unwrap_or_else(|error| DpkgEnd::Failed(format!("{error:#}")));
    let changes = before.listed.as_ref().and_then(|(baseline, began)| match all_packages() {
        Ok(after) => Some(baseline.changes(began, &after, &request.planned)),
        Err(error) => {
            tracing::warn!("could not see what else dpkg changed: {error:#}");
            None
        }
    });
    DpkgResult { end, output: output.finish(), unpacked: unpacked.moments(), changes, is_locked_out: false }
}

/// Runs the commands of a request, again when something kills dpkg: the packages didn't cause that.
fn run_to_its_end(
    request: &DpkgRequest,
    mut half_done: bool,
    output: &Output,
    unpacked: &Unpacked,
    deadline: Instant,
) -> Result<DpkgEnd> {
    let mut failure = String::new();
    for _ in 0..ATTEMPTS {
        match attempt(request, half_done, output, unpacked, deadline)? {
            Ended::Exited(status) => return Ok(DpkgEnd::Exited(status)),
            Ended::Killed(status) => failure = format!("dpkg was killed {ATTEMPTS} times: {status}"),
        }
        half_done = true;
    }
    Ok(DpkgEnd::Failed(failure))
}

/// Runs the commands of a request, and repairs what an interrupted run has left `half_done`: a package of this very request
/// that fails is for the agent to judge, not to repair.
fn attempt(
    request: &DpkgRequest,
    half_done: bool,
    output: &Output,
    unpacked: &Unpacked,
    deadline: Instant,
) -> Result<Ended> {
    let mut exit = 0;
    for arguments in [removal as fn(&DpkgRequest) -> _, installation] {
        let Some(arguments) = arguments(request) else { continue };
        match dpkg(&arguments, output, unpacked, deadline)? {
            Ended::Exited(status) => exit = exit.max(status),
            killed @ Ended::Killed(_) => return Ok(killed),
        }
    }
    // Not before: it may be a script of the very package that the request replaces that hangs or fails. Best effort:
    // what counts is whether ours was installed.
    if half_done && all_packages().is_ok_and(|packages| is_something_half_done(&packages)) {
        let arguments = words(&["--configure", "-a", "--force-confdef", "--force-confold"]);
        let _ = dpkg(&arguments, output, unpacked, deadline);
    }
    Ok(Ended::Exited(exit))
}

/// The arguments of the dpkg command that removes, which comes first.
fn removal(request: &DpkgRequest) -> Option<Vec<String>> {
    // dpkg wants a package whose unpacking was interrupted installed again before it removes it. Of a first install there is
    // nothing sound to install.
    let options = words(&["--remove", "--force-remove-reinstreq", "--"]);
    (!request.remove.is_empty()).then(|| [options, request.remove.clone()].concat())
}

/// The arguments of the dpkg command that installs, among it what is to be restored because another package is gone.
fn installation(request: &DpkgRequest) -> Option<Vec<String>> {
    let mut debs = request.install.clone();
    if !request.restore.is_empty() {
        // Where they can't be listed, all are taken for gone: to install a sound release again does no harm.
        let all = all_packages().unwrap_or_default();
        let is_gone =
            |package: &str| !all.iter().any(|(listed, (_, state))| is_named(listed, package) && has_files(state));
        debs.extend(request.restore.iter().filter(|(package, _)| is_gone(package)).map(|(_, deb)| deb.clone()));
        debs.sort();
        debs.dedup();
    }
    // All in one call: faster, and packages of one request may depend on each other. A conffile that an admin edited is
    // kept, without a question.
    let options = words(&["--install", "--force-confdef", "--force-confold", "--abort-after=1000", "--"]);
    let arguments = || options.into_iter().chain(debs.iter().map(|deb| deb.display().to_string())).collect();
    (!debs.is_empty()).then(arguments)
}

/// Whether a package certainly has its files. One that is half-installed may have lost them: its `postrm` failed after they
/// were deleted, or its unpacking was interrupted.
fn has_files(state: &PackageState) -> bool {
    match state {
        PackageState::Installed => true,
        PackageState::Absent => false,
        PackageState::Broken(state) => state.chars().nth(1) != Some('H'),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Restarts the agent, whose own package was installed. Nobody waits for it here: the new one reads the result.
fn restart_agent() -> Result<()> {
    systemctl(&["daemon-reload"])?;
    systemctl(&["restart", "--no-block", OWN_UNIT])
}
