//! The secret of `--auth local`: whoever knows it is the operator, and not just anybody with an account on the machine.
//! Pure, but for its making.
//!
//! Programs send the token. A browser gets a cookie for it, and sends that to every port of `127.0.0.1`: whoever listens
//! on another one sees it. So the cookie isn't the token, and is good for connections of one account only.

use std::fmt;

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

/// The token. It is never in a log: its `Debug` doesn't show it.
pub(super) struct LocalToken {
    text: String,
    key: hmac::Key,
}

impl LocalToken {
    /// Makes a token of 256 random bits, of the characters `A-Za-z0-9_-`.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(super) fn make() -> Result<Self> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).ok().context("could not get random bytes for the token of the web app")?;
        let text = URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()), text })
    }

    /// The token, for whoever started the web app.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether that is it, in a time that says nothing of how much of it is right.
    pub(super) fn is(&self, shown: &str) -> bool {
        let tag = hmac::sign(&self.key, shown.as_bytes());
        hmac::verify(&self.key, self.text.as_bytes(), tag.as_ref()).is_ok()
    }

    /// What a browser of an account gets in place of it.
    pub(super) fn cookie(&self, account: u32) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, &statement(account)))
    }

    /// Whether a cookie is that of an account, in a time that says nothing of how much of it is right.
    pub(super) fn allows(&self, cookie: &str, account: u32) -> bool {
        let tag = URL_SAFE_NO_PAD.decode(cookie);
        tag.is_ok_and(|tag| hmac::verify(&self.key, &statement(account), &tag).is_ok())
    }
}

impl fmt::Debug for LocalToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalToken")
    }
}

fn statement(account: u32) -> Vec<u8> {
    format!("cookie of account {account}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_plain_and_only_its_own() {
        let (one, other) = (LocalToken::make().unwrap(), LocalToken::make().unwrap());
        assert_eq!(one.text().len(), 43);
        assert!(one.text().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)), "{}", one.text());
        assert!(one.is(one.text()) && !one.is(other.text()) && !one.is("") && !one.is(&one.text()[1..]));
        assert_eq!(format!("{one:?}"), "LocalToken");
    }

    #[test]
    fn a_cookie_is_of_one_account_and_is_no_token() {
        let (one, other) = (LocalToken::make().unwrap(), LocalToken::make().unwrap());
        let cookie = one.cookie(1000);
        assert!(one.allows(&cookie, 1000));
        assert!(!one.allows(&cookie, 1001) && !one.allows(&cookie, 0) && !other.allows(&cookie, 1000));
        assert!(!one.is(&cookie) && !one.allows(one.text(), 1000));
        for odd in ["", "=", &cookie[1..], &format!("{cookie}A")] {
            assert!(!one.allows(odd, 1000), "{odd}");
        }
    }
}
