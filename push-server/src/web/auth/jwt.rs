//! Google's signed statement about who makes a request: a JSON Web Token, signed with ES256 and nothing else.
//!
//! The algorithm is ours, never the token's: a token that names another one is refused before its signature is looked
//! at, so `none` and the confusion of public keys with HMAC secrets can't happen. Pure: the time is an argument.
//! What a token must hold: <https://cloud.google.com/iap/docs/signed-headers-howto>.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::Deserialize;

use super::{keys::PublicKey, name};

/// Who must have signed.
pub(super) const ISSUER: &str = "https://cloud.google.com/iap";
/// How far the clocks of Google and of this machine may differ, in seconds.
const SKEW: i64 = 30;
/// Google's tokens have some 700 bytes; groups and access levels make them longer.
const MAX_BYTES: usize = 16 << 10;

/// A token that is well-formed so far; nothing in it is to be believed yet.
pub(super) struct Token<'a> {
    /// Which key is said to have signed it.
    pub(super) kid: String,
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// Extensions that a reader must understand; we understand none.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    exp: i64,
    iat: i64,
    email: String,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("the token is too long");
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("not a token")?;
        let (header, claims) = signed.split_once('.').ok_or("not a token")?;
        let header: Header = decode(header).ok_or("the token has an invalid header")?;
        if header.alg != "ES256" {
            return Err("the token is not signed with ES256");
        }
        if header.crit.is_some() {
            return Err("the token requires an unknown extension");
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the token has an unreadable signature")?;
        Ok(Self { kid: header.kid, signed, claims, signature })
    }

    /// The mail address that the token vouches for, if `key` signed it, for `audience`, and it holds at `now`
    /// (seconds since 1970).
    pub(super) fn verify(&self, key: &PublicKey, audience: &str, now: i64) -> Result<String, &'static str> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point())
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| "the token has an invalid signature")?;
        let claims: Claims = decode(self.claims).ok_or("the token has invalid claims")?;
        if claims.iss != ISSUER {
            return Err("the token is from another issuer");
        }
        if claims.aud != audience {
            return Err("the token is for another audience");
        }
        if claims.exp.saturating_add(SKEW) < now {
            return Err("the token has expired");
        }
        if claims.iat.saturating_sub(SKEW) > now {
            return Err("the token is not valid yet");
        }
        let address = name::plain(claims.email.as_bytes()).filter(|name| name::is_address(name));
        address.ok_or("the token has an unusable mail address")
    }
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::testing::Signer, *};

    const NOW: i64 = 1_790_000_000;
    const AUDIENCE: &str = "/projects/1/global/backendServices/2";

    fn judge(signer: &Signer, token: &str) -> Result<String, &'static str> {
        Token::parse(token)?.verify(&signer.public_key(), AUDIENCE, NOW)
    }

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let mut claims =
            json!({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 600, "iat": NOW, "email": "dev@acme.example"});
        change(&mut claims);
        claims
    }

    #[test]
    fn only_a_token_for_us_now_is_believed() {
        let signer = Signer::new("k1");
        let cases: [(Value, Result<&str, &str>); 14] = [
            (with(|_| ()), Ok("dev@acme.example")),
            (with(|c| c["exp"] = json!(NOW - 30)), Ok("dev@acme.example")),
            (with(|c| c["exp"] = json!(NOW - 31)), Err("the token has expired")),
            (with(|c| c["iat"] = json!(NOW + 30)), Ok("dev@acme.example")),
            (with(|c| c["iat"] = json!(NOW + 31)), Err("the token is not valid yet")),
            (with(|c| c["exp"] = json!(i64::MAX)), Ok("dev@acme.example")),
            (with(|c| c["iss"] = json!("https://cloud.google.com/iap/")), Err("the token is from another issuer")),
            (
                with(|c| c["aud"] = json!("/projects/1/global/backendServices/20")),
                Err("the token is for another audience"),
            ),
            (with(|c| c["aud"] = json!([AUDIENCE])), Err("the token has invalid claims")),
            (with(|c| c["exp"] = Value::Null), Err("the token has invalid claims")),
            (with(|c| drop(c.as_object_mut().unwrap().remove("iat"))), Err("the token has invalid claims")),
            (with(|c| drop(c.as_object_mut().unwrap().remove("email"))), Err("the token has invalid claims")),
            (with(|c| c["email"] = json!("dev")), Err("the token has an unusable mail address")),
            (with(|c| c["email"] = json!("dev\n@acme.example")), Err("the token has an unusable mail address")),
        ];
        for (claims, expected) in cases {
            assert_eq!(judge(&signer, &signer.sign(&claims)), expected.map(str::to_owned), "{claims}");
        }
    }

    #[test]
    fn the_token_never_chooses_its_algorithm() {
        let signer = Signer::new("k1");
        for alg in ["none", "None", "HS256", "ES384", "RS256", "es256", ""] {
            let token = signer.sign_with(&json!({"alg": alg, "kid": "k1"}), &with(|_| ()));
            assert_eq!(judge(&signer, &token), Err("the token is not signed with ES256"), "{alg}");
        }
        let token = signer.sign_with(&json!({"alg": "ES256", "kid": "k1", "crit": ["b64"]}), &with(|_| ()));
        assert_eq!(judge(&signer, &token), Err("the token requires an unknown extension"));
    }

    #[test]
    fn what_was_changed_after_signing_is_refused() {
        let signer = Signer::new("k1");
        let (good, other) =
            (signer.sign(&with(|_| ())), signer.sign(&with(|c| c["email"] = json!("outsider@acme.example"))));
        let [good, other] = [&good, &other].map(|token| token.split('.').collect::<Vec<_>>());
        let mixed = format!("{}.{}.{}", good[0], other[1], good[2]);
        assert_eq!(judge(&signer, &mixed), Err("the token has an invalid signature"));
        assert_eq!(judge(&Signer::new("k1"), &good.join(".")), Err("the token has an invalid signature"));
        let unsigned = format!("{}.{}.", good[0], good[1]);
        assert_eq!(judge(&signer, &unsigned), Err("the token has an invalid signature"));
        // r = s = 0, which broken implementations accept for every message.
        let zero = format!("{}.{}.{}", good[0], good[1], URL_SAFE_NO_PAD.encode([0; 64]));
        assert_eq!(judge(&signer, &zero), Err("the token has an invalid signature"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let long = "a".repeat(MAX_BYTES + 1);
        for text in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "e30.e30.", &long] {
            assert!(Token::parse(text).is_err(), "{text}");
        }
    }
}
