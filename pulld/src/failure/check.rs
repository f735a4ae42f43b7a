//! How a release's own check failed.

use std::{fmt, time::Duration};

use console::duration::show;
use serde::{Deserialize, Serialize};

/// A check that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckFault {
    /// What was tried: a URL, or a command with its arguments.
    pub(crate) check: String,
    /// How that ended.
    pub(crate) how: CheckEnd,
}

/// How a check ended that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckEnd {
    /// Nobody answered within that time.
    NoAnswer {
        /// The time limit.
        #[serde(rename = "within_ms")]
        within: Limit,
    },
    /// The answer was another one than it should be, or there was none.
    Answer {
        /// What it was, in words.
        words: String,
    },
    /// The command failed.
    CommandFailed {
        /// The time limit, if it did not end within it.
        // The key must be there: without it an earlier pulld has written this, and its sentence is used.
        #[serde(rename = "late_ms", deserialize_with = "Option::deserialize")]
        late: Option<Limit>,
        /// The end of what it printed, safe to show.
        output: String,
    },
}

/// A time limit; written in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub(crate) struct Limit(pub(crate) Duration);

impl From<u64> for Limit {
    fn from(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl From<Limit> for u64 {
    fn from(Limit(limit): Limit) -> Self {
        Self::try_from(limit.as_millis()).unwrap_or(Self::MAX)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0))
    }
}

impl fmt::Display for CheckFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its check `{}` failed", self.check)?;
        match &self.how {
            CheckEnd::NoAnswer { within } => write!(f, ": no answer within {within}"),
            CheckEnd::Answer { words } => write!(f, ": {words}"),
            CheckEnd::CommandFailed { late, output } => {
                if let Some(limit) = late {
                    write!(f, ": it did not end within {limit}")?;
                }
                match output.as_str() {
                    "" => f.write_str("; it printed nothing"),
                    output => write!(f, "; output: {output}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_check_failed_is_said() {
        let limit = Limit(Duration::from_secs(5));
        for (how, words) in [
            (CheckEnd::NoAnswer { within: limit }, ": no answer within 5s"),
            (CheckEnd::Answer { words: "its status is 503".to_owned() }, ": its status is 503"),
            (CheckEnd::CommandFailed { late: None, output: String::new() }, "; it printed nothing"),
            (
                CheckEnd::CommandFailed { late: Some(limit), output: "no database".to_owned() },
                ": it did not end within 5s; output: no database",
            ),
        ] {
            let fault = CheckFault { check: "probe".to_owned(), how };
            assert_eq!(fault.to_string(), format!("its check `probe` failed{words}"));
            let written = serde_json::to_string(&fault).unwrap();
            assert_eq!(serde_json::from_str::<CheckFault>(&written).unwrap(), fault);
        }
        let of_before = r#"{ "command-failed": { "late": { "secs": 5, "nanos": 0 }, "output": "" } }"#;
        assert!(serde_json::from_str::<CheckEnd>(of_before).is_err(), "its words are kept");
        let written = serde_json::to_value(CheckEnd::NoAnswer { within: limit }).unwrap();
        assert_eq!(written, serde_json::json!({ "no-answer": { "within_ms": 5000 } }));
    }
}
