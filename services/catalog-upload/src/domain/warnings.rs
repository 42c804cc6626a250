//! What a row is accepted with, though its sender should look at it: values that a spreadsheet or an
//! encoding may have spoilt, and values that keep the rules and make little sense.

use super::{Column, RowError, numbers};

/// From here on a number has more digits than Excel keeps.
const BEYOND_EXCEL: f64 = 1e15;

/// Something to look at in a row that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWarning {
    /// The row's number in the file.
    pub row: u32,
    /// Stable, for programs.
    pub code: &'static str,
    /// Where.
    pub column: Column,
    /// What the cell held, at most 100 characters.
    pub value: String,
    /// In Spanish, with what to do.
    pub message: String,
}

impl RowWarning {
    fn new(row: u32, code: &'static str, column: Column, value: &str, advice: &str) -> Self {
        let message = format!("{}: {advice}", column.name());
        Self { row, code, column, value: RowError::excerpt(value), message }
    }

    /// A code that the spreadsheet keeps as a number: it has no leading zeros any more.
    pub(super) fn number_in_code(row: u32, column: Column, number: f64) -> Self {
        let value = numbers::render(number);
        if number.abs() >= BEYOND_EXCEL {
            return Self::digits_lost(row, column, &value);
        }
        let advice = "Excel lo guardó como número y pudo quitarle ceros a la izquierda; si le faltan, dé a la columna el formato Texto y escríbalo de nuevo";
        Self::new(row, "number_as_text", column, &value, advice)
    }

    /// A code that says `7,70123E+12`: what Excel writes to a CSV file for a number that was too wide.
    pub(super) fn shortened_code(row: u32, column: Column, text: &str) -> Option<Self> {
        is_scientific(text).then(|| Self::digits_lost(row, column, text))
    }

    fn digits_lost(row: u32, column: Column, value: &str) -> Self {
        let advice = "Excel lo trató como número y cambió sus últimos dígitos; dé a la columna el formato Texto y escríbalo de nuevo";
        Self::new(row, "digits_lost", column, value, advice)
    }

    /// A text with the mark that programs leave where a character could not be decoded.
    pub(super) fn unreadable(row: u32, column: Column, text: &str) -> Option<Self> {
        let advice =
            "tiene caracteres ilegibles (\u{fffd}); escríbalo de nuevo o guarde el archivo como CSV UTF-8";
        text.contains('\u{fffd}').then(|| Self::new(row, "unreadable_text", column, text, advice))
    }

    /// A price of nothing.
    pub(super) fn zero_price(row: u32) -> Self {
        let advice = "el precio es 0; si no es gratis, corríjalo";
        Self::new(row, "zero_price", Column::PrecioUnitario, "0", advice)
    }

    /// Stock that is critical before it is low.
    pub(super) fn critical_above_minimum(row: u32, critical: i32, minimum: i32) -> Self {
        let advice = format!(
            "{critical} es mayor que stock_minimo ({minimum}); debe ser menor o igual, revise los dos"
        );
        Self::new(row, "critical_above_minimum", Column::StockCritico, &critical.to_string(), &advice)
    }
}

/// Digits, maybe a separator and more digits, `E+` and digits.
fn is_scientific(text: &str) -> bool {
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((number, exponent)) = text.split_once("E+").or_else(|| text.split_once("e+")) else {
        return false;
    };
    let (whole, decimals) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    all_digits(whole) && all_digits(decimals) && all_digits(exponent)
}
