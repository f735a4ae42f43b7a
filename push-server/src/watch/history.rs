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

    fn parse(text: &str) -> Result<(Option<String>, Vec<String>), String> {
        let name = |commit: Commit| commit.as_str()[..1].to_owned();
        let words = text.split(' ').map(|word| if word.len() == 1 { word.repeat(40) } else { word.to_owned() });
        let text = words.collect::<Vec<_>>().join(" ").replace('_', " ");
        let lines = text.replace(" / ", "\n");
        let history = History::parse(lines.as_bytes())?;
        Ok((history.parent.map(name), history.commits.into_iter().map(name).collect()))
    }

    #[test]
    fn each_commit_must_follow_the_one_before() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse("a / b a / c b d"), Ok((None, owned(&["a", "b", "c"]))));
        assert_eq!(parse("b a / c b"), Ok((Some("a".to_owned()), owned(&["b", "c"]))));
        assert_eq!(History::parse(b""), Ok(History { parent: None, commits: Vec::new() }));
        assert!(parse("a / c b").unwrap_err().contains("does not follow"));
        assert!(parse("a / b").unwrap_err().contains("does not follow"));
        assert!(parse("a / b d a").unwrap_err().contains("does not follow"), "only the first parent counts");
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
