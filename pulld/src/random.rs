//! Random numbers that keep machines out of step. Good enough for that, and they need no crate: the standard library
//! seeds each hasher at random.

use std::hash::{BuildHasher, RandomState};

/// Any number.
pub(crate) fn random_u64() -> u64 {
    RandomState::new().hash_one(())
}

/// A number from 0 to 1.
pub(crate) fn random_fraction() -> f64 {
    // The top 32 bits fill a float exactly.
    let random = u32::try_from(random_u64() >> 32).unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}
