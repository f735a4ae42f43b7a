//! What the journal of a server says of one update of `payload`, once that is over.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use harness::Machine;

/// When each thing happened, in seconds after a moment.
pub(crate) struct Journal {
    /// Everything was downloaded and verified.
    pub(crate) installing: f64,
    /// dpkg itself was started.
    pub(crate) dpkg_began: f64,
    /// Its service ended.
    pub(crate) dpkg_ended: f64,
    /// The unit was started.
    pub(crate) active: f64,
}

/// This machine's clock, which is that of its containers.
pub(crate) fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

impl Journal {
    /// Reads it from that moment on, by the clock.
    pub(crate) fn since(server: &Machine, moment: Duration) -> Result<Self> {
        let since = moment.as_secs_f64();
        let text = server.sh(&format!("journalctl --no-pager --quiet --output=json --since=@{since:.6}"))?;
        let entries: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let at = |what: &str, fits: &dyn Fn(&str, &str) -> bool| {
            let found = entries.iter().find_map(|entry| {
                let field = |name: &str| entry[name].as_str().unwrap_or_default();
                // What comes as a line of a stream, as the runner's, has only the time at which journald read it.
                let times = ["_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"];
                let time: f64 = times.into_iter().find_map(|name| field(name).parse().ok())?;
                let after = time / 1e6 - since;
                (after >= 0.0 && fits(field("UNIT"), field("MESSAGE"))).then_some(after)
            });
            found.with_context(|| format!("the journal does not say when {what}"))
        };
        let of_dpkg = |unit: &str| unit == "pulld-transaction.service";
        Ok(Self {
            installing: at("all was verified", &|_, text| text.starts_with("installing `"))?,
            dpkg_began: at("dpkg began", &|_, text| text.starts_with("running `dpkg --install"))?,
            dpkg_ended: at("dpkg ended", &|unit, text| of_dpkg(unit) && text.starts_with("Finished"))?,
            active: at("the unit was up", &|unit, text| unit == "payload.service" && text.starts_with("Started"))?,
        })
    }
}
