//! The views that dashboards read: the users' own names, columns and rules, over the normal tables.

use rust_decimal::Decimal;
use sea_orm::DbBackend;

use crate::config::BsaleSettings;

/// Names and queries, in the order in which they depend on each other.
pub fn all(settings: &BsaleSettings, backend: DbBackend) -> Vec<(&'static str, String)> {
    vec![
        ("cliente", clients(backend)),
        ("producto_revision", reviewed_products(settings.price_list, settings.cost_factor)),
        ("producto", PRODUCTS.to_owned()),
        ("documento_venta", documents(backend)),
        ("detalle_documento", LINES.to_owned()),
        ("ventas_netas", NET_SALES.to_owned()),
    ]
}

/// An expression as a date with its time.
fn moment(backend: DbBackend, expression: &str) -> String {
    let kind = if backend == DbBackend::Postgres { "timestamp" } else { "datetime" };
    format!("CAST({expression} AS {kind})")
}

fn clients(backend: DbBackend) -> String {
    // Bsale documents no date of a client's creation.
    let none = moment(backend, "NULL");
    format!(
        "SELECT id_bsale, nombre, apellido, substr(rut, 1, 15) AS rut, email, telefono,
                substr(direccion, 1, 500) AS direccion, {none} AS fecha_creacion
         FROM clientes WHERE eliminado_en IS NULL AND omitido IS NULL"
    )
}

/// Products with what is missing of them, so that somebody can see why one is not sold.
fn reviewed_products(list: i64, factor: Decimal) -> String {
    format!(
        "SELECT v.id_bsale AS id_bsale, p.nombre AS nombre, substr(p.descripcion, 1, 1000) AS descripcion,
                v.codigo_sku AS codigo_sku, v.codigo_barras AS codigo_barras, p.controla_stock AS controla_stock,
                l.precio_neto AS precio_neto,
                CASE WHEN c.tiene_costo AND c.costo_promedio IS NOT NULL THEN c.costo_promedio
                     ELSE CAST(round(l.precio_neto * {factor}, 4) AS DECIMAL(18,4)) END AS costo_neto,
                1 - v.estado AS estado,
                CASE WHEN v.estado <> 0 OR p.estado <> 0 THEN 'inactivo'
                     WHEN p.nombre IS NULL THEN 'sin_nombre'
                     WHEN v.codigo_sku IS NULL THEN 'sin_sku'
                     WHEN l.precio_neto IS NULL OR l.precio_neto <= 0 THEN 'sin_precio' END AS omitido
         FROM variantes v JOIN productos p ON p.id_bsale = v.id_producto
             LEFT JOIN listas_precio l
                 ON l.id_lista = {list} AND l.id_variante = v.id_bsale AND l.eliminado_en IS NULL
             LEFT JOIN costos c ON c.id_variante = v.id_bsale AND c.eliminado_en IS NULL
         WHERE v.eliminado_en IS NULL AND p.eliminado_en IS NULL"
    )
}

const PRODUCTS: &str =
    "SELECT id_bsale, nombre, descripcion, codigo_sku, codigo_barras, controla_stock, precio_neto,
            costo_neto, estado
     FROM producto_revision WHERE omitido IS NULL";

fn documents(backend: DbBackend) -> String {
    let issued = moment(backend, "fecha_emision");
    format!(
        "SELECT id_bsale, id_cliente, id_tipo_documento, folio, {issued} AS fecha_emision, monto_neto, monto_iva,
                monto_total
         FROM documentos_venta WHERE eliminado_en IS NULL AND omitido IS NULL AND estado = 0"
    )
}

const LINES: &str = "SELECT d.id_bsale AS id_detalle, d.id_documento AS id_documento, d.id_variante AS id_producto,
            d.cantidad AS cantidad, d.precio_neto_unitario AS precio_neto_unitario,
            CAST(round(coalesce(d.descuento_neto, 0) * 100 / nullif(d.cantidad * d.precio_neto_unitario, 0), 2)
                 AS DECIMAL(9,2)) AS descuento_porcentual,
            d.monto_total AS monto_total_linea
     FROM detalles_documento d JOIN documento_venta v ON v.id_bsale = d.id_documento
     WHERE d.eliminado_en IS NULL AND d.omitido IS NULL";

/// Sales by document, those of credit notes negative: of types that sell or take back. Dispatches are no sales (what they
/// carry is invoiced too), nor are settlements, which are of what somebody else has sold. A document whose type has not
/// been read yet counts as a sale until it has.
const NET_SALES: &str =
    "SELECT v.id_bsale AS id_bsale, v.fecha_emision AS fecha_emision, v.id_cliente AS id_cliente,
            v.id_sucursal AS id_sucursal, v.id_tipo_documento AS id_tipo_documento,
            CASE WHEN t.es_nota_credito THEN -v.monto_neto ELSE v.monto_neto END AS monto_neto,
            CASE WHEN t.es_nota_credito THEN -v.monto_iva ELSE v.monto_iva END AS monto_iva,
            CASE WHEN t.es_nota_credito THEN -v.monto_total ELSE v.monto_total END AS monto_total
     FROM documentos_venta v LEFT JOIN tipos_documento t ON t.id_bsale = v.id_tipo_documento
     WHERE v.eliminado_en IS NULL AND v.estado = 0 AND NOT coalesce(t.es_nota_venta, false)
         AND coalesce(t.uso, 0) IN (0, 1)";
