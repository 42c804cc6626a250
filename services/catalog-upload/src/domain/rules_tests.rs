use proptest::prelude::*;
use rust_decimal::Decimal;

use super::{Column, ProductRow, RawCell, RawRow, RowError, validate};

fn text(value: &str) -> RawCell {
    RawCell::text(value, 1000)
}

/// A row without a fault.
pub(super) fn good(number: u32) -> RawRow {
    let mut row = RawRow::new(number);
    for (column, value) in [
        (Column::Id, "P1"),
        (Column::Nombre, "Ibuprofeno"),
        (Column::Codigo, "IBU"),
        (Column::Categoria, "ANALGESICS"),
        (Column::PrecioUnitario, "10.5"),
        (Column::CertificadoSanitario, "INVIMA"),
        (Column::CondicionesAlmacenamiento, "Seco"),
        (Column::TiempoEntregaDias, "2"),
    ] {
        row.set(column, text(value));
    }
    row
}

fn with(cells: &[(Column, RawCell)]) -> Result<ProductRow, RowError> {
    let mut row = good(7);
    for (column, cell) in cells {
        row.set(*column, cell.clone());
    }
    validate(row).map(|checked| checked.row)
}

/// The code and the column of the error.
fn refused(column: Column, cell: RawCell) -> Option<(&'static str, Option<Column>)> {
    with(&[(column, cell)]).err().map(|error| (error.code, error.column))
}

#[test]
fn what_is_optional_has_its_default() {
    let product = with(&[]).expect("the good row keeps the rules");
    assert_eq!(
        (product.row, product.presentacion, product.stock_minimo, product.stock_critico),
        (7, None, 10, 5)
    );
    assert_eq!((product.requiere_lote, product.requiere_vencimiento), (false, true));
    assert_eq!(product.precio_unitario, Decimal::new(105, 1));
}

#[test]
fn empty_required_fields_are_named_in_the_legacy_words() {
    let error = with(&[(Column::Nombre, RawCell::Empty), (Column::CertificadoSanitario, text("  "))])
        .expect_err("two required fields are empty");
    assert_eq!(error.message, "Campos obligatorios vacíos: nombre, certificado_sanitario");
    assert_eq!(
        (error.row, error.code, error.column, error.value),
        (7, "required", Some(Column::Nombre), None)
    );

    let error = validate(RawRow::new(2)).expect_err("the row is empty");
    assert_eq!(
        error.message,
        "Campos obligatorios vacíos: id, nombre, codigo, categoria, precio_unitario, certificado_sanitario, condiciones_almacenamiento, tiempo_entrega_dias"
    );
}

#[test]
fn all_problems_of_a_row_are_told_at_once() {
    let error = with(&[
        (Column::Id, RawCell::Empty),
        (Column::PrecioUnitario, text("gratis")),
        (Column::StockMinimo, text("-1")),
        (Column::RequiereLote, text("quizás")),
    ])
    .expect_err("four problems");
    assert_eq!(error.code, "required");
    for part in [
        "Campos obligatorios vacíos: id; ",
        "precio_unitario: no es un número",
        "stock_minimo: debe estar entre 0 y 2147483647",
        "requiere_lote: escriba sí o no",
    ] {
        assert!(error.message.contains(part), "{part:?} in {:?}", error.message);
    }
    let error =
        with(&[(Column::PrecioUnitario, text("gratis")), (Column::StockMinimo, text("x"))]).expect_err("two");
    assert_eq!((error.code, error.column), ("not_a_number", Some(Column::PrecioUnitario)));
    assert_eq!(error.value.as_deref(), Some("gratis"));
}

#[test]
fn lengths_are_counted_in_characters() {
    for column in Column::ALL {
        let Some(max) = column.max_chars() else { continue };
        assert!(with(&[(column, text(&"ñ".repeat(max)))]).is_ok(), "{column:?}");
        let long = text(&"ñ".repeat(max + 1));
        assert_eq!(refused(column, long), Some(("too_long", Some(column))), "{column:?}");
    }
    let error = with(&[(Column::Nombre, text(&"x".repeat(900)))]).expect_err("too long");
    assert_eq!(error.value.map(|value| value.len()), Some(100));
    assert_eq!(error.message, "nombre: tiene más de 255 caracteres; acórtelo");
}

#[test]
fn codes_that_excel_turned_into_numbers_are_whole() {
    let product = with(&[
        (Column::Codigo, RawCell::Number(7_701_234_567_890.0)),
        (Column::Id, RawCell::Number(12.0)),
        (Column::Nombre, RawCell::Number(2.5)),
        (Column::Categoria, RawCell::Bool(true)),
    ])
    .expect("numbers may be text");
    assert_eq!((product.codigo.as_str(), product.id.as_str()), ("7701234567890", "12"));
    assert_eq!((product.nombre.as_str(), product.categoria.as_str()), ("2.5", "TRUE"));
}

#[test]
fn a_code_whose_digits_are_lost_is_refused() {
    for column in [Column::Id, Column::Codigo] {
        for cell in [
            RawCell::Number(7_701_234_567_890_123.0),
            RawCell::Number(1e15),
            RawCell::Number(-1e40),
            text("7,70123E+12"),
            text("7.70123E+12"),
            text("1E+15"),
        ] {
            assert_eq!(refused(column, cell.clone()), Some(("digits_lost", Some(column))), "{cell:?}");
        }
    }
    assert!(with(&[(Column::Nombre, text("7,70123E+12"))]).is_ok(), "a name may say so");
}

#[test]
fn what_excel_spoilt_is_refused() {
    let date = RawCell::DateTime("2025-03-01T00:00:00".into());
    assert_eq!(refused(Column::Codigo, date.clone()), Some(("date_in_text", Some(Column::Codigo))));
    assert_eq!(refused(Column::PrecioUnitario, date), Some(("not_a_number", Some(Column::PrecioUnitario))));
    for column in Column::ALL {
        assert_eq!(refused(column, RawCell::Error("#N/A")), Some(("formula_error", Some(column))));
    }
    assert_eq!(
        refused(Column::Nombre, RawCell::Text("a\0b".into())).map(|(code, _)| code),
        Some("invalid_character")
    );
    let error = with(&[(Column::PrecioUnitario, RawCell::Text("a\0b".into()))]).expect_err("not a number");
    assert!(!error.value.unwrap_or_default().contains('\0'));
}

#[test]
fn prices() {
    for (cell, cents) in [
        (text("0"), 0),
        (text("-0"), 0),
        (text("12,5"), 1250),
        (text("$ 1.234,50"), 123_450),
        (text("0.500"), 50),
        (RawCell::Number(0.1 + 0.2), 30),
        (text("9999999999.99"), 999_999_999_999),
    ] {
        let price = with(&[(Column::PrecioUnitario, cell.clone())]).map(|product| product.precio_unitario);
        assert_eq!(price, Ok(Decimal::new(cents, 2).normalize()), "{cell:?}");
    }
    for (cell, code) in [
        (text("1.234"), "ambiguous_number"),
        (text("-1"), "out_of_range"),
        (text("10000000000"), "out_of_range"),
        (RawCell::Number(1e30), "out_of_range"),
        (RawCell::Number(f64::NAN), "out_of_range"),
        (text("1.005,125"), "too_many_decimals"),
        (RawCell::Number(1.234), "too_many_decimals"),
        (text("12 COP"), "not_a_number"),
        (RawCell::Bool(true), "not_a_number"),
    ] {
        assert_eq!(
            refused(Column::PrecioUnitario, cell.clone()).map(|(code, _)| code),
            Some(code),
            "{cell:?}"
        );
    }
}

#[test]
fn whole_numbers() {
    for (cell, days) in
        [(text("1"), 1), (text("10.0"), 10), (RawCell::Number(30.0), 30), (text("2147483647"), i32::MAX)]
    {
        let product = with(&[(Column::TiempoEntregaDias, cell.clone())]);
        assert_eq!(product.map(|product| product.tiempo_entrega_dias), Ok(Some(days)), "{cell:?}");
    }
    for (column, cell, code) in [
        (Column::TiempoEntregaDias, text("0"), "out_of_range"),
        (Column::TiempoEntregaDias, text("2147483648"), "out_of_range"),
        (Column::TiempoEntregaDias, text("1,5"), "not_an_integer"),
        (Column::TiempoEntregaDias, text("tres"), "not_a_number"),
        (Column::StockMinimo, RawCell::Number(-1.0), "out_of_range"),
        (Column::StockCritico, RawCell::Number(0.5), "not_an_integer"),
    ] {
        assert_eq!(refused(column, cell.clone()), Some((code, Some(column))), "{cell:?}");
    }
    assert_eq!(with(&[(Column::StockMinimo, text("0"))]).map(|product| product.stock_minimo), Ok(0));
}

#[test]
fn truth_in_any_case() {
    let truth = |cell| with(&[(Column::RequiereLote, cell)]).map(|product| product.requiere_lote);
    for word in ["true", "TRUE", "1", "si", "Sí", "SÍ", "si\u{301}", "yes", "Verdadero", "x", "X"] {
        assert_eq!(truth(text(word)), Ok(true), "{word}");
    }
    for word in ["false", "0", "No", "FALSO", "n", "-"] {
        assert_eq!(truth(text(word)), Ok(false), "{word}");
    }
    assert_eq!(truth(RawCell::Bool(true)), Ok(true));
    assert_eq!(truth(RawCell::Number(0.0)), Ok(false));
    for cell in [text("tal vez"), text("2"), RawCell::Number(2.0)] {
        assert_eq!(refused(Column::RequiereVencimiento, cell).map(|(code, _)| code), Some("not_a_boolean"));
    }
}

fn any_cell() -> impl Strategy<Value = RawCell> {
    prop_oneof![
        Just(RawCell::Empty),
        "\\PC{0,300}".prop_map(|value| RawCell::text(&value, 1000)),
        "[0-9.,$ -]{0,16}".prop_map(|value| RawCell::text(&value, 1000)),
        proptest::num::f64::ANY.prop_map(RawCell::Number),
        any::<bool>().prop_map(RawCell::Bool),
        Just(RawCell::DateTime("2025-03-01T00:00:00".into())),
        Just(RawCell::Error("#REF!")),
    ]
}

proptest! {
    /// A row passes only if a database that enforces the limits would take it.
    #[test]
    fn what_passes_fits(cells in proptest::collection::vec((0..Column::COUNT, any_cell()), 0..6)) {
        let cells: Vec<_> = cells.into_iter().map(|(index, cell)| (Column::ALL[index], cell)).collect();
        match with(&cells) {
            Ok(product) => {
                for (column, value) in [
                    (Column::Id, &product.id),
                    (Column::Nombre, &product.nombre),
                    (Column::Codigo, &product.codigo),
                    (Column::Categoria, &product.categoria),
                    (Column::CertificadoSanitario, &product.certificado_sanitario),
                    (Column::CondicionesAlmacenamiento, &product.condiciones_almacenamiento),
                ] {
                    let chars = value.chars().count();
                    prop_assert!((1..=column.max_chars().unwrap_or(0)).contains(&chars));
                    prop_assert!(!value.contains(char::is_control));
                }
                prop_assert!(product.precio_unitario >= Decimal::ZERO);
                prop_assert!(product.precio_unitario <= Decimal::new(999_999_999_999, 2));
                prop_assert!(product.precio_unitario.scale() <= 2);
                prop_assert!(product.tiempo_entrega_dias >= Some(1));
                prop_assert!(product.stock_minimo >= 0 && product.stock_critico >= 0);
            }
            Err(error) => {
                prop_assert!(!error.message.is_empty() && !error.code.is_empty());
                prop_assert!(error.value.is_none_or(|value| value.chars().count() <= RowError::MAX_VALUE));
            }
        }
    }
}
