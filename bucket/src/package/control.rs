//! Control files (deb-control(5)): fields in, fields out, and no way for a value to become a field.

use std::fmt;

/// Why a control file, or a field of it, cannot be used: a sentence that names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ControlError(String);

impl ControlError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// What is wrong with the value of a field.
    pub(super) fn of(field: &str, reason: impl fmt::Display) -> Self {
        Self(format!("invalid field `{field}`: {reason}"))
    }
}

/// A control file's fields in their order.
///
/// Read as dpkg reads them, byte for byte, so that both always mean the same package; a test compares them. It is
/// stricter than dpkg only where no package worth installing is lost: text must be UTF-8 without NUL, names of fields
/// ASCII, and the last line a whole one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Control {
    /// Values of one line, except folded ones that were read: those have their line ends and the spaces after them.
    fields: Vec<(String, String)>,
}

impl Control {
    /// Most bytes of a control file that are read.
    pub const MAX: usize = 1 << 20;

    /// Reads a control file, which has one paragraph.
    ///
    /// # Errors
    /// When it is larger than [`Control::MAX`], or isn't one paragraph of fields with different names.
    pub fn parse(content: &[u8]) -> Result<Self, ControlError> {
        if content.len() > Self::MAX {
            return Err(ControlError::new(format!("control file has more than {} bytes", Self::MAX)));
        }
        let text = str::from_utf8(content).map_err(|_| ControlError::new("control file is not UTF-8"))?;
        // dpkg cuts a value at the one, and ends the paragraph at the other.
        if text.contains(['\0', '\u{1a}']) {
            return Err(ControlError::new("control file has a NUL or end-of-file character"));
        }
        let Some(text) = text.strip_suffix('\n') else {
            return Err(ControlError::new("control file does not end with a newline"));
        };
        let mut control = Self::default();
        let mut lines = text.split('\n').skip_while(|line| line.is_empty());
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            control.read_line(line)?;
        }
        if lines.any(|line| !line.is_empty()) {
            return Err(ControlError::new("control file has more than one paragraph"));
        }
        for (_, value) in &mut control.fields {
            value.truncate(value.trim_end_matches(is_space).len());
        }
        match control.fields.last() {
            // dpkg takes it for a file that was cut short.
            Some((field, value)) if value.is_empty() && !text.ends_with('\n') => {
                Err(ControlError::of(field, "control file ends before its value"))
            }
            _ => Ok(control),
        }
    }

    fn read_line(&mut self, line: &str) -> Result<(), ControlError> {
        if line.starts_with(is_space) {
            let Some((field, value)) = self.fields.last_mut() else {
                return Err(ControlError::new("first line of the control file continues no field"));
            };
            if line.chars().all(is_space) {
                return Err(ControlError::of(field, "blank line in its value"));
            }
            value.push('\n');
            value.push_str(line);
            return Ok(());
        }
        let Some((name, value)) = line.split_once(':') else {
            let shown: String = line.chars().take(200).flat_map(char::escape_debug).collect();
            return Err(ControlError::new(format!("line `{shown}` of the control file is no field")));
        };
        let name = name.trim_end_matches(is_space);
        check_name(name)?;
        if self.get(name).is_some() {
            return Err(ControlError::of(name, "control file has it twice"));
        }
        self.fields.push((name.to_owned(), value.trim_start_matches(is_space).to_owned()));
        Ok(())
    }

    /// The value of a field, names compared as dpkg does: without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The fields with their values, in their order. Folded values have their line ends and the spaces after them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a field that may be folded, as one line.
    pub(super) fn unfolded(&self, name: &str) -> Option<String> {
        let value = self.get(name)?;
        Some(value.split('\n').map(|line| line.trim_matches(is_space)).collect::<Vec<_>>().join(" ").trim().to_owned())
    }

    /// Adds a field of one line. An empty value is no field: dpkg refuses empty ones.
    ///
    /// # Errors
    /// When the value has a control character, or the field can't be added because of its name.
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), ControlError> {
        check_name(name)?;
        if value.chars().any(char::is_control) {
            return Err(ControlError::of(name, format!("control character in its value `{}`", value.escape_debug())));
        }
        let value = value.trim();
        if value.is_empty() {
            return Ok(());
        }
        if self.get(name).is_some() {
            return Err(ControlError::of(name, "control file has it already"));
        }
        self.fields.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Adds `Description:`: the first line is the synopsis, the others are folded (Debian Policy §5.6.13).
    ///
    /// # Errors
    /// When it has a control character besides line ends and tabs, or there is a description already.
    pub fn push_description(&mut self, text: &str) -> Result<(), ControlError> {
        const NAME: &str = "Description";
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(ControlError::of(NAME, "control character in its value"));
        }
        if self.get(NAME).is_some() {
            return Err(ControlError::of(NAME, "control file has it already"));
        }
        let mut lines = text.trim().lines();
        let mut value = lines.next().unwrap_or_default().trim().to_owned();
        for line in lines {
            let line = line.trim_end().replace('\t', "    ");
            value.push_str("\n ");
            value.push_str(if line.is_empty() { "." } else { &line });
        }
        if !value.is_empty() {
            self.fields.push((NAME.to_owned(), value));
        }
        Ok(())
    }

    /// Takes the fields away whose name begins with `prefix`.
    pub(super) fn remove_all(&mut self, prefix: &str) {
        self.fields.retain(|(name, _)| !name.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix)));
    }
}

impl fmt::Display for Control {
    /// As the text of a control file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields.iter().try_for_each(|(name, value)| {
            let space = if value.is_empty() || value.starts_with('\n') { "" } else { " " };
            writeln!(f, "{name}:{space}{value}")
        })
    }
}

/// C's `isspace`, by which dpkg goes.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

fn check_name(name: &str) -> Result<(), ControlError> {
    let shown: String = name.chars().take(200).flat_map(char::escape_debug).collect();
    if name.len() < 2 {
        return Err(ControlError::new(format!("control file has a field `{shown}`: the name is too short")));
    }
    if !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') || name.starts_with('-') {
        return Err(ControlError::new(format!("`{shown}` is not the name of a field")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_never_begins_a_field() {
        let mut control = Control::default();
        control.push("Package", "web").unwrap();
        control.push_description("Web\nEssential: yes\n\n\tmore\n. \n").unwrap();
        let text = control.to_string();
        assert_eq!(text, "Package: web\nDescription: Web\n Essential: yes\n .\n     more\n .\n");
        let read = Control::parse(text.as_bytes()).unwrap();
        assert_eq!((read.get("essential"), read.fields.len()), (None, 2));
        assert!(control.push("Push-Note", "a\nEssential: yes").is_err());
        assert!(control.push("package", "api").is_err());
        assert!(Control::default().push_description("x\ry\n\u{1b}z").is_err());
    }

    #[test]
    fn reading_and_writing_changes_nothing() {
        let text = "Package: a\nDepends: b,\n c\nDescription: x\n y\n .\n z\nHomepage: h\nXX:\n 1\n";
        assert_eq!(Control::parse(text.as_bytes()).unwrap().to_string(), text);
    }

    #[test]
    fn what_is_not_one_paragraph_of_fields_is_refused() {
        for bad in [
            "no field\n",
            " x\n",
            "AA: 1\naa: 2\n",
            "AA: 1\n\nBB: 2\n",
            ": x\n",
            "AA: 1",
            "AA: 1\nx",
            "AA: 1\n \nBB: 2\n",
            "AA: 1\r\n\r\nBB: 2\r\n",
            "A A: 1\n",
            "-A: 1\n",
            "AA: 1\nBB:\n",
            "AA: 1\0\n",
            "AA: 1\n\u{1a}\n",
            "-----BEGIN PGP SIGNED MESSAGE-----\n",
        ] {
            assert!(Control::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Control::parse(b"AA: \xff\n").is_err());
        assert!(Control::parse(format!("AA: {}\n", "x".repeat(Control::MAX)).as_bytes()).is_err());
    }

    #[test]
    fn spaces_around_names_and_values_are_none_of_theirs() {
        let control = Control::parse(b"\n\nAA :\t1 \r\nBB: 2, \r\n\t3\r\n\n\n").unwrap();
        assert_eq!((control.get("aa"), control.get("BB")), (Some("1"), Some("2, \r\n\t3")));
        assert_eq!(control.unfolded("bb").unwrap(), "2, 3");
    }

    #[test]
    fn fields_of_a_prefix_are_taken_away_with_their_continuation() {
        let mut control = Control::parse(b"Package: a\nPush-Note: x\n y\npush-units: z\nPushy: p\n").unwrap();
        control.remove_all("Push-");
        assert_eq!(control.to_string(), "Package: a\nPushy: p\n");
    }
}
