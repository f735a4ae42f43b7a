//! The reason for a failure: a sentence, and below it what the unit last wrote to its journal, or what dpkg printed. Pure.
//!
//! The first line stands for itself: where there is room for one, it is the one.

use bucket::AppName;
use console::cut;

/// Most lines below the sentence of a reason.
const MAX_LINES: usize = 5;

/// Most characters of one of them.
const MAX_LINE: usize = 200;

/// Most bytes of all of them.
const MAX_BYTES: usize = 1024;

/// A sentence about a unit, and the last of the `lines` that it wrote, made safe and kept short.
pub(crate) fn with_journal(sentence: &str, unit: &str, lines: &[String]) -> String {
    with_lines(sentence, &format!("the journal of `{unit}`"), lines)
}

/// A sentence, and the last of the `lines` of something, made safe and kept short.
pub(super) fn with_lines(sentence: &str, of: &str, lines: &[String]) -> String {
    let lines = last_lines(lines);
    if lines.is_empty() {
        return sentence.to_owned();
    }
    format!("{sentence}\n{of} ends with:\n  {}", lines.join("\n  "))
}

/// The first of some apps by name, and how many more there are.
pub(crate) fn some_of<'a>(apps: impl ExactSizeIterator<Item = &'a AppName>, most: usize) -> String {
    let more = apps.len().saturating_sub(most);
    let named = apps.take(most).map(|app| format!("`{app}`")).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// The last of some lines, made safe and kept short.
pub(crate) fn last_lines(lines: &[impl AsRef<str>]) -> Vec<String> {
    let lines = lines.iter().map(|line| line.as_ref().trim_end()).filter(|line| !line.is_empty());
    let mut kept: Vec<String> = Vec::new();
    let mut bytes = 0;
    for line in lines.rev().take(MAX_LINES).map(|line| cut(&line.replace('\t', "    "), MAX_LINE)) {
        bytes += line.len();
        if bytes > MAX_BYTES {
            break;
        }
        kept.push(line);
    }
    kept.reverse();
    kept
}

/// Two reasons as one: both sentences first, then what is below them.
pub(crate) fn join(first: &str, second: &str) -> String {
    let parts = |reason: &str| {
        let (sentence, below) = reason.split_at(reason.find('\n').unwrap_or(reason.len()));
        (sentence.to_owned(), below.to_owned())
    };
    let ((first, first_below), (second, second_below)) = (parts(first), parts(second));
    format!("{first}; {second}{first_below}{second_below}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(lines: &[&str]) -> String {
        let kept = last_lines(lines);
        assert_eq!(last_lines(&kept), kept, "what is kept is not cut again");
        with_journal("it failed", "web.service", &kept)
    }

    #[test]
    fn the_last_lines_follow_the_sentence() {
        assert_eq!(reason(&[]), "it failed");
        assert_eq!(reason(&["", "  "]), "it failed");
        assert_eq!(
            reason(&["1", "2", "3", "", "4 \r", "5", "\t6"]),
            "it failed\nthe journal of `web.service` ends with:\n  2\n  3\n  4\n  5\n      6"
        );
    }

    #[test]
    fn whatever_a_service_writes_the_reason_is_short_and_safe() {
        let shown = reason(&["\u{1b}[2J\u{202e}x\nweb: converged"]);
        assert!(shown.ends_with("\n  \\u{1b}[2J\\u{202e}x\\u{a}web: converged"), "{shown}");
        let long = "🦀".repeat(100_000);
        let shown = reason(&[long.as_str(); 100]);
        assert!(shown.len() < 1200 && shown.lines().count() == 3, "{} bytes", shown.len());
        assert!(shown.ends_with('…'));
    }

    #[test]
    fn sentences_come_before_lines() {
        assert_eq!(join("a", "b"), "a; b");
        assert_eq!(join("a\n  1", "b"), "a; b\n  1");
        assert_eq!(join("a\n  1", "b\n  2"), "a; b\n  1\n  2");
    }
}
