//! JSON that fits an HTTP header: an object's metadata travels as one.

use std::fmt::Write as _;

use serde::Serialize;

/// A value as JSON on one line, in visible ASCII only: Google leaves out a header that has anything else.
pub(crate) fn to_ascii_json<T: Serialize + ?Sized>(value: &T) -> String {
    let json = serde_json::to_string(value).expect("what is written into metadata is JSON");
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        // JSON has others only within strings.
        if (' '..='~').contains(&character) {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                // A string takes whatever is written.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

/// A text cut to at most so many bytes, at a character.
pub(crate) fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back_from_visible_ascii() {
        for text in ["", "für alle 🎉", "\u{7f}\u{0}\n\"\\", "\u{202e}\u{ffff}"] {
            let json = to_ascii_json(text);
            assert!(json.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{json}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
        assert_eq!((cut("für", 2), cut("für", 3), cut("x", 9)), ("f".into(), "fü".into(), "x".into()));
    }
}
