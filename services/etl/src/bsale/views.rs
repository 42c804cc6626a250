//! The views that dashboards read: the users' own names, columns and rules, over the normal tables.

use sea_orm::DbBackend;

use crate::config::BsaleSettings;

/// Names and queries, in the order in which they depend on each other.
pub fn all(settings: &BsaleSettings, backend: DbBackend) -> Vec<(&'static str, String)> {
    let postgres = backend == DbBackend::Postgres;
    let moment = |expression: &str| {
        if postgres {
            format!("CAST({expression} AS timestamp)")
        } else {
            format!("CAST({expression} AS datetime)")
        }
    };
    let cut = |column: &str, length: u32| format!("substr({column}, 1, {length})");
    let (list, factor) = (settings.price_list, settings.cost_factor);
    vec![
        (
            "cliente",
            format!(
                "SELECT id_bsale, nombre, apellido, {rut} AS rut, email, telefono, {address} AS direccion,
                        {none} AS fecha_creacion
                 FROM clientes WHERE eliminado_en IS NULL AND omitido IS NULL",
                rut = cut("rut", 15),
                address = cut("direccion", 500),
                // Bsale documents no date of a client's creation.
                none = moment("NULL"),
            ),
        ),
        // Products with what is missing of them, so that somebody can see why one is not sold.
        (
            "producto_revision",
            format!(
                "SELECT v.id_bsale AS id_bsale, p.nombre AS nombre, {description} AS descripcion,
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
                 WHERE v.eliminado_en IS NULL AND p.eliminado_en IS NULL",
                description = cut("p.descripcion", 1000),
            ),
        ),
        (
            "producto",
            "SELECT id_bsale, nombre, descripcion, codigo_sku, codigo_barras, controla_stock, precio_neto, costo_neto,
                    estado
             FROM producto_revision WHERE omitido IS NULL"
                .to_owned(),
        ),
        (
            "documento_venta",
            format!(
                "SELECT id_bsale, id_cliente, id_tipo_documento, folio, {issued} AS fecha_emision, monto_neto,
                        monto_iva, monto_total
                 FROM documentos_venta WHERE eliminado_en IS NULL AND omitido IS NULL AND estado = 0",
                issued = moment("fecha_emision"),
            ),
        ),
        (
            "detalle_documento",
            "SELECT d.id_bsale AS id_detalle, d.id_documento AS id_documento, d.id_variante AS id_producto,
                    d.cantidad AS cantidad, d.precio_neto_unitario AS precio_neto_unitario,
                    CAST(round(coalesce(d.descuento_neto, 0) * 100 / nullif(d.cantidad * d.precio_neto_unitario, 0), 2)
                         AS DECIMAL(9,2)) AS descuento_porcentual,
                    d.monto_total AS monto_total_linea
             FROM detalles_documento d JOIN documento_venta v ON v.id_bsale = d.id_documento
             WHERE d.eliminado_en IS NULL AND d.omitido IS NULL"
                .to_owned(),
        ),
        // Sales by document, those of credit notes negative.
        (
            "ventas_netas",
            "SELECT v.id_bsale AS id_bsale, v.fecha_emision AS fecha_emision, v.id_cliente AS id_cliente,
                    v.id_sucursal AS id_sucursal, v.id_tipo_documento AS id_tipo_documento,
                    CASE WHEN t.es_nota_credito THEN -v.monto_neto ELSE v.monto_neto END AS monto_neto,
                    CASE WHEN t.es_nota_credito THEN -v.monto_iva ELSE v.monto_iva END AS monto_iva,
                    CASE WHEN t.es_nota_credito THEN -v.monto_total ELSE v.monto_total END AS monto_total
             FROM documentos_venta v JOIN tipos_documento t ON t.id_bsale = v.id_tipo_documento
             WHERE v.eliminado_en IS NULL AND v.estado = 0 AND NOT t.es_nota_venta"
                .to_owned(),
        ),
    ]
}
