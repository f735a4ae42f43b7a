//! What one push is called.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::{
    NameError,
    random_word::{check, of_bits, random_bits},
};

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
        Self(of_bits(random_bits()))
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
        Self(of_bits(hash.finalize()))
    }
}

impl FromStr for PushId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let id = match text.rsplit_once('-') {
            Some((time, id)) if is_time(time) => id,
            _ => text,
        };
        check("push ID", id, Self::MAX)?;
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
