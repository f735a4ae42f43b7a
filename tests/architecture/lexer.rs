//! Just enough of Rust's lexer to tell code from comments and strings, and tests from what is shipped.

use std::ops::Range;

/// Whether a character can be part of a name.
pub(crate) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The text, of the same length, with comments and literals blanked; and its strings: where each begins, and what it holds.
pub(crate) fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let mut length = comment(rest).or_else(|| character(text, at));
        if let Some((whole, content)) = string(rest) {
            strings.push((at, text[at + content.start..at + content.end].to_owned()));
            length = Some(whole);
        }
        if let Some(length) = length {
            code[at..at + length].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
            at += length;
        } else {
            // A whole word at once, so that none of its letters begins a string.
            at += rest.iter().take_while(|byte| is_word(char::from(**byte))).count().max(1);
        }
    }
    (String::from_utf8(code).expect("what isn't ASCII was blanked"), strings)
}

/// The length of the comment that begins here.
fn comment(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"//") {
        return Some(rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }
    let end = rest.starts_with(b"/*").then(|| rest.windows(2).position(|pair| pair == b"*/"))?;
    Some(end.map_or(rest.len(), |end| end + 2))
}

/// The length of the string that begins here, and where in it its content is.
fn string(rest: &[u8]) -> Option<(usize, Range<usize>)> {
    let prefix = rest.iter().take_while(|byte| b"bcr".contains(byte)).count();
    let raw = rest[..prefix].contains(&b'r');
    let hashes = if raw { rest[prefix..].iter().take_while(|byte| **byte == b'#').count() } else { 0 };
    let start = prefix + hashes + 1;
    if prefix > 2 || rest.get(start - 1) != Some(&b'"') {
        return None;
    }
    let mut at = start;
    while at < rest.len() {
        match rest[at] {
            b'\\' if !raw => at += 2,
            b'"' if rest[at + 1..].iter().take(hashes).filter(|byte| **byte == b'#').count() == hashes => {
                return Some((at + 1 + hashes, start..at));
            }
            _ => at += 1,
        }
    }
    panic!("a string has no end")
}

/// The length of the character literal that begins here; a lifetime isn't one.
fn character(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let quoted = rest.strip_prefix('\'').or_else(|| rest.strip_prefix("b'"))?;
    let mut characters = quoted.char_indices();
    let end = match characters.next()? {
        (_, '\\') => characters.skip(1).find(|(_, c)| *c == '\'')?.0,
        _ => characters.next().filter(|(_, c)| *c == '\'')?.0,
    };
    Some(rest.len() - quoted.len() + end + 1)
}

/// Where the items are, in blanked code, that `#[cfg(test)]` and `#[test]` keep out of what is shipped.
pub(crate) fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for attribute in ["#[cfg(test)]", "#[test]", "#[tokio::test"] {
        for (start, _) in code.match_indices(attribute) {
            if !found.iter().any(|range| range.contains(&start)) {
                found.push(start..end_of_item(code, start));
            }
        }
    }
    found
}

/// Where an item, or a statement, ends: at its `;` or `,` or after its outermost braces.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0_u32;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' if depth <= 1 => {
                depth = 0;
                if byte == b'}' {
                    return at + 1;
                }
            }
            b'}' | b')' | b']' => depth -= 1,
            b';' | b',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_strings_and_tests_are_not_code() {
    let text = r##"
use a::b; // use c
fn f<'a>(x: &'a str) -> char { g("use \"d\"", r#"e"f"#, b'\'', '"', 'ü'); /* use h */ x }
#[cfg(test)]
mod tests { use super::*; fn i() { "j"; } }
fn k() { #[cfg(test)] l(1, 2); m() }
"##;
    let (code, strings) = blank(text);
    assert_eq!(code.len(), text.len());
    let strings: Vec<_> = strings.iter().map(|(_, string)| string.as_str()).collect();
    assert_eq!(strings, [r#"use \"d\""#, "e\"f", "j"]);
    assert!(!["use c", "use h", "ü"].iter().any(|word| code.contains(word)), "{code}");
    assert!(code.contains("fn f<'a>(x: &'a str) -> char { g("), "{code}");
    let items: Vec<_> = test_items(&code).into_iter().map(|range| &code[range]).collect();
    assert_eq!(items.len(), 2, "{items:?}");
    assert!(items[0].ends_with("} }") && items[1] == "#[cfg(test)] l(1, 2);", "{items:?}");
}
