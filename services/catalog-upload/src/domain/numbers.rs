//! Numbers as people write them and as spreadsheets keep them.

use rust_decimal::Decimal;

/// Digits that Excel keeps of a number; what comes after them is noise of the binary form.
const EXCEL_DIGITS: usize = 15;

/// Why a text is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotANumber {
    /// It isn't written as one.
    Syntax,
    /// `1.234` could be one thousand or one.
    Ambiguous,
    /// It doesn't fit any type used here.
    TooLarge,
}

/// What stands before the decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMark {
    /// `1234.5`
    Point,
    /// `1234,5`
    Comma,
}

impl DecimalMark {
    const fn byte(self) -> u8 {
        match self {
            Self::Point => b'.',
            Self::Comma => b',',
        }
    }

    /// The mark that a number shows beyond doubt: `1,5` and `1.234.567` the comma, `1` and `1.234` none.
    pub fn shown_by(text: &str) -> Option<Self> {
        parse_decimal(text, None).ok()?;
        let (decimals, thousands) = match (text.rfind('.'), text.rfind(',')) {
            (None, None) => return None,
            (dot, comma) if dot > comma => (Self::Point, Self::Comma),
            _ => (Self::Comma, Self::Point),
        };
        // The last separator marks the decimals, unless it stands twice.
        let repeated = memchr::memchr_iter(decimals.byte(), text.as_bytes()).count() > 1;
        Some(if repeated { thousands } else { decimals })
    }
}

/// A spreadsheet's number as text: whole numbers without `.0`, 13-digit codes exact, never an exponent.
pub fn render(number: f64) -> String {
    // Up to 2^53 each whole number has its own f64.
    if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 {
        return format!("{}", number as i64);
    }
    // The shortest text that gives back the number after rounding to what Excel keeps.
    let rounded = format!("{number:.*e}", EXCEL_DIGITS - 1).parse().unwrap_or(number);
    format!("{rounded}")
}

/// A spreadsheet's number as an exact decimal, rounded to the 15 digits that Excel keeps.
///
/// # Errors
/// It is too large for a decimal, or not finite.
pub fn from_f64(number: f64) -> Result<Decimal, NotANumber> {
    if !number.is_finite() || number.abs() >= 1e20 {
        return Err(NotANumber::TooLarge);
    }
    Decimal::from_str_exact(&render(number))
        .or_else(|_| number.try_into())
        .map(|decimal: Decimal| decimal.normalize())
        .map_err(|_| NotANumber::TooLarge)
}

/// A decimal as people write it: `1234.5`, `1234,5`, `1.234,50`, `1,234.50`, `1 234,50`, `$ 1.234.567`.
/// `mark` is what marks the decimals of its column, where that is known.
///
/// # Errors
/// It is not a number, or could be two: in `1.234` and `1,234` the separator may mark thousands or decimals. It
/// marks thousands where `mark` is the other one; decimals never, since three of them are no price's, and a
/// mistake would change a value a thousandfold.
pub fn parse_decimal(text: &str, mark: Option<DecimalMark>) -> Result<Decimal, NotANumber> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let text = text.strip_prefix('$').unwrap_or(text).trim_start();
    let (whole, decimals) = split(text, mark)?;
    let mut digits = String::with_capacity(text.len() + 1);
    if negative {
        digits.push('-');
    }
    digits.push_str(if whole.is_empty() { "0" } else { &whole });
    // Zeros at the end say nothing, and would count as decimals.
    let decimals = decimals.trim_end_matches('0');
    if !decimals.is_empty() {
        digits.push('.');
        digits.push_str(decimals);
    }
    Decimal::from_str_exact(&digits).map_err(|_| NotANumber::TooLarge)
}

/// The digits before and after the decimal separator.
fn split(text: &str, mark: Option<DecimalMark>) -> Result<(String, &str), NotANumber> {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let last_dot = text.rfind('.');
    let last_comma = text.rfind(',');
    let decimal_at = match (last_dot, last_comma) {
        (Some(dot), Some(comma)) => Some(dot.max(comma)),
        (Some(at), None) | (None, Some(at)) => {
            let separator = text.as_bytes()[at];
            let many = text.bytes().filter(|byte| *byte == separator).count() > 1;
            if many {
                None
            } else {
                let (before, after) = (&text[..at], &text[at + 1..]);
                let grouped = after.len() == 3 && (1..=3).contains(&before.len());
                if grouped && !before.starts_with('0') && after.bytes().all(is_digit) {
                    if !before.bytes().all(is_digit) {
                        return Err(NotANumber::Syntax);
                    }
                    match mark {
                        Some(mark) if mark.byte() != separator => None,
                        _ => return Err(NotANumber::Ambiguous),
                    }
                } else {
                    Some(at)
                }
            }
        }
        (None, None) => None,
    };
    let (whole, decimals) = match decimal_at {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    if !decimals.bytes().all(is_digit) {
        return Err(NotANumber::Syntax);
    }
    let whole = ungroup(whole, decimal_at.map(|at| text.as_bytes()[at]))?;
    if whole.is_empty() && decimals.is_empty() {
        return Err(NotANumber::Syntax);
    }
    Ok((whole, decimals))
}

/// Takes the marks of thousands out: all the same, every three digits, and not the decimal separator.
fn ungroup(whole: &str, decimal: Option<u8>) -> Result<String, NotANumber> {
    let Some(mark) = whole.chars().find(|character| !character.is_ascii_digit()) else {
        return Ok(whole.to_owned());
    };
    let known = matches!(mark, '.' | ',' | ' ' | '\'' | '\u{a0}' | '\u{202f}' | '\u{2019}');
    if !known || decimal.is_some_and(|decimal| char::from(decimal) == mark) {
        return Err(NotANumber::Syntax);
    }
    let groups: Vec<&str> = whole.split(mark).collect();
    let all_digits = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_digit()));
    let well_grouped = (1..=3).contains(&groups[0].len()) && groups[1..].iter().all(|group| group.len() == 3);
    if all_digits && well_grouped { Ok(groups.concat()) } else { Err(NotANumber::Syntax) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_as_people_write_them() {
        for (text, value) in [
            ("0", "0"),
            ("12", "12"),
            ("1234.5", "1234.5"),
            ("1234,5", "1234.5"),
            ("1234,50", "1234.5"),
            ("1.234,50", "1234.5"),
            ("1,234.50", "1234.5"),
            ("1 234,50", "1234.5"),
            ("1\u{a0}234", "1234"),
            ("1.234.567", "1234567"),
            ("1,234,567", "1234567"),
            ("$ 1.234.567,89", "1234567.89"),
            ("-3,25", "-3.25"),
            ("+7", "7"),
            (".5", "0.5"),
            ("5.", "5"),
            ("0,500", "0.5"),
            ("0.125", "0.125"),
            ("1234.567", "1234.567"),
        ] {
            assert_eq!(
                parse_decimal(text, None).map(|value| value.to_string()),
                Ok(value.to_owned()),
                "{text:?}"
            );
        }
        for text in ["1.234", "1,234", "999.999", "12,345"] {
            assert_eq!(parse_decimal(text, None), Err(NotANumber::Ambiguous), "{text:?}");
        }
        for text in [
            "",
            "-",
            ".",
            "abc",
            "12a",
            "1.23.4",
            "1,2,3.4",
            "1..2",
            "--1",
            "1e5",
            "1.2345.678",
            "٣",
            "1,234,56",
        ] {
            assert_eq!(parse_decimal(text, None), Err(NotANumber::Syntax), "{text:?}");
        }
        assert_eq!(parse_decimal(&"9".repeat(40), None), Err(NotANumber::TooLarge));
    }

    #[test]
    fn three_digits_after_a_separator_are_thousands_or_a_question() {
        for (text, point, comma) in [
            ("1.234", None, Some("1234")),
            ("12,345", Some("12345"), None),
            ("-1.234", None, Some("-1234")),
            ("$ 1.500", None, Some("1500")),
            // Beyond doubt, whatever the others say.
            ("12,5", Some("12.5"), Some("12.5")),
            ("1.234.567", Some("1234567"), Some("1234567")),
        ] {
            let read = |mark| parse_decimal(text, Some(mark)).map(|value| value.to_string());
            let expected = |value: Option<&str>| value.map(str::to_owned).ok_or(NotANumber::Ambiguous);
            assert_eq!(read(DecimalMark::Point), expected(point), "{text:?}");
            assert_eq!(read(DecimalMark::Comma), expected(comma), "{text:?}");
        }
        for (text, shown) in [
            ("12,5", Some(DecimalMark::Comma)),
            ("1.234,50", Some(DecimalMark::Comma)),
            ("1.234.567", Some(DecimalMark::Comma)),
            ("0,125", Some(DecimalMark::Comma)),
            ("12.50", Some(DecimalMark::Point)),
            ("1,234.5", Some(DecimalMark::Point)),
            ("1,234,567", Some(DecimalMark::Point)),
            ("1 234", None),
            ("1.234", None),
            ("1,234", None),
            ("1234", None),
            ("12,5 COP", None),
            ("", None),
        ] {
            assert_eq!(DecimalMark::shown_by(text), shown, "{text:?}");
        }
    }

    #[test]
    fn numbers_as_spreadsheets_keep_them() {
        for (number, text) in [
            (7_701_234_567_890.0, "7701234567890"),
            (12.0, "12"),
            (-3.0, "-3"),
            (0.1 + 0.2, "0.3"),
            (12.3 + f64::EPSILON * 8.0, "12.3"),
            (1234.56, "1234.56"),
        ] {
            assert_eq!(render(number), text);
            assert_eq!(from_f64(number).map(|value| value.to_string()), Ok(text.to_owned()));
        }
        assert!(!render(1e300).contains('e'));
        assert_eq!(from_f64(f64::NAN), Err(NotANumber::TooLarge));
        assert_eq!(from_f64(1e300), Err(NotANumber::TooLarge));
    }

    proptest! {
        #[test]
        fn a_price_survives_text_and_f64(cents in 0i64..=999_999_999_999) {
            let price = Decimal::new(cents, 2).normalize();
            let whole = price.trunc().to_string();
            let decimals = format!("{:02}", cents % 100);
            prop_assert_eq!(parse_decimal(&format!("{whole}.{decimals}"), None), Ok(price));
            prop_assert_eq!(parse_decimal(&format!("{whole},{decimals}"), None), Ok(price));
            prop_assert_eq!(from_f64(cents as f64 / 100.0), Ok(price));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = DecimalMark::shown_by(&text);
            for mark in [None, Some(DecimalMark::Point), Some(DecimalMark::Comma)] {
                let _ = parse_decimal(&text, mark);
            }
        }

        #[test]
        fn no_number_panics(number in proptest::num::f64::ANY) {
            let _ = (render(number), from_f64(number));
        }
    }
}
