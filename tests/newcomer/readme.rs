//! The commands that README.md tells a newcomer to type.

/// Lines of the blocks of shell in a part of a document, with the title of that part as it is written.
pub(crate) fn commands<'a>(text: &'a str, title: &str) -> Vec<&'a str> {
    let part = part(text, title);
    let mut inside = false;
    let mut lines = Vec::new();
    for line in part.lines() {
        match line {
            "```sh" => inside = true,
            _ if line.starts_with("```") => inside = false,
            _ if inside && !line.trim().is_empty() => lines.push(line),
            _ => {}
        }
    }
    lines
}

/// The text below a title, up to the next one of its kind.
pub(crate) fn part<'a>(text: &'a str, title: &str) -> &'a str {
    let start = text.find(title).map_or(text.len(), |at| at + title.len());
    let rest = &text[start..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn commands_are_the_lines_of_shell_below_a_title() {
    let text = "## One\n```sh\na\n```\n## Two\n```toml\nb = 1\n```\n```sh\nc && d\n\ne\n```\n## Three\n```sh\nf\n```\n";
    assert_eq!(commands(text, "## Two\n"), ["c && d", "e"]);
    assert_eq!(commands(text, "## Three\n"), ["f"]);
}
