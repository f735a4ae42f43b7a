//! What was sent to registries and is to be seen by nobody else. A server may repeat it in its own words: it is masked there.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// What stands where words were cut off.
pub(super) const CUT: &str = "\u{2026}";

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Most that are known at a time, the last ones: tokens expire.
const MAX: usize = 4000;

/// Everything secret that was sent, in each form in which it may come back.
#[derive(Default)]
pub(super) struct Secrets(Mutex<VecDeque<String>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(\u{2026})")
    }
}

impl Secrets {
    /// Learns a password, which is sent in base64 together with its user.
    pub(super) fn learn_login(&self, user: &str, password: &str) {
        self.learn(password);
        self.learn(&STANDARD_NO_PAD.encode(format!("{user}:{password}")));
    }

    /// Learns a secret.
    pub(super) fn learn(&self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let json = serde_json::Value::from(secret).to_string();
        let url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let forms = [secret.to_owned(), json[1..json.len() - 1].to_owned(), url.replace('+', "%20"), url];
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // As words of others are shown, too.
        for form in forms.iter().map(|form| form.escape_debug().to_string()).chain(forms.clone()) {
            known.retain(|other| *other != form);
            known.push_back(form);
        }
        let surplus = known.len().saturating_sub(MAX);
        known.drain(..surplus);
    }

    /// A text without them, also where one was cut off.
    pub(super) fn mask(&self, text: String) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut secrets: Vec<&String> = known.iter().collect();
        // One may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut masked = text;
        for secret in &secrets {
            masked = masked.replace(secret.as_str(), MASK);
        }
        let Some(at) = masked.find(CUT) else { return masked };
        let begins = |secret: &&String| {
            let ends = secret.char_indices().map(|(end, _)| end).filter(|end| *end > 0);
            ends.filter(|end| masked[..at].ends_with(&secret[..*end])).max()
        };
        match secrets.iter().filter_map(begins).max() {
            Some(length) => format!("{}{MASK}{}", &masked[..at - length], &masked[at..]),
            None => masked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_masked_in_whatever_form_it_comes_back() {
        let secrets = Secrets::default();
        secrets.learn_login("deployer", "battery \"staple\"");
        secrets.learn("the-token");
        for (text, expected) in [
            ("bad password battery \"staple\"!", "bad password ***!"),
            ("bad password battery \\\"staple\\\"!", "bad password ***!"),
            ("?p=battery%20%22staple%22", "?p=***"),
            ("?p=battery+%22staple%22&t=the-token", "?p=***&t=***"),
            ("ZGVwbG95ZXI6YmF0dGVyeSAic3RhcGxlIg==", "***=="),
            ("cut at batt\u{2026} (401)", "cut at ***\u{2026} (401)"),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(secrets.mask(text.to_owned()), expected);
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(\u{2026})");
    }
}
