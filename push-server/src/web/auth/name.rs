//! What may be somebody's name: it goes to history entries, pages, and messages that quote it.

/// As long as a mail address may be (RFC 5321), in bytes.
const MAX_LENGTH: usize = 254;

/// The name, if it is plain: ASCII letters, digits, and the signs that RFC 5322 allows in an address without quoting.
///
/// Neither a comma, with which a repeated header is joined to one, nor a backtick, with which messages quote names.
pub(super) fn plain(bytes: &[u8]) -> Option<String> {
    let may_be = |byte: &u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_{|}~@-".contains(byte);
    if bytes.is_empty() || bytes.len() > MAX_LENGTH || !bytes.iter().all(may_be) {
        return None;
    }
    String::from_utf8(bytes.to_vec()).ok()
}

/// Whether a plain name has the shape of a mail address.
pub(super) fn is_address(name: &str) -> bool {
    name.split_once('@').is_some_and(|(user, domain)| !user.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        let (longest, longer) = ("a".repeat(MAX_LENGTH), "a".repeat(MAX_LENGTH + 1));
        for name in ["dev", "dev@acme.example", "o'neil+push@acme.example", "svc-deploy_1", &longest] {
            assert_eq!(plain(name.as_bytes()).as_deref(), Some(name));
        }
        let odd =
            ["", " ", "dev ", "a b", "a,b", "a;b", "<a>", "`a`", "a\"", "a\\", "a\u{7f}", "a\tb", "an\u{e4}", &longer];
        for name in odd {
            assert_eq!(plain(name.as_bytes()), None, "{name:?}");
        }
        assert_eq!(plain(b"\xff"), None);
    }

    #[test]
    fn addresses_have_two_sides() {
        assert!(is_address("dev@acme.example"));
        for name in ["dev", "@", "dev@", "@acme.example", "a@b@c"] {
            assert!(!is_address(name), "{name}");
        }
    }
}
