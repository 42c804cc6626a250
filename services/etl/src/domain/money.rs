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
    let parsed =
        if text.contains(['e', 'E']) { Decimal::from_scientific(text) } else { Decimal::from_str(text) };
    let amount = parsed.map_err(|_| BadAmount::NotANumber(text.to_owned()))?;
    let mut amount = amount.round_dp_with_strategy(SCALE, RoundingStrategy::MidpointAwayFromZero);
    if amount.abs() >= Decimal::from(100_000_000_000_000_i64) {
        return Err(BadAmount::TooLarge(text.to_owned()));
    }
    // One value, one spelling: 5, 5.0 and 5.0000 have one fingerprint.
    amount.rescale(SCALE);
    Ok(amount)
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
        ] {
            assert_eq!(parse(text).expect(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_the_column_does_not_hold_is_refused() {
        assert_eq!(parse("100000000000000"), Err(BadAmount::TooLarge("100000000000000".into())));
        for text in ["", "abc", "1,5", "null"] {
            assert!(matches!(parse(text), Err(BadAmount::NotANumber(_))), "{text}");
        }
    }
}
