//! Other names of the template's columns: those that suppliers' own systems and price lists use.

use super::Column;

/// Compared by letters and digits only, so that `Precio Unitario (COP)` is `precio unitario cop`.
///
/// Left out are names that mostly mean something else: a barcode beside the supplier's own code, a lot's
/// number or a date of expiry where the template asks for yes or no, a long description beside the name.
const ALIASES: [(Column, &[&str]); 13] = [
    (
        Column::Id,
        &[
            "id producto",
            "id del producto",
            "producto id",
            "product id",
            "identificador",
            "id articulo",
            "item id",
        ],
    ),
    (
        Column::Nombre,
        &[
            "nombre producto",
            "nombre del producto",
            "nombre comercial",
            "nombre articulo",
            "nombre del articulo",
            "producto",
            "articulo",
            "medicamento",
            "name",
            "product name",
        ],
    ),
    (
        Column::Codigo,
        &[
            "codigo producto",
            "codigo del producto",
            "codigo proveedor",
            "codigo interno",
            "codigo articulo",
            "cod",
            "cod producto",
            "sku",
            "referencia",
            "ref",
            "code",
        ],
    ),
    (
        Column::Categoria,
        &["categoria producto", "categoria del producto", "categoria id", "familia", "category"],
    ),
    (
        Column::Presentacion,
        &[
            "presentacion comercial",
            "presentacion del producto",
            "empaque",
            "unidad de empaque",
            "presentation",
        ],
    ),
    (
        Column::PrecioUnitario,
        &[
            "precio",
            "precio cop",
            "precio unitario cop",
            "precio unit",
            "precio por unidad",
            "precio de venta",
            "precio unidad",
            "valor unitario",
            "vr unitario",
            "unit price",
            "price",
        ],
    ),
    (
        Column::CertificadoSanitario,
        &[
            "certificado",
            "certificado invima",
            "registro sanitario",
            "registro sanitario invima",
            "registro invima",
            "reg sanitario",
            "invima",
        ],
    ),
    (
        Column::CondicionesAlmacenamiento,
        &[
            "condiciones de almacenamiento",
            "condicion de almacenamiento",
            "almacenamiento",
            "requisitos almacenamiento",
            "requisitos de almacenamiento",
            "conservacion",
            "storage conditions",
        ],
    ),
    (
        Column::TiempoEntregaDias,
        &[
            "tiempo entrega",
            "tiempo de entrega",
            "tiempo de entrega dias",
            "tiempo de entrega en dias",
            "dias de entrega",
            "dias entrega",
            "plazo de entrega",
            "plazo de entrega dias",
            "lead time",
            "lead time days",
            "lead time dias",
        ],
    ),
    (Column::StockMinimo, &["stock min", "inventario minimo", "existencia minima", "minimum stock"]),
    (Column::StockCritico, &["stock crit", "inventario critico", "existencia critica", "critical stock"]),
    (Column::RequiereLote, &["requiere lotes", "maneja lote", "maneja lotes", "control de lote"]),
    (
        Column::RequiereVencimiento,
        &[
            "requiere fecha de vencimiento",
            "requiere fecha vencimiento",
            "maneja vencimiento",
            "control de vencimiento",
        ],
    ),
];

/// The column that a name, letters and digits only, is an alias of.
pub(super) fn column_of(name: &str) -> Option<Column> {
    let same = |alias: &&'static str| alias.bytes().filter(|byte| *byte != b' ').eq(name.bytes());
    ALIASES.into_iter().find(|(_, aliases)| aliases.iter().any(same)).map(|(column, _)| column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_one_columns_and_no_columns_name() {
        let mut seen = std::collections::HashSet::new();
        for (index, (column, aliases)) in ALIASES.into_iter().enumerate() {
            assert_eq!(column as usize, index);
            for alias in aliases {
                let name: String = alias.split(' ').collect();
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{alias:?}");
                assert!(seen.insert(name.clone()), "{alias:?} is there twice");
                assert_eq!(column_of(&name), Some(column));
                assert_eq!(Column::from_header(alias), None, "{alias:?} is a name");
            }
        }
    }
}
