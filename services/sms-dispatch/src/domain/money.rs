//! Amounts as providers write them, without floats.

use std::fmt;

/// An amount in millionths of a currency's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    pub micros: i64,
    /// ISO 4217, in capitals.
    pub currency: [u8; 3],
}

impl Money {
    /// A currency as ISO 4217 writes it: three capitals.
    pub fn code(currency: &str) -> Option<[u8; 3]> {
        let code: [u8; 3] = currency.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(code)
    }

    /// The amount that `amount` writes (`0.0051`, `-0.00750`), in `currency`; none where either is none. What is below a
    /// millionth is rounded away from zero.
    pub fn parse(amount: &str, currency: &str) -> Option<Self> {
        let currency: [u8; 3] = currency.as_bytes().try_into().ok()?;
        if !currency.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let (negative, digits) = match amount.trim().strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, amount.trim()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let (kept, rest) = fraction.split_at(fraction.len().min(6));
        let millionths: i64 = format!("{kept:0<6}").parse().ok()?;
        let above = i64::from(rest.bytes().any(|digit| digit != b'0'));
        let micros = whole.checked_mul(1_000_000)?.checked_add(millionths)?.checked_add(above)?;
        Some(Self {
            micros: if negative { -micros } else { micros },
            currency: currency.map(|letter| letter.to_ascii_uppercase()),
        })
    }

    /// `USD`.
    pub fn currency(&self) -> &str {
        // Letters of ASCII.
        std::str::from_utf8(&self.currency).unwrap_or_default()
    }
}

/// `0.0051 USD`.
impl fmt::Display for Money {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.micros < 0 { "-" } else { "" };
        let (whole, millionths) =
            (self.micros.unsigned_abs() / 1_000_000, self.micros.unsigned_abs() % 1_000_000);
        let millionths = format!("{millionths:06}");
        let fraction = millionths.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        write!(formatter, "{sign}{whole}{point}{fraction} {}", self.currency())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_to_the_millionth() {
        for (amount, micros) in [
            ("0.0051", 5_100),
            ("1", 1_000_000),
            (".5", 500_000),
            ("-0.00750", -7_500),
            ("12.3456789", 12_345_679),
            ("0.0000001", 1),
        ] {
            let money = Money::parse(amount, "usd").expect("an amount");
            assert_eq!((money.micros, money.currency()), (micros, "USD"), "{amount}");
        }
        for (amount, currency) in [
            ("", "USD"),
            (".", "USD"),
            ("1e3", "USD"),
            ("--1", "USD"),
            ("1,5", "USD"),
            ("1", "US"),
            ("1", "U$D"),
        ] {
            assert_eq!(Money::parse(amount, currency), None, "{amount} {currency}");
        }
        assert_eq!(Money::parse("9223372036854775807", "USD"), None);
    }

    #[test]
    fn an_amount_is_written_as_short_as_it_is_exact() {
        let written = |amount| Money::parse(amount, "USD").expect("an amount").to_string();
        assert_eq!(written("0.00510"), "0.0051 USD");
        assert_eq!(written("-1.50"), "-1.5 USD");
        assert_eq!(written("3"), "3 USD");
    }
}
