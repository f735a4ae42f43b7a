//! How a release checks itself: the value of `Push-Check:`.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    command::CheckCommand,
    loopback::{HttpProbe, LoopbackAddress},
};
use crate::NameError;

const KIND: &str = "check";
const TCP: &str = "tcp://";

/// What must succeed before a release counts as healthy, once its units are up.
///
/// Written as its pace, where it has one, and its probe, as in `timeout=5s interval=1s attempts=10
/// http://127.0.0.1:8000/healthz`, `tcp://127.0.0.1:5432` or `/usr/bin/web --health`. A command without a pace is what
/// every agent reads; an agent that doesn't know the rest refuses the release before anything changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Check {
    /// What is tried.
    pub probe: Probe,
    /// How often, and for how long; `None` leaves that to the agent's health window.
    pub pace: Option<CheckPace>,
}

/// What a check tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An answer of status 2xx to a GET.
    Http(HttpProbe),
    /// That something accepts a connection.
    Tcp(LoopbackAddress),
    /// A command that exits with 0.
    Command(CheckCommand),
}

/// How often a check is tried, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckPace {
    timeout: Duration,
    interval: Duration,
    attempts: u32,
}

impl CheckPace {
    /// How long one attempt may take.
    pub const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);

    /// How long is waited between two attempts.
    pub const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);

    /// How often it is tried.
    pub const ATTEMPTS: RangeInclusive<u32> = 1..=100;

    /// Longest time for all attempts together.
    pub const MAX: Duration = Duration::from_mins(10);

    /// The pace where a release states none: ten attempts of at most five seconds, one second apart.
    pub const DEFAULT: Self = Self { timeout: Duration::from_secs(5), interval: Duration::from_secs(1), attempts: 10 };

    /// A pace within the limits, with times in whole milliseconds.
    ///
    /// # Errors
    /// Which limit it exceeds.
    pub fn new(timeout: Duration, interval: Duration, attempts: u32) -> Result<Self, NameError> {
        let pace = Self { timeout, interval, attempts };
        let wrong = |reason: &str| Err(NameError::new("pace of a check", &pace.to_string(), reason));
        if !Self::TIMEOUTS.contains(&timeout) || !Self::INTERVALS.contains(&interval) {
            return wrong("its times must be from 100ms to 1m");
        }
        if !Self::ATTEMPTS.contains(&attempts) {
            return wrong("it must have from 1 to 100 attempts");
        }
        if pace.total() > Self::MAX {
            return wrong("all attempts together must take no longer than 10m");
        }
        Ok(pace)
    }

    /// How long one attempt may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long is waited between two attempts.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// How often it is tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Longest time for all attempts together.
    pub fn total(&self) -> Duration {
        (self.timeout + self.interval).saturating_mul(self.attempts)
    }
}

impl FromStr for Check {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, NameError> {
        value.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>().try_into()
    }
}

impl TryFrom<Vec<String>> for Check {
    type Error = NameError;

    fn try_from(mut words: Vec<String>) -> Result<Self, NameError> {
        let is_pace = |word: &&String| !word.starts_with('/') && !word.contains("://") && word.contains('=');
        let probe = words.split_off(words.iter().take_while(is_pace).count());
        Ok(Self { pace: parse_pace(&words)?, probe: Probe::parse(probe)? })
    }
}

impl Probe {
    fn parse(words: Vec<String>) -> Result<Self, NameError> {
        match words.as_slice() {
            [word] if word.starts_with("http://") => Ok(Self::Http(word.parse()?)),
            [word] if word.starts_with(TCP) => Ok(Self::Tcp(word[TCP.len()..].parse()?)),
            _ => Ok(Self::Command(words.try_into()?)),
        }
    }
}

/// Words such as `timeout=5s`; none at all are no pace.
fn parse_pace(words: &[String]) -> Result<Option<CheckPace>, NameError> {
    let CheckPace { mut timeout, mut interval, mut attempts } = CheckPace::DEFAULT;
    for (at, word) in words.iter().enumerate() {
        let wrong = || NameError::new(KIND, word, "it must be one of timeout=5s interval=1s attempts=10, each once");
        let (key, value) = word.split_once('=').ok_or_else(wrong)?;
        if words[..at].iter().any(|before| before.split('=').next() == Some(key)) {
            return Err(wrong());
        }
        match key {
            "timeout" => timeout = parse_time(value).ok_or_else(wrong)?,
            "interval" => interval = parse_time(value).ok_or_else(wrong)?,
            "attempts" => attempts = value.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        }
    }
    if words.is_empty() { Ok(None) } else { CheckPace::new(timeout, interval, attempts).map(Some) }
}

/// `5s` or `500ms`.
fn parse_time(text: &str) -> Option<Duration> {
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?;
    match text.strip_suffix("ms") {
        Some(digits) => number(digits).map(Duration::from_millis),
        None => number(text.strip_suffix('s')?).map(Duration::from_secs),
    }
}

/// A time as [`parse_time`] reads it.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis % 1000 == 0 => write!(f, "{}s", millis / 1000),
            millis => write!(f, "{millis}ms"),
        }
    }
}

impl fmt::Display for CheckPace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (timeout, interval) = (Time(self.timeout), Time(self.interval));
        write!(f, "timeout={timeout} interval={interval} attempts={}", self.attempts)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => url.fmt(f),
            Self::Tcp(address) => write!(f, "{TCP}{address}"),
            Self::Command(command) => command.fmt(f),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pace {
            Some(pace) => write!(f, "{pace} {}", self.probe),
            None => self.probe.fmt(f),
        }
    }
}

impl From<Check> for Vec<String> {
    fn from(check: Check) -> Self {
        check.to_string().split(' ').map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_a_pace_and_a_probe() {
        for (value, timeout) in [
            ("/usr/bin/web --health=x y=z", None),
            ("/usr/bin/x=y", None),
            ("timeout=2s interval=500ms attempts=3 /usr/bin/web --health", Some(2)),
            ("timeout=5s interval=1s attempts=10 http://127.0.0.1:8000/healthz?x=1", Some(5)),
            ("tcp://localhost:5432", None),
        ] {
            let check: Check = value.parse().unwrap();
            assert_eq!(check.pace.map(|pace| pace.timeout()), timeout.map(Duration::from_secs), "{value}");
            assert_eq!(check.to_string(), value);
            assert_eq!(Check::try_from(Vec::from(check.clone())).unwrap(), check, "{value}");
        }
        let defaults: Check = "attempts=3 tcp://[::1]:1".parse().unwrap();
        assert_eq!(defaults.to_string(), "timeout=5s interval=1s attempts=3 tcp://[::1]:1");
    }

    #[test]
    fn what_is_no_check_is_refused() {
        for bad in [
            "",
            "web",
            "timeout=5s",
            "timeout=5s timeout=5s /x",
            "timeout=5 /x",
            "timeout=2m /x",
            "timeout=+5s /x",
            "timeout=0s /x",
            "attempts=0 /x",
            "attempts=101 /x",
            "attempts=-1 /x",
            "speed=1 /x",
            "timeout=60s interval=1s attempts=100 /x",
            "http://127.0.0.1/ x",
            "http://10.0.0.1/",
            "https://127.0.0.1/",
            "tcp://10.0.0.1:1",
            "/x http://127.0.0.1/ \u{a0}",
        ] {
            assert!(bad.parse::<Check>().is_err(), "{bad}");
        }
    }
}
