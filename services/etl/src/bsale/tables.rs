//! The sales tables. Their names and keys are the users'; `extra` holds what Bsale sends beside the columns.

use crate::domain::table::{Column, Kind::*, Table};

const fn column(name: &'static str, kind: crate::domain::table::Kind) -> Column {
    Column::new(name, kind)
}

const fn nullable(name: &'static str, kind: crate::domain::table::Kind) -> Column {
    Column::nullable(name, kind)
}

pub const DOCUMENT_TYPES: Table = Table {
    name: "tipos_documento",
    columns: &[
        column("id_bsale", Int),
        nullable("nombre", Text(255)),
        nullable("codigo_sii", Text(20)),
        // 0 sale, 1 return, 2 dispatch, 3 settlement.
        nullable("uso", Int),
        column("es_nota_credito", Flag),
        column("es_nota_venta", Flag),
        column("es_electronico", Flag),
        column("estado", Int),
        column("extra", Json),
    ],
    key: 1,
    indexes: &[],
};

pub const PRODUCT_TYPES: Table = Table {
    name: "tipos_producto",
    columns: &[
        column("id_bsale", Int),
        nullable("nombre", Text(255)),
        column("es_editable", Flag),
        column("estado", Int),
        column("extra", Json),
    ],
    key: 1,
    indexes: &[],
};

pub const PRODUCTS: Table = Table {
    name: "productos",
    columns: &[
        column("id_bsale", Int),
        nullable("nombre", Text(500)),
        nullable("descripcion", LongText),
        nullable("id_tipo_producto", Int),
        nullable("clasificacion", Int),
        column("permite_decimal", Flag),
        column("controla_stock", Flag),
        column("estado", Int),
        column("extra", Json),
    ],
    key: 1,
    indexes: &[],
};

pub const VARIANTS: Table = Table {
    name: "variantes",
    columns: &[
        column("id_bsale", Int),
        column("id_producto", Int),
        nullable("descripcion", Text(1000)),
        // Neither is unique at Bsale.
        nullable("codigo_sku", Text(255)),
        nullable("codigo_barras", Text(255)),
        column("stock_ilimitado", Flag),
        column("permite_stock_negativo", Flag),
        column("estado", Int),
        column("extra", Json),
    ],
    key: 1,
    indexes: &[&["id_producto"]],
};

pub const CLIENTS: Table = Table {
    name: "clientes",
    columns: &[
        column("id_bsale", Int),
        nullable("nombre", Text(255)),
        nullable("apellido", Text(255)),
        nullable("rut", Text(50)),
        nullable("email", Text(255)),
        nullable("telefono", Text(100)),
        nullable("empresa", Text(500)),
        nullable("direccion", Text(500)),
        nullable("comuna", Text(255)),
        nullable("ciudad", Text(255)),
        column("tiene_credito", Flag),
        nullable("credito_maximo", Amount),
        column("estado", Int),
        // Why the views don't show it.
        nullable("omitido", Text(50)),
        column("extra", Json),
    ],
    key: 1,
    indexes: &[&["rut"]],
};

pub const DOCUMENTS: Table = Table {
    name: "documentos_venta",
    columns: &[
        column("id_bsale", Int),
        column("id_tipo_documento", Int),
        nullable("id_cliente", Int),
        nullable("id_sucursal", Int),
        nullable("id_usuario", Int),
        nullable("folio", Int),
        // The UTC date of the seconds that Bsale sends, whatever their hour.
        column("fecha_emision", Date),
        nullable("fecha_vencimiento", Date),
        nullable("generado_en", Time),
        column("monto_neto", Amount),
        column("monto_iva", Amount),
        nullable("monto_exento", Amount),
        column("monto_total", Amount),
        // 0 active, 1 annulled.
        column("estado", Int),
        // 0 correct, 1 sent, 2 rejected.
        nullable("estado_sii", Int),
        nullable("omitido", Text(50)),
        column("extra", Json),
    ],
    key: 1,
    indexes: &[&["fecha_emision", "estado"], &["id_cliente"]],
};

/// Keyed by Bsale's own id of the detail: a document may have the same variant in several lines.
pub const DETAILS: Table = Table {
    name: "detalles_documento",
    columns: &[
        column("id_bsale", Int),
        column("id_documento", Int),
        nullable("linea", Int),
        nullable("id_variante", Int),
        column("cantidad", Amount),
        column("precio_neto_unitario", Amount),
        nullable("precio_total_unitario", Amount),
        column("monto_neto", Amount),
        column("monto_iva", Amount),
        column("monto_total", Amount),
        nullable("descuento_neto", Amount),
        nullable("descuento_total", Amount),
        nullable("nota", LongText),
        nullable("omitido", Text(50)),
        column("extra", Json),
    ],
    key: 1,
    indexes: &[&["id_documento"], &["id_variante"]],
};

pub const STOCK: Table = Table {
    name: "stock",
    columns: &[
        column("id_variante", Int),
        column("id_sucursal", Int),
        column("cantidad", Amount),
        nullable("reservado", Amount),
        nullable("disponible", Amount),
        column("extra", Json),
    ],
    key: 2,
    indexes: &[],
};

pub const PRICES: Table = Table {
    name: "listas_precio",
    columns: &[
        column("id_lista", Int),
        column("id_variante", Int),
        nullable("id_detalle", Int),
        column("precio_neto", Amount),
        nullable("precio_total", Amount),
        column("extra", Json),
    ],
    key: 2,
    indexes: &[],
};

pub const COSTS: Table = Table {
    name: "costos",
    columns: &[
        column("id_variante", Int),
        nullable("costo_promedio", Amount),
        nullable("costo_total", Amount),
        // Whether some reception had a cost above 0: only then is the average one.
        column("tiene_costo", Flag),
        nullable("ultimo_costo", Amount),
        nullable("ultima_recepcion", Date),
    ],
    key: 1,
    indexes: &[],
};

/// All of them.
pub const ALL: &[&Table] = &[
    &DOCUMENT_TYPES,
    &PRODUCT_TYPES,
    &PRODUCTS,
    &VARIANTS,
    &CLIENTS,
    &DOCUMENTS,
    &DETAILS,
    &STOCK,
    &PRICES,
    &COSTS,
];
