//! Permission bits, as `release.toml` has them: in octal, or as changes of the default as chmod(1) reads them.

use std::str::FromStr;

use anyhow::{Result, bail};
use console::safe;

/// The value of `mode` and `dir_mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `0640`
    Octal(u32),
    /// `u=rwX,g=rX,o=`
    Symbolic(Vec<Change>),
}

/// One clause of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// All bits of those whom it is about.
    who: u32,
    how: How,
    /// The bits that it names, of everybody.
    bits: u32,
    /// `X`: executing, where that makes sense.
    execute_if: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Set,
    Add,
    Remove,
}

impl Mode {
    /// The bits of what has `default` without it.
    pub(crate) fn apply(&self, default: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => changes.iter().fold(default, |mode, change| change.apply(mode, is_directory)),
        }
    }
}

impl Change {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let execute = if self.execute_if && (is_directory || mode & 0o111 != 0) { 0o111 } else { 0 };
        let bits = (self.bits | execute) & self.who;
        match self.how {
            How::Set => mode & !self.who | bits,
            How::Add => mode | bits,
            How::Remove => mode & !bits,
        }
    }
}

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        if octal {
            return Ok(Self::Octal(u32::from_str_radix(text, 8)?));
        }
        match text.split(',').map(clause).collect() {
            Some(changes) => Ok(Self::Symbolic(changes)),
            None => bail!(
                "`{}`: use three or four octal digits, as in \"0750\", or changes as chmod(1) knows them, as in \
                 \"u=rwX,g=rX,o=\"",
                safe(text)
            ),
        }
    }
}

fn clause(text: &str) -> Option<Change> {
    let at = text.find(['=', '+', '-'])?;
    let how = match text.as_bytes()[at] {
        b'=' => How::Set,
        b'+' => How::Add,
        _ => How::Remove,
    };
    let who = text[..at].chars().try_fold(0, |who, c| {
        Some(
            who | match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            },
        )
    })?;
    let mut change = Change { who: if at == 0 { 0o7777 } else { who }, how, bits: 0, execute_if: false };
    for c in text[at + 1..].chars() {
        change.bits |= match c {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            's' => 0o6000,
            't' => 0o1000,
            'X' => {
                change.execute_if = true;
                0
            }
            _ => return None,
        };
    }
    Some(change)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    #[test]
    fn changes_mean_what_chmod_means() {
        let directory = tempfile::tempdir().unwrap();
        let (file, folder) = (directory.path().join("file"), directory.path().join("folder"));
        fs::write(&file, "").unwrap();
        fs::create_dir(&folder).unwrap();
        for text in [
            "u=rwX,g=rX,o=",
            "a+x",
            "go-w",
            "u=rw,go=r",
            "u+s,g-x",
            "+X",
            "=rX",
            "ug=rwX,o-rwx",
            "o+t",
            "a=,u+r",
            "0640",
            "755",
            "2750",
        ] {
            let mode: Mode = text.parse().unwrap();
            for (path, default) in [(&file, 0o644), (&file, 0o755), (&folder, 0o755)] {
                fs::set_permissions(path, fs::Permissions::from_mode(default)).unwrap();
                // Without a `who`, chmod heeds the umask.
                let chmod =
                    Command::new("sh").args(["-c", "umask 0; chmod \"$1\" \"$2\"", "sh", text]).arg(path).status();
                assert!(chmod.unwrap().success(), "{text}");
                let expected = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
                let got = mode.apply(default, path == &folder);
                assert_eq!(got, expected, "{text} of {default:o}: {got:o}, not {expected:o}");
            }
        }
    }

    #[test]
    fn what_chmod_does_not_know_is_refused() {
        for bad in ["", "7", "0o755", "0888", "75555", "+75", "u=rwX g=rX", "u", "z=r", "u=q", "u=r,", "u=rw,g"] {
            let error = bad.parse::<Mode>().unwrap_err().to_string();
            assert!(error.contains("u=rwX,g=rX,o="), "{bad}: {error}");
        }
    }
}
