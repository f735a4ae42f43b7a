//! How long ago something was. `web/assets/push.js` counts on with the same rule.

use jiff::SignedDuration;

/// A span of time in its nearest unit, as a person says it: `40 s`, `12 min`, `19 h`, `3 d`.
///
/// The next unit begins at one and a half of it. What lies in the future, by a clock that is ahead, is `0 s`.
pub fn age(elapsed: SignedDuration) -> String {
    match elapsed.as_secs() {
        i64::MIN..0 => "0 s".to_owned(),
        seconds @ 0..90 => format!("{seconds} s"),
        seconds @ 90..5400 => format!("{} min", (seconds + 30) / 60),
        seconds @ 5400..129_600 => format!("{} h", (seconds + 1800) / 3600),
        seconds => format!("{} d", seconds.saturating_add(43_200) / 86_400),
    }
}

/// The same with its preposition: `12 min ago`.
pub fn ago(elapsed: SignedDuration) -> String {
    format!("{} ago", age(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_use_their_nearest_unit() {
        let table = [
            (-5, "0 s"),
            (0, "0 s"),
            (89, "89 s"),
            (90, "2 min"),
            (149, "2 min"),
            (150, "3 min"),
            (5399, "90 min"),
            (5400, "2 h"),
            (19 * 3600 + 1799, "19 h"),
            (19 * 3600 + 1800, "20 h"),
            (129_599, "36 h"),
            (129_600, "2 d"),
            (200_000, "2 d"),
            (i64::MAX, "106751991167300 d"),
        ];
        for (seconds, expected) in table {
            assert_eq!(age(SignedDuration::from_secs(seconds)), expected, "{seconds}");
        }
        assert_eq!(ago(SignedDuration::from_mins(12)), "12 min ago");
    }
}
