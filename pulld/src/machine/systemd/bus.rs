//! The interfaces of systemd's manager that are used, and a connection to it.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, names::InterfaceName};

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
    fn subscribe(&self) -> zbus::Result<()>;
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

pub(super) async fn subscribe(manager: &ManagerProxy<'_>) -> Result<JobRemovedStream> {
    let subscribed = async {
        manager.subscribe().await?;
        manager.receive_job_removed().await
    };
    let subscribed = timeout(QUERY_TIMEOUT, subscribed).await.context("timed out subscribing to systemd's signals")?;
    subscribed.context("could not subscribe to systemd's signals")
}

/// systemd's own sentence, where it gave one.
pub(super) fn in_words(error: &zbus::Error) -> anyhow::Error {
    match error {
        zbus::Error::MethodError(_, Some(words), _) => anyhow::anyhow!("{words}"),
        other => anyhow::anyhow!("{other}"),
    }
}
