//! The characters that a person can't see, or that change how others look.
//!
//! From Unicode 17.0: `DerivedGeneralCategory.txt` for `Cc`, `Cf`, `Zl` and `Zp`, `DerivedCoreProperties.txt` for
//! `Default_Ignorable_Code_Point`. The test compares every character with ICU4X's copy of the same data.

/// First and last character of each range, in order.
const RANGES: [(char, char); 27] = [
    ('\u{0}', '\u{1f}'),        // C0 controls
    ('\u{7f}', '\u{9f}'),       // DEL and C1 controls
    ('\u{ad}', '\u{ad}'),       // soft hyphen
    ('\u{34f}', '\u{34f}'),     // combining grapheme joiner
    ('\u{600}', '\u{605}'),     // Arabic number signs
    ('\u{61c}', '\u{61c}'),     // Arabic letter mark
    ('\u{6dd}', '\u{6dd}'),     // Arabic end of ayah
    ('\u{70f}', '\u{70f}'),     // Syriac abbreviation mark
    ('\u{890}', '\u{891}'),     // Arabic pound and piastre marks
    ('\u{8e2}', '\u{8e2}'),     // Arabic disputed end of ayah
    ('\u{115f}', '\u{1160}'),   // Hangul fillers
    ('\u{17b4}', '\u{17b5}'),   // Khmer inherent vowels
    ('\u{180b}', '\u{180f}'),   // Mongolian selectors and vowel separator
    ('\u{200b}', '\u{200f}'),   // zero width characters and marks of direction
    ('\u{2028}', '\u{202e}'),   // line and paragraph separators, embeddings and overrides of direction
    ('\u{2060}', '\u{206f}'),   // word joiner, invisible operators, isolates, deprecated controls
    ('\u{3164}', '\u{3164}'),   // Hangul filler
    ('\u{fe00}', '\u{fe0f}'),   // variation selectors
    ('\u{feff}', '\u{feff}'),   // byte order mark
    ('\u{ffa0}', '\u{ffa0}'),   // halfwidth Hangul filler
    ('\u{fff0}', '\u{fffb}'),   // reserved, interlinear annotation
    ('\u{110bd}', '\u{110bd}'), // Kaithi number sign
    ('\u{110cd}', '\u{110cd}'), // Kaithi number sign above
    ('\u{13430}', '\u{1343f}'), // Egyptian hieroglyph format controls
    ('\u{1bca0}', '\u{1bca3}'), // shorthand format controls
    ('\u{1d173}', '\u{1d17a}'), // musical symbol format controls
    ('\u{e0000}', '\u{e0fff}'), // tags, variation selectors, reserved
];

/// Whether a character is a control, a separator of lines or paragraphs, of category `Cf`, or ignorable by default.
pub(crate) fn is_hidden(c: char) -> bool {
    let after = RANGES.partition_point(|(first, _)| *first <= c);
    after.checked_sub(1).is_some_and(|at| c <= RANGES[at].1)
}

#[cfg(test)]
mod tests {
    use icu_properties::{
        CodePointMapData, CodePointSetData,
        props::{DefaultIgnorableCodePoint, GeneralCategory},
    };

    use super::*;

    #[test]
    fn exactly_what_unicode_hides_is_hidden() {
        let categories = CodePointMapData::<GeneralCategory>::new();
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        for c in '\0'..=char::MAX {
            use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
            let category = categories.get(c);
            let hidden = matches!(category, Control | Format | LineSeparator | ParagraphSeparator);
            assert_eq!(is_hidden(c), hidden || ignorable.contains(c), "{} {category:?}", c.escape_unicode());
        }
    }

    #[test]
    fn ranges_are_in_order_and_apart() {
        for pair in RANGES.windows(2) {
            assert!(pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0, "{pair:?}");
        }
    }
}
