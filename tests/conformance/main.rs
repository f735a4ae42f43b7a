//! One suite, two backends.
