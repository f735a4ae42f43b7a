//! The interfaces of systemd's manager that are used, and a connection to it.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream::BoxStream};
use tokio::time::timeout;
use zbus::{
    Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, Variant, message::Type, names::InterfaceName,
};

/// Time limit for a call that does nothing but query or queue.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(25);

type Properties<'a> = &'a [(&'a str, Variant<'a>)];
type AuxiliaryUnits<'a> = &'a [(&'a str, Vec<(&'a str, Variant<'a>)>)];

/// A unit in a list: its name, what it is, how it is, and its job.
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    fn reload(&self) -> zbus::Result<()>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_or_restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn disable_unit_files(&self, names: &[&str], runtime: bool) -> zbus::Result<Vec<(String, String, String)>>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<ListedUnit>>;
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
pub(super) trait PropertySource {
    fn get(&self, interface: InterfaceName<'_>, property: &str) -> zbus::Result<OwnedVariant>;
    fn get_all(&self, interface: InterfaceName<'_>) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

pub(super) async fn connect() -> Result<Connection> {
    let connected = timeout(QUERY_TIMEOUT, Connection::system()).await;
    connected.context("timed out connecting to the system bus")?.context("could not connect to the system bus")
}

/// The ends of jobs on a unit.
pub(super) type JobEnds = BoxStream<'static, JobRemoved>;

/// Hears from now on when jobs on a unit end that this connection queues, which takes one round trip: systemd tells whoever
/// queued a job of its end, as systemctl(1), also without `Subscribe()`, which is for those who want to hear of every unit.
pub(super) async fn job_ends(connection: &Connection, unit: &str) -> Result<JobEnds> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender("org.freedesktop.systemd1")
        .path("/org/freedesktop/systemd1")
        .interface("org.freedesktop.systemd1.Manager")
        .member("JobRemoved")
        .arg(2, unit)
        .build()?;
    let signals = timeout(QUERY_TIMEOUT, MessageStream::for_match_rule(rule, connection, None)).await;
    let signals = signals.context("timed out subscribing to systemd's signals")?;
    let signals = signals.context("could not subscribe to systemd's signals")?;
    Ok(signals.filter_map(async |signal| JobRemoved::from_message(signal.ok()?)).boxed())
}

/// systemd's own sentence, where it gave one.
pub(super) fn in_words(error: &zbus::Error) -> anyhow::Error {
    match error {
        zbus::Error::MethodError(_, Some(words), _) => anyhow::anyhow!("{words}"),
        other => anyhow::anyhow!("{other}"),
    }
}
