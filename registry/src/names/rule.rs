//! Which repositories may be written: nothing is, unless a rule names it.

use std::{fmt, str::FromStr};

use bucket::NameError;
use regex::{Regex, RegexBuilder};

use super::repository::Repository;

/// Longest expression, in bytes.
const MAX: usize = 1000;

/// Most memory that an expression may take once it is compiled, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression for whole names of repositories, as `images\.example/acme/.*`.
#[derive(Debug, Clone)]
pub struct Rule {
    written: String,
    whole: Regex,
}

/// A repository that a rule lets be written. Only [`Rule::permit`] makes one, and only with one something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable(Repository);

/// No rule lets this repository be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{repository}` may not be written: {reason}")]
pub struct NotWritable {
    repository: Repository,
    reason: String,
}

impl Rule {
    /// Whether it matches the whole name of a repository.
    pub fn matches(&self, repository: &Repository) -> bool {
        self.whole.is_match(&repository.to_string())
    }

    /// The rule that lets one repository be written, as the image of a channel.
    pub fn only(repository: &Repository) -> Self {
        let written = regex::escape(&repository.to_string());
        let whole = Regex::new(&format!(r"\A(?:{written})\z")).expect("an escaped name is an expression");
        Self { written, whole }
    }

    /// Whether a repository may be written by this rule, if there is one.
    ///
    /// # Errors
    /// When there is no rule, or it doesn't match the whole name.
    pub fn permit(rule: Option<&Self>, repository: &Repository) -> Result<Writable, NotWritable> {
        let refused = |reason: String| Err(NotWritable { repository: repository.clone(), reason });
        match rule {
            None => refused("no rule says which repositories may be".to_owned()),
            Some(rule) if rule.matches(repository) => Ok(Writable(repository.clone())),
            Some(rule) => refused(format!("the rule `{rule}` does not match its whole name")),
        }
    }
}

impl FromStr for Rule {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason: String| NameError::new("expression for names of images", text, reason);
        if text.is_empty() || text.len() > MAX {
            return Err(wrong(format!("it must have 1 to {MAX} characters")));
        }
        let compile = |text: &str| RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
        // Alone first: `a)|(b` must not become two expressions by the parentheses around it.
        let own = |error: regex::Error| wrong(error.to_string().lines().last().unwrap_or_default().trim().to_owned());
        compile(text).map_err(own)?;
        let whole = compile(&format!(r"\A(?:{text})\z")).map_err(own)?;
        Ok(Self { written: text.to_owned(), whole })
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Rule {}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Writable {
    /// Which one.
    pub fn repository(&self) -> &Repository {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(rule: &str, repository: &str) -> Result<Writable, NotWritable> {
        Rule::permit(Some(&rule.parse().unwrap()), &repository.parse().unwrap())
    }

    #[test]
    fn only_the_whole_name_may_be_written() {
        let rule = r"images\.example/acme/.*";
        assert_eq!(permit(rule, "images.example/acme/web").unwrap().repository().path(), "acme/web");
        for other in ["images.example/other/web", "imagesxexample.example/acme/web", "evil.images.example/acme/web"] {
            let error = permit(rule, other).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{other}` may not be written: the rule `")), "{error}");
        }
        for (rule, other) in [("a.example/x|b.example/y", "a.example/xyz"), ("a.example/x$", "a.example/x/y")] {
            assert!(permit(rule, other).is_err(), "{rule} {other}");
        }
    }

    #[test]
    fn the_rule_of_one_repository_lets_no_other_be_written() {
        let only = Rule::only(&"images.example:5000/acme/web".parse().unwrap());
        for (other, may_be) in [
            ("images.example:5000/acme/web", true),
            ("imagesxexample:5000/acme/web", false),
            ("images.example:5000/acme/web/x", false),
        ] {
            assert_eq!(Rule::permit(Some(&only), &other.parse().unwrap()).is_ok(), may_be, "{other}");
        }
    }

    #[test]
    fn without_a_rule_nothing_may_be_written() {
        let error = Rule::permit(None, &"images.example/web".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("no rule says which repositories may be"), "{error}");
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in ["", "(", "a)|(b", "[", r"\p{x", "(((((a{100}){100}){100}){100}){100})", &"x".repeat(MAX + 1)] {
            assert!(bad.parse::<Rule>().is_err(), "{bad:.40}");
        }
    }
}
