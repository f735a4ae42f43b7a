//! Any text as one line of a control file, and back.

use std::fmt::Write as _;

/// Writes any text as one line: `\\`, `\n`, `\t`, and `\u{…}` for other control characters and line separators.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
        out
    })
}

/// The text that [`escape`] wrote; `None` if it could not have written this line.
pub(super) fn unescape(line: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next()? {
            '\\' => out.push('\\'),
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'u' if rest.next() == Some('{') => {
                let digits: String = rest.by_ref().take_while(|c| *c != '}').take(8).collect();
                out.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32)?);
            }
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_is_one_line_and_comes_back() {
        for text in ["", "plain", "a\nEssential: yes", "a\\nb", "\u{1b}[2J\r\0\u{85}\u{2028}", "tab\tä€", "\\u{41}"]
        {
            let line = escape(text);
            assert_eq!(line.lines().count(), usize::from(!line.is_empty()), "{line}");
            assert!(!line.chars().any(char::is_control), "{line}");
            assert_eq!(unescape(&line).unwrap(), text);
        }
        for bad in ["\\", "\\x", "\\u41", "\\u{110000}", "\\u{"] {
            assert!(unescape(bad).is_none(), "{bad}");
        }
    }
}
