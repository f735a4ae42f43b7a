//! Sizes in bytes.

/// A size as a person reads it, in decimal units: `999 B`, `1.3 MB`, `24 GB`.
///
/// Rounded to the nearest; one digit after the point below ten, none from there on.
pub fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit: u128 = 1;
    let mut shown = String::new();
    for name in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        unit *= 1000;
        let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
        let whole = (u128::from(bytes) + unit / 2) / unit;
        shown = match tenths {
            0..100 => format!("{}.{} {name}", tenths / 10, tenths % 10),
            _ => format!("{whole} {name}"),
        };
        if whole < 1000 {
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (9950, "10 kB"),
            (10_500, "11 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_300_000, "1.3 MB"),
            (10_485_760, "10 MB"),
            (3_400_000_000, "3.4 GB"),
            (u64::MAX, "18 EB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }
}
