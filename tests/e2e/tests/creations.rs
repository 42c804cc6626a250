//! Files of new products, which are written two batches at a time: texts of any kind, products that somebody
//! else writes at the same moment, and products that turn out to be there.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use sea_orm::sqlx;
use serde_json::Value;
use stack::platform::{Client, Upload, task_id};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const SUPPLIER: &str = "PROV-NEW";

/// Id, code and name of a row.
type Row = (String, String, String);

fn row(id: impl ToString, codigo: impl ToString, nombre: impl ToString) -> Row {
    (id.to_string(), codigo.to_string(), nombre.to_string())
}

/// Writes rows as a CSV file, every field in quotes.
fn csv(scene: &Scene, name: &str, rows: &[Row]) -> Result<PathBuf> {
    let mut text = "id,nombre,codigo,categoria,presentacion,precio_unitario,certificado_sanitario,\
        condiciones_almacenamiento,tiempo_entrega_dias\n"
        .to_owned();
    for (id, codigo, nombre) in rows {
        let nombre = nombre.replace('"', "\"\"");
        text.push_str(&format!(
            "\"{id}\",\"{nombre}\",\"{codigo}\",\"VITAMINAS\",\"\",\"12.50\",\"INVIMA\",\"Seco\",\"3\"\n"
        ));
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

fn count(status: &Value, name: &str) -> Result<u64> {
    status["result"]["resumen"][name].as_u64().with_context(|| format!("{name} of {status:#}"))
}

/// Code and name of each product.
async fn products(scene: &Scene) -> Result<BTreeMap<String, (String, String)>> {
    let rows: Vec<Row> = sqlx::query_as("SELECT id, codigo, nombre FROM products")
        .fetch_all(&scene.platform.catalog().await?)
        .await?;
    Ok(rows.into_iter().map(|(id, codigo, nombre)| (id, (codigo, nombre))).collect())
}

fn as_products<'a>(rows: impl Iterator<Item = &'a Row>) -> BTreeMap<String, (String, String)> {
    rows.map(|(id, codigo, nombre)| (id.clone(), (codigo.clone(), nombre.clone()))).collect()
}

async fn healthy(scene: &Scene) -> Result<()> {
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:#?}");
    Ok(())
}

#[tokio::test]
async fn texts_of_any_kind_arrive_as_they_were_sent() -> Result<()> {
    let scene = Scene::start("newtexts", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    // What means something to one of the forms on the way: backslashes, quotes, nulls. (Tabs and line ends in a name
    // become blanks, with a warning.)
    let strange = ["a,b", "a\\tb\\", "\\N", "\\.", "1\\n2", "«ñ» 💊", "\"x\"; --", "{1,\"2\"}"];
    // Enough for batches that are copied, not inserted.
    let rows: Vec<Row> = (0..8_000)
        .map(|n| row(format!("N-{n}"), format!("C-{n}"), format!("{} {n}", strange[n % strange.len()])))
        .collect();
    let status = import(&supplier, &Upload::new(&csv(&scene, "texts.csv", &rows)?, SUPPLIER)).await?;
    ensure!(count(&status, "productos_creados")? == rows.len() as u64, "{status:#}");
    let (is, should) = (products(&scene).await?, as_products(rows.iter()));
    for (id, product) in &should {
        ensure!(is.get(id) == Some(product), "{id} is {:?}, not {product:?}", is.get(id));
    }
    ensure!(is.len() == should.len(), "{} products", is.len());
    healthy(&scene).await
}

#[tokio::test]
async fn files_with_the_same_products_at_once_create_each_once() -> Result<()> {
    let scene = Scene::start("newtwice", |options| options.env("IMPORT_BATCH_ROWS", 40)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let rows: Vec<Row> =
        (0..3_000).map(|n| row(format!("S-{n:05}"), format!("C-{n}"), format!("Producto {n}"))).collect();
    // The other way round, so that each file meets what the other has written or is about to write.
    let reversed: Vec<Row> = rows.iter().rev().cloned().collect();
    let (first, second) = (csv(&scene, "forth.csv", &rows)?, csv(&scene, "back.csv", &reversed)?);
    let (first, second) = (Upload::new(&first, SUPPLIER), Upload::new(&second, SUPPLIER));
    let (first, second) = tokio::try_join!(import(&supplier, &first), import(&supplier, &second))?;
    let total = |name| Ok::<_, anyhow::Error>(count(&first, name)? + count(&second, name)?);
    let all = rows.len() as u64;
    ensure!(total("productos_creados")? == all && total("rechazados")? == all, "{first:#}\n{second:#}");
    ensure!(total("duplicados")? == all && total("total")? == 2 * all, "{first:#}\n{second:#}");
    ensure!(products(&scene).await? == as_products(rows.iter()), "the products differ from the files");
    healthy(&scene).await
}

#[tokio::test]
async fn a_file_of_new_products_that_meets_others_late_is_written_all_the_same() -> Result<()> {
    let scene = Scene::start("newlate", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let base: Vec<Row> = (0..200).map(|n| row(format!("B-{n}"), format!("BC-{n}"), "Antes")).collect();
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &base)?, SUPPLIER)).await?;

    let mut rows: Vec<Row> = (0..7_000).map(|n| row(format!("L-{n}"), format!("LC-{n}"), "Nuevo")).collect();
    // Each of the old ones gives its code up, and the next row, new, takes it.
    for n in 0..200 {
        rows.push(row(format!("B-{n}"), format!("BC-{n}-b"), "Después"));
        rows.push(row(format!("T-{n}"), format!("BC-{n}"), "Toma el código"));
    }
    // And one that the file has had.
    let repeated = row("L-5", "otro", "Repetido");
    let file = csv(&scene, "late.csv", &[rows.clone(), vec![repeated]].concat())?;
    let status = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    for (name, should) in [
        ("total", 7_401),
        ("productos_creados", 7_200),
        ("productos_actualizados", 200),
        ("rechazados", 1),
        ("duplicados", 201),
    ] {
        ensure!(count(&status, name)? == should, "{name} should be {should}: {status:#}");
    }
    ensure!(products(&scene).await? == as_products(rows.iter()), "the products differ from the file");
    healthy(&scene).await
}

/// The end of the file may be read before the product that was there is met.
#[tokio::test]
async fn a_file_that_ends_badly_says_so_also_where_it_meets_products() -> Result<()> {
    let limits = |options: stack::platform::Options| {
        options.env("IMPORT_BATCH_ROWS", 100).env("IMPORT_MAX_ROWS", 1_000)
    };
    let scene = Scene::start("newends", limits).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let base = [row("E-650", "E-650", "Antes")];
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &base)?, SUPPLIER)).await?;
    for round in 0..6 {
        // The seventh batch meets the product, and the next can't be read whole.
        let id = |n| if n == 650 { "E-650".to_owned() } else { format!("E{round}-{n}") };
        let rows: Vec<Row> = (0..1_050).map(|n| row(id(n), id(n), format!("Ronda {round}"))).collect();
        let file = csv(&scene, &format!("ends{round}.csv"), &rows)?;
        let task = task_id(&supplier.upload(&Upload::new(&file, SUPPLIER)).await?)?;
        let status = supplier.finished(&task, LIMIT).await?;
        ensure!(status["status"] == "failed", "round {round}: {status:#}");
        let processed = status["progress"]["processed"].as_u64().context("processed")?;
        ensure!((650..1_000).contains(&processed), "round {round}: {status:#}");
        let query = "SELECT count(*) FROM products WHERE nombre = $1";
        let kept: i64 = sqlx::query_scalar(query)
            .bind(format!("Ronda {round}"))
            .fetch_one(&scene.platform.catalog().await?)
            .await?;
        ensure!(kept.unsigned_abs() + 1 == processed, "round {round}: {kept} of {processed}");
    }
    healthy(&scene).await
}
