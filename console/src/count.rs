//! Numbers of things.

/// A number and its noun in the right form: `1 server`, `2 servers`, `0 matches`, `3 invalid entries`.
///
/// `one` is the singular; the plural follows the regular rules of English, by the last letters.
pub fn count(number: usize, one: &str) -> String {
    if number == 1 {
        return format!("1 {one}");
    }
    let hisses = ["s", "x", "z", "ch", "sh"].iter().any(|end| one.ends_with(end));
    match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{number} {stem}ies"),
        _ if hisses => format!("{number} {one}es"),
        _ => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_agree_with_their_number() {
        let table = [
            (1, "server", "1 server"),
            (0, "server", "0 servers"),
            (2, "push", "2 pushes"),
            (3, "invalid entry", "3 invalid entries"),
            (2, "day", "2 days"),
            (2, "match", "2 matches"),
        ];
        for (number, one, expected) in table {
            assert_eq!(count(number, one), expected);
        }
    }
}
