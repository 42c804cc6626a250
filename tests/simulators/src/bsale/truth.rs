//! What the tables and views of a sales database must hold, from the shop alone.

use anyhow::{Result, ensure};
use chrono::NaiveDate;
use rust_decimal::Decimal;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbErr, QueryResult, Statement};

use super::{Detail, Document, Money, Shop};

/// A decimal with four places.
fn money(money: Money) -> String {
    Decimal::new(money.0, 4).to_string()
}

fn amount(row: &QueryResult, name: &str) -> Result<String, DbErr> {
    let value: Option<Decimal> = row.try_get("", name)?;
    Ok(value.map_or_else(
        || "-".to_owned(),
        |mut value| {
            value.rescale(4);
            value.to_string()
        },
    ))
}

fn text(row: &QueryResult, name: &str) -> Result<String, DbErr> {
    Ok(row.try_get::<Option<String>>("", name)?.unwrap_or_else(|| "-".to_owned()))
}

fn number(row: &QueryResult, name: &str) -> Result<String, DbErr> {
    Ok(row.try_get::<Option<i64>>("", name)?.map_or_else(|| "-".to_owned(), |number| number.to_string()))
}

fn day(row: &QueryResult, name: &str) -> Result<String, DbErr> {
    Ok(row.try_get::<NaiveDate>("", name)?.to_string())
}

fn given(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

type Read = fn(&QueryResult) -> Result<Vec<String>, DbErr>;

async fn read(db: &DatabaseConnection, query: &str, read: Read) -> Result<Vec<String>> {
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await?;
    let mut lines = rows.iter().map(|row| Ok(read(row)?.join("\t"))).collect::<Result<Vec<_>>>()?;
    lines.sort();
    Ok(lines)
}

fn same(what: &str, mut expected: Vec<String>, found: &[String]) -> Result<()> {
    expected.sort();
    let missing: Vec<_> = expected.iter().filter(|line| !found.contains(line)).take(5).collect();
    let extra: Vec<_> = found.iter().filter(|line| !expected.contains(line)).take(5).collect();
    ensure!(
        expected == found,
        "{what}: {} rows expected, {} found\nmissing {missing:#?}\ntoo many {extra:#?}",
        expected.len(),
        found.len()
    );
    Ok(())
}

fn document_line(document: &Document) -> String {
    [
        document.id.to_string(),
        document.document_type.to_string(),
        document.client.map_or_else(|| "-".to_owned(), |client| client.to_string()),
        document.number.to_string(),
        document.day.to_string(),
        money(document.net),
        money(document.tax),
        money(document.total),
        document.state.to_string(),
    ]
    .join("\t")
}

/// Every table, row by row, is the shop; what the shop does not have any more is marked.
///
/// # Errors
/// The database; or where a table is not the shop: how many rows, and the first that differ.
pub async fn tables(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    types(db, shop).await?;
    goods_and_clients(db, shop).await?;
    documents(db, shop).await?;
    amounts(db, shop).await
}

/// Types of documents and of products.
async fn types(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    let kinds = shop
        .document_types
        .iter()
        .map(|(id, kind)| format!("{id}\t{}\t{}\t{}", kind.name, kind.usage, kind.credit_note));
    let found = read(db, "SELECT * FROM tipos_documento WHERE eliminado_en IS NULL", |row| {
        let credit_note: bool = row.try_get("", "es_nota_credito")?;
        let (id, name, usage) = (number(row, "id_bsale")?, text(row, "nombre")?, number(row, "uso")?);
        Ok(vec![id, name, usage, credit_note.to_string()])
    });
    same("tipos_documento", kinds.collect(), &found.await?)?;

    let kinds = shop.product_types.iter().map(|(id, name)| format!("{id}\t{name}"));
    let found = read(db, "SELECT * FROM tipos_producto WHERE eliminado_en IS NULL", |row| {
        Ok(vec![number(row, "id_bsale")?, text(row, "nombre")?])
    });
    same("tipos_producto", kinds.collect(), &found.await?)
}

/// Products, variants and clients.
async fn goods_and_clients(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    let products = shop.products.values().map(|product| {
        let (name, description) = (product.name.clone(), given(product.description.as_ref()));
        [
            product.id.to_string(),
            name,
            description,
            product.product_type.to_string(),
            product.state.to_string(),
        ]
        .join("\t")
    });
    let query = "SELECT * FROM productos WHERE eliminado_en IS NULL";
    let found = read(db, query, |row| {
        Ok(vec![
            number(row, "id_bsale")?,
            text(row, "nombre")?,
            text(row, "descripcion")?,
            number(row, "id_tipo_producto")?,
            number(row, "estado")?,
        ])
    });
    same("productos", products.collect(), &found.await?)?;

    let variants = shop.variants.values().map(|variant| {
        let (sku, bar_code) = (given(variant.sku.as_ref()), given(variant.bar_code.as_ref()));
        [variant.id.to_string(), variant.product.to_string(), sku, bar_code, variant.state.to_string()]
            .join("\t")
    });
    let found = read(db, "SELECT * FROM variantes WHERE eliminado_en IS NULL", |row| {
        Ok(vec![
            number(row, "id_bsale")?,
            number(row, "id_producto")?,
            text(row, "codigo_sku")?,
            text(row, "codigo_barras")?,
            number(row, "estado")?,
        ])
    });
    same("variantes", variants.collect(), &found.await?)?;

    let clients = shop.clients.values().map(|client| {
        let texts = [
            &client.first_name,
            &client.last_name,
            &client.code,
            &client.email,
            &client.phone,
            &client.address,
        ];
        let texts = texts.map(|text| given(text.as_ref())).join("\t");
        format!("{}\t{texts}\t{}", client.id, client.state)
    });
    let found = read(db, "SELECT * FROM clientes WHERE eliminado_en IS NULL", |row| {
        let mut line = vec![number(row, "id_bsale")?];
        for name in ["nombre", "apellido", "rut", "email", "telefono", "direccion"] {
            line.push(text(row, name)?);
        }
        line.push(number(row, "estado")?);
        Ok(line)
    });
    same("clientes", clients.collect(), &found.await?)?;
    Ok(())
}

/// Documents with their details.
async fn documents(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    let found = read(db, "SELECT * FROM documentos_venta WHERE eliminado_en IS NULL", |row| {
        Ok(vec![
            number(row, "id_bsale")?,
            number(row, "id_tipo_documento")?,
            number(row, "id_cliente")?,
            number(row, "folio")?,
            day(row, "fecha_emision")?,
            amount(row, "monto_neto")?,
            amount(row, "monto_iva")?,
            amount(row, "monto_total")?,
            number(row, "estado")?,
        ])
    });
    same("documentos_venta", shop.documents.values().map(document_line).collect(), &found.await?)?;

    let details = shop.documents.values().flat_map(|document| {
        document.details.iter().map(|detail| {
            let amounts =
                [detail.quantity, detail.net_unit, detail.net, detail.tax, detail.total, detail.net_discount];
            let amounts = amounts.map(money).join("\t");
            format!("{}\t{}\t{}\t{}\t{amounts}", detail.id, document.id, detail.line, detail.variant)
        })
    });
    let found = read(db, "SELECT * FROM detalles_documento WHERE eliminado_en IS NULL", |row| {
        let mut line = Vec::new();
        for name in ["id_bsale", "id_documento", "linea", "id_variante"] {
            line.push(number(row, name)?);
        }
        for name in
            ["cantidad", "precio_neto_unitario", "monto_neto", "monto_iva", "monto_total", "descuento_neto"]
        {
            line.push(amount(row, name)?);
        }
        Ok(line)
    });
    same("detalles_documento", details.collect(), &found.await?)?;
    Ok(())
}

/// Stock, prices and costs.
async fn amounts(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    let stock = shop.stock.values().map(|stock| {
        format!("{}\t{}\t{}\t{}", stock.variant, stock.office, money(stock.quantity), money(stock.reserved))
    });
    let found = read(db, "SELECT * FROM stock WHERE eliminado_en IS NULL", |row| {
        Ok(vec![
            number(row, "id_variante")?,
            number(row, "id_sucursal")?,
            amount(row, "cantidad")?,
            amount(row, "reservado")?,
        ])
    });
    same("stock", stock.collect(), &found.await?)?;

    let prices = shop.prices.values().map(|price| format!("2\t{}\t{}", price.variant, money(price.value)));
    let found = read(db, "SELECT * FROM listas_precio WHERE eliminado_en IS NULL", |row| {
        Ok(vec![number(row, "id_lista")?, number(row, "id_variante")?, amount(row, "precio_neto")?])
    });
    same("listas_precio", prices.collect(), &found.await?)?;

    let costs = shop.variants.values().map(|variant| {
        let has_cost = variant.history.iter().any(|(_, cost)| cost.0 > 0);
        format!("{}\t{}\t{has_cost}", variant.id, money(variant.average_cost.unwrap_or_default()))
    });
    let found = read(db, "SELECT * FROM costos WHERE eliminado_en IS NULL", |row| {
        let has_cost: bool = row.try_get("", "tiene_costo")?;
        Ok(vec![number(row, "id_variante")?, amount(row, "costo_promedio")?, has_cost.to_string()])
    });
    same("costos", costs.collect(), &found.await?)?;
    Ok(())
}

/// `[0-9]{7,8}-?[0-9kK]?` without its dots, by hand.
fn is_rut(text: &str) -> bool {
    let plain: String = text.chars().filter(|letter| *letter != '.').collect();
    let bytes = plain.as_bytes();
    (7..=8).any(|digits| {
        if bytes.len() < digits || !bytes[..digits].iter().all(u8::is_ascii_digit) {
            return false;
        }
        let rest = plain[digits..].strip_prefix('-').unwrap_or(&plain[digits..]);
        rest.is_empty()
            || (rest.len() == 1 && rest.chars().all(|last| last.is_ascii_digit() || "kK".contains(last)))
    })
}

/// The views are what the users' own code would store: its rules, by its own column names.
///
/// # Errors
/// As [`tables`].
pub async fn views(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    goods_views(db, shop).await?;
    sales_views(db, shop).await
}

/// Clients and products.
async fn goods_views(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    let clients = shop
        .clients
        .values()
        .filter(|client| client.first_name.is_some() && client.code.as_deref().is_none_or(is_rut));
    let clients = clients.map(|client| {
        let texts = [
            &client.first_name,
            &client.last_name,
            &client.code,
            &client.email,
            &client.phone,
            &client.address,
        ];
        // Bsale documents no date of a client's creation.
        format!("{}\t{}\t-", client.id, texts.map(|text| given(text.as_ref())).join("\t"))
    });
    let query =
        "SELECT id_bsale, nombre, apellido, rut, email, telefono, direccion, fecha_creacion FROM cliente";
    let found = read(db, query, |row| {
        let mut line = vec![number(row, "id_bsale")?];
        for name in ["nombre", "apellido", "rut", "email", "telefono", "direccion"] {
            line.push(text(row, name)?);
        }
        let created: Option<chrono::NaiveDateTime> = row.try_get("", "fecha_creacion")?;
        line.push(created.map_or_else(|| "-".to_owned(), |at| at.to_string()));
        Ok(line)
    });
    same("cliente", clients.collect(), &found.await?)?;

    let products = shop.variants.values().filter_map(|variant| {
        let (product, price) = (shop.products.get(&variant.product)?, shop.prices.get(&variant.id)?);
        let sold = variant.state == 0 && product.state == 0 && price.value.0 > 0;
        let sku = variant.sku.as_ref().filter(|_| sold)?;
        let cost = if variant.history.iter().any(|(_, cost)| cost.0 > 0) {
            Decimal::new(variant.average_cost.unwrap_or_default().0, 4)
        } else {
            let rounding = rust_decimal::RoundingStrategy::MidpointAwayFromZero;
            let mut cost =
                (Decimal::new(price.value.0, 4) * Decimal::new(65, 2)).round_dp_with_strategy(4, rounding);
            cost.rescale(4);
            cost
        };
        let texts =
            [&product.name, &given(product.description.as_ref()), sku, &given(variant.bar_code.as_ref())];
        let texts = texts.map(String::as_str).join("\t");
        let (controlled, price) = (product.stock_control, money(price.value));
        Some(format!("{}\t{texts}\t{controlled}\t{price}\t{cost}\t1", variant.id))
    });
    let query =
        "SELECT id_bsale, nombre, descripcion, codigo_sku, codigo_barras, controla_stock, precio_neto,
                        costo_neto, estado FROM producto";
    let found = read(db, query, |row| {
        Ok(vec![
            number(row, "id_bsale")?,
            text(row, "nombre")?,
            text(row, "descripcion")?,
            text(row, "codigo_sku")?,
            text(row, "codigo_barras")?,
            row.try_get::<bool>("", "controla_stock")?.to_string(),
            amount(row, "precio_neto")?,
            amount(row, "costo_neto")?,
            number(row, "estado")?,
        ])
    });
    same("producto", products.collect(), &found.await?)?;
    Ok(())
}

/// Documents, their details, and what they come to.
async fn sales_views(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    let stored: Vec<&Document> =
        shop.documents.values().filter(|document| document.state == 0 && document.total.0 > 0).collect();
    let documents = stored.iter().map(|document| {
        let amounts = [document.net, document.tax, document.total].map(money).join("\t");
        let client = document.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
        let (id, kind, number, day) = (document.id, document.document_type, document.number, document.day);
        format!("{id}\t{client}\t{kind}\t{number}\t{day} 00:00:00\t{amounts}")
    });
    let query = "SELECT id_bsale, id_cliente, id_tipo_documento, folio, fecha_emision, monto_neto, monto_iva,
                        monto_total FROM documento_venta";
    let found = read(db, query, |row| {
        let mut line = Vec::new();
        for name in ["id_bsale", "id_cliente", "id_tipo_documento", "folio"] {
            line.push(number(row, name)?);
        }
        line.push(row.try_get::<chrono::NaiveDateTime>("", "fecha_emision")?.to_string());
        for name in ["monto_neto", "monto_iva", "monto_total"] {
            line.push(amount(row, name)?);
        }
        Ok(line)
    });
    same("documento_venta", documents.collect(), &found.await?)?;

    let details = stored.iter().flat_map(|document| {
        document.details.iter().filter(|detail| detail.quantity.0 > 0 && detail.net_unit.0 > 0).map(
            |detail| {
                let [quantity, unit, total] = [detail.quantity, detail.net_unit, detail.total].map(money);
                let (id, variant, discount) = (detail.id, detail.variant, discount(detail));
                format!("{id}\t{}\t{variant}\t{quantity}\t{unit}\t{discount}\t{total}", document.id)
            },
        )
    });
    let query =
        "SELECT id_detalle, id_documento, id_producto, cantidad, precio_neto_unitario, descuento_porcentual,
                        monto_total_linea FROM detalle_documento";
    let found = read(db, query, |row| {
        let mut line = Vec::new();
        for name in ["id_detalle", "id_documento", "id_producto"] {
            line.push(number(row, name)?);
        }
        for name in ["cantidad", "precio_neto_unitario", "descuento_porcentual", "monto_total_linea"] {
            line.push(amount(row, name)?);
        }
        Ok(line)
    });
    same("detalle_documento", details.collect(), &found.await?)?;
    net_sales(db, shop).await
}

/// A line's discount, in percent of what it would cost without, to two places.
fn discount(detail: &Detail) -> String {
    let [discount, quantity, unit] =
        [detail.net_discount, detail.quantity, detail.net_unit].map(|money| Decimal::new(money.0, 4));
    let percent = discount * Decimal::ONE_HUNDRED / (quantity * unit);
    let mut percent = percent.round_dp_with_strategy(2, rust_decimal::RoundingStrategy::MidpointAwayFromZero);
    percent.rescale(4);
    percent.to_string()
}

/// What was sold, less what was taken back. What is only dispatched is neither.
async fn net_sales(db: &DatabaseConnection, shop: &Shop) -> Result<()> {
    let active = shop.documents.values().filter(|document| document.state == 0);
    let sales = active.filter_map(|document| {
        let sign = match shop.document_types.get(&document.document_type) {
            Some(kind) if kind.usage > 1 => return None,
            Some(kind) if kind.credit_note => -1,
            _ => 1,
        };
        let amounts =
            [document.net, document.tax, document.total].map(|amount| money(Money(sign * amount.0)));
        Some(format!("{}\t{}", document.id, amounts.join("\t")))
    });
    let query = "SELECT id_bsale, monto_neto, monto_iva, monto_total FROM ventas_netas";
    let found = read(db, query, |row| {
        let mut line = vec![number(row, "id_bsale")?];
        for name in ["monto_neto", "monto_iva", "monto_total"] {
            line.push(amount(row, name)?);
        }
        Ok(line)
    });
    same("ventas_netas", sales.collect(), &found.await?)
}
