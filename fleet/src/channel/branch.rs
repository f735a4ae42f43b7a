//! The name of a branch, as git takes it.

use std::{fmt, str::FromStr};

/// The name of a branch, without `refs/heads/`: what `git check-ref-format --branch` takes, and
/// nothing that stands for another branch (`@{-1}`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Branch(String);

/// Why a text isn't the name of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this branch cannot exist, because {rule}: write the name as `git branch` shows it")]
pub struct BranchError {
    /// Which rule of git the name breaks.
    pub rule: &'static str,
}

impl Branch {
    /// The branch that is meant where none is named: `main`.
    pub fn usual() -> Self {
        Self("main".to_owned())
    }

    /// Longest name, in bytes.
    pub const MAX: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Branch {
    type Err = BranchError;

    fn from_str(name: &str) -> Result<Self, BranchError> {
        match broken_rule(name) {
            Some(rule) => Err(BranchError { rule }),
            None => Ok(Self(name.to_owned())),
        }
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rules of git-check-ref-format(1), and of its `--branch`. A name is part of `refs/heads/{name}`, which therefore has
/// the slash that each reference needs.
fn broken_rule(name: &str) -> Option<&'static str> {
    let refused = |byte: u8| byte.is_ascii_control() || b" ~^:?*[\\".contains(&byte);
    let rules = [
        (name.is_empty(), "its name is empty"),
        (name.len() > Branch::MAX, "its name is longer than 255 bytes"),
        (name.starts_with('-'), "its name begins with `-`"),
        (name == "HEAD", "`HEAD` stands for whatever is checked out"),
        (name.bytes().any(refused), r"its name has a space, a control character, or one of `~ ^ : ? * [ \`"),
        (name.contains(".."), "its name has two dots in a row"),
        (name.contains("@{"), "its name has `@{`"),
        (name.ends_with('.'), "its name ends with a dot"),
        (name.split('/').any(str::is_empty), "its name has a `/` at an end, or two in a row"),
        (name.split('/').any(|part| part.starts_with('.')), "a part of its name begins with a dot"),
        (name.split('/').any(|part| part.strip_suffix(".lock").is_some()), "a part of its name ends with `.lock`"),
    ];
    rules.into_iter().find_map(|(is_broken, rule)| is_broken.then_some(rule))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    /// A repository, in which `@{-1}` means something.
    fn repository() -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let made = Command::new("git").args(["init", "--quiet", "--bare"]).arg(directory.path()).status().unwrap();
        assert!(made.success());
        directory
    }

    fn git_takes(repository: &TempDir, name: &str) -> bool {
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(repository.path()).args(["check-ref-format", "--branch", name]);
        git.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    #[test]
    fn names_are_taken_as_git_takes_them() {
        let repository = repository();
        let good = [
            "main",
            "release/1.x",
            "a@b",
            "@a",
            "@",
            "ä",
            "a-",
            "a.b",
            "head",
            "a.lock.b",
            "a/@",
            "{a}",
            "a/-b",
            "@/x",
        ];
        let bad = [
            "",
            "-",
            "-x",
            "--upload-pack=x",
            "HEAD",
            "@{-1}",
            "a@{b",
            "a..b",
            ".a",
            "a/.b",
            "a.",
            "a.lock",
            "a.lock/b",
            "/a",
            "a/",
            "a//b",
            "a b",
            "a~",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[b",
            "a\\b",
            "a\tb",
            "a\nb",
            "a\u{7f}",
        ];
        for (names, taken) in [(&good[..], true), (&bad[..], false)] {
            for name in names {
                assert_eq!(name.parse::<Branch>().is_ok(), taken, "{name:?}");
                assert_eq!(git_takes(&repository, name), taken, "git: {name:?}");
            }
        }
        assert!("x".repeat(Branch::MAX).parse::<Branch>().is_ok());
        assert!("x".repeat(Branch::MAX + 1).parse::<Branch>().is_err());
    }

    #[test]
    fn a_refused_name_says_why() {
        let error = "--upload-pack=x".parse::<Branch>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "this branch cannot exist, because its name begins with `-`: write the name as `git branch` shows it"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_name_is_taken_if_git_takes_it(name in r"[-a@{}./~^: lockHEAD\\é]{1,8}|(a|\.|/|\.lock|@|\{|-){1,6}") {
            thread_local! { static REPOSITORY: TempDir = repository(); }
            let taken = REPOSITORY.with(|repository| git_takes(repository, &name));
            prop_assert_eq!(name.parse::<Branch>().is_ok(), taken, "{:?}", name);
        }
    }
}
