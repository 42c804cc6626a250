use super::{Column, RawCell, RowWarning, rules_tests::good, validate};

/// The warnings of a row that is accepted.
fn warnings(cells: &[(Column, RawCell)]) -> Vec<RowWarning> {
    let mut row = good(9);
    for (column, cell) in cells {
        row.set(*column, cell.clone());
    }
    validate(row).expect("the row keeps the rules").warnings
}

fn text(value: &str) -> RawCell {
    RawCell::Text(value.to_owned())
}

#[test]
fn most_rows_have_none_and_cost_nothing() {
    let none = warnings(&[]);
    assert_eq!((none.len(), none.capacity()), (0, 0));
    for cells in [
        // Texts that look like numbers are what they should be.
        [(Column::Id, text("0012")), (Column::Codigo, text("7701234567890123456"))],
        [(Column::Id, text("12E5")), (Column::Codigo, text("E+12"))],
        [(Column::Nombre, RawCell::Number(500.0)), (Column::Categoria, RawCell::Number(7.0))],
        [(Column::StockMinimo, text("5")), (Column::StockCritico, text("5"))],
    ] {
        assert_eq!(warnings(&cells), [], "{cells:?}");
    }
}

#[test]
fn codes_that_came_as_numbers() {
    let found = warnings(&[(Column::Id, RawCell::Number(12.0))]);
    let short: Vec<_> = found
        .iter()
        .map(|warning| (warning.row, warning.code, warning.column, warning.value.as_str()))
        .collect();
    assert_eq!(short, [(9, "number_as_text", Column::Id, "12")]);
    assert_eq!(
        found[0].message,
        "id: Excel lo guardó como número y pudo quitarle ceros a la izquierda; si le faltan, dé a la columna el formato Texto y escríbalo de nuevo"
    );
    assert_eq!(
        warnings(&[(Column::Codigo, RawCell::Number(999_999_999_999_999.0))])[0].code,
        "number_as_text"
    );
}

#[test]
fn values_that_make_little_sense() {
    let one = |cells: &[(Column, RawCell)]| {
        let found = warnings(cells);
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].code, found[0].column, found[0].value.clone())
    };
    assert_eq!(
        one(&[(Column::StockMinimo, text("5")), (Column::StockCritico, text("8"))]),
        ("critical_above_minimum", Column::StockCritico, "8".to_owned())
    );
    // The default of one may not go with the value of the other.
    assert_eq!(one(&[(Column::StockMinimo, text("2"))]).0, "critical_above_minimum");
    assert_eq!(
        one(&[(Column::PrecioUnitario, text("0,00"))]),
        ("zero_price", Column::PrecioUnitario, "0".to_owned())
    );
    assert_eq!(
        one(&[(Column::Nombre, text("Amoxicilina c\u{fffd}psulas"))]),
        ("unreadable_text", Column::Nombre, "Amoxicilina c\u{fffd}psulas".to_owned())
    );
}

#[test]
fn a_row_that_is_rejected_has_its_errors_only() {
    let mut row = good(9);
    row.set(Column::Id, RawCell::Number(1.0));
    row.set(Column::PrecioUnitario, text("gratis"));
    let error = validate(row).expect_err("the price is no number");
    assert_eq!((error.code, error.column), ("not_a_number", Some(Column::PrecioUnitario)));
}
