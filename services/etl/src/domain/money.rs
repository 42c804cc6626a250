//! Amounts: decimal from the source's text to the table, never a float on the way.

use std::str::FromStr as _;

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
    fn what_the_column_does_not_hold_is_refused() {
        assert_eq!(parse("100000000000000"), Err(BadAmount::TooLarge("100000000000000".into())));
        for text in ["", "abc", "1,5", "null", "e-3", "1e", "1e-x", "123e-29"] {
            assert!(matches!(parse(text), Err(BadAmount::NotANumber(_))), "{text}");
        }
    }
}
