//! The users' own driver, pymysql, reads their views.

use anyhow::{Context as _, Result, ensure};
use etl::domain::run::Mode;
use serde_json::{Value, json};
use simulators::bsale::{Shop, Size};

use crate::world::{Kind, World};

#[tokio::test]
async fn pymysql_reads_the_users_views() -> Result<()> {
    let world = World::new("etlpymysql", Kind::MariaDb, Shop::new(7, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    let python = stack::home().join("api/bin/python");
    ensure!(python.exists(), "{} is missing: deploy/native/install.sh tests", python.display());
    let url = world.ours().settings.database.expose().replacen("mysql+pymysql://", "mysql://", 1);
    let output = tokio::process::Command::new(python)
        .args(["-c", include_str!("sales_client.py")])
        .arg(json!({ "url": url }).to_string())
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let columns = |view: &str| said[view]["columns"].clone();
    ensure!(
        columns("cliente")
            == json!([
                "id_bsale",
                "nombre",
                "apellido",
                "rut",
                "email",
                "telefono",
                "direccion",
                "fecha_creacion"
            ])
    );
    ensure!(
        columns("producto")
            == json!([
                "id_bsale",
                "nombre",
                "descripcion",
                "codigo_sku",
                "codigo_barras",
                "controla_stock",
                "precio_neto",
                "costo_neto",
                "estado"
            ])
    );
    ensure!(
        columns("documento_venta")
            == json!([
                "id_bsale",
                "id_cliente",
                "id_tipo_documento",
                "folio",
                "fecha_emision",
                "monto_neto",
                "monto_iva",
                "monto_total"
            ])
    );
    ensure!(
        columns("detalle_documento")
            == json!([
                "id_detalle",
                "id_documento",
                "id_producto",
                "cantidad",
                "precio_neto_unitario",
                "descuento_porcentual",
                "monto_total_linea"
            ])
    );
    let rows = said["documento_venta"]["rows"].as_array().context("rows")?;
    let total = |id: i64| world.bsale.shop(|shop| shop.documents.get(&id).map(|document| document.total.0));
    ensure!(!rows.is_empty());
    for row in rows {
        let id: i64 = row["id_bsale"].as_str().context("an id")?.parse()?;
        let amount: rust_decimal::Decimal = row["monto_total"].as_str().context("an amount")?.parse()?;
        ensure!(total(id).map(|units| rust_decimal::Decimal::new(units, 4)) == Some(amount), "{row}");
    }
    Ok(())
}
