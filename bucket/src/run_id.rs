//! What one run of a repository's pipelines is called.

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::{
    NameError,
    change_id::check_project,
    random_word::{check, of_bits, random_bits},
};

/// How an ID has its time: whole seconds, in UTC.
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// What one run is called: when it began, and a word at random, as `20261126T233000Z-k3v9…`. Later runs sort last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

text_name!(RunId);

impl RunId {
    /// Longest word of an ID, in bytes.
    pub const MAX_WORD: usize = 40;

    /// A new one of a run that begins then: 60 random bits.
    pub fn new(began: Timestamp) -> Self {
        Self(format!("{}-{}", began.to_zoned(TimeZone::UTC).strftime(TIME), of_bits(random_bits())))
    }

    /// When it began, to the second.
    pub fn time(&self) -> Timestamp {
        let time = self.0.split_once('-').and_then(|(time, _)| parse_time(time));
        time.expect("an ID begins with a time")
    }
}

/// A time of the one form that an ID has, so that IDs sort by it.
fn parse_time(text: &str) -> Option<Timestamp> {
    let time = civil::DateTime::strptime(TIME, text).ok()?.to_zoned(TimeZone::UTC).ok()?;
    (text.len() == "20261126T233000Z".len() && time.strftime(TIME).to_string() == text).then(|| time.timestamp())
}

impl FromStr for RunId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::new("run", text, "it is not TIME-WORD, as in 20261126T233000Z-k3v9");
        let (time, word) = text.split_once('-').ok_or_else(form)?;
        parse_time(time).ok_or_else(form)?;
        check("run", word, Self::MAX_WORD)?;
        Ok(Self(text.to_owned()))
    }
}

/// Where a run is recorded: its project, and what it is called there, as `web/20261126T233000Z-k3v9…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunPlace {
    project: String,
    run: RunId,
}

impl RunPlace {
    /// A run of a project, which is called as that of a [`crate::ChangeId`].
    ///
    /// # Errors
    /// Which rule the project breaks.
    pub fn new(project: &str, run: RunId) -> Result<Self, NameError> {
        check_project(project)?;
        Ok(Self { project: project.to_owned(), run })
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }
}

impl FromStr for RunPlace {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::new("run", text, "it is not PROJECT/RUN, as in web/20261126T233000Z-k3v9");
        let (project, run) = text.split_once('/').ok_or_else(form)?;
        Self::new(project, run.parse()?)
    }
}

impl TryFrom<String> for RunPlace {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<RunPlace> for String {
    fn from(place: RunPlace) -> Self {
        place.to_string()
    }
}

impl fmt::Display for RunPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_called_by_their_time_and_sort_by_it() {
        let began: Timestamp = "2026-11-26T23:30:00.75Z".parse().unwrap();
        let run = RunId::new(began);
        assert!(run.as_str().starts_with("20261126T233000Z-"), "{run}");
        assert_eq!((run.as_str().len(), run.to_string().parse()), (29, Ok(run.clone())));
        assert_eq!(run.time(), "2026-11-26T23:30:00Z".parse().unwrap());
        assert_ne!(RunId::new(began), run);
        assert!(RunId::new("2026-11-26T23:30:01Z".parse().unwrap()) > run);
        let place = RunPlace::new("web", run.clone()).unwrap();
        assert_eq!(place.to_string(), format!("web/{run}"));
        assert_eq!(place.to_string().parse(), Ok(place));
    }

    #[test]
    fn what_is_no_run_is_refused() {
        for bad in [
            "",
            "-",
            "k3v9",
            "20261126T233000Z",
            "20261126T233000Z-",
            "20261126T233000Z-a/b",
            "20261126T233000Z-..",
            "20261126T233000.5Z-k3v9",
            "2026-11-26T23:30:00Z-k3v9",
            "20261326T233000Z-k3v9",
            "20261126T233000z-k3v9",
            "20261126T23300Z-k3v9",
            "20261126T233060Z-k3v9",
            " 20261126T233000Z-k3v9",
            "20261126T233000Z-é",
            &format!("20261126T233000Z-{}", "x".repeat(41)),
        ] {
            assert!(bad.parse::<RunId>().is_err(), "{bad:?} was taken");
            assert!(format!("web/{bad}").parse::<RunPlace>().is_err(), "{bad:?} was taken");
        }
        for bad in
            ["20261126T233000Z-k3v9", "/20261126T233000Z-k3v9", "../20261126T233000Z-k3v9", "a b/20261126T233000Z-k3v9"]
        {
            assert!(bad.parse::<RunPlace>().is_err(), "{bad:?} was taken");
        }
    }
}
