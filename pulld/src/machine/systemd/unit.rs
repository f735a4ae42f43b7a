//! How a unit is, as its properties say.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow};
use bucket::Timestamp;
use tokio::time::timeout;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, names::InterfaceName};

use crate::failure::ProcessEnd;

use super::{
    super::unit_state::{ActiveState, UnitState},
    bus::{ManagerProxy, PropertySourceProxy, QUERY_TIMEOUT, connect, in_words},
};

/// The interface of every unit.
const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// Reads how a unit is; one that does not exist is a state too.
pub(super) async fn read(name: &str) -> Result<UnitState> {
    let read = async {
        let connection = connect().await?;
        let path = ManagerProxy::new(&connection).await?.load_unit(name).await.map_err(|error| in_words(&error))?;
        let source = source(&connection, path).await?;
        let service = async {
            if !name.ends_with(".service") {
                return Ok(HashMap::new());
            }
            source.get_all(InterfaceName::from_static_str("org.freedesktop.systemd1.Service")?).await
        };
        let (unit, service) = tokio::join!(source.get_all(InterfaceName::try_from(UNIT)?), service);
        Ok(parse(&unit?, &service?))
    };
    let read = timeout(QUERY_TIMEOUT, read).await.unwrap_or_else(|_| Err(anyhow!("timed out")));
    read.with_context(|| format!("could not query systemd about `{name}`"))
}

/// Whether a unit is started, or is being started or stopped. One that systemd has not loaded isn't, and is not loaded for
/// the question: of a service that comes and goes that would cost more than all else.
pub(super) async fn is_running(manager: &ManagerProxy<'_>, name: &str) -> Result<bool> {
    let read = async {
        let path = match manager.get_unit(name).await {
            Ok(path) => path,
            Err(zbus::Error::MethodError(kind, ..)) if kind == "org.freedesktop.systemd1.NoSuchUnit" => {
                return Ok(false);
            }
            Err(error) => return Err(in_words(&error)),
        };
        let source = source(manager.inner().connection(), path).await?;
        match source.get(InterfaceName::try_from(UNIT)?, "ActiveState").await {
            Ok(active) => Ok(ActiveState::from(String::try_from(active)?).is_running()),
            // It was there a moment ago.
            Err(zbus::Error::MethodError(kind, ..)) if kind == "org.freedesktop.DBus.Error.UnknownObject" => Ok(false),
            Err(error) => Err(in_words(&error)),
        }
    };
    let read = timeout(QUERY_TIMEOUT, read).await.unwrap_or_else(|_| Err(anyhow!("timed out")));
    read.with_context(|| format!("could not query systemd about `{name}`"))
}

async fn source(connection: &Connection, path: OwnedObjectPath) -> Result<PropertySourceProxy<'_>> {
    let source = PropertySourceProxy::builder(connection).path(path);
    Ok(source.cache_properties(zbus::proxy::CacheProperties::No).build().await?)
}

fn parse(unit: &HashMap<String, OwnedVariant>, service: &HashMap<String, OwnedVariant>) -> UnitState {
    let text = |from: &HashMap<String, OwnedVariant>, key: &str| {
        from.get(key).and_then(|value| String::try_from(value.clone()).ok()).unwrap_or_default()
    };
    let names =
        |key: &str| unit.get(key).and_then(|value| Vec::<String>::try_from(value.clone()).ok()).unwrap_or_default();
    let micros = |key: &str| unit.get(key).and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let number = |key: &str| service.get(key).and_then(|value| i32::try_from(value).ok()).unwrap_or(0);
    let invocation = unit.get("InvocationID").and_then(|value| Vec::<u8>::try_from(value.clone()).ok());
    let since = micros("ActiveEnterTimestamp").max(micros("InactiveEnterTimestamp"));
    // A forking service may have a main process that systemd doesn't know.
    let main = service.get("ExecMainStartTimestampMonotonic").and_then(|value| u64::try_from(value).ok());
    let started = main.filter(|main| *main > 0).unwrap_or_else(|| micros("ActiveEnterTimestampMonotonic"));
    UnitState {
        load: text(unit, "LoadState").into(),
        active: text(unit, "ActiveState").into(),
        sub: text(unit, "SubState").into(),
        file_state: text(unit, "UnitFileState").into(),
        result: text(service, "Result").into(),
        end: ProcessEnd::of(number("ExecMainCode"), number("ExecMainStatus")),
        service_type: text(service, "Type").into(),
        restarts: service.get("NRestarts").and_then(|value| u32::try_from(value).ok()).unwrap_or(0),
        invocation: invocation.filter(|id| id.iter().any(|byte| *byte != 0)).map(hex::encode).unwrap_or_default(),
        triggers: names("Triggers"),
        triggered_by: names("TriggeredBy"),
        since: i64::try_from(since)
            .ok()
            .filter(|since| *since > 0)
            .and_then(|since| Timestamp::from_microsecond(since).ok()),
        started: Some(started).filter(|started| *started > 0),
    }
}
