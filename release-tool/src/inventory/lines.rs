//! Two texts, line by line.

/// Longest texts that are compared line by line: it takes the product of both.
const LONGEST: usize = 2000;

/// The lines that only one of two texts has, in their order, each with `-` or `+` before it.
pub(super) fn changed_lines(from: &str, to: &str) -> Vec<String> {
    let (from, to): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    if from.len() > LONGEST || to.len() > LONGEST {
        return vec![format!(
            "{} in place of {}",
            console::count(to.len(), "line"),
            console::count(from.len(), "line")
        )];
    }
    // For each pair of places, the length of the longest common rest.
    let mut common = vec![vec![0_usize; to.len() + 1]; from.len() + 1];
    for i in (0..from.len()).rev() {
        for j in (0..to.len()).rev() {
            let skipped = common[i + 1][j].max(common[i][j + 1]);
            common[i][j] = if from[i] == to[j] { common[i + 1][j + 1] + 1 } else { skipped };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut changed = Vec::new();
    while i < from.len() || j < to.len() {
        if i < from.len() && j < to.len() && from[i] == to[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == to.len() || (i < from.len() && common[i + 1][j] >= common[i][j + 1]) {
            changed.push(format!("-{}", from[i]));
            i += 1;
        } else {
            changed.push(format!("+{}", to[j]));
            j += 1;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_side_are_marked() {
        let table: [(&str, &str, &[&str]); 4] = [
            ("a\nb\nc\n", "a\nc\nd\n", &["-b", "+d"]),
            ("", "a\n", &["+a"]),
            ("a\nb\n", "", &["-a", "-b"]),
            ("a\n", "a\n", &[]),
        ];
        for (from, to, expected) in table {
            assert_eq!(changed_lines(from, to), expected, "{from:?} {to:?}");
        }
        assert_eq!(changed_lines(&"a\n".repeat(3000), "b\n"), ["1 line in place of 3000 lines"]);
    }
}
