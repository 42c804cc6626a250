//! What a row is accepted with, though its sender should look at it: values that a spreadsheet or an
//! encoding may have spoilt, and values that keep the rules and make little sense.

use super::{Column, RowError, numbers};

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
        let advice = "Excel lo guardó como número y pudo quitarle ceros a la izquierda; si le faltan, dé a la columna el formato Texto y escríbalo de nuevo";
        Self::new(row, "number_as_text", column, &value, advice)
    }

    /// An id or a code that had characters which nobody sees, or letters put together otherwise.
    pub(super) fn canonical_code(row: u32, column: Column, written: &str, kept: &str) -> Self {
        let advice =
            format!("tenía caracteres invisibles o letras compuestas de otra forma; se guardó como «{kept}»");
        Self::new(row, "normalized_text", column, written, &advice)
    }

    /// A text of several lines, or with tabs.
    pub(super) fn joined_lines(row: u32, column: Column, text: &str) -> Self {
        let advice = "tenía saltos de línea o tabulaciones; se guardaron como espacios";
        Self::new(row, "joined_lines", column, text, advice)
    }

    /// A text with bytes that were not in the file's encoding.
    pub(super) fn mixed_encoding(row: u32, column: Column, text: &str) -> Self {
        let advice = "la fila tiene letras que no están en UTF-8 como las demás; revise acentos y eñes, y guarde el archivo como CSV UTF-8";
        Self::new(row, "unreadable_text", column, text, advice)
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
