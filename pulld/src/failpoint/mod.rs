//! Named points at every boundary of the agent, where a test makes it die or stand still.
//!
//! A boundary is a call of one of the two traits of [`crate::machine`], of the bucket ([`crate::store::bucket`]), or of what
//! writes the agent's own files; in the runner and the rescue, every program that they start. `fail_point!` stands at its
//! begin and at its end. A program that is released has none: the points are compiled for tests and for the feature
//! `fail-points`, and are nothing elsewhere.

/// A point with a name, written like the arguments of `format!`.
macro_rules! fail_point {
    ($($name:tt)*) => {
        #[cfg(any(test, feature = "fail-points"))]
        $crate::failpoint::reached(&format!($($name)*));
    };
}

/// What an expression gives, evaluated between the points `{name}.begin` and `{name}.end`.
macro_rules! between_fail_points {
    ($call:expr, $($name:tt)*) => {{
        #[cfg(any(test, feature = "fail-points"))]
        $crate::failpoint::reached(&format!("{}.begin", format_args!($($name)*)));
        let result = $call;
        #[cfg(any(test, feature = "fail-points"))]
        $crate::failpoint::reached(&format!("{}.end", format_args!($($name)*)));
        result
    }};
}

/// A future whose points have names of their own: with a word before them that says of what they are.
#[cfg(any(test, feature = "fail-points"))]
macro_rules! fail_points_of {
    ($of:literal, $future:expr) => {
        $crate::failpoint::of::of($of, $future)
    };
}
#[cfg(not(any(test, feature = "fail-points")))]
macro_rules! fail_points_of {
    ($of:literal, $future:expr) => {
        $future
    };
}

#[cfg(test)]
mod dying;
#[cfg(any(test, feature = "fail-points"))]
pub(crate) mod of;
#[cfg(all(feature = "fail-points", not(test)))]
mod standing;

#[cfg(test)]
pub(crate) use dying::{die_at, met};

/// Notes that this process has reached a point, and has happen there what a test asked for.
#[cfg(any(test, feature = "fail-points"))]
pub(crate) fn reached(name: &str) {
    let name = format!("{}{name}", of::whose());
    #[cfg(test)]
    dying::reached(&name);
    #[cfg(not(test))]
    standing::reached(&name);
}

/// What a file is called in the name of a point: of the cache's files, which are named by their checksum, what follows it.
#[cfg(any(test, feature = "fail-points"))]
pub(crate) fn file(path: &std::path::Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let digits = name.bytes().take_while(u8::is_ascii_hexdigit).count();
    let end = name.rsplit('.').next().unwrap_or_default();
    if digits == 64 { format!("*.{end}") } else { name.into_owned() }
}
