//! What `git rev-list --first-parent --parents --reverse` prints: commits, oldest first, each with its parents.

use bucket::Commit;
use console::cut;

/// Commits of which each landed on the one before it, oldest first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct History {
    /// What the oldest of them landed on; `None` if it was the first of all.
    pub(super) parent: Option<Commit>,
    pub(super) commits: Vec<Commit>,
}

impl History {
    /// # Errors
    /// When it is anything else than one unbroken line of commits: why, safe to show.
    pub(super) fn parse(printed: &[u8]) -> Result<Self, String> {
        let printed = str::from_utf8(printed).map_err(|_| "what git printed is not UTF-8".to_owned())?;
        let mut history = Self { parent: None, commits: Vec::new() };
        for line in printed.lines() {
            let mut words = line
                .split(' ')
                .map(|word| word.parse::<Commit>().map_err(|_| format!("`{}` is no line of commits", cut(line, 200))));
            let commit = words.next().unwrap_or_else(|| Err("git printed an empty line".to_owned()))?;
            let parent = words.next().transpose()?;
            match history.commits.last() {
                None => history.parent = parent,
                before if parent.as_ref() == before => {}
                Some(before) => return Err(format!("`{commit}` does not follow `{before}`")),
            }
            history.commits.push(commit);
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses lines of commits that have one letter for all their digits.
    fn parse(lines: &[&str]) -> Result<History, String> {
        let whole = |line: &&str| line.split(' ').map(|name| name.repeat(40)).collect::<Vec<_>>().join(" ");
        History::parse(lines.iter().map(whole).collect::<Vec<_>>().join("\n").as_bytes())
    }

    fn history(parent: Option<&str>, commits: &[&str]) -> History {
        let commit = |name: &str| name.repeat(40).parse().unwrap();
        History { parent: parent.map(commit), commits: commits.iter().map(|name| commit(name)).collect() }
    }

    #[test]
    fn each_commit_must_follow_the_one_before() {
        assert_eq!(parse(&["a", "b a", "c b d"]), Ok(history(None, &["a", "b", "c"])));
        assert_eq!(parse(&["b a", "c b"]), Ok(history(Some("a"), &["b", "c"])));
        assert_eq!(History::parse(b""), Ok(history(None, &[])));
        assert!(parse(&["a", "c b"]).unwrap_err().contains("does not follow"));
        assert!(parse(&["a", "b"]).unwrap_err().contains("does not follow"));
        assert!(parse(&["a", "b d a"]).unwrap_err().contains("does not follow"), "only the first parent counts");
    }

    #[test]
    fn what_is_no_commit_is_an_error() {
        for bad in ["a\n", "--upload-pack=x", "A".repeat(40).as_str(), "a".repeat(41).as_str(), "\n", "\u{202e}"] {
            let error = History::parse(bad.as_bytes()).unwrap_err();
            assert!(!error.contains('\u{202e}'), "{error}");
        }
        assert!(History::parse(&[0xff]).is_err());
    }
}
