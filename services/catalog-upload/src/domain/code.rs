//! Texts in which each character counts: ids and codes. Two that look alike must be one.

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

/// A code as it is kept: in Unicode's composed form (NFC), without characters that nobody sees, and each blank
/// a space. None where it is so already, as nearly all are.
pub(super) fn canonical(code: &str) -> Option<String> {
    if code.is_ascii() {
        return None;
    }
    let other_blank = |character: char| character.is_whitespace() && !character.is_ascii();
    if is_nfc_quick(code.chars()) == IsNormalized::Yes
        && !code.chars().any(|character| is_invisible(character) || other_blank(character))
    {
        return None;
    }
    let seen = code.chars().filter(|character| !is_invisible(*character));
    let plain: String =
        seen.map(|character| if other_blank(character) { ' ' } else { character }).nfc().collect();
    let plain = plain.trim();
    (plain != code).then(|| plain.to_owned())
}

/// Format characters (Unicode's Cf), selectors of variants, and fillers: they take no room.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether a code is what spreadsheets show of a number that was too wide: `7,70123E+12`, `3.00E-05`. Its other
/// digits are lost.
pub(super) fn is_scientific(code: &str) -> bool {
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !code.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return false;
    }
    let Some(at) = code.find(['E', 'e']) else { return false };
    let (number, exponent) = (&code[..at], &code[at + 1..]);
    let number = number.strip_prefix('-').unwrap_or(number);
    let (whole, decimals) = number.split_once(['.', ',']).unwrap_or((number, ""));
    let exponent = match exponent.strip_prefix('+') {
        Some(digits) => digits,
        // `12E-5` may be a code; a number with decimals is none.
        None if !decimals.is_empty() => exponent.strip_prefix('-').unwrap_or_default(),
        None => return false,
    };
    all_digits(whole) && (decimals.is_empty() || all_digits(decimals)) && all_digits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_look_alike_are_one() {
        for same in [
            "CAF\u{c9}-1",
            "CAFE\u{301}-1",
            "CAF\u{c9}\u{200b}-1",
            "\u{feff}CAF\u{c9}-1",
            "CAFE\u{200d}\u{301}-1",
        ] {
            let canonical = canonical(same).unwrap_or_else(|| same.to_owned());
            assert_eq!(canonical, "CAF\u{c9}-1", "{same:?}");
        }
        for (written, kept) in [("A\u{a0}1", "A 1"), ("\u{ad}\u{2066}", ""), ("A1\u{fe0f}", "A1")] {
            assert_eq!(canonical(written).as_deref(), Some(kept), "{written:?}");
        }
        for plain in ["", "A 1", "MU\u{d1}OZ", "أموكس", "💊"] {
            assert_eq!(canonical(plain), None, "{plain:?}");
        }
    }

    #[test]
    fn what_a_spreadsheet_shows_of_a_wide_number() {
        for lost in ["7.50103E+12", "7,50104E+12", "3.00E+05", "1E+15", "7,7e+12", "1.5E-07", "-2,5E+11"] {
            assert!(is_scientific(lost), "{lost}");
        }
        for code in ["12E5", "E+12", "12E-5", "1.E", "A1E+5", "7.5E+", "1.2.3E+5", "", "E"] {
            assert!(!is_scientific(code), "{code}");
        }
    }
}
