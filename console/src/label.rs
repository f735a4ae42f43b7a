//! What lines begin with where several speak at once.

use std::io::{IsTerminal as _, stderr};

/// The colors, one after the other (ECMA-48, SGR).
const COLORS: [u8; 5] = [36, 33, 32, 35, 34];

/// A name that messages begin with, `nth` of several that speak at once: in a color by which it is found again, if standard error
/// is a terminal and nobody asked for none (<https://no-color.org>). The name must be [`safe()`](crate::safe()) already.
pub fn label(name: &str, nth: usize) -> String {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    shown(name, nth, !refused && stderr().is_terminal())
}

fn shown(name: &str, nth: usize, is_colored: bool) -> String {
    let color = COLORS[nth % COLORS.len()];
    if is_colored { format!("\x1b[{color}m{name}\x1b[0m | ") } else { format!("{name} | ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_speak_side_by_side_have_colors_of_their_own() {
        assert_eq!(shown("unit", 1, false), "unit | ");
        assert_eq!(
            (shown("unit", 0, true), shown("lint", 6, true)),
            ("\x1b[36munit\x1b[0m | ".to_owned(), "\x1b[33mlint\x1b[0m | ".to_owned())
        );
    }
}
