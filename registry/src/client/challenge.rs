//! How a registry asks for a credential: the `WWW-Authenticate` of its answer (RFC 7235, and the distribution's token specification).

use url::Url;

/// What a registry wants to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password, with each request.
    Basic,
    /// A token that another server gives for them.
    Bearer {
        /// Where that is.
        realm: Url,
        /// What the registry is called there.
        service: Option<String>,
    },
}

/// Longest header that is looked at, in bytes.
const MAX: usize = 8 << 10;

impl Challenge {
    /// What the headers of an answer ask for: a token rather than a password.
    ///
    /// # Errors
    /// When they ask for nothing that is known, in words.
    pub(super) fn read<'a>(headers: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut found = Err("the registry wants a credential and does not say which".to_owned());
        for header in headers.filter(|header| header.len() <= MAX) {
            let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let realm = parameter(parameters, "realm").and_then(|realm| Url::parse(&realm).ok());
                let Some(realm) = realm.filter(Url::has_host) else {
                    found = Err("the registry names no token server that is an address".to_owned());
                    continue;
                };
                return Ok(Self::Bearer { realm, service: parameter(parameters, "service") });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                found = Ok(Self::Basic);
            }
        }
        found
    }
}

/// The value of a parameter in `a="b",c=d`.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let is_quoted = after.starts_with('"');
        if is_quoted {
            characters.next();
        }
        let mut end = after.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' if is_quoted => value.extend(characters.next().map(|(_, escaped)| escaped)),
                '"' if is_quoted => {
                    end = at + 1;
                    break;
                }
                ',' if !is_quoted => {
                    end = at;
                    break;
                }
                _ => value.push(character),
            }
        }
        if key.trim_matches([' ', ',']).eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = &after[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[&str]) -> Result<Challenge, String> {
        Challenge::read(headers.iter().copied())
    }

    #[test]
    fn a_token_server_is_preferred_to_a_password() {
        let realm = |text: &str| Url::parse(text).unwrap();
        let bearer = |text: &str, service: Option<&str>| {
            Ok(Challenge::Bearer { realm: realm(text), service: service.map(str::to_owned) })
        };
        let docker =
            r#"Bearer realm="https://auth.example/token",service="images.example",scope="repository:a/b:pull,push""#;
        assert_eq!(read(&[docker]), bearer("https://auth.example/token", Some("images.example")));
        assert_eq!(read(&[r#"Basic realm="x""#, docker]), bearer("https://auth.example/token", Some("images.example")));
        assert_eq!(
            read(&[r#"bearer error="x", Realm="https://a.example/\"t""#]),
            bearer("https://a.example/\"t", None)
        );
        assert_eq!(read(&["Bearer service=x , realm=https://a.example/t"]), bearer("https://a.example/t", Some("x")));
        assert_eq!(read(&[r#"Basic realm="Bearer realm=x""#]), Ok(Challenge::Basic));
    }

    #[test]
    fn what_asks_for_nothing_known_is_said() {
        let unclosed = format!("Bearer realm=\"{}", "\\".repeat(5000));
        for bad in
            [&[][..], &["Negotiate"], &[""], &["Bearer"], &["Bearer realm"], &["Bearer realm=\"/token\""], &[&unclosed]]
        {
            assert!(read(bad).unwrap_err().starts_with("the registry "), "{bad:?}");
        }
    }
}
