//! systemd's manager over D-Bus (org.freedesktop.systemd1(5)).
//!
//! Every call makes a connection of its own, which takes a third of a millisecond: there is no connection to lose when
//! the bus is restarted, and nothing is held while the agent is idle. Every call has a time limit.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail};
use bucket::Timestamp;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, names::InterfaceName};

use super::{
    service_manager::{CheckResult, ServiceManager},
    unit_state::{ActiveState, JobResult, UnitState},
};

/// The longest a call that only asks may take.
const ASK: Duration = Duration::from_secs(25);
/// The longest reading all unit files may take: generators run too.
const RELOAD: Duration = Duration::from_secs(90);
/// How often a transient unit is looked at, should the bus that would have told its end go away.
const LOOK: Duration = Duration::from_secs(2);

/// systemd, as PID 1 of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Systemd;

type Properties<'a> = &'a [(&'a str, Variant<'a>)];
type AuxiliaryUnits<'a> = &'a [(&'a str, Vec<(&'a str, Variant<'a>)>)];

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_or_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: Properties<'_>,
        auxiliary: AuxiliaryUnits<'_>,
    ) -> zbus::Result<OwnedObjectPath>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.systemd1")]
trait PropertySource {
    fn get_all(&self, interface: InterfaceName<'_>) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

/// A command that systemd runs in a service of its own, which outlives whoever asked for it.
#[derive(Debug, Clone)]
pub(crate) struct Transient {
    /// Name of the unit.
    pub(crate) unit: &'static str,
    /// What it is, for people who list units.
    pub(crate) description: &'static str,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// The longest it may run: then systemd kills all of its processes.
    pub(crate) limit: Duration,
    /// Where its output goes: a file that is overwritten, or the journal.
    pub(crate) output: Option<std::path::PathBuf>,
    /// Whether a stop waits for its end, at most the limit, in place of ending it.
    pub(crate) unhurried: bool,
}

impl Systemd {
    /// Runs a command in a transient service and waits for its end, which is `true` if it exited with 0.
    ///
    /// Should a service of that name be running already, its end is waited for first.
    pub(crate) async fn run(&self, transient: &Transient) -> Result<bool> {
        let deadline = Instant::now() + transient.limit + ASK;
        self.wait_inactive(transient.unit, deadline).await?;
        let connection = connect().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let mut removed = subscribe(&manager).await?;
        let properties = properties(transient);
        let started = timeout(ASK, manager.start_transient_unit(transient.unit, "fail", &properties, &[])).await;
        let job = started.with_context(|| format!("systemd doesn't answer about `{}`", transient.unit))?;
        let job = job.with_context(|| format!("systemd could not start `{}`", transient.unit))?;
        loop {
            let signal = timeout(LOOK, removed.next()).await;
            if let Ok(Some(signal)) = &signal {
                let ended = signal.args().context("could not understand systemd's signal")?;
                if ended.job == job {
                    let done = JobResult::from(ended.result.clone()) == JobResult::Done;
                    // Who stops it by hand, or shuts down, takes its job away before it has ended.
                    self.wait_inactive(transient.unit, deadline).await?;
                    return Ok(done);
                }
                continue;
            }
            // Nothing was said for a while, or the bus went away: then the unit itself is asked.
            if let Ok(state) = self.unit(transient.unit).await
                && !is_running(&state)
            {
                // systemd forgets a unit of this kind when it ends, its result too.
                bail!("`{}` ended unseen: how is not known", transient.unit);
            }
            if Instant::now() > deadline {
                bail!("`{}` is still running after {:?}", transient.unit, transient.limit);
            }
            if matches!(signal, Ok(None)) {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Whether a unit is running, starting or stopping.
    pub(crate) async fn is_running(&self, unit: &str) -> Result<bool> {
        Ok(is_running(&self.unit(unit).await?))
    }

    /// Waits until a unit isn't running any more.
    pub(crate) async fn wait_inactive(&self, unit: &str, deadline: Instant) -> Result<()> {
        while self.is_running(unit).await? {
            if Instant::now() > deadline {
                bail!("`{unit}` is still running");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Queues a job on a unit and waits for its end.
    async fn job(&self, verb: Verb, name: &str, limit: Duration) -> Result<JobResult> {
        let deadline = Instant::now() + limit;
        let connection = connect().await?;
        let manager = ManagerProxy::new(&connection).await?;
        // Before the job is queued: it may end before the answer says which it was.
        let mut removed = subscribe(&manager).await?;
        let queued = async {
            match verb {
                Verb::Restart => manager.restart_unit(name, "replace").await,
                Verb::Reload => manager.reload_or_restart_unit(name, "replace").await,
            }
        };
        let job = timeout_at(deadline.min(Instant::now() + ASK), queued).await;
        let job = job.with_context(|| format!("systemd doesn't answer about `{name}`"))?;
        let job =
            job.map_err(|error| in_words(&error)).with_context(|| format!("could not {} `{name}`", verb.word()))?;
        loop {
            let signal = match timeout_at(deadline, removed.next()).await {
                Ok(Some(signal)) => signal,
                Ok(None) => bail!("lost the bus while `{name}` was being {}", verb.past()),
                Err(_) => return Ok(JobResult::Timeout),
            };
            let ended = signal.args().context("could not understand systemd's signal")?;
            if ended.job == job {
                return Ok(JobResult::from(ended.result.clone()));
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Restart,
    Reload,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }

    fn past(self) -> &'static str {
        match self {
            Self::Restart => "restarted",
            Self::Reload => "reloaded",
        }
    }
}

impl ServiceManager for Systemd {
    async fn daemon_reload(&self) -> Result<()> {
        let connection = connect().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let reloaded = timeout(RELOAD, manager.reload()).await;
        reloaded
            .context("systemd took too long to read its unit files")?
            .context("systemd could not read its unit files")
    }

    async fn unit(&self, name: &str) -> Result<UnitState> {
        let read = async {
            let connection = connect().await?;
            let path = ManagerProxy::new(&connection).await?.load_unit(name).await.map_err(|error| in_words(&error))?;
            let source = PropertySourceProxy::builder(&connection)
                .path(path)
                .cache_properties(zbus::proxy::CacheProperties::No)
                .build()
                .await?;
            let unit = source.get_all(InterfaceName::try_from("org.freedesktop.systemd1.Unit")?).await?;
            let service = if name.ends_with(".service") {
                source.get_all(InterfaceName::try_from("org.freedesktop.systemd1.Service")?).await?
            } else {
                HashMap::new()
            };
            Ok(state(&unit, &service))
        };
        let read: Result<Result<UnitState>, _> = timeout(ASK, read).await;
        read.with_context(|| format!("systemd doesn't answer about `{name}`"))?
            .with_context(|| format!("could not ask systemd about `{name}`"))
    }

    async fn restart(&self, name: &str, limit: Duration) -> Result<JobResult> {
        self.job(Verb::Restart, name, limit).await
    }

    async fn reload(&self, name: &str, limit: Duration) -> Result<JobResult> {
        self.job(Verb::Reload, name, limit).await
    }

    async fn check(&self, command: &[String], limit: Duration) -> Result<CheckResult> {
        let directory = tempfile::tempdir_in("/run").context("could not make a place for the check's output")?;
        let output = directory.path().join("output");
        let transient = Transient {
            unit: "pulld-check.service",
            description: "Check of a release by its own command",
            command: command.to_vec(),
            limit,
            output: Some(output.clone()),
            unhurried: false,
        };
        if self.run(&transient).await? {
            return Ok(CheckResult::Passed);
        }
        let said = tail(&output, 500);
        let said = if said.is_empty() { "it said nothing".to_owned() } else { format!("it said: {said}") };
        Ok(CheckResult::Failed { reason: format!("its check `{}` failed; {said}", command.join(" ")) })
    }
}

async fn connect() -> Result<Connection> {
    let connected = timeout(ASK, Connection::system()).await;
    connected.context("the system bus doesn't answer")?.context("could not connect to the system bus")
}

async fn subscribe(manager: &ManagerProxy<'_>) -> Result<JobRemovedStream> {
    let subscribed = async {
        manager.subscribe().await?;
        manager.receive_job_removed().await
    };
    let subscribed = timeout(ASK, subscribed).await.context("systemd doesn't answer")?;
    subscribed.context("could not subscribe to systemd's signals")
}

fn properties(transient: &Transient) -> Vec<(&'static str, Variant<'static>)> {
    let program = transient.command[0].clone();
    let command: Vec<(String, Vec<String>, bool)> = vec![(program, transient.command.clone(), false)];
    let limit = u64::try_from(transient.limit.as_micros()).unwrap_or(u64::MAX);
    let mut properties = vec![
        ("Description", Variant::from(transient.description)),
        ("Type", Variant::from("oneshot")),
        ("ExecStart", Variant::from(command)),
        ("TimeoutStartUSec", Variant::from(limit)),
        // What the kernel kills for its memory is for the program to see, not a reason to stop it.
        ("OOMPolicy", Variant::from("continue")),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("StandardInput", Variant::from("null")),
        // The journal has pulld's own words about it.
        ("SyslogIdentifier", Variant::from("pulld")),
    ];
    if transient.unhurried {
        // A shutdown waits for the end rather than cutting it off: SIGCONT harms nobody, SIGKILL comes at the limit.
        properties.push(("KillMode", Variant::from("mixed")));
        properties.push(("KillSignal", Variant::from(18_i32)));
        properties.push(("TimeoutStopUSec", Variant::from(limit)));
    } else {
        properties.push(("TimeoutStopUSec", Variant::from(2_000_000_u64)));
    }
    if let Some(output) = &transient.output {
        let file = output.display().to_string();
        properties.push(("StandardOutputFileToTruncate", Variant::from(file.clone())));
        properties.push(("StandardErrorFileToAppend", Variant::from(file)));
    }
    properties
}

/// The end of a file, on one line and safe to show.
fn tail(file: &std::path::Path, length: u64) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(file)?;
        let from = file.metadata()?.len().saturating_sub(length);
        file.seek(SeekFrom::Start(from))?;
        let mut content = Vec::new();
        file.take(length).read_to_end(&mut content)?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    read().unwrap_or_default().trim().escape_debug().to_string()
}

fn is_running(state: &UnitState) -> bool {
    matches!(
        state.active,
        ActiveState::Active | ActiveState::Activating | ActiveState::Deactivating | ActiveState::Reloading
    )
}

fn state(unit: &HashMap<String, OwnedVariant>, service: &HashMap<String, OwnedVariant>) -> UnitState {
    let text = |from: &HashMap<String, OwnedVariant>, key: &str| {
        from.get(key).and_then(|value| String::try_from(value.clone()).ok()).unwrap_or_default()
    };
    let micros = |key: &str| unit.get(key).and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let invocation = unit.get("InvocationID").and_then(|value| Vec::<u8>::try_from(value.clone()).ok());
    let since = micros("ActiveEnterTimestamp").max(micros("InactiveEnterTimestamp"));
    UnitState {
        load: text(unit, "LoadState").into(),
        active: text(unit, "ActiveState").into(),
        sub: text(unit, "SubState").into(),
        file_state: text(unit, "UnitFileState").into(),
        result: text(service, "Result").into(),
        service_type: text(service, "Type").into(),
        restarts: service.get("NRestarts").and_then(|value| u32::try_from(value).ok()).unwrap_or(0),
        invocation: invocation.filter(|id| id.iter().any(|byte| *byte != 0)).map(hex::encode).unwrap_or_default(),
        since: i64::try_from(since)
            .ok()
            .filter(|since| *since > 0)
            .and_then(|since| Timestamp::from_microsecond(since).ok()),
    }
}

/// systemd's own sentence, where it gave one.
fn in_words(error: &zbus::Error) -> anyhow::Error {
    match error {
        zbus::Error::MethodError(_, Some(words), _) => anyhow::anyhow!("{words}"),
        other => anyhow::anyhow!("{other}"),
    }
}
