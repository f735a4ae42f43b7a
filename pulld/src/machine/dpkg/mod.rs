//! dpkg, which knows what is installed (dpkg(1), dpkg-query(1)).
//!
//! Queries are child processes. What changes packages is a systemd service of its own ([`super::runner`]): a maintainer
//! script may restart the agent, and dpkg must outlive that.

mod comparison;
pub(super) mod database;
pub(super) mod parse;
mod query;
pub(super) mod stamp;
pub(super) mod status_file;

use std::{
    cell::RefCell,
    fs::File,
    io::{PipeReader, PipeWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::Timestamp;
use tokio::{sync::OnceCell, time::Instant};

use self::{
    comparison::Comparisons,
    database::Database,
    parse::{ALL_PACKAGES, parse_all_packages, parse_available, parse_packages},
    query::query,
};

use crate::state::persist;

use super::{
    baseline,
    dpkg_lock::{LOCK, LockHolder},
    dpkg_request::{self, DpkgRequest, DpkgResult, TRANSACTION_UNIT},
    package_changes::PackageChange,
    package_manager::{AvailablePackage, Compare, InstalledPackage, PackageManager},
    systemd::transient::{self, Idle, Limits, Running, Stop, Transient},
};

/// What the runner needs beyond the time limit of its request to write the result, before systemd kills it.
const SLACK: Duration = Duration::from_mins(1);

/// Time limit of a dpkg run whose request cannot be read.
const UNKNOWN_TIMEOUT: Duration = Duration::from_mins(30);

/// How often a request is begun whose runner is killed.
const ATTEMPTS: u32 = 3;

/// How long a runner stands by for a request at most. The time limit of its service has begun.
const STAND_BY: Duration = Duration::from_mins(1);

/// dpkg on this machine.
#[derive(Debug)]
pub(crate) struct Dpkg {
    requests: PathBuf,
    /// The runner that stands by.
    standing_by: RefCell<Option<StandBy>>,
    database: Database,
    comparisons: Comparisons,
    architecture: OnceCell<String>,
}

/// A runner that was started and waits. Its input names files that the request will install, one in a line. When it ends, the
/// runner carries out the request that there is then: none if the agent has died by then, or has none for it.
#[derive(Debug)]
struct StandBy {
    service: Running,
    input: PipeWriter,
    since: Instant,
}

impl StandBy {
    /// Has it carry out the request that was written, and waits for its end.
    async fn carry_out(self) -> Result<bool> {
        drop(self.input);
        self.service.end().await
    }
}

impl Dpkg {
    /// dpkg, with its requests in the directory `requests`.
    pub(crate) fn new(requests: PathBuf) -> Self {
        Self {
            requests,
            standing_by: RefCell::default(),
            database: Database::new(database::DIRECTORY),
            comparisons: Comparisons::new(Path::new(database::DIRECTORY)),
            architecture: OnceCell::new(),
        }
    }

    /// Starts the service that carries out a request which may take `timeout`, and has it wait for that. An earlier one that is
    /// still at work until the `deadline` writes its result to the same place.
    async fn start_runner(&self, timeout: Duration, deadline: Instant) -> Result<StandBy> {
        let idle = Idle::wait(TRANSACTION_UNIT, deadline).await?;
        dpkg_request::forget(&self.requests)?;
        let (reader, input) = std::io::pipe().context("could not make a pipe to the runner")?;
        let service = idle.start(&self.runner(timeout, reader)?).await?;
        Ok(StandBy { service, input, since: Instant::now() })
    }

    /// The service that carries out a request.
    fn runner(&self, timeout: Duration, input: PipeReader) -> Result<Transient> {
        let program = own_program()?.display().to_string();
        Ok(Transient {
            unit: TRANSACTION_UNIT.to_owned(),
            description: "pulld dpkg transaction",
            command: vec![program, "transact".to_owned(), self.requests.display().to_string()],
            timeout: timeout + STAND_BY + SLACK,
            input: Some(input),
            output: None,
            limits: Limits::None,
            stop: Stop::WaitForEnd,
        })
    }

    /// Reads the result of a request that has ended, and deletes both.
    fn take_result(&self) -> Result<Option<DpkgResult>> {
        let result = dpkg_request::load_result(&self.requests)?;
        dpkg_request::forget(&self.requests)?;
        Ok(result)
    }
}

impl PackageManager for Dpkg {
    async fn packages(&self, also: &[String]) -> Result<Vec<InstalledPackage>> {
        Ok(parse_packages(&self.database.listing().await?, also))
    }

    async fn architecture(&self) -> Result<String> {
        let query = || async { Ok(query("dpkg", &["--print-architecture"]).await?.trim().to_owned()) };
        self.architecture.get_or_try_init(query).await.cloned()
    }

    async fn available(&self) -> Result<Vec<AvailablePackage>> {
        Ok(parse_available(&self.database.listing().await?))
    }

    async fn changed_files(&self, package: &str, compare: Compare) -> Result<Vec<String>> {
        self.comparisons.changed_files(package, compare).await
    }

    fn changed_at(&self, package: &str) -> Option<Timestamp> {
        // dpkg writes a package's list of files anew.
        let lists = database::file_lists(Path::new(database::DIRECTORY), package);
        let modified =
            lists.iter().filter_map(|list| std::fs::metadata(list).and_then(|list| list.modified()).ok()).max();
        Timestamp::try_from(modified?).ok()
    }

    async fn stand_by(&self, timeout: Duration) {
        self.stand_down();
        match self.start_runner(timeout, Instant::now()).await {
            Ok(runner) => *self.standing_by.borrow_mut() = Some(runner),
            Err(error) => tracing::debug!("no runner stands by: {error:#}"),
        }
    }

    fn foresee(&self, deb: &Path) {
        let mut standing_by = self.standing_by.borrow_mut();
        // One that isn't there any more is seen when the request comes.
        let _ = standing_by.as_mut().map(|runner| writeln!(runner.input, "{}", deb.display()));
    }

    fn stand_down(&self) {
        self.standing_by.borrow_mut().take();
    }

    async fn execute(&self, request: &DpkgRequest) -> Result<DpkgResult> {
        let deadline = Instant::now() + request.timeout;
        let mut request = request.clone();
        for _ in 0..ATTEMPTS {
            let standing_by = self.standing_by.take().filter(|runner| runner.since.elapsed() < STAND_BY);
            let runner = match standing_by {
                Some(runner) => runner,
                None => self.start_runner(request.timeout, deadline + SLACK).await?,
            };
            dpkg_request::save_request(&self.requests, &request)?;
            let ran = runner.carry_out().await;
            if let Some(result) = self.take_result()? {
                return Ok(result);
            }
            ran?;
            // The runner itself was killed, by a person or by the kernel: the packages did not cause it.
            request.timeout = deadline.saturating_duration_since(Instant::now());
            if request.timeout.is_zero() {
                break;
            }
        }
        let reason = format!("`{TRANSACTION_UNIT}` ended without a result: see `journalctl -u {TRANSACTION_UNIT}`");
        Ok(DpkgResult::failed(reason))
    }

    async fn resume(&self) -> Result<Option<DpkgResult>> {
        // An invalid request, another version's perhaps, must not keep the agent from going on.
        let request = dpkg_request::load_request(&self.requests).ok().flatten();
        let timeout = request.map_or(UNKNOWN_TIMEOUT, |request| request.timeout) + SLACK;
        transient::wait_inactive(TRANSACTION_UNIT, Instant::now() + timeout).await?;
        self.take_result()
    }

    async fn unnoted_changes(&self, request: &DpkgRequest) -> Result<Vec<PackageChange>> {
        let file = dpkg_request::baseline_file(&self.requests);
        let Some(before) = request.transaction.as_deref().and_then(|of| baseline::load(&file, of)) else {
            return Ok(Vec::new());
        };
        let after = match status_file::all_packages(Path::new(database::DIRECTORY)) {
            Some(after) => after,
            None => parse_all_packages(&query("dpkg-query", &["--show", "--showformat", ALL_PACKAGES]).await?),
        };
        Ok(before.changes(&after, &after, &request.planned))
    }

    fn forget_changes(&self) -> Result<()> {
        // Should a power cut bring it back, it is another transaction's.
        persist::remove_for_this_boot(&dpkg_request::baseline_file(&self.requests))
    }

    fn lock_holder(&self) -> Option<LockHolder> {
        let holder = LockHolder::of(&File::open(LOCK).ok()?)?;
        (!holder.is_of(TRANSACTION_UNIT)).then_some(holder)
    }
}

/// The program that this process runs. An update has put another file in its place by now, perhaps: then that one.
fn own_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("could not find pulld's own program")?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}
