//! Files over products that are there: what changes nothing is not written, the first row of a file wins, and what people
//! change meanwhile is neither lost nor overtaken.

mod corrections;
mod rows;
mod undo;

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sea_orm::sqlx::{self, PgPool, PgTransaction};
use serde_json::{Value, json};
use stack::platform::{Client, Events, Upload, task_id};
use stack::services::CATALOG_UPLOAD;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const SUPPLIER: &str = "PROV001";
const ITEMS: &str = "/api/v1/catalog/items";
const STATUS: &str = "/api/v1/catalog/bulk-upload";

/// Id, code, name and price of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    id: String,
    codigo: String,
    nombre: String,
    precio: u32,
}

fn row(id: &str, codigo: &str, nombre: &str, precio: u32) -> Row {
    Row { id: id.into(), codigo: codigo.into(), nombre: nombre.into(), precio }
}

fn rows(count: u32) -> Vec<Row> {
    (0..count)
        .map(|n| row(&format!("P-{n:04}"), &format!("C-{n:04}"), &format!("Producto {n}"), 100 + n))
        .collect()
}

fn csv(scene: &Scene, name: &str, rows: &[Row]) -> Result<PathBuf> {
    let mut text =
        "id,nombre,codigo,categoria,precio_unitario,certificado_sanitario,condiciones_almacenamiento,\
        tiempo_entrega_dias\n"
            .to_owned();
    for Row { id, codigo, nombre, precio } in rows {
        writeln!(text, "{id},{nombre},{codigo},VITAMINAS,{precio}.50,INVIMA,Seco,3")?;
    }
    let path = scene.dir.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

async fn import(client: &Client, upload: &Upload) -> Result<Value> {
    let task = task_id(&client.upload(upload).await?)?;
    let status = client.finished(&task, LIMIT).await?;
    ensure!(status["status"] == "completed", "{status:#}");
    Ok(status)
}

async fn undo(client: &Client, import: &Value) -> Result<Value> {
    let task = import["task_id"].as_str().context("a task")?;
    let status = client.finished(&task_id(&client.task(task, "undo").await?)?, LIMIT).await?;
    ensure!(status["status"] == "completed", "{status:#}");
    Ok(status)
}

fn counts(status: &Value, expected: &[(&str, u64)]) -> Result<()> {
    for (name, count) in expected {
        // A count that may be left out is none.
        let is = status["result"]["resumen"][name].as_u64().unwrap_or_default();
        ensure!(is == *count, "{name} should be {count}: {status:#}");
    }
    Ok(())
}

/// Of each refused row, its number and code.
fn refused(status: &Value) -> Vec<(u64, String)> {
    let errors = status["result"]["errores"].as_array().into_iter().flatten();
    errors
        .map(|error| {
            (
                error["fila"].as_u64().unwrap_or_default(),
                error["codigo"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

/// Every product byte by byte, with its version.
async fn versions(pool: &PgPool) -> Result<BTreeMap<String, String>> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT id, to_jsonb(p)::text FROM products p").fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

/// Every product, but for who wrote it when.
async fn contents(pool: &PgPool) -> Result<BTreeMap<String, String>> {
    let query = "SELECT id, (to_jsonb(p) - 'version' - 'updated_at' - 'import_id' - 'restored_at'
        - 'restored_version')::text FROM products p";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

async fn healthy(scene: &Scene) -> Result<()> {
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:#?}");
    Ok(())
}

/// Holds a product as somebody does who is about to change it.
async fn hold(pool: &PgPool, id: &str) -> Result<PgTransaction<'static>> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SELECT FROM products WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *transaction).await?;
    Ok(transaction)
}

/// What a PUT writes, in the transaction that holds the product. Gives its version.
async fn edit(transaction: &mut PgTransaction<'static>, id: &str, codigo: &str, nombre: &str) -> Result<i64> {
    let statement = "WITH edited AS (
            UPDATE products SET codigo = $2, nombre = $3, version = nextval('product_versions'), import_id = NULL
            WHERE id = $1 RETURNING version)
        INSERT INTO product_edits (product_id, version, action, before, actor)
        SELECT $1, version, 'updated', '{}', 'ana' FROM edited RETURNING version";
    let edited = sqlx::query_scalar(statement).bind(id).bind(codigo).bind(nombre);
    Ok(edited.fetch_one(&mut **transaction).await?)
}

/// Waits until an import waits for a product that somebody holds.
async fn blocked(pool: &PgPool) -> Result<()> {
    let query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = current_user
        AND wait_event_type = 'Lock' AND wait_event IN ('transactionid', 'tuple'))";
    stack::wait::until("the import should wait for the product", LIMIT, || async {
        sqlx::query_scalar(query).fetch_one(pool).await.unwrap_or(false)
    })
    .await
}
