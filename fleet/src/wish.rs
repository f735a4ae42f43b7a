//! What somebody wants of how a push goes out, as people and the policy file write it: in which waves, what those wait for, how
//! many servers of a group may be out. Pure.

use std::{fmt, str::FromStr, time::Duration};

use bucket::{RolloutRules, ServerName};
use thiserror::Error;

use crate::filter::{Filter, FilterError};

/// Most waves of a rollout.
const MAX_WAVES: usize = 100;

/// Longest time that a server can be asked to stay converged.
const MAX_SETTLE: Duration = Duration::from_hours(1);

/// What is asked for where nothing is said.
pub mod usual {
    use std::time::Duration;

    /// How long a server must stay converged.
    pub const SETTLE: Duration = Duration::from_mins(1);
    /// How many of a hundred servers of a large wave are enough.
    pub const ENOUGH: u8 = 95;
    /// How many failing servers stop it.
    pub const STOP_AT: usize = 1;
    /// How long a wave may take.
    pub const WITHIN: Duration = Duration::from_mins(30);
}

/// What is said of how one push goes out; nothing is said of what is `None` or empty.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Which servers come when.
    pub waves: Option<WavesOrAll>,
    /// How long a server must stay converged.
    pub settle: Option<Duration>,
    /// How many of a hundred servers of a large wave are enough.
    pub enough: Option<u8>,
    /// How many failing servers stop it.
    pub stop_at: Option<usize>,
    /// How long a wave may take.
    pub within: Option<Duration>,
    /// How many servers of a group may be out, whatever the policy says.
    pub max_down: Option<Share>,
    /// After which waves it waits for a verdict, from 1.
    pub pause_after: Vec<usize>,
    /// Whether it undoes what it wrote when it stops.
    pub undo_on_stop: bool,
}

/// What the policy asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which servers come when.
    pub waves: Waves,
    /// How long a server must stay converged, if it says.
    pub settle: Option<Duration>,
    /// How many failing servers stop it, if it says.
    pub stop_at: Option<usize>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.waves)?;
        if let Some(settle) = self.settle {
            write!(f, ", settling for {}", console::duration::show(settle))?;
        }
        self.stop_at.map_or(Ok(()), |stop_at| write!(f, ", stopping at {stop_at}"))
    }
}

/// What is wanted of a push in waves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which servers come when.
    pub waves: Waves,
    /// What they wait for, and what stops them.
    pub rules: RolloutRules,
    /// How many servers of a group may be out, whatever the policy says.
    pub max_down: Option<Share>,
}

impl Said {
    /// Whether something is said that only a push in waves can heed.
    pub fn is_about_waves(&self) -> bool {
        let Self { waves: _, settle, enough, stop_at, within, max_down, pause_after, undo_on_stop } = self;
        let is_timed = settle.is_some() || within.is_some();
        let is_counted = enough.is_some() || stop_at.is_some() || max_down.is_some() || !pause_after.is_empty();
        is_timed || is_counted || *undo_on_stop
    }

    /// What is wanted of a push that goes out in the waves that it says itself.
    pub fn wish(&self, waves: &Waves) -> Wish {
        self.wish_as_asked(&Asked { waves: waves.clone(), settle: None, stop_at: None })
    }

    /// What is wanted of a push that goes out in the waves that the policy asks for, which what is said goes before.
    pub fn wish_as_asked(&self, asked: &Asked) -> Wish {
        let rules = RolloutRules {
            settle_seconds: self.settle.or(asked.settle).unwrap_or(usual::SETTLE).as_secs(),
            within_seconds: self.within.unwrap_or(usual::WITHIN).as_secs(),
            enough_percent: self.enough.unwrap_or(usual::ENOUGH),
            stop_at: self.stop_at.or(asked.stop_at).unwrap_or(usual::STOP_AT),
            pause_after: self.pause_after.clone(),
            undo_on_stop: self.undo_on_stop,
        };
        Wish { waves: asked.waves.clone(), rules, max_down: self.max_down }
    }
}

/// How long a server must stay converged, as a person writes it.
///
/// # Errors
/// When it isn't a time, or a longer one than can be asked for.
pub fn settle(text: &str) -> Result<Duration, String> {
    let settle = console::duration::parse(text).map_err(|error| error.to_string())?;
    if settle > MAX_SETTLE { Err("can be at most 1h: a longer watch is for a verdict".to_owned()) } else { Ok(settle) }
}

/// How many of a hundred servers are enough, as a person writes it.
///
/// # Errors
/// When it isn't such a share.
pub fn enough(text: &str) -> Result<u8, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse().ok();
    percent.filter(|percent| (1..=100).contains(percent)).ok_or_else(|| "must be from `1%` to `100%`".to_owned())
}

/// Which servers come when, or that all are written at once: `1,10%,rest`, `all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WavesOrAll {
    /// In these waves.
    Waves(Waves),
    /// All at once, whatever the policy asks for.
    All,
}

impl FromStr for WavesOrAll {
    type Err = WavesError;

    fn from_str(text: &str) -> Result<Self, WavesError> {
        if text.trim() == "all" { Ok(Self::All) } else { text.parse().map(Self::Waves) }
    }
}

/// Which servers come when: `1,10%,rest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waves {
    /// At least one.
    specs: Vec<WaveSpec>,
    /// Whether nobody chose them for the servers of one push.
    are_for_any_push: bool,
}

/// Which servers a wave is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WaveSpec {
    /// So many.
    Count(usize),
    /// So many of a hundred of all servers of the push.
    Share(u8),
    /// These.
    Servers(Vec<ServerName>),
    /// Those that match.
    Matching(Filter, String),
    /// Those that are left.
    Rest,
}

/// The text doesn't say waves.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WavesError {
    /// One of them is nothing that a wave can be.
    #[error(
        "`{0}` is no wave: use a number, a share (`10%`), a server or several (`web-1+web-2`), a filter (`group:canary`), or `rest`"
    )]
    NoWave(String),
    /// One of them is a filter that isn't one.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Something follows the wave that has everything that is left.
    #[error("`rest` must be the last wave: it takes every server that is left")]
    RestNotLast,
    /// There are more than anybody writes.
    #[error("a rollout can have at most {MAX_WAVES} waves")]
    TooMany,
    /// They are for any push, and leave out what some push goes to.
    #[error("the last wave must be `rest`: a push may go to any servers")]
    NoRest,
}

impl Waves {
    /// These, for whichever servers a push goes to: a wave that names or matches none of them is passed over.
    ///
    /// # Errors
    /// When they may leave servers out.
    pub(crate) fn for_any_push(self) -> Result<Self, WavesError> {
        if self.specs.last() == Some(&WaveSpec::Rest) {
            Ok(Self { are_for_any_push: true, ..self })
        } else {
            Err(WavesError::NoRest)
        }
    }

    /// One, of all servers of a push.
    pub(crate) fn rest() -> Self {
        Self { specs: vec![WaveSpec::Rest], are_for_any_push: true }
    }

    /// Each of them, in order; at least one.
    pub(crate) fn specs(&self) -> &[WaveSpec] {
        &self.specs
    }

    /// Whether nobody chose them for the servers of one push.
    pub(crate) fn are_for_any_push(&self) -> bool {
        self.are_for_any_push
    }
}

impl FromStr for Waves {
    type Err = WavesError;

    fn from_str(text: &str) -> Result<Self, WavesError> {
        let specs: Vec<WaveSpec> = text.split(',').map(|word| spec(word.trim())).collect::<Result<_, _>>()?;
        if specs.len() > MAX_WAVES {
            return Err(WavesError::TooMany);
        }
        match specs.iter().position(|spec| *spec == WaveSpec::Rest) {
            Some(at) if at + 1 != specs.len() => Err(WavesError::RestNotLast),
            _ => Ok(Self { specs, are_for_any_push: false }),
        }
    }
}

fn spec(word: &str) -> Result<WaveSpec, WavesError> {
    let no_wave = || WavesError::NoWave(word.to_owned());
    if word == "rest" {
        return Ok(WaveSpec::Rest);
    }
    if let Some(share) = word.strip_suffix('%') {
        let share = share.parse().ok().filter(|share| (1..=100).contains(share));
        return share.map(WaveSpec::Share).ok_or_else(no_wave);
    }
    // A server whose name is a number is named with a filter's or a sum's form.
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return word.parse().ok().filter(|count| *count > 0).map(WaveSpec::Count).ok_or_else(no_wave);
    }
    if word.contains(':') {
        return Ok(WaveSpec::Matching(Filter::parse(word)?, word.to_owned()));
    }
    let servers = word.split('+').map(str::parse).collect::<Result<Vec<ServerName>, _>>();
    servers.map(WaveSpec::Servers).map_err(|_| no_wave())
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.specs.iter().map(WaveSpec::to_string).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for WaveSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(share) => write!(f, "{share}%"),
            Self::Servers(servers) => {
                f.write_str(&servers.iter().map(ServerName::as_str).collect::<Vec<_>>().join("+"))
            }
            Self::Matching(_, text) => f.write_str(text),
            Self::Rest => f.write_str("rest"),
        }
    }
}

/// A number of servers, or a share of a group: `4`, `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many servers.
    Count(usize),
    /// So many of a hundred.
    Percent(u8),
}

/// The text is neither a number nor a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be a number of servers, at least 1, or a share from `1%` to `100%`")]
pub struct NoShare;

impl Share {
    /// Of servers whose number nobody gave: a quarter of a group.
    pub const QUARTER: Self = Self::Percent(25);

    /// How many of a group of `size` that are: at least one.
    pub fn of(self, size: usize) -> usize {
        match self {
            Self::Count(count) => count.max(1),
            Self::Percent(percent) => (size * usize::from(percent) / 100).max(1),
        }
    }
}

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Self::Percent),
            None => text.parse().ok().filter(|count| *count > 0).map(Self::Count),
        };
        share.ok_or(NoShare)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_nothing() {
        for (share, size, expected) in [("10%", 40, 4), ("10%", 9, 1), ("25%", 3, 1), ("3", 40, 3), ("100%", 7, 7)] {
            let share: Share = share.parse().unwrap();
            assert_eq!(share.of(size), expected, "{share} of {size}");
        }
        for wrong in ["", "0", "0%", "101%", "-1", "x"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_said_goes_before_what_is_asked_for_and_that_before_what_is_usual() {
        let asked = Asked { waves: "1,rest".parse().unwrap(), settle: Some(Duration::from_mins(5)), stop_at: Some(3) };
        let said = Said { stop_at: Some(2), ..Said::default() };
        let (Wish { waves, rules, .. }, own) = (said.wish_as_asked(&asked), said.wish(&"rest".parse().unwrap()));
        assert_eq!((waves.to_string().as_str(), rules.settle_seconds, rules.stop_at), ("1,rest", 300, 2));
        assert_eq!((rules.within_seconds, rules.enough_percent), (1800, 95));
        assert_eq!((own.waves.to_string().as_str(), own.rules.settle_seconds), ("rest", 60));
        assert!(said.is_about_waves() && !Said::default().is_about_waves());
    }
}
