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

/// How many characters must be typed, deleted, replaced or exchanged with their neighbor to turn one word into the other
/// (Levenshtein's distance with transpositions).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = row[j] + usize::from(a != b);
            let mut least = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, n) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("depend", "depends", 1),
            ("restrat", "restart", 1),
            ("lsit", "list", 1),
            ("lsit", "init", 2),
        ] {
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
