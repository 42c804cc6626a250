//! Files over products that are there: what changes nothing is not written, the first row of a file wins, and what people
//! change meanwhile is neither lost nor overtaken.

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

#[tokio::test]
async fn rows_that_change_nothing_are_not_written() -> Result<()> {
    let scene = Scene::start("updsame", |options| options.env("IMPORT_BATCH_ROWS", 40)).await?;
    let events = Events::listen(&scene.platform.place).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let mut base = rows(120);
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &base)?, SUPPLIER)).await?;
    let before = versions(&pool).await?;

    // The same file, and one row that means its product by its code.
    base[7].id = "OTRO-ID".to_owned();
    let same = Upload::new(&csv(&scene, "same.csv", &base)?, SUPPLIER).replacing(true);
    let told = [
        ("total", 120),
        ("exitosos", 120),
        ("rechazados", 0),
        ("duplicados", 120),
        ("productos_creados", 0),
        ("productos_actualizados", 120),
        ("sin_cambios", 120),
    ];
    let plan = import(&supplier, &same.clone().with("dry_run", "true")).await?;
    counts(&plan, &told)?;
    ensure!(plan["result"]["simulacion"]["cambios"] == json!([]), "{plan:#}");
    let status = import(&supplier, &same).await?;
    counts(&status, &told)?;
    ensure!(status["result"]["productos_actualizados"] == json!([]), "{status:#}");
    ensure!(status["result"]["truncado"] == false && status["progress"]["successful"] == 120, "{status:#}");
    ensure!(versions(&pool).await? == before, "a product was written");
    let task = status["task_id"].as_str().context("a task")?;
    let lines: i64 = sqlx::query_scalar("SELECT count(*) FROM import_ledger WHERE import_id = $1::uuid")
        .bind(task)
        .fetch_one(&pool)
        .await?;
    ensure!(lines == 0, "{lines} lines of the ledger");
    let nothing = supplier.task(task, "undo").await?;
    ensure!(nothing.body["code"] == "nothing_to_undo", "{nothing}");
    stack::wait::until("the import's event", LIMIT, async || {
        events.of(task).await.is_ok_and(|events| !events.is_empty())
    })
    .await?;
    ensure!(events.changes(task).await?.is_empty(), "an event of changes");
    healthy(&scene).await?;

    // Five of them change.
    for n in [3, 50, 51, 99, 119] {
        base[n].precio += 1;
    }
    let some = Upload::new(&csv(&scene, "some.csv", &base)?, SUPPLIER).replacing(true);
    let plan = import(&supplier, &some.clone().with("dry_run", "true")).await?;
    let status = import(&supplier, &some.clone().with("error_policy", "reject_file")).await?;
    for status in [&plan, &status] {
        counts(status, &[("productos_actualizados", 120), ("sin_cambios", 115), ("exitosos", 120)])?;
        let ids = json!(["P-0003", "P-0050", "P-0051", "P-0099", "P-0119"]);
        ensure!(status["result"]["productos_actualizados"] == ids, "{status:#}");
    }
    let task = status["task_id"].as_str().context("a task")?;
    stack::wait::until("the event of five changes", LIMIT, async || {
        events.changes(task).await.is_ok_and(|changes| changes.len() == 5)
    })
    .await?;
    counts(&undo(&supplier, &status).await?, &[("productos_restaurados", 5), ("rechazados", 0)])?;
    healthy(&scene).await
}

#[tokio::test]
async fn an_edit_during_an_updating_batch_is_neither_lost_nor_overtaken() -> Result<()> {
    let scene = Scene::start("upedit", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let base = rows(4);
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &base)?, SUPPLIER)).await?;
    for policy in ["reject_rows", "reject_file"] {
        let mut changed = base.clone();
        changed.iter_mut().for_each(|row| row.nombre = format!("Nuevo {policy}"));
        let mut somebody = hold(&pool, "P-0002").await?;
        let file = csv(&scene, &format!("{policy}.csv"), &changed)?;
        let upload = Upload::new(&file, SUPPLIER).replacing(true).with("error_policy", policy);
        let task = task_id(&supplier.upload(&upload).await?)?;
        blocked(&pool).await?;
        let edited = edit(&mut somebody, "P-0002", "C-0002", "Editado").await?;
        somebody.commit().await?;
        let status = supplier.finished(&task, LIMIT).await?;
        counts(&status, &[("productos_actualizados", 4), ("sin_cambios", 0)])?;
        let version: i64 =
            sqlx::query_scalar("SELECT version FROM products WHERE id = 'P-0002'").fetch_one(&pool).await?;
        ensure!(version > edited, "{policy}: the import gave version {version}, the edit {edited}");
        healthy(&scene).await?;
        counts(&undo(&supplier, &status).await?, &[("productos_restaurados", 4)])?;
        let product = supplier.get(&format!("{ITEMS}/P-0002")).await?;
        ensure!(product.body["nombre"] == "Editado", "{policy}: the edit is lost: {product}");
    }
    healthy(&scene).await
}

#[tokio::test]
async fn a_code_that_moved_after_the_look_up_does_not_get_the_row() -> Result<()> {
    let scene = Scene::start("upmoved", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &rows(3))?, SUPPLIER)).await?;
    let mut somebody = hold(&pool, "P-0001").await?;
    let file = csv(&scene, "by-code.csv", &[row("N", "C-0001", "Por su código", 7)])?;
    let task = task_id(&supplier.upload(&Upload::new(&file, SUPPLIER).replacing(true)).await?)?;
    blocked(&pool).await?;
    edit(&mut somebody, "P-0001", "MOVIDO", "Editado").await?;
    somebody.commit().await?;
    let status = supplier.finished(&task, LIMIT).await?;
    counts(&status, &[("productos_creados", 1), ("productos_actualizados", 0)])?;
    let old = supplier.get(&format!("{ITEMS}/P-0001")).await?;
    ensure!(old.body["codigo"] == "MOVIDO" && old.body["nombre"] == "Editado", "{old}");
    let new = supplier.get(&format!("{ITEMS}/N")).await?;
    ensure!(new.body["codigo"] == "C-0001", "{new}");
    healthy(&scene).await
}

/// People change and delete what the file has written, and its worker dies; a batch a row.
#[tokio::test]
async fn the_first_row_of_a_file_wins_whatever_becomes_of_its_product() -> Result<()> {
    let mut scene = Scene::start("upfirst", |options| options.env("IMPORT_BATCH_ROWS", 1)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    for dies in [false, true] {
        let prefix = if dies { "D" } else { "L" };
        let id = |n: u32| format!("{prefix}-{n}");
        let code = |n: u32| format!("{prefix}C-{n}");
        let base: Vec<Row> = (0..4).map(|n| row(&id(n), &code(n), "Antes", 10)).collect();
        import(&supplier, &Upload::new(&csv(&scene, &format!("base{prefix}.csv"), &base)?, SUPPLIER)).await?;

        let first = [
            // Updated, then given another code by somebody.
            row(&id(0), &code(0), "Primera", 11),
            // Met by its code.
            row(&id(90), &code(1), "Primera", 11),
            // As it is already, then changed by somebody.
            row(&id(2), &code(2), "Antes", 10),
            // Created, then deleted.
            row(&id(91), &code(91), "Primera", 11),
            // Held by somebody, so that the import waits.
            row(&id(3), &code(3), "Primera", 11),
        ];
        let second = [
            (row(&id(0), &code(50), "Segunda", 12), "the id of row 2"),
            (row(&id(51), &code(0), "Segunda", 12), "the code of row 2"),
            (row(&id(90), &code(52), "Segunda", 12), "the id of row 3"),
            (row(&id(1), &code(53), "Segunda", 12), "the product of row 3"),
            (row(&id(2), &code(54), "Segunda", 12), "the id of row 4"),
            (row(&id(55), &code(2), "Segunda", 12), "the code of row 4"),
            (row(&id(91), &code(56), "Segunda", 12), "the id of row 5"),
            (row(&id(57), &code(91), "Segunda", 12), "the code of row 5"),
            (row(&id(58), &format!("{prefix}MOVED"), "Segunda", 12), "the product of row 2, by its new code"),
        ];
        let whole: Vec<Row> =
            first.iter().cloned().chain(second.iter().map(|(row, _)| row.clone())).collect();
        let somebody = hold(&pool, &id(3)).await?;
        let file = csv(&scene, &format!("first{prefix}.csv"), &whole)?;
        let task = task_id(&supplier.upload(&Upload::new(&file, SUPPLIER).replacing(true)).await?)?;
        blocked(&pool).await?;
        for (n, codigo) in [(0, format!("{prefix}MOVED")), (2, format!("{prefix}MOVED-2"))] {
            let mut product = supplier.get(&format!("{ITEMS}/{}", id(n))).await?.body;
            (product["codigo"], product["nombre"]) = (json!(codigo), json!("Editado"));
            let put = supplier.put(&format!("{ITEMS}/{}", id(n)), &product).await?;
            ensure!(put.status == 200, "{put}");
        }
        let deleted = supplier.delete(&format!("{ITEMS}/{}", id(91))).await?;
        ensure!(deleted.status == 204, "{deleted}");
        if dies {
            let worker =
                scene.platform.service_mut(&CATALOG_UPLOAD).workers.first_mut().context("a worker")?;
            worker.restart().await?;
        }
        somebody.rollback().await?;
        let status = supplier.finished(&task, LIMIT).await?;
        counts(
            &status,
            &[("total", 14), ("rechazados", 9), ("productos_creados", 1), ("productos_actualizados", 4)],
        )?;
        counts(&status, &[("sin_cambios", 1)])?;
        let told: Vec<(u64, String)> =
            (7..).zip(&second).map(|(fila, _)| (fila, "duplicate_in_file".to_owned())).collect();
        ensure!(refused(&status) == told, "{second:?}: {status:#}");
        for (n, nombre) in [(0, "Editado"), (1, "Primera"), (2, "Editado"), (3, "Primera")] {
            let product = supplier.get(&format!("{ITEMS}/{}", id(n))).await?;
            ensure!(product.body["nombre"] == nombre, "{nombre}: {product}");
        }
        healthy(&scene).await?;
    }
    Ok(())
}

#[tokio::test]
async fn of_a_column_that_the_file_lacks_products_keep_what_they_have() -> Result<()> {
    let scene = Scene::start("upabsent", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let head = "id,nombre,codigo,categoria,precio_unitario,certificado_sanitario,condiciones_almacenamiento,\
        tiempo_entrega_dias";
    let file = |name: &str, more: &str, lines: &[&str]| -> Result<Upload> {
        let path = scene.dir.join(name);
        std::fs::write(&path, format!("{head}{more}\n{}\n", lines.join("\n")))?;
        Ok(Upload::new(&path, SUPPLIER).replacing(true))
    };
    let optional = ",presentacion,stock_minimo,stock_critico,requiere_lote,requiere_vencimiento";
    let base = ["A,Uno,CA,V,1.00,S,Seco,1,Caja,40,20,si,no", "B,Dos,CB,V,1.00,S,Seco,1,Bolsa,41,21,si,no"];
    import(&supplier, &file("base.csv", optional, &base)?).await?;
    let read = async || -> Result<Vec<String>> {
        let query =
            "SELECT concat_ws('|', id, nombre, coalesce(presentacion, '-'), stock_minimo, stock_critico,
            requiere_lote, requiere_vencimiento) FROM products ORDER BY id";
        Ok(sqlx::query_scalar(query).fetch_all(&pool).await?)
    };

    // Nothing of what it has differs.
    let status = import(&supplier, &file("same.csv", "", &["A,Uno,CA,V,1.00,S,Seco,1"])?).await?;
    counts(&status, &[("sin_cambios", 1)])?;
    for (name, policy) in [("Tres", "reject_rows"), ("Cuatro", "reject_file")] {
        let line = format!("A,{name},CA,V,1.00,S,Seco,1");
        let upload = file(&format!("{name}.csv"), "", &[&line])?.with("error_policy", policy);
        let plan = import(&supplier, &upload.clone().with("dry_run", "true")).await?;
        ensure!(plan["result"]["simulacion"]["campos"] == json!({ "nombre": 1 }), "{plan:#}");
        import(&supplier, &upload).await?;
        ensure!(read().await?[0] == format!("A|{name}|Caja|40|20|t|f"), "{:?}", read().await?);
    }
    // An empty cell is a value: it clears. A new product has the defaults.
    let lines = ["B,Dos,CB,V,1.00,S,Seco,1,,7", "N,Nuevo,CN,V,1.00,S,Seco,1,Frasco,"];
    import(&supplier, &file("some.csv", ",presentacion,stock_critico", &lines)?).await?;
    let should = ["A|Cuatro|Caja|40|20|t|f", "B|Dos|-|41|7|t|f", "N|Nuevo|Frasco|10|5|f|t"];
    ensure!(read().await? == should, "{:?}", read().await?);
    healthy(&scene).await
}

#[tokio::test]
async fn imports_that_are_undone_from_the_last_to_the_first_leave_what_was_before() -> Result<()> {
    let scene = Scene::start("upchain", |options| options.env("IMPORT_BATCH_ROWS", 3)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let base = rows(8);
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &base)?, SUPPLIER)).await?;
    let before = contents(&pool).await?;
    let mut imports = Vec::new();
    let mut changed = base.clone();
    changed.push(row("N-1", "NC-1", "Nuevo", 1));
    for round in 0..4 {
        changed.iter_mut().skip(round).for_each(|row| row.nombre = format!("Ronda {round}"));
        let file = csv(&scene, &format!("round{round}.csv"), &changed)?;
        imports.push(import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?);
    }
    // Undone, then another one over it, which is undone too.
    counts(&undo(&supplier, &imports[3]).await?, &[("rechazados", 0)])?;
    changed.iter_mut().for_each(|row| row.precio += 5);
    let file = csv(&scene, "again.csv", &changed)?;
    imports[3] = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    for import in imports.iter().rev() {
        let status = undo(&supplier, import).await?;
        counts(&status, &[("rechazados", 0)])?;
    }
    ensure!(contents(&pool).await? == before, "the catalog is not as it was");
    // What somebody changed after an undo is theirs.
    let file = csv(&scene, "first.csv", &changed)?;
    let first = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    changed.iter_mut().for_each(|row| row.precio += 5);
    let second = Upload::new(&csv(&scene, "second.csv", &changed)?, SUPPLIER).replacing(true);
    undo(&supplier, &import(&supplier, &second).await?).await?;
    let mut product = supplier.get(&format!("{ITEMS}/P-0003")).await?.body;
    product["nombre"] = json!("De alguien");
    ensure!(supplier.put(&format!("{ITEMS}/P-0003"), &product).await?.status == 200, "edit");
    let status = undo(&supplier, &first).await?;
    counts(&status, &[("rechazados", 1)])?;
    ensure!(supplier.get(&format!("{ITEMS}/P-0003")).await?.body["nombre"] == "De alguien", "overwritten");
    healthy(&scene).await
}

/// Files that repeat most of the catalog, in random ways; each is tried out, imported and taken back.
#[tokio::test]
async fn a_resync_tells_what_it_changes_and_goes_back_whole() -> Result<()> {
    let scene = Scene::start("upresync", |options| options.env("IMPORT_BATCH_ROWS", 16)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let mut known = rows(90);
    import(&supplier, &Upload::new(&csv(&scene, "base.csv", &known)?, SUPPLIER)).await?;
    for round in 0..10_u64 {
        let mut random = StdRng::seed_from_u64(round);
        let (before, exact) = (contents(&pool).await?, versions(&pool).await?);
        let (mut file, mut wrong) = (Vec::new(), Vec::new());
        let (mut same, mut changed, mut created) = (0_u64, 0_u64, 0_u64);
        let mut after = known.clone();
        for (place, product) in known.iter().enumerate() {
            let mut row = product.clone();
            match random.random_range(0..20) {
                0 => row.nombre = format!("Ronda {round}-{place}"),
                1 => row.precio += 1,
                2 => row.codigo = format!("R{round}-{place}"),
                // Not in the file.
                3 => continue,
                _ => {}
            }
            if row == *product {
                same += 1
            } else {
                changed += 1
            }
            after[place] = row.clone();
            if random.random_bool(0.1) {
                // By its code alone.
                row.id = if row.codigo == product.codigo { format!("POR-CODIGO-{place}") } else { row.id };
            }
            file.push(row.clone());
            if random.random_bool(0.1) {
                row.nombre = "Repetida".to_owned();
                file.push(row);
                wrong.push(file.len() as u64 + 1);
            }
            if random.random_bool(0.05) {
                let new = self::row(&format!("N{round}-{place}"), &format!("NC{round}-{place}"), "Nuevo", 9);
                file.push(new.clone());
                after.push(new);
                created += 1;
            }
        }
        let upload =
            Upload::new(&csv(&scene, &format!("round{round}.csv"), &file)?, SUPPLIER).replacing(true);
        let plan = import(&supplier, &upload.clone().with("dry_run", "true")).await?;
        ensure!(versions(&pool).await? == exact, "round {round}: the dry run wrote");
        let status = import(&supplier, &upload).await?;
        for status in [&plan, &status] {
            counts(
                status,
                &[
                    ("total", file.len() as u64),
                    ("productos_creados", created),
                    ("productos_actualizados", same + changed),
                    ("sin_cambios", same),
                    ("rechazados", wrong.len() as u64),
                ],
            )
            .with_context(|| format!("round {round}"))?;
            let refused: Vec<u64> = refused(status).into_iter().map(|(fila, _)| fila).collect();
            ensure!(refused == wrong, "round {round}: {refused:?}, not {wrong:?}");
        }
        let written = contents(&pool).await?;
        for product in &after {
            let is = written.get(&product.id).with_context(|| format!("round {round}: {}", product.id))?;
            ensure!(
                is.contains(&format!("\"{}\"", product.nombre))
                    && is.contains(&format!("\"{}\"", product.codigo)),
                "round {round}: {is}, not {product:?}"
            );
        }
        healthy(&scene).await?;
        if changed + created > 0 {
            let undone = undo(&supplier, &status).await?;
            counts(
                &undone,
                &[("productos_restaurados", changed), ("productos_eliminados", created), ("rechazados", 0)],
            )
            .with_context(|| format!("round {round}"))?;
        }
        ensure!(contents(&pool).await? == before, "round {round}: the catalog is not as it was");
        healthy(&scene).await?;
        // Every other round stays.
        if round % 2 == 0 {
            import(&supplier, &upload.with("error_policy", "reject_rows")).await?;
            known = after;
        }
    }
    Ok(())
}

#[tokio::test]
async fn changes_of_a_file_that_was_cancelled_while_it_was_planned_are_none() -> Result<()> {
    let scene = Scene::start("upplanned", |options| options.env("IMPORT_BATCH_ROWS", 20)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let file = csv(&scene, "long.csv", &rows(9_000))?;
    let upload = Upload::new(&file, SUPPLIER).with("error_policy", "reject_file");
    let task = task_id(&supplier.upload(&upload).await?)?;
    stack::wait::until("the plan should be under way", LIMIT, async || {
        supplier.status(&task).await.is_ok_and(|status| status["progress"]["processed"].as_u64() > Some(0))
    })
    .await?;
    ensure!(supplier.task(&task, "cancel").await?.status == 202, "cancel");
    let status = supplier.finished(&task, LIMIT).await?;
    ensure!(status["error"] == "Carga cancelada: no se aplicó ninguna fila", "{status:#}");
    let changes = supplier.download(&format!("{STATUS}/{task}/changes.csv?crudo=true")).await?;
    ensure!(String::from_utf8(changes.clone())?.lines().count() == 1, "{}", String::from_utf8(changes)?);
    healthy(&scene).await
}

#[tokio::test]
async fn an_annotated_workbook_is_made_again_after_a_failure_and_after_a_retry() -> Result<()> {
    let scene = Scene::start("upnotes", |options| options.env("IMPORT_BATCH_ROWS", 20)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let task =
        task_id(&supplier.upload(&Upload::new(&csv(&scene, "long.csv", &rows(1_500))?, SUPPLIER)).await?)?;
    stack::wait::until("the import should be under way", LIMIT, async || {
        supplier.status(&task).await.is_ok_and(|status| status["progress"]["processed"].as_u64() > Some(0))
    })
    .await?;
    supplier.task(&task, "cancel").await?;
    ensure!(supplier.finished(&task, LIMIT).await?["status"] == "failed", "cancelled");
    let path = format!("{STATUS}/{task}/annotated.xlsx");
    let made = async || {
        stack::wait::until("the annotated workbook", LIMIT, async || {
            supplier.get(&path).await.is_ok_and(|answer| answer.status == 200)
        })
        .await
    };
    let job = async || -> Result<Option<String>> {
        let query = "SELECT job_id::text FROM import_reports WHERE import_id = $1::uuid";
        Ok(sqlx::query_scalar(query).bind(&task).fetch_optional(&pool).await?)
    };
    made().await?;
    let first = job().await?.context("a report")?;

    // As if its making had failed.
    let fail = "WITH r AS (UPDATE import_reports SET object_key = NULL WHERE import_id = $1::uuid RETURNING job_id)
        UPDATE jobs j SET state = 'failed', error = 'no había espacio', result = NULL FROM r WHERE j.id = r.job_id";
    sqlx::query(fail).bind(&task).execute(&pool).await?;
    let told = supplier.get(&path).await?;
    ensure!(told.status == 409 && told.body["code"] == "report_failed", "{told}");
    made().await?;
    let second = job().await?.context("a report")?;
    ensure!(second != first, "made by the same job");

    let answer = supplier.task(&task, "retry").await?;
    ensure!(answer.status == 202 && job().await?.is_none(), "{answer}");
    ensure!(supplier.finished(&task, LIMIT).await?["status"] == "completed", "retried");
    made().await?;
    ensure!(job().await?.context("a report")? != second, "a stale workbook");
    healthy(&scene).await
}

#[tokio::test]
async fn a_correction_is_of_the_rows_that_were_rejected_or_it_is_none() -> Result<()> {
    let scene = Scene::start("upcorrect", |options| options.env("IMPORT_BATCH_ROWS", 2)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let mut file = rows(8);
    let good = file.clone();
    for n in [2, 5] {
        file[n].nombre = String::new();
    }
    let status = import(&supplier, &Upload::new(&csv(&scene, "first.csv", &file)?, SUPPLIER)).await?;
    counts(&status, &[("rechazados", 2), ("productos_creados", 6)])?;
    let task = status["task_id"].as_str().context("a task")?.to_owned();
    let correct = |path: &PathBuf| Upload::new(path, SUPPLIER).with("corrige", &task);

    // The rows alone, so that they stand elsewhere: rows 2 and 3 of the file.
    let alone = csv(&scene, "alone.csv", &[good[2].clone(), good[5].clone()])?;
    for policy in ["reject_rows", "reject_file"] {
        let upload = correct(&alone).with("error_policy", policy);
        let status = supplier.finished(&task_id(&supplier.upload(&upload).await?)?, LIMIT).await?;
        let error = status["error"].as_str().unwrap_or_default();
        ensure!(status["status"] == "failed" && error.starts_with("Ninguna fila del archivo"), "{status:#}");
    }
    // Rows have moved down: other rows stand where the rejected ones were.
    let mut moved = good.clone();
    moved.insert(0, row("NUEVO", "NUEVO", "Nuevo", 1));
    let upload = correct(&csv(&scene, "moved.csv", &moved)?);
    let status = supplier.finished(&task_id(&supplier.upload(&upload).await?)?, LIMIT).await?;
    ensure!(status["status"] == "failed", "{status:#}");
    let told = [(4, "not_the_rejected_row".to_owned()), (7, "not_the_rejected_row".to_owned())];
    ensure!(refused(&status) == told, "{status:#}");
    // One of them has moved.
    let mut one = good.clone();
    one.swap(5, 6);
    let status = import(&supplier, &correct(&csv(&scene, "one.csv", &one)?)).await?;
    counts(&status, &[("total", 2), ("productos_creados", 1), ("rechazados", 1)])?;
    ensure!(refused(&status) == [(7, "not_the_rejected_row".to_owned())], "{status:#}");
    // What it left can be corrected by it in turn.
    let second = status["task_id"].as_str().context("a task")?;
    let upload = Upload::new(&csv(&scene, "rest.csv", &good)?, SUPPLIER).with("corrige", second);
    let status = import(&supplier, &upload).await?;
    counts(&status, &[("total", 1), ("productos_creados", 1)])?;
    ensure!(status["result"].get("filas_ausentes").is_none(), "{status:#}");
    // A file that has but one of the two rows says so.
    let upload = correct(&csv(&scene, "part.csv", &good[..4])?).with("dry_run", "true");
    let status = import(&supplier, &upload).await?;
    counts(&status, &[("total", 1)])?;
    ensure!(status["result"]["filas_ausentes"] == 1, "{status:#}");
    healthy(&scene).await
}
