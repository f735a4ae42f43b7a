//! "Did you mean": the known word that a misspelt one most likely stands for.

/// Longer words aren't compared: nobody types them, and the comparison takes the product of both lengths.
const LONGEST: usize = 64;

/// The one of `known` that somebody who wrote `word` probably meant: a third of its characters may be wrong, and one
/// more. Upper and lower case count as one.
pub fn nearest<'a, T: AsRef<str>>(word: &str, known: &'a [T]) -> Option<&'a str> {
    let length = word.chars().count();
    if length > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let compared = known.iter().map(AsRef::as_ref).map(|name| (distance(&word, &name.to_lowercase()), name));
    let (distance, name) = compared.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + length / 3 && distance < length.max(2)).then_some(name)
}

/// The names in backticks, separated by commas: for "valid keys: …".
pub fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{}`", crate::safe(name.as_ref()))).collect::<Vec<_>>().join(", ")
}

/// How many characters must be typed, deleted or replaced to turn one word into the other (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, n) in [("", "abc", 3), ("abc", "abc", 0), ("depend", "depends", 1), ("restrat", "restart", 2)] {
            assert_eq!(distance(a, b), n, "{a} {b}");
        }
    }

    #[test]
    fn what_was_probably_meant() {
        let known = ["poll", "prune", "Servers", "deployer", "prod"];
        let table = [
            ("pol", Some("poll")),
            ("Server", Some("Servers")),
            ("servers", Some("Servers")),
            ("deploy", Some("deployer")),
            ("prd", Some("prod")),
            ("prnue", Some("prune")),
            ("zzz", None),
            ("x", None),
            ("", None),
        ];
        for (word, expected) in table {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest(&"p".repeat(100_000), &known), None);
        assert_eq!(nearest::<&str>("pol", &[]), None);
        assert_eq!(quoted(&["a", "b"]), "`a`, `b`");
    }
}
