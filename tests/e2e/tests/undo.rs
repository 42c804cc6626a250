//! Taking an import back: whatever people do in between, what they did not touch is as it was before.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Value, json};
use stack::platform::{Client, Events, Upload, task_id};
use stack::workbook::{Known, Outcome, Spec};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SUPPLIER: &str = "PROV001";
const ITEMS: &str = "/api/v1/catalog/items";

async fn import(client: &Client, upload: &Upload) -> Result<String> {
    let task = task_id(&client.upload(upload).await?)?;
    let status = client.finished(&task, LIMIT).await?;
    ensure!(status["status"] == "completed", "{status:#}");
    Ok(task)
}

async fn undo(client: &Client, task: &str) -> Result<Value> {
    let answer = client.task(task, "undo").await?;
    client.finished(&task_id(&answer)?, LIMIT).await
}

/// Every product, byte by byte, but for who wrote it and when.
async fn catalog(pool: &PgPool) -> Result<BTreeMap<String, String>> {
    let query = "SELECT id, (to_jsonb(p) - 'version' - 'updated_at' - 'import_id' - 'restored_at' - 'restored_version')::text
        || coalesce((SELECT jsonb_agg(to_jsonb(v) ORDER BY lote)::text FROM inventory v WHERE product_id = p.id), '')
        FROM products p";
    let rows: Vec<(String, String)> = sqlx::query_as(query).fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

#[tokio::test]
async fn an_import_is_taken_back_and_an_undo_is_not() -> Result<()> {
    let scene = Scene::start("undo", |options| options.env("IMPORT_BATCH_ROWS", 40)).await?;
    let events = Events::listen(&scene.platform.place).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let (file, base) = scene.workbook(&Spec::new(1, "BASE", 100))?;
    import(&supplier, &Upload::new(&file, SUPPLIER)).await?;
    let before = catalog(&pool).await?;

    let known = base.as_known();
    let spec =
        Spec { bad: 5, duplicates: 20, collisions: 60, known, replace: true, ..Spec::new(2, "UN", 300) };
    let (file, truth) = scene.workbook(&spec)?;
    let task = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    ensure!(catalog(&pool).await? != before, "the import did nothing");
    let status = undo(&supplier, &task).await?;
    ensure!(status["status"] == "completed" && status["tipo"] == "reversion", "{status:#}");
    ensure!(status["revierte"] == task.as_str(), "{status:#}");
    let resumen = &status["result"]["resumen"];
    ensure!(resumen["productos_eliminados"] == truth.summary.created, "{status:#}");
    ensure!(resumen["productos_restaurados"] == truth.summary.updated, "{status:#}");
    ensure!(resumen["rechazados"] == 0 && status["result"]["errores"] == json!([]), "{status:#}");
    ensure!(catalog(&pool).await? == before, "the catalog is not as it was");

    let undone = status["task_id"].as_str().context("a task_id")?;
    let again = supplier.task(&task, "undo").await?;
    ensure!(again.body["task_id"] == undone, "an import is taken back once: {again}");
    let refused = supplier.task(undone, "undo").await?;
    ensure!(refused.status == 409 && refused.body["code"] == "undo_of_undo", "{refused}");
    stack::wait::until("the events of the undo", LIMIT, async || {
        let ended = events.of(undone).await.unwrap_or_default();
        let changed = events.changes(undone).await.unwrap_or_default();
        ended.iter().any(|(kind, _)| kind == "lote.catalog.v1.ImportUndone")
            && changed.len() as u64 == truth.summary.successful
    })
    .await?;
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:#?}");

    // What was taken back can be uploaded again.
    import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    Ok(())
}

#[tokio::test]
async fn a_code_that_somebody_took_meanwhile_is_theirs() -> Result<()> {
    let scene = Scene::start("undocodes", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let csv = |name: &str, rows: &str| -> Result<_> {
        let file = scene.dir.join(name);
        let header = "id,nombre,codigo,categoria,precio_unitario,certificado_sanitario,\
            condiciones_almacenamiento,tiempo_entrega_dias\n";
        std::fs::write(&file, format!("{header}{rows}"))?;
        Ok(file)
    };
    let row = |id: &str, code: &str| format!("{id},Nombre {id},{code},V,1.00,S,A,1\n");
    let base = csv("base.csv", &(row("A", "CA") + &row("B", "CB")))?;
    import(&supplier, &Upload::new(&base, SUPPLIER)).await?;

    // A gives up CA, B takes it and gives up CB, and a new product takes that; then A again, which is refused.
    let chain = row("A", "CX") + &row("B", "CA") + &row("N", "CB") + &row("A", "CZ");
    let file = csv("chain.csv", &chain)?;
    let task = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    // Somebody makes the new product their own.
    let mut product = supplier.get(&format!("{ITEMS}/N")).await?.body;
    product["nombre"] = json!("Otro nombre");
    ensure!(supplier.put(&format!("{ITEMS}/N"), &product).await?.status == 200, "edit N");
    let status = undo(&supplier, &task).await?;
    let errors = status["result"]["errores"].as_array().context("errores")?;
    let told: Vec<_> = errors.iter().map(|error| (&error["fila"], error["codigo"].as_str())).collect();
    let expected = [
        (&json!(2), Some("code_taken")),
        (&json!(3), Some("code_taken")),
        (&json!(4), Some("changed_since")),
    ];
    ensure!(told == expected, "{told:?}");
    for (id, code) in [("A", "CX"), ("B", "CA"), ("N", "CB")] {
        let product = supplier.get(&format!("{ITEMS}/{id}")).await?;
        ensure!(product.body["codigo"] == code, "{product}");
    }

    // Untouched, the same chain goes back whole.
    let chain = row("A", "C1") + &row("B", "CX") + &row("M", "CA");
    let file = csv("chain2.csv", &chain)?;
    let task = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    let status = undo(&supplier, &task).await?;
    ensure!(status["result"]["resumen"]["rechazados"] == 0, "{status:#}");
    for (id, code) in [("A", "CX"), ("B", "CA")] {
        let product = supplier.get(&format!("{ITEMS}/{id}")).await?;
        ensure!(product.body["codigo"] == code, "{product}");
    }
    ensure!(supplier.get(&format!("{ITEMS}/M")).await?.status == 404, "M is still there");
    Ok(())
}

/// Imports from before the change log had versions are as they are after the migration.
#[tokio::test]
async fn of_changes_without_a_version_nothing_is_known_and_nothing_touched() -> Result<()> {
    let scene = Scene::start("undoold", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let (file, base) = scene.workbook(&Spec::new(1, "BASE", 30))?;
    import(&supplier, &Upload::new(&file, SUPPLIER)).await?;
    let before = catalog(&pool).await?;
    let (known, collisions) = (base.as_known(), 20);
    let spec = Spec { collisions, known, replace: true, ..Spec::new(2, "OLD", 60) };
    let (file, truth) = scene.workbook(&spec)?;
    let task = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
    let after = catalog(&pool).await?;
    let old: Vec<String> = sqlx::query_scalar(
        "with all_of_them as (select * from import_ledger where import_id = $1::uuid),
         runs as (delete from import_creations where import_id = $1::uuid),
         updates as (delete from import_updates where import_id = $1::uuid),
         kept as (
             insert into import_changes (import_id, row_number, product_id, action, version, before)
             select import_id, row_number, product_id, action, case when row_number % 2 = 1 then version end,
                 case when row_number % 2 = 1 then before end
             from all_of_them)
         select product_id from all_of_them where row_number % 2 = 0",
    )
    .bind(&task)
    .fetch_all(&pool)
    .await?;
    let old: BTreeSet<_> = old.iter().map(String::as_str).collect();
    let updated: BTreeSet<_> = truth.updated_ids().collect();
    ensure!(
        old.iter().any(|id| updated.contains(id)) && old.iter().any(|id| !updated.contains(id)),
        "{old:?}"
    );

    let status = undo(&supplier, &task).await?;
    ensure!(status["status"] == "completed", "{status:#}");
    let errors = status["result"]["errores"].as_array().context("errores")?;
    ensure!(
        status["result"]["resumen"]["rechazados"] == old.len() && errors.len() == old.len(),
        "{status:#}"
    );
    for error in errors {
        let id = error["valor"].as_str().context("a product")?;
        ensure!(old.contains(id) && error["codigo"] == "changed_since", "{error}");
        let told = format!("El producto {id} cambió después de la carga; no se modificó. Revíselo a mano");
        ensure!(error["error"] == told.as_str(), "{error}");
    }
    let now = catalog(&pool).await?;
    for id in truth.created_ids().chain(truth.updated_ids()) {
        let should = if old.contains(id) { after.get(id) } else { before.get(id) };
        ensure!(now.get(id) == should, "{id} is {:?}, not {should:?}", now.get(id));
    }
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:#?}");
    Ok(())
}

/// Edits, deletions, re-creations and other imports between an import and its undo, in some hundred random ways.
#[tokio::test]
async fn what_nobody_touched_is_byte_equal_to_before() -> Result<()> {
    let scene = Scene::start("undorandom", |options| options.env("IMPORT_BATCH_ROWS", 16)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let (file, base) = scene.workbook(&Spec::new(1, "ROOT", 60))?;
    import(&supplier, &Upload::new(&file, SUPPLIER)).await?;
    let mut known: Vec<Known> = base.as_known();
    for round in 0..12_u64 {
        let mut random = StdRng::seed_from_u64(round);
        let before = catalog(&pool).await?;
        let prefix = format!("R{round}");
        let collisions = random.random_range(0..known.len().min(40));
        let spec = Spec {
            bad: random.random_range(0..6),
            duplicates: random.random_range(0..10),
            collisions,
            known: known.clone(),
            replace: true,
            ..Spec::new(round, &prefix, 120)
        };
        let (file, truth) = scene.workbook(&spec)?;
        let task = import(&supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
        let written: Vec<String> =
            truth.created_ids().chain(truth.updated_ids()).map(str::to_owned).collect();
        let touched = meddle(&supplier, &mut random, &written, &scene, round).await?;
        let meddled = catalog(&pool).await?;

        let status = undo(&supplier, &task).await?;
        ensure!(status["status"] == "completed", "{status:#}");
        let after = catalog(&pool).await?;
        let kept: BTreeSet<&str> = status["result"]["errores"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|error| error["valor"].as_str())
            .collect();
        let resumen = &status["result"]["resumen"];
        ensure!(resumen["total"] == written.len(), "round {round}: {resumen}");
        ensure!(resumen["rechazados"] == kept.len(), "round {round}: {resumen} and {kept:?}");
        for id in &written {
            if touched.contains(id) {
                ensure!(kept.contains(id.as_str()), "round {round}: {id} was touched and is not told of");
                ensure!(
                    after.get(id) == meddled.get(id),
                    "round {round}: {id} was touched and is not as left"
                );
            } else if kept.contains(id.as_str()) {
                // Only because somebody has its code now.
                ensure!(after.get(id) == meddled.get(id), "round {round}: {id} was kept and is not as left");
            } else {
                ensure!(after.get(id) == before.get(id), "round {round}: {id} is not as before");
            }
        }
        let others = before.keys().filter(|id| !written.contains(id) && !touched.contains(*id));
        for id in others {
            ensure!(after.get(id) == before.get(id), "round {round}: {id} had nothing to do with it");
        }
        let findings = scene.platform.doctor().await?;
        ensure!(findings.is_empty(), "round {round}: doctor: {findings:#?}");
        // What is there now may be met by the next round.
        let there: Vec<(String, String)> =
            sqlx::query_as("SELECT id, codigo FROM products").fetch_all(&pool).await?;
        known = there.into_iter().map(|(id, codigo)| Known { id, codigo, own: true }).collect();
        ensure!(
            truth.rows.iter().any(|row| row.outcome == Outcome::Created),
            "round {round} created nothing"
        );
    }
    Ok(())
}

/// Changes products as people do; gives the ids of those that were touched.
async fn meddle(
    supplier: &Client,
    random: &mut StdRng,
    written: &[String],
    scene: &Scene,
    round: u64,
) -> Result<BTreeSet<String>> {
    let mut touched = BTreeSet::new();
    for step in 0..random.random_range(0..12) {
        let Some(id) = written.choose(random) else { break };
        let path = format!("{ITEMS}/{id}");
        let read = supplier.get(&path).await?;
        if read.status == 404 {
            continue;
        }
        let mut product = read.body;
        match random.random_range(0..4) {
            0 => {
                ensure!(supplier.delete(&path).await?.status == 204, "delete {id}");
            }
            1 => {
                ensure!(supplier.delete(&path).await?.status == 204, "delete {id}");
                let made = supplier.post(ITEMS, &product).await?;
                ensure!(made.status == 201, "make {id} again: {made}");
            }
            2 => {
                product["codigo"] = json!(format!("M-{round}-{step}"));
                let put = supplier.put(&path, &product).await?;
                ensure!(put.status == 200, "another code for {id}: {put}");
            }
            _ => {
                product["nombre"] = json!(format!("Cambiado en {round}"));
                let put = supplier.put(&path, &product).await?;
                ensure!(put.status == 200, "another name for {id}: {put}");
            }
        }
        touched.insert(id.clone());
    }
    if random.random_bool(0.5) {
        // Another import over some of the same products.
        let some: Vec<String> = written.iter().filter(|id| !touched.contains(*id)).take(5).cloned().collect();
        let mut known = Vec::new();
        for id in &some {
            let codigo = supplier.get(&format!("{ITEMS}/{id}")).await?.body["codigo"].clone();
            known.push(Known {
                id: id.clone(),
                codigo: codigo.as_str().context("a code")?.to_owned(),
                own: true,
            });
        }
        let spec = Spec {
            collisions: known.len(),
            known,
            replace: true,
            ..Spec::new(round, &format!("Z{round}"), 20)
        };
        let (file, truth) = scene.workbook(&spec)?;
        import(supplier, &Upload::new(&file, SUPPLIER).replacing(true)).await?;
        touched.extend(truth.updated_ids().map(str::to_owned));
    }
    Ok(touched)
}
