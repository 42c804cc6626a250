//! The rules over any cells: what passes fits the database, and where batches end decides nothing.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use lote_fuzz::{
    corpus,
    domain::{
        Accepted, Claims, Column, Decision, ExistingProduct, ImportContext, Outcome, ProductRow, RawCell,
        RawRow, Summary, classify, numbers::DecimalMark, validate,
    },
};
use rust_decimal::Decimal;


#[derive(Debug, Arbitrary)]
enum Cell {
    Empty,
    Text(String),
    Number(f64),
    Bool(bool),
    DateTime(String),
    Error,
}

#[derive(Debug, Arbitrary)]
enum Input {
    Rows { cells: Vec<(u8, Cell)>, marks: [Option<bool>; Column::COUNT] },
    Batches { existing: Vec<(u8, u8, bool)>, keys: Vec<(u8, u8)>, sizes: Vec<u8>, replace: bool },
}

fuzz_target!(init: corpus::write("rules", Ok(corpus::noise())), |input: Input| {
    match input {
        Input::Rows { cells, marks } => row(cells, marks),
        Input::Batches { existing, keys, sizes, replace } => batches(&existing, &keys, &sizes, replace),
    }
});

fn row(cells: Vec<(u8, Cell)>, marks: [Option<bool>; Column::COUNT]) {
    let mut row = RawRow::new(2);
    for (index, cell) in cells {
        let cell = match cell {
            Cell::Empty => RawCell::Empty,
            Cell::Text(text) => RawCell::text(&text, 1_000),
            Cell::Number(number) => RawCell::Number(number),
            Cell::Bool(truth) => RawCell::Bool(truth),
            Cell::DateTime(text) => RawCell::DateTime(text),
            Cell::Error => RawCell::Error("#REF!"),
        };
        row.set(Column::ALL[usize::from(index) % Column::COUNT], cell);
    }
    row.set_marks(
        marks.map(|mark| mark.map(|comma| if comma { DecimalMark::Comma } else { DecimalMark::Point })),
    );
    match validate(row) {
        Ok(checked) => {
            fits(&checked.row);
            for warning in checked.warnings {
                assert!(!warning.message.is_empty() && warning.value.chars().count() <= 100);
                assert!(!warning.value.contains('\0'));
            }
        }
        Err(error) => {
            assert!(!error.message.is_empty() && error.row == 2);
            assert!(error.value.is_none_or(|value| value.chars().count() <= 100 && !value.contains('\0')));
        }
    }
}

fn fits(row: &ProductRow) {
    for (column, text) in [
        (Column::Id, Some(&row.id)),
        (Column::Nombre, Some(&row.nombre)),
        (Column::Codigo, Some(&row.codigo)),
        (Column::Categoria, Some(&row.categoria)),
        (Column::Presentacion, row.presentacion.as_ref()),
        (Column::CertificadoSanitario, Some(&row.certificado_sanitario)),
        (Column::CondicionesAlmacenamiento, Some(&row.condiciones_almacenamiento)),
    ] {
        let Some(text) = text else { continue };
        let max = column.max_chars().unwrap_or(0);
        assert!((1..=max).contains(&text.chars().count()) && !text.contains('\0'), "{column:?}: {text:?}");
    }
    assert!(row.precio_unitario >= Decimal::ZERO && row.precio_unitario <= Decimal::new(999_999_999_999, 2));
    assert!(row.precio_unitario.scale() <= 2 && row.tiempo_entrega_dias.is_none_or(|days| days >= 1));
    assert!(row.stock_minimo >= 0 && row.stock_critico >= 0);
}

fn product(row: u32, (id, codigo): (u8, u8)) -> ProductRow {
    ProductRow {
        row,
        id: id.to_string(),
        nombre: "n".to_owned(),
        codigo: codigo.to_string(),
        categoria: "c".to_owned(),
        presentacion: None,
        precio_unitario: Decimal::ONE,
        certificado_sanitario: "s".to_owned(),
        condiciones_almacenamiento: "a".to_owned(),
        tiempo_entrega_dias: Some(1),
        stock_minimo: 10,
        stock_critico: 5,
        requiere_lote: false,
        requiere_vencimiento: true,
    }
}

/// The same file in one batch and in many comes to the same.
fn batches(existing: &[(u8, u8, bool)], keys: &[(u8, u8)], sizes: &[u8], replace: bool) {
    let mut known: Vec<ExistingProduct> = Vec::new();
    for (id, codigo, own) in existing {
        let (id, codigo) = ((id % 16).to_string(), (codigo % 16).to_string());
        if known.iter().all(|product| product.id != id && product.codigo != codigo) {
            let proveedor_id = if *own { "mine" } else { "other" }.to_owned();
            known.push(ExistingProduct { id, codigo, proveedor_id, version: 1, from_this_file: false });
        }
    }
    let keys = keys.iter().map(|(id, codigo)| (id % 16, codigo % 16));
    let rows: Vec<ProductRow> = (2..).zip(keys).map(|(number, key)| product(number, key)).collect();
    let whole = run(&rows, known.clone(), &mut std::iter::repeat(rows.len().max(1)), replace);
    let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size % 16) + 1).chain([1]).collect();
    let parts = run(&rows, known, &mut sizes.into_iter().cycle(), replace);
    assert_eq!(whole, parts);
}

/// What becomes of each row, and the products afterwards, in batches of these sizes.
fn run(
    rows: &[ProductRow],
    mut products: Vec<ExistingProduct>,
    sizes: &mut dyn Iterator<Item = usize>,
    replace: bool,
) -> (Vec<Decision>, Vec<ExistingProduct>) {
    let import = ImportContext { proveedor_id: "mine", replace };
    let mut decisions = Vec::new();
    let mut claims = Claims::nothing(1_000);
    let mut summary = Summary::default();
    let mut rest = rows;
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
        let decided = classify(batch, &products, &claims, import);
        claims.take(Accepted::of(batch, &decided));
        for (row, decision) in batch.iter().zip(&decided) {
            summary.count(decision);
            match &decision.outcome {
                Outcome::Create => products.push(ExistingProduct {
                    id: row.id.clone(),
                    codigo: row.codigo.clone(),
                    proveedor_id: "mine".to_owned(),
                    version: 1,
                    from_this_file: true,
                }),
                Outcome::Update { id } => {
                    for product in products.iter_mut().filter(|product| product.id == *id) {
                        product.codigo.clone_from(&row.codigo);
                        product.from_this_file = true;
                    }
                }
                Outcome::Reject(_) => {}
            }
        }
        decisions.extend(decided);
        rest = after;
    }
    assert!(summary.holds() && summary.total == rows.len() as u64);
    (decisions, products)
}
