//! The catalog's web client: its product form, its list and its stock dialog, call by call as it makes them.

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use e2e::Scene;
use reqwest::Method;
use sea_orm::sqlx;
use serde_json::{Value, json};
use stack::platform::{Answer, Client, answer};

const SUPPLIER: &str = "PROV001";
const ITEMS: &str = "/api/v1/catalog/items";

/// As the form sends it: neither a certificate nor days.
fn form(codigo: &str, precio: f64) -> Value {
    json!({
        "nombre": format!("Producto {codigo}"), "codigo": codigo, "categoria": "ANTIBIOTICS",
        "presentacion": "Caja x 30", "precioUnitario": precio, "requisitosAlmacenamiento": "Lugar seco",
        "stockMinimo": 50, "stockCritico": 20, "requiereLote": true, "requiereVencimiento": false,
    })
}

fn ids(page: &Answer) -> Vec<&str> {
    let items = page.body["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["id"].as_str()).collect()
}

async fn put(client: &Client, path: &str, tag: &str, body: &Value) -> Result<Answer> {
    answer(client.request(Method::PUT, path).header("If-Match", tag).json(body)).await
}

/// The form, with two warehouses: one by its defaults, one told. Gives the product's id, and the first one's lot.
async fn made_with_two_warehouses(supplier: &Client) -> Result<(String, Value)> {
    let mut sent = form("F-1", 12.5);
    sent["bodegasIniciales"] = json!([
        { "bodega_id": "BOG_CENTRAL", "pais": "CO" },
        { "bodega_id": "LIM_SUR", "pais": "pe", "lote": "L-7", "fecha_vencimiento": "2027-01-31" },
    ]);
    let today = Utc::now().format("INICIAL-%Y%m%d").to_string();
    let made = supplier.post(ITEMS, &sent).await?;
    ensure!(made.status == 201, "{made}");
    let id = made.body["id"].as_str().context("an id")?.to_owned();
    ensure!(id.len() == 36 && id.matches('-').count() == 4, "{id} is not a UUID");
    let mut expected = sent.clone();
    expected["id"] = json!(id);
    expected["proveedorId"] = json!(SUPPLIER);
    (expected["certificadoSanitario"], expected["tiempoEntregaDias"]) = (Value::Null, Value::Null);
    let lote = made.body["bodegasIniciales"][0]["lote"].clone();
    let now = Utc::now().format("INICIAL-%Y%m%d").to_string();
    ensure!(lote == today.as_str() || lote == now.as_str(), "{lote}");
    expected["bodegasIniciales"] = json!([
        { "bodega_id": "BOG_CENTRAL", "pais": "CO", "lote": lote, "fecha_vencimiento": "2099-12-31" },
        { "bodega_id": "LIM_SUR", "pais": "PE", "lote": "L-7", "fecha_vencimiento": "2027-01-31" },
    ]);
    ensure!(made.body == expected, "{made}");
    Ok((id, lote))
}

async fn the_stock_dialog_shows_the_first_lot(supplier: &Client, path: &str, lote: &Value) -> Result<()> {
    let stock = supplier.get(&format!("{path}/inventario?page=1&size=20&bodegaId=BOG_CENTRAL")).await?;
    ensure!(stock.body["meta"]["total"] == 1, "{stock}");
    let lot = &stock.body["items"][0];
    for (name, value) in [
        ("pais", json!("CO")),
        ("bodegaId", json!("BOG_CENTRAL")),
        ("lote", lote.clone()),
        ("cantidad", json!(0)),
        ("vence", json!("2099-12-31")),
        ("condiciones", json!("Lugar seco")),
        ("bodega_id", json!("BOG_CENTRAL")),
        ("fecha_vencimiento", json!("2099-12-31")),
    ] {
        ensure!(lot[name] == value, "{name} is not {value}: {lot:#}");
    }
    let elsewhere = supplier.get(&format!("{path}/inventario?bodegaId=NINGUNA")).await?;
    ensure!(elsewhere.body["meta"]["total"] == 0 && elsewhere.body["items"] == json!([]), "{elsewhere}");
    Ok(())
}

/// Of three products: `id` was made first, `bare` has no lots but its first, and RICO has something in stock.
async fn the_list_is_filtered_and_ordered(supplier: &Client, id: &str, bare: &str) -> Result<()> {
    for (query, wanted) in [
        ("sort=precio", vec![id, "RICO", bare]),
        ("sort=-precio", vec![bare, "RICO", id]),
        ("sort=vencimiento", vec!["RICO", id, bare]),
        ("sort=-vencimiento", vec![id, "RICO", bare]),
        // Who has it as id or code comes before who has it in the name.
        ("sort=relevancia&q=RICO", vec!["RICO", bare]),
        ("sort=-relevancia&q=RICO", vec![bare, "RICO"]),
        ("category=VITAMINAS", vec!["RICO"]),
        ("categoriaId=VITAMINAS", vec!["RICO"]),
        ("category=VITAMINAS&pais=PE", vec![]),
        ("codigo=F-2", vec![bare]),
        ("codigo=&category=&pais=PE&sort=", vec![id]),
        ("pais=CO&bodegaId=BOG_CENTRAL&sort=precio", vec![id, "RICO"]),
        ("bodega_id=BOG_CENTRAL&sort=cantidad", vec!["RICO", id]),
        ("bodegaId=LIM_SUR&pais=CO", vec![]),
        ("pais=PE&bodegaId=LIM_SUR", vec![id]),
        ("pais=CO&sort=precio&page=2&size=1", vec!["RICO"]),
        // The first lot of each is there, as its stock says.
        ("pais=co&sort=precio", vec![id, "RICO", bare]),
        ("bodegaId=PRINCIPAL&sort=precio", vec![id, "RICO", bare]),
        ("bodegaId=PRINCIPAL&pais=CO&category=VITAMINAS", vec!["RICO"]),
        ("bodegaId=PRINCIPAL&pais=PE", vec![]),
        ("proveedorId=&sort=precio", vec![id, "RICO", bare]),
    ] {
        let page = supplier.get(&format!("{ITEMS}?{query}")).await?;
        ensure!(page.status == 200 && ids(&page) == wanted, "{query}: {page}");
    }
    Ok(())
}

async fn list_and_stock_agree(supplier: &Client) -> Result<()> {
    for bodega in ["PRINCIPAL", "BOG_CENTRAL", "LIM_SUR", "NINGUNA"] {
        let listed = supplier.get(&format!("{ITEMS}?bodegaId={bodega}&pais=CO")).await?;
        let stock = format!("/api/v1/inventory/bodega/{bodega}/productos?pais=CO");
        let stock = supplier.get(&stock).await?;
        let lots = stock.body["items"].as_array().into_iter().flatten();
        let held: Vec<_> = lots.filter_map(|lot| lot["producto_id"].as_str()).collect();
        ensure!(ids(&listed) == held, "{bodega}: the list has {listed}, the stock {stock}");
    }
    // What a form leaves empty asks for nothing, in stock as in the list.
    for query in ["bodegaId=&pais=", "pais=co"] {
        let stock = supplier.get(&format!("{ITEMS}/RICO/inventario?{query}")).await?;
        ensure!(stock.body["meta"]["total"] == 2, "{query}: {stock}");
    }
    let uploads = supplier.get("/api/v1/catalog/bulk-upload?proveedor_id=").await?;
    ensure!(uploads.status == 200, "{uploads}");
    let most = supplier.get(&format!("{ITEMS}?sort=cantidad")).await?;
    ensure!(ids(&most).first() == Some(&"RICO") && most.body["meta"]["total"] == 3, "{most}");
    let least = supplier.get(&format!("{ITEMS}?sort=-cantidad")).await?;
    ensure!(ids(&least).last() == Some(&"RICO"), "{least}");
    ensure!(supplier.get(&format!("{ITEMS}?sort=nada")).await?.status == 400, "an order that is none");
    Ok(())
}

#[tokio::test]
async fn the_form_the_list_and_the_stock_dialog_work_one_after_the_other() -> Result<()> {
    let scene = Scene::start("webform", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;

    let (id, lote) = made_with_two_warehouses(&supplier).await?;
    let path = format!("{ITEMS}/{id}");
    the_stock_dialog_shows_the_first_lot(&supplier, &path, &lote).await?;

    // The list: a product without lots, and another that has something in stock.
    let mut bare = form("F-2", 99.0);
    bare["nombre"] = json!("Rico en hierro");
    let bare = supplier.post(ITEMS, &bare).await?;
    ensure!(bare.status == 201 && bare.body["bodegasIniciales"].is_null(), "{bare}");
    let bare = bare.body["id"].as_str().context("an id")?.to_owned();
    let mut rich = form("F-3", 50.0);
    rich["categoria"] = json!("VITAMINAS");
    rich["id"] = json!("RICO");
    rich["bodegasIniciales"] =
        json!([{ "bodega_id": "BOG_CENTRAL", "pais": "CO", "fecha_vencimiento": "2026-12-01" }]);
    ensure!(supplier.post(ITEMS, &rich).await?.status == 201, "a third");
    sqlx::query("update inventory set cantidad = 7 where product_id = 'RICO'").execute(&pool).await?;
    sqlx::query(
        "update bodegas set codigo = 'B-01', nombre = 'Central', ciudad = 'Bogotá' where id = 'BOG_CENTRAL'",
    )
    .execute(&pool)
    .await?;
    the_list_is_filtered_and_ordered(&supplier, &id, &bare).await?;
    list_and_stock_agree(&supplier).await?;

    let page = supplier.get(&format!("{ITEMS}?sort=precio")).await?;
    let summary = |place: usize| &page.body["items"][place]["inventarioResumen"];
    let central = json!({ "id": "BOG_CENTRAL", "codigo": "B-01", "nombre": "Central", "ciudad": "Bogotá",
        "pais": "CO", "cantidad": 7 });
    ensure!(*summary(1) == json!({ "cantidadTotal": 7, "paises": ["CO"], "bodegas": [central] }), "{page}");
    ensure!(*summary(0)["paises"].as_array().context("paises")? == [json!("CO"), json!("PE")], "{page}");
    ensure!(summary(0)["bodegas"][1]["nombre"] == "LIM_SUR", "{page}");
    ensure!(page.body["items"][2].get("inventarioResumen") == Some(&Value::Null), "{page}");

    // Gone with the product, in warehouses that the form named too.
    ensure!(supplier.delete(&path).await?.status == 204, "delete");
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:#?}");
    Ok(())
}

#[tokio::test]
async fn a_put_changes_what_it_names_and_nothing_else() -> Result<()> {
    let scene = Scene::start("webput", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let mut sent = form("P-1", 10.0);
    (sent["id"], sent["certificadoSanitario"], sent["tiempoEntregaDias"]) =
        (json!("P-1"), json!("INVIMA 1"), json!(4));
    let made = supplier.post(ITEMS, &sent).await?;
    ensure!(made.status == 201, "{made}");
    let mut product = made.body;
    let path = format!("{ITEMS}/P-1");

    for (name, value, read) in [
        ("precioUnitario", json!(99.95), json!(99.95)),
        ("nombre", json!("Otro"), json!("Otro")),
        ("requiereLote", json!(false), json!(false)),
        ("presentacion", Value::Null, Value::Null),
        ("certificadoSanitario", Value::Null, Value::Null),
        ("requisitosAlmacenamiento", Value::Null, Value::Null),
        ("tiempoEntregaDias", Value::Null, Value::Null),
        ("stockMinimo", Value::Null, json!(10)),
    ] {
        let changed = supplier.put(&path, &json!({ name: value })).await?;
        product[name] = read;
        ensure!(changed.status == 200 && changed.body == product, "{name}: {changed}");
    }
    ensure!(supplier.get(&path).await?.body == product, "what was put is what is read");
    let edits: Vec<(String, Option<String>)> =
        sqlx::query_as("select action, before->>'nombre' from product_edits order by version")
            .fetch_all(&pool)
            .await?;
    ensure!(edits.len() == 9, "an edit each: {edits:?}");
    ensure!(edits[2] == ("updated".to_owned(), Some("Producto P-1".to_owned())), "{edits:?}");

    let stale = put(&supplier, &path, "\"1\"", &json!({ "nombre": "Tarde" })).await?;
    ensure!(stale.status == 412, "{stale}");
    let tag = stale.body["details"]["etag"].as_str().context("an etag")?.to_owned();
    ensure!(put(&supplier, &path, &tag, &json!({ "nombre": "A tiempo" })).await?.status == 200, "fresh");
    for (name, value) in [("nombre", Value::Null), ("codigo", json!("")), ("precioUnitario", Value::Null)] {
        let refused = supplier.put(&path, &json!({ name: value })).await?;
        ensure!(refused.status == 422 && refused.body["code"] == "required", "{name}: {refused}");
    }
    ensure!(supplier.get(&path).await?.body["nombre"] == "A tiempo", "what is refused changes nothing");
    Ok(())
}

#[tokio::test]
async fn what_the_form_gets_wrong_is_told_with_field_and_value() -> Result<()> {
    let scene = Scene::start("webwrong", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let bodega = |lot: Value| json!([lot]);
    for (name, value, field, told) in [
        ("precioUnitario", json!(-3.5), "precioUnitario", "-3.5"),
        ("precioUnitario", json!("caro"), "precioUnitario", "caro"),
        ("stockMinimo", json!([1]), "stockMinimo", "[1]"),
        ("tiempoEntregaDias", json!(0), "tiempoEntregaDias", "0"),
        ("requiereLote", json!("quizás"), "requiereLote", "quizás"),
        (
            "bodegasIniciales",
            bodega(json!({ "bodega_id": "B", "pais": "COL" })),
            "bodegasIniciales[0].pais",
            "COL",
        ),
        (
            "bodegasIniciales",
            bodega(json!({ "bodega_id": " ", "pais": "CO" })),
            "bodegasIniciales[0].bodega_id",
            " ",
        ),
        (
            "bodegasIniciales",
            bodega(json!({ "bodega_id": "B", "pais": "CO", "fecha_vencimiento": "31/01/2027" })),
            "bodegasIniciales[0].fecha_vencimiento",
            "31/01/2027",
        ),
        (
            "bodegasIniciales",
            json!([{ "bodega_id": "B", "pais": "CO" }, { "bodega_id": "B", "pais": "co" }]),
            "bodegasIniciales[1].bodega_id",
            "B",
        ),
    ] {
        let mut sent = form("W-1", 1.0);
        sent[name] = value;
        let refused = supplier.post(ITEMS, &sent).await?;
        ensure!(refused.status == 422, "{field}: {refused}");
        ensure!(refused.body["details"] == json!({ "campo": field, "valor": told }), "{refused}");
        let message = refused.body["message"].as_str().context("a message")?;
        ensure!(message.contains(field) && message.contains(told), "{field} and {told}: {message}");
    }
    let mut sent = form("W-1", 1.0);
    sent["bodegasIniciales"] = Value::Null;
    // What nobody filled in says nothing.
    (sent["id"], sent["proveedorId"], sent["certificadoSanitario"]) = (json!(""), json!(""), json!(""));
    let made = supplier.post(ITEMS, &sent).await?;
    ensure!(made.status == 201, "what was refused left nothing: {made}");
    ensure!(made.body["proveedorId"] == SUPPLIER && made.body["id"] != "", "{made}");
    Ok(())
}
