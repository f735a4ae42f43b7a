//! Who asks. Clients that got a token once send it with everything; `curl -u` sends the password itself.

use anyhow::{Result, anyhow};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

/// As whom the password is sent.
pub(super) const USER: &str = "push";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// Somebody who sent nothing.
    Nobody,
    /// Somebody who got a token without the password.
    Reader,
    /// Somebody with the password.
    Owner,
    /// Somebody with another one.
    Wrong,
}

/// The secrets of one registry.
pub(super) struct Secrets {
    /// The password.
    pub(super) password: String,
    /// What is given for it.
    pub(super) owner: String,
    /// What is given to everybody.
    pub(super) reader: String,
}

impl Secrets {
    /// New ones.
    pub(super) fn random() -> Result<Self> {
        Ok(Self { password: random()?, owner: random()?, reader: random()? })
    }

    /// Who sent this header.
    pub(super) fn caller(&self, authorization: Option<&str>) -> Caller {
        let Some(sent) = authorization else { return Caller::Nobody };
        let (scheme, sent) = sent.trim().split_once(' ').unwrap_or((sent, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            return match sent.trim() {
                sent if is(sent, &self.owner) => Caller::Owner,
                sent if is(sent, &self.reader) => Caller::Reader,
                _ => Caller::Wrong,
            };
        }
        let decoded = STANDARD.decode(sent.trim()).ok().and_then(|decoded| String::from_utf8(decoded).ok());
        match decoded.as_deref().and_then(|decoded| decoded.split_once(':')) {
            _ if !scheme.eq_ignore_ascii_case("basic") => Caller::Wrong,
            // As some clients do that have none.
            Some(("", "")) => Caller::Nobody,
            Some((USER, password)) if is(password, &self.password) => Caller::Owner,
            _ => Caller::Wrong,
        }
    }
}

/// 256 random bits, in hex.
fn random() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::getrandom(&mut bytes).map_err(|error| anyhow!("no random numbers are to be had: {error}"))?;
    Ok(hex::encode(bytes))
}

/// Whether two secrets are one. How long that takes says nothing of how much of them is alike.
fn is(sent: &str, secret: &str) -> bool {
    Sha256::digest(sent) == Sha256::digest(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_the_password_is_the_owner() {
        let secrets = Secrets::random().unwrap();
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert!(secrets.password.len() == 64 && secrets.password != secrets.owner && secrets.owner != secrets.reader);
        for (sent, expected) in [
            (basic(&format!("push:{}", secrets.password)), Caller::Owner),
            (format!("Bearer {}", secrets.owner), Caller::Owner),
            (format!("bearer {}", secrets.reader), Caller::Reader),
            (basic(":"), Caller::Nobody),
            (basic(&format!("other:{}", secrets.password)), Caller::Wrong),
            (basic("push:"), Caller::Wrong),
            (format!("Bearer {}", secrets.password), Caller::Wrong),
            ("Bearer".to_owned(), Caller::Wrong),
            (format!("Digest {}", secrets.owner), Caller::Wrong),
            ("Basic !".to_owned(), Caller::Wrong),
        ] {
            assert_eq!(secrets.caller(Some(&sent)), expected, "{sent}");
        }
        assert_eq!(secrets.caller(None), Caller::Nobody);
    }
}
