//! Words at random, by which what is made many times at once is told apart.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::NameError;

/// As many random bytes as a word is made of.
pub(crate) fn random_bits() -> impl Iterator<Item = u8> {
    // The standard library's hash keys are random, a new pair for every state.
    let bits = [RandomState::new(), RandomState::new()].map(|state| state.build_hasher().finish());
    bits.into_iter().flat_map(u64::to_le_bytes)
}

/// Twelve letters and digits, of the lowest five bits of as many bytes.
pub(crate) fn of_bits(bytes: impl IntoIterator<Item = u8>) -> String {
    // Without the letters that are taken for digits.
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    bytes.into_iter().map(|byte| char::from(DIGITS[usize::from(byte & 31)])).take(12).collect()
}

/// Whether a text is such a word, of any length up to `max`.
pub(crate) fn check(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(NameError::new(kind, text, "it must have only letters and digits"));
    }
    if text.len() > max {
        return Err(NameError::new(kind, text, "it is too long"));
    }
    Ok(())
}
