//! Which records the users' own code does not store. They are in the tables with the reason, and not in the views.

use rust_decimal::Decimal;

/// Why a client is not in the view. A name is required; a RUT is not, but one that is there must be one.
pub fn client(name: Option<&str>, rut: Option<&str>) -> Option<&'static str> {
    if name.is_none() {
        return Some("sin_nombre");
    }
    match rut {
        Some(rut) if !is_rut(rut) => Some("rut_invalido"),
        _ => None,
    }
}

/// `[0-9]{7,8}-?[0-9kK]?`, dots aside.
fn is_rut(text: &str) -> bool {
    let text = text.replace('.', "");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &text[digits..];
    let tail = |rest: &str| matches!(rest.as_bytes(), [] | [b'0'..=b'9' | b'k' | b'K']);
    match rest.strip_prefix('-') {
        Some(rest) => (7..=8).contains(&digits) && tail(rest),
        // Without a hyphen the last digit may be the check digit.
        None if rest.is_empty() => (7..=9).contains(&digits),
        None => (7..=8).contains(&digits) && tail(rest),
    }
}

/// Why a document is not in the view.
pub fn document(net: Decimal, tax: Decimal, total: Decimal) -> Option<&'static str> {
    if total <= Decimal::ZERO {
        Some("total_no_positivo")
    } else if net < Decimal::ZERO {
        Some("neto_negativo")
    } else if tax < Decimal::ZERO {
        Some("iva_negativo")
    } else {
        None
    }
}

/// Why a line is not in the view.
pub fn detail(quantity: Decimal, unit: Decimal) -> Option<&'static str> {
    if quantity <= Decimal::ZERO {
        Some("cantidad_no_positiva")
    } else if unit <= Decimal::ZERO {
        Some("precio_no_positivo")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ruts_are_as_the_users_pattern_has_them() {
        for rut in ["1234567", "12345678", "12345678-9", "12.345.678-K", "1234567k", "123456789", "12345678-"]
        {
            assert!(is_rut(rut), "{rut}");
        }
        for rut in ["123456", "1234567890", "12345678-99", "ABC", "", "1234-5678", "12345678_9"] {
            assert!(!is_rut(rut), "{rut}");
        }
    }

    #[test]
    fn what_is_skipped_has_a_reason() {
        let (zero, one) = (Decimal::ZERO, Decimal::ONE);
        assert_eq!(client(None, None), Some("sin_nombre"));
        assert_eq!(client(Some("Ana"), Some("x")), Some("rut_invalido"));
        assert_eq!(client(Some("Ana"), None), None);
        assert_eq!(document(one, zero, one), None);
        assert_eq!(document(one, zero, zero), Some("total_no_positivo"));
        assert_eq!(document(-one, zero, one), Some("neto_negativo"));
        assert_eq!(document(one, -one, one), Some("iva_negativo"));
        assert_eq!(detail(zero, one), Some("cantidad_no_positiva"));
        assert_eq!(detail(one, zero), Some("precio_no_positivo"));
        assert_eq!(detail(one, one), None);
    }
}
