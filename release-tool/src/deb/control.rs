//! Control files (deb-control(5)): fields in, fields out, and no way for a value to become a field.

use std::fmt::Write as _;

use anyhow::{Result, bail};

/// A control file's fields in their order. Values have no line ends, except folded ones that were read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    fields: Vec<(String, String)>,
}

impl Control {
    /// The value of a field, names compared as dpkg does.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Adds a field of one line. An empty value is no field: dpkg refuses empty ones.
    pub(crate) fn push(&mut self, name: &str, value: &str) -> Result<()> {
        if value.chars().any(char::is_control) {
            bail!("`{name}` has a control character in its value `{}`", value.escape_debug());
        }
        if !value.trim().is_empty() {
            self.fields.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(())
    }

    /// Adds `Description:`: the first line is the synopsis, the others are folded (Debian Policy §5.6.13).
    pub(crate) fn push_description(&mut self, text: &str) {
        let mut lines = text.trim().lines();
        let mut value = lines.next().unwrap_or_default().trim().to_owned();
        for line in lines {
            let line = line.trim_end().replace('\t', "    ");
            let line = if line.trim().is_empty() { "." } else { &line };
            let _ = write!(value, "\n {line}");
        }
        self.fields.push(("Description".to_owned(), value));
    }

    /// Takes the fields away whose name begins with `prefix`.
    pub(crate) fn remove_all(&mut self, prefix: &str) {
        self.fields.retain(|(name, _)| !name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix)));
    }

    /// Reads a control file of one paragraph.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut control = Self::default();
        let mut lines = text.lines().skip_while(|line| line.trim().is_empty()).peekable();
        for line in lines.by_ref() {
            if line.trim().is_empty() {
                break;
            }
            if line.starts_with([' ', '\t']) {
                let Some((_, value)) = control.fields.last_mut() else { bail!("its first line continues no field") };
                let _ = write!(value, "\n{line}");
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                bail!("its line `{}` is no field", line.escape_debug());
            };
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) || control.get(name).is_some() {
                bail!("its field `{}` is misnamed or there twice", name.escape_debug());
            }
            control.fields.push((name.to_owned(), value.trim().to_owned()));
        }
        if lines.any(|line| !line.trim().is_empty()) {
            bail!("it has more than one paragraph");
        }
        Ok(control)
    }

    /// As text.
    pub(crate) fn render(&self) -> String {
        self.fields.iter().fold(String::new(), |mut text, (name, value)| {
            let space = if value.is_empty() || value.starts_with('\n') { "" } else { " " };
            let _ = writeln!(text, "{name}:{space}{value}");
            text
        })
    }
}

/// Writes any text as one line: `\\`, `\n`, `\t`, and `\u{…}` for other control characters and line separators.
pub(crate) fn escape(text: &str) -> String {
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

/// The text that [`escape`] wrote.
pub(crate) fn unescape(line: &str) -> Result<String> {
    let mut out = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('\\') => out.push('\\'),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('u') if rest.next() == Some('{') => {
                let digits: String = rest.by_ref().take_while(|c| *c != '}').take(8).collect();
                match u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32) {
                    Some(c) => out.push(c),
                    None => bail!("`\\u{{{}}}` is no character", digits.escape_debug()),
                }
            }
            _ => bail!("`{}` has a wrong escape", line.escape_debug()),
        }
    }
    Ok(out)
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
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_description_never_begins_a_field() {
        let mut control = Control::default();
        control.push("Package", "web").unwrap();
        control.push_description("Web\nEssential: yes\n\n\tmore\n. \n");
        let text = control.render();
        assert_eq!(text, "Package: web\nDescription: Web\n Essential: yes\n .\n     more\n .\n");
        let read = Control::parse(&text).unwrap();
        assert_eq!((read.get("essential"), read.fields.len()), (None, 2));
        assert!(control.push("Push-Note", "a\nEssential: yes").is_err());
    }

    #[test]
    fn reading_and_writing_changes_nothing() {
        let text = "Package: a\nDepends: b,\n c\nDescription: x\n y\n .\n z\nHomepage: h\nX:\n 1\n";
        assert_eq!(Control::parse(text).unwrap().render(), text);
        for bad in ["no field\n", " x\n", "A: 1\na: 2\n", "A: 1\n\nB: 2\n", ": x\n"] {
            assert!(Control::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_of_a_prefix_are_taken_away_with_their_continuation() {
        let mut control = Control::parse("Package: a\nPush-Note: x\n y\npush-units: z\nPushy: p\n").unwrap();
        control.remove_all("Push-");
        assert_eq!(control.render(), "Package: a\nPushy: p\n");
    }
}
