//! What becomes of each valid row: create, update or reject. Pure: the caller brings the products that
//! the rows can meet.

use std::collections::{HashMap, HashSet};

use super::{Claims, Column, Key, ProductRow, RowError};

/// A product that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingProduct {
    /// Its id.
    pub id: String,
    /// Its code.
    pub codigo: String,
    /// Whose it is.
    pub proveedor_id: String,
    /// Its version.
    pub version: i64,
    /// Whether this import has written it: an earlier row of its file means it.
    pub from_this_file: bool,
}

/// Id and code are those of two products.
const CONFLICT: &str = "id_and_codigo_conflict";

/// What holds for all rows of an import.
#[derive(Clone, Copy, Debug)]
pub struct ImportContext<'a> {
    /// Whose products these are.
    pub proveedor_id: &'a str,
    /// Whether a row may change a product that is there already (`reemplazar_duplicados`).
    pub replace: bool,
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A product that is new.
    Create,
    /// A product that is there already takes the row's values, except its id.
    Update {
        /// Which. It differs from the row's id where only the code was known.
        id: String,
    },
    /// Nothing is written.
    Reject(RowError),
}

/// The outcome of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of it.
    pub outcome: Outcome,
    /// Whether it met an existing product or an earlier row of the file.
    pub duplicate: bool,
}

impl Decision {
    /// That of a row that met nothing.
    pub const CREATE: Self = Self { outcome: Outcome::Create, duplicate: false };
}

/// A product as it stands after the rows so far.
struct Standing<'a> {
    id: &'a str,
    codigo: &'a str,
    own: bool,
    from_this_file: bool,
}

/// Decides over a batch of rows, in the order of the file; gives one decision a row.
///
/// `existing` must hold every product whose id or codigo equals the id or codigo of a row of the batch
/// (more do no harm), and `claims` the keys of the rows that earlier batches of the same import accepted. Batches
/// may be of any size: the first row of a file that has an id or a code wins, whoever changed its product since.
pub fn classify<'a>(
    rows: impl IntoIterator<Item = &'a ProductRow>,
    existing: &'a [ExistingProduct],
    claims: &Claims,
    import: ImportContext<'_>,
) -> Vec<Decision> {
    let rows = rows.into_iter();
    let count = rows.size_hint().0;
    let mut products: Vec<Standing<'_>> = Vec::with_capacity(existing.len() + count);
    let mut by_id: HashMap<&str, usize> = HashMap::with_capacity(existing.len() + count);
    let mut by_code: HashMap<&str, usize> = HashMap::with_capacity(existing.len() + count);
    for product in existing {
        by_id.insert(&product.id, products.len());
        by_code.insert(&product.codigo, products.len());
        products.push(Standing {
            id: &product.id,
            codigo: &product.codigo,
            own: product.proveedor_id == import.proveedor_id,
            from_this_file: product.from_this_file || claims.has(Key::id(&product.id)),
        });
    }
    // The ids and the codes of the rows of this batch that are accepted.
    let (mut ids, mut codes) = (HashSet::with_capacity(count), HashSet::with_capacity(count));

    let mut decisions = Vec::with_capacity(count);
    for row in rows {
        let same_id = by_id.get(row.id.as_str()).copied();
        let same_code = by_code.get(row.codigo.as_str()).copied();
        let of_this_file = |place: usize| products[place].from_this_file;
        let id_is_taken = ids.contains(row.id.as_str())
            || claims.has(Key::id(&row.id))
            || same_id.is_some_and(of_this_file);
        let code_is_taken = codes.contains(row.codigo.as_str())
            || claims.has(Key::code(&row.codigo))
            || same_code.is_some_and(of_this_file);
        if id_is_taken || code_is_taken {
            let column = if id_is_taken { Column::Id } else { Column::Codigo };
            let outcome = Outcome::Reject(reject(row, "duplicate_in_file", column, duplicate(row)));
            decisions.push(Decision { outcome, duplicate: true });
            continue;
        }
        let Some(met) = same_id.or(same_code) else {
            ids.insert(row.id.as_str());
            codes.insert(row.codigo.as_str());
            by_id.insert(&row.id, products.len());
            by_code.insert(&row.codigo, products.len());
            products.push(Standing { id: &row.id, codigo: &row.codigo, own: true, from_this_file: true });
            decisions.push(Decision::CREATE);
            continue;
        };
        let outcome = match refusal(row, same_id, same_code, &products, import.replace) {
            Some(error) => Outcome::Reject(error),
            None => {
                let product = &mut products[met];
                ids.extend([row.id.as_str(), product.id]);
                codes.insert(row.codigo.as_str());
                // The old code is free for later rows, unless it stays.
                by_code.remove(product.codigo);
                by_code.insert(&row.codigo, met);
                product.codigo = &row.codigo;
                product.from_this_file = true;
                Outcome::Update { id: product.id.to_owned() }
            }
        };
        decisions.push(Decision { outcome, duplicate: true });
    }
    decisions
}

/// Why a row that met a product may not change it.
fn refusal(
    row: &ProductRow,
    same_id: Option<usize>,
    same_code: Option<usize>,
    products: &[Standing<'_>],
    replace: bool,
) -> Option<RowError> {
    let by_id = same_id.map(|index| &products[index]);
    let by_code = same_code.map(|index| &products[index]);
    let met = |test: fn(&Standing<'_>) -> bool| by_id.is_some_and(test) || by_code.is_some_and(test);
    let column = if by_id.is_some() { Column::Id } else { Column::Codigo };

    if met(|product| !product.own) {
        let column = if by_id.is_some_and(|product| !product.own) { Column::Id } else { Column::Codigo };
        let (what, value) = if column == Column::Id { ("ID", &row.id) } else { ("Código", &row.codigo) };
        let message = format!("El {what} {value} pertenece a un producto de otro proveedor; use otro");
        return Some(reject(row, "other_supplier", column, message));
    }
    if let (Some(first), Some(second)) = (same_id, same_code)
        && first != second
    {
        let message = format!(
            "El ID {} es de un producto (Código: {}) y el Código {} es de otro (ID: {}); corrija uno de los dos",
            row.id, products[first].codigo, row.codigo, products[second].id
        );
        return Some(reject(row, CONFLICT, Column::Codigo, message));
    }
    if !replace {
        return Some(reject(row, "duplicate_product", column, duplicate(row)));
    }
    None
}

/// The wording is part of the contract with the clients there are.
fn duplicate(row: &ProductRow) -> String {
    format!("Producto duplicado (ID: {} o Código: {})", row.id, row.codigo)
}

fn reject(row: &ProductRow, code: &'static str, column: Column, message: String) -> RowError {
    let value = if column == Column::Id { &row.id } else { &row.codigo };
    // Who sends the row again may give it another id, where that is what it met.
    let id = Some(&row.id).filter(|_| column != Column::Id && code != CONFLICT).cloned();
    RowError { row: row.row, id, code, column: Some(column), value: Some(RowError::excerpt(value)), message }
}
