//! Text from elsewhere, made safe to show: it can't drive a terminal, forge a line, or read otherwise than it is.

use crate::hidden::is_hidden;

/// The text with everything invisible escaped, line ends too: what is left is one line of visible characters.
pub fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// The text as one line in which line ends are shown as ` ⏎ `: for notes, which people write in several lines.
pub fn one_line(text: &str) -> String {
    text.trim_end_matches('\n').split('\n').map(safe).collect::<Vec<_>>().join(" ⏎ ")
}

/// The text line by line, each of them [`safe()`]. Ends with a line end unless it is empty.
pub fn safe_lines(text: &str) -> String {
    text.lines().map(|line| safe(line) + "\n").collect()
}

/// [`safe()`] text of at most `length` characters, with `…` in the place of what was cut.
pub fn cut(text: &str, length: usize) -> String {
    let shown = safe(text);
    if shown.chars().nth(length).is_none() {
        return shown;
    }
    shown.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

/// The text as lines, each of them [`safe()`], all of them at most `length` characters, with `…` in the place of what was
/// cut. What follows the first line belongs below it: whoever prints it sets it off.
pub fn cut_lines(text: &str, length: usize) -> Vec<String> {
    let mut left = length;
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = cut(line.trim_end(), left);
        left -= line.chars().count().min(left);
        let is_cut = line.ends_with('…');
        lines.push(line);
        if left == 0 || is_cut {
            break;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_does_nothing() {
        let table = [
            ("naïve 名前 🦀 a\u{301}", "naïve 名前 🦀 a\u{301}"),
            ("a\x1b[2Jb\r\n\u{202e}c", "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{202e}c"),
            ("a\u{200b}b\u{feff}\u{e0041}\u{ad}", "a\\u{200b}b\\u{feff}\\u{e0041}\\u{ad}"),
            ("\u{9b}31m\u{7f}\t\u{2028}", "\\u{9b}31m\\u{7f}\\u{9}\\u{2028}"),
            ("\u{3164}\u{2066}x\u{2069}", "\\u{3164}\\u{2066}x\\u{2069}"),
        ];
        for (text, expected) in table {
            assert_eq!(safe(text), expected);
        }
    }

    #[test]
    fn lines_stay_apart_where_they_may() {
        assert_eq!(one_line("a\u{1b}[2J\nb\u{202e}c\n"), "a\\u{1b}[2J ⏎ b\\u{202e}c");
        assert_eq!(safe_lines("a\u{1b}\nb\r\nc"), "a\\u{1b}\nb\nc\n");
        assert_eq!(safe_lines(""), "");
    }

    #[test]
    fn lines_are_cut_together() {
        assert_eq!(cut_lines("a\n  b\u{202e}\r\n\nc", 40), ["a", "  b\\u{202e}", "", "c"]);
        assert_eq!(cut_lines("abc\ndef\nghi", 5), ["abc", "d…"]);
        assert_eq!(cut_lines("abc\ndef", 3), ["abc"]);
        assert!(cut_lines("", 5).is_empty());
    }

    #[test]
    fn cut_text_says_so() {
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("a\u{202e}", 4), "a\\u…");
        assert_eq!(cut("abc", 0), "…");
    }
}
