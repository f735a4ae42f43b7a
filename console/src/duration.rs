//! Durations as people write them in arguments and configuration: `90s`, `5m`, `1h30m`, `500ms`.

use std::{fmt::Write as _, time::Duration};

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000), ("d", 24 * 60 * 60 * 1000)];

/// The text isn't a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a duration as in `90s`, `5m` or `1h30m`")]
pub struct DurationError;

/// Parses one or more numbers, each with its unit. Fit to be clap's `value_parser`.
///
/// # Errors
/// When a number has no unit or an unknown one, has a sign or a fraction, or the sum is out of range.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    millis(text).map(Duration::from_millis).ok_or(DurationError)
}

fn millis(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..letters])?;
        sum = sum.checked_add(number.checked_mul(*unit)?)?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(sum)
}

/// Writes a duration the way it is parsed, in the largest units that are exact; what is below a millisecond is dropped.
pub fn show(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, unit) in UNITS.iter().rev() {
        if millis >= *unit {
            let _ = write!(text, "{}{name}", millis / unit);
            millis %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [("5m", 300_000), ("10s", 10_000), ("1h30m", 5_400_000), ("500ms", 500), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
        for text in ["", "5", "m", "5 m", "-1s", "5x", "1.5h", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(text), Err(DurationError), "{text}");
        }
    }
}
