//! How any name stands in the path of an object, where not every name may.

/// A segment as it may stand in the path of an object: `%` and two hex digits for each byte of what may not.
pub(crate) fn escaped(segment: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(segment.len());
    for (at, c) in segment.char_indices() {
        if c.is_control() || c == '\\' || c == '%' || (at == 0 && c == '.') {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // A string takes whatever is written.
                let _ = write!(escaped, "%{byte:02X}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// The segment that is escaped so; `None` for what [`escaped`] never gives.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok().filter(|segment| escaped(segment) == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ObjectPath;

    #[test]
    fn what_may_not_stand_in_a_path_is_escaped_and_comes_back_in_one_way_only() {
        for (plain, path) in
            [("a.b", "a.b"), (".a", "%2Ea"), ("..", "%2E."), ("100%", "100%25"), ("\\\u{85}", "%5C%C2%85")]
        {
            assert_eq!((escaped(plain).as_str(), unescaped(path).as_deref()), (path, Some(plain)));
        }
        for none in ["%", "%2", "%2e", "%61", "%2Eé%", "a%2E", "%FF", "%zz", ".a", "%+1"] {
            assert_eq!(unescaped(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_segment_is_safe_and_comes_back(segment in any::<String>().prop_filter("a segment", |s| !s.contains('/') && !s.is_empty())) {
            let path = escaped(&segment);
            prop_assert_eq!(unescaped(&path), Some(segment));
            prop_assert!(path.len() > ObjectPath::MAX_SEGMENT || path.parse::<ObjectPath>().is_ok(), "{}", path);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            if let Some(segment) = unescaped(&text) { prop_assert_eq!(escaped(&segment), text.clone()); }
        }
    }
}
