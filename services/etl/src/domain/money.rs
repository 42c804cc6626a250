//! Amounts: decimal from the source's text to the table, never a float on the way.

use std::{
    fmt::{self, Write as _},
    str::FromStr as _,
};

use rust_decimal::{Decimal, RoundingStrategy};

/// The places that the tables keep, `DECIMAL(18,4)`.
pub const SCALE: u32 = 4;

/// Why a text is not an amount that the tables can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    #[error("{0:?} is not a number")]
    NotANumber(String),
    #[error("{0} has more than 14 digits before the point")]
    TooLarge(String),
}

/// Reads an amount as JSON writes numbers (also with an exponent), rounded half away from zero to four places.
///
/// # Errors
/// Not a number, or one that `DECIMAL(18,4)` does not hold.
pub fn parse(text: &str) -> Result<Decimal, BadAmount> {
    let text = text.trim();
    if let Some(amount) = plain(text) {
        return Ok(amount);
    }
    let parsed = if text.contains(['e', 'E']) { scientific(text) } else { Decimal::from_str(text).ok() };
    let amount = parsed.ok_or_else(|| BadAmount::NotANumber(text.to_owned()))?;
    let rounded = amount.round_dp_with_strategy(SCALE, RoundingStrategy::MidpointAwayFromZero);
    // Zero has a sign.
    let mut amount = if rounded.is_zero() { Decimal::ZERO } else { rounded };
    if amount.abs() >= Decimal::from(100_000_000_000_000_i64) {
        return Err(BadAmount::TooLarge(text.to_owned()));
    }
    // One value, one spelling: 5, 5.0 and 5.0000 have one fingerprint.
    amount.rescale(SCALE);
    Ok(amount)
}

/// An amount as sources write nearly all of them: up to 14 digits, and up to four after a point. There are eight in each line
/// of a document.
fn plain(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, places) = digits.split_once('.').unwrap_or((digits, "0"));
    if !(1..=14).contains(&whole.len()) || !(1..=4).contains(&places.len()) {
        return None;
    }
    let mut units: i64 = 0;
    for digit in whole.bytes().chain(places.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        units = units * 10 + i64::from(digit - b'0');
    }
    for _ in places.len()..4 {
        units *= 10;
    }
    Some(Decimal::new(if digits.len() < text.len() { -units } else { units }, SCALE))
}

/// Writes an amount as its `Display` does, which divides 96 bits by ten for each digit.
///
/// # Errors
/// None: a `String` takes all.
pub fn write(amount: Decimal, text: &mut String) -> fmt::Result {
    let (Ok(units), SCALE) = (u64::try_from(amount.mantissa().unsigned_abs()), amount.scale()) else {
        return write!(text, "{amount}");
    };
    let sign = if amount.is_sign_negative() { "-" } else { "" };
    write!(text, "{sign}{}.{:04}", units / 10_000, units % 10_000)
}

/// A number with an exponent. What a source's floats leave of a difference, as 5.684341886080802E-14, has more places than a
/// decimal holds: it is 0 here.
fn scientific(text: &str) -> Option<Decimal> {
    let (base, exponent) = text.split_once(['e', 'E'])?;
    let places = exponent.strip_prefix('-').and_then(|places| places.parse::<u32>().ok());
    if places.is_some_and(|places| places > Decimal::MAX_SCALE) {
        let base = Decimal::from_str(base).ok()?;
        return (base.abs() < Decimal::TEN).then_some(Decimal::ZERO);
    }
    Decimal::from_scientific_lossy(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_have_one_spelling() {
        for (text, expected) in [
            ("99999999.99", "99999999.9900"),
            ("100000000.01", "100000000.0100"),
            ("99999999999999.9999", "99999999999999.9999"),
            ("5", "5.0000"),
            ("5.0", "5.0000"),
            ("-0.00005", "-0.0001"),
            ("1.4E9", "1400000000.0000"),
            ("0.1", "0.1000"),
            ("1.5E-3", "0.0015"),
            // What floats leave of a difference.
            ("5.684341886080802E-14", "0.0000"),
            ("-1.4210854715202004e-14", "0.0000"),
            ("4.9E-324", "0.0000"),
            ("-0.00001", "0.0000"),
            ("-0", "0.0000"),
        ] {
            assert_eq!(parse(text).expect(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn amounts_are_written_as_they_are_displayed() {
        let more = [Decimal::ZERO, Decimal::NEGATIVE_ONE, Decimal::MAX, Decimal::MIN, Decimal::new(-5, 4)];
        let texts = ["0", "-0", "5", "-5.5", "0.0001", "-0.05", "00012.5", "99999999999999.9999"];
        let parsed = texts.iter().map(|text| parse(text).expect(text));
        for amount in parsed.chain(more) {
            let mut text = String::new();
            write(amount, &mut text).expect("a text");
            assert_eq!(text, amount.to_string());
        }
    }

    #[test]
    fn what_is_read_digit_by_digit_is_what_a_decimal_reads() {
        for text in
            ["0", "-0", "7", "-7", "0.1", "-0.1234", "0012", "12345678901234.5678", "-99999999999999.9999"]
        {
            let mut read = Decimal::from_str(text).expect(text);
            read.rescale(SCALE);
            assert_eq!(plain(text), Some(read), "{text}");
        }
        for text in
            ["", "-", "--1", "+1", "1.", ".5", "1.23456", "123456789012345", "1e2", "1_0", "1.2.3", "ñ"]
        {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_column_does_not_hold_is_refused() {
        assert_eq!(parse("100000000000000"), Err(BadAmount::TooLarge("100000000000000".into())));
        for text in ["", "abc", "1,5", "null", "e-3", "1e", "1e-x", "123e-29"] {
            assert!(matches!(parse(text), Err(BadAmount::NotANumber(_))), "{text}");
        }
    }
}
