//! What one push is called.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::NameError;

/// What one push is called, whatever its number of servers: letters and digits, mostly at random.
///
/// It is taken with the time before it too, as it stands in the names of objects: `20261120T190502.000000Z-k3v9…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PushId(String);

text_name!(PushId);

impl PushId {
    /// Longest ID, in bytes.
    pub const MAX: usize = 40;

    /// A new one: 60 random bits.
    pub fn random() -> Self {
        // The standard library's hash keys are random, a new pair for every state.
        let bits = [RandomState::new(), RandomState::new()].map(|state| state.build_hasher().finish());
        Self::of_bits(bits.into_iter().flat_map(u64::to_le_bytes))
    }

    /// The one that everybody derives from the same words, so that of those who begin the same push at the same time only one
    /// does: it is there already when the others come.
    pub fn derived(words: &[&str]) -> Self {
        let mut hash = sha2::Sha256::new();
        for word in words {
            hash.update(word);
            // No name has it.
            hash.update([0]);
        }
        Self::of_bits(hash.finalize())
    }

    /// Of the lowest five bits of twelve bytes.
    fn of_bits(bytes: impl IntoIterator<Item = u8>) -> Self {
        // Without the letters that are taken for digits.
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let digits = bytes.into_iter().map(|byte| DIGITS[usize::from(byte & 31)]);
        Self(digits.take(12).map(char::from).collect())
    }
}

impl FromStr for PushId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let id = match text.rsplit_once('-') {
            Some((time, id)) if is_time(time) => id,
            _ => text,
        };
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(NameError::new("push ID", text, "it must have only letters and digits"));
        }
        if id.len() > Self::MAX {
            return Err(NameError::new("push ID", text, "it is too long"));
        }
        Ok(Self(id.to_owned()))
    }
}

/// Whether a text is a time as names of objects have it.
fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"00000000T000000.000000Z";
    let fits = |(found, form): (u8, &u8)| if *form == b'0' { found.is_ascii_digit() } else { found == *form };
    text.len() == FORM.len() && text.bytes().zip(FORM).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_is_printed_with_or_without_its_time() {
        let id = PushId::random();
        assert_eq!((id.as_str().len(), id.to_string().parse()), (12, Ok(id.clone())));
        assert_eq!(format!("20261120T190502.000000Z-{id}").parse(), Ok(id.clone()));
        assert_ne!(PushId::random(), id);
        assert_eq!(PushId::derived(&["web", "prod", ""]).as_str().len(), 12);
        assert_eq!(PushId::derived(&["web", "prod", ""]), PushId::derived(&["web", "prod", ""]));
        assert_ne!(PushId::derived(&["web", "prod", ""]), PushId::derived(&["web", "", "prod"]));
        for wrong in ["", "-", "a-b", "20261120T190502.000000Z-", "2026-11-20-abc", "../x", "é", &"x".repeat(41)] {
            assert!(wrong.parse::<PushId>().is_err(), "{wrong:?} was taken");
        }
    }
}
