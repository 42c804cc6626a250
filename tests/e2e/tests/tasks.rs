//! What people do with an upload besides waiting for it: try it out, apply it, cancel it, retry it, correct it,
//! take it back, and read what became of its rows.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Value, json};
use stack::platform::{Client, Events, Upload, compare, task_id};
use stack::workbook::{Spec, Truth};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SUPPLIER: &str = "PROV001";
const STATUS: &str = "/api/v1/catalog/bulk-upload";

async fn import(client: &Client, upload: &Upload) -> Result<Value> {
    let task = task_id(&client.upload(upload).await?)?;
    client.finished(&task, LIMIT).await
}

async fn follow(client: &Client, task: &str, action: &str) -> Result<Value> {
    let answer = client.task(task, action).await?;
    client.finished(&task_id(&answer)?, LIMIT).await
}

fn id(status: &Value) -> Result<&str> {
    status["task_id"].as_str().context("a task_id")
}

/// Every product with all that a client can see of it, and its version.
async fn catalog(pool: &PgPool) -> Result<BTreeMap<String, String>> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT id, to_jsonb(p)::text FROM products p").fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

async fn exact(scene: &Scene, status: &Value, truth: &Truth, prefix: &str) -> Result<()> {
    let verdict = compare(&scene.platform.catalog().await?, None, status, truth, prefix).await?;
    ensure!(verdict.is_exact(), "{verdict:#?}\n{status:#}");
    Ok(())
}

async fn healthy(scene: &Scene) -> Result<()> {
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:#?}");
    Ok(())
}

#[tokio::test]
async fn a_dry_run_tells_all_and_writes_nothing_until_it_is_applied() -> Result<()> {
    let scene = Scene::start("dryrun", |options| options.env("IMPORT_BATCH_ROWS", 50)).await?;
    let events = Events::listen(&scene.platform.place).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let (file, base) = scene.workbook(&Spec::new(1, "BASE", 120))?;
    import(&supplier, &Upload::new(&file, SUPPLIER)).await?;
    let before = catalog(&pool).await?;

    let known = base.as_known();
    let spec =
        Spec { bad: 20, duplicates: 30, collisions: 60, known, replace: true, ..Spec::new(2, "DRY", 400) };
    let (file, truth) = scene.workbook(&spec)?;
    let upload = Upload::new(&file, SUPPLIER).replacing(true).with("dry_run", "true");
    let plan = import(&supplier, &upload).await?;
    ensure!(plan["status"] == "completed" && plan["tipo"] == "simulacion", "{plan:#}");
    let resumen = serde_json::from_value(plan["result"]["resumen"].clone())?;
    ensure!(truth.summary == resumen, "{:?} and not {:#}", truth.summary, plan["result"]["resumen"]);
    ensure!(
        plan["result"]["productos_creados"] == json!(truth.created_ids().collect::<Vec<_>>()),
        "{plan:#}"
    );
    let changes = plan["result"]["simulacion"]["cambios"].as_array().context("cambios")?;
    ensure!(changes.len() as u64 == truth.summary.updated, "{changes:#?}");
    for (change, id) in changes.iter().zip(truth.updated_ids()) {
        ensure!(change["producto_id"] == id, "{change} should be of {id}");
        let fields = change["campos"].as_array().context("campos")?;
        ensure!(fields.contains(&json!("nombre")) && !fields.contains(&json!("id")), "{change}");
    }
    let names = plan["result"]["simulacion"]["campos"]["nombre"].as_u64();
    ensure!(names == Some(truth.summary.updated), "{plan:#}");
    ensure!(catalog(&pool).await? == before, "a dry run changed the catalog");
    healthy(&scene).await?;

    let task = id(&plan)?.to_owned();
    let applied = follow(&supplier, &task, "apply").await?;
    ensure!(applied["aplica"] == task.as_str(), "{applied:#}");
    exact(&scene, &applied, &truth, "DRY").await?;
    let again = supplier.task(&task, "apply").await?;
    ensure!(again.body["task_id"] == applied["task_id"], "a dry run is applied once: {again}");
    for (task, action, code) in
        [(id(&applied)?, "apply", "not_a_dry_run"), (task.as_str(), "undo", "nothing_to_undo")]
    {
        let refused = supplier.task(task, action).await?;
        ensure!(refused.status == 409 && refused.body["code"] == code, "{action}: {refused}");
    }
    // Of a dry run nobody else hears.
    ensure!(
        events.of(&task).await?.is_empty() && events.changes(&task).await?.is_empty(),
        "events of {task}"
    );
    healthy(&scene).await
}

#[tokio::test]
async fn all_or_nothing_writes_all_or_nothing() -> Result<()> {
    let scene = Scene::start("allornothing", |options| options.env("IMPORT_BATCH_ROWS", 50)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let spec = Spec { bad: 3, duplicates: 4, ..Spec::new(1, "ALL", 300) };
    let (file, truth) = scene.workbook(&spec)?;
    let upload = |file: &Path| Upload::new(file, SUPPLIER).with("error_policy", "reject_file");
    let status = import(&supplier, &upload(&file)).await?;
    ensure!(status["status"] == "failed", "{status:#}");
    let error = status["error"].as_str().unwrap_or_default();
    ensure!(error.contains("7 filas tienen errores") && error.contains("no se aplicó ninguna"), "{error}");
    let resumen = &status["result"]["resumen"];
    ensure!(
        resumen["total"] == 300 && resumen["rechazados"] == 300 && resumen["exitosos"] == 0,
        "{status:#}"
    );
    ensure!(catalog(&pool).await?.is_empty(), "products of a refused file");
    let errors = status["result"]["errores"].as_array().context("errores")?;
    let own = errors.iter().filter(|error| error["codigo"] != "file_refused").count() as u64;
    ensure!(errors.len() == 300 && own == truth.summary.rejected, "{own} rows of {}", errors.len());
    healthy(&scene).await?;

    // What a dry run says is what becomes of it: nothing, though each row is told of.
    let plan = import(&supplier, &upload(&file).with("dry_run", "true")).await?;
    ensure!(plan["status"] == "completed" && plan["result"]["resumen"]["rechazados"] == 7, "{plan:#}");
    ensure!(plan["result"]["simulacion"]["se_rechazaria_completo"] == true, "{plan:#}");
    ensure!(plan["result"]["productos_creados"] == json!([]), "{plan:#}");
    let told = plan["result"]["mensaje"].as_str().unwrap_or_default();
    ensure!(told.contains("se rechazaría completo: 7 filas"), "{told}");

    let (file, truth) = scene.workbook(&Spec::new(2, "WHOLE", 300))?;
    let status = import(&supplier, &upload(&file)).await?;
    exact(&scene, &status, &truth, "WHOLE").await?;

    // A file that ends in the middle leaves nothing either.
    let text = std::fs::read(&file)?;
    let broken = scene.dir.join("BROKEN.xlsx");
    std::fs::write(&broken, &text[..text.len() / 2])?;
    let status = import(&supplier, &upload(&broken)).await?;
    ensure!(status["status"] == "failed", "{status:#}");
    ensure!(catalog(&pool).await?.len() == 300, "products of a broken file");
    healthy(&scene).await
}

#[tokio::test]
async fn a_refused_file_keeps_its_reason_and_is_judged_again_when_retried() -> Result<()> {
    let scene = Scene::start("refused", |options| options.env("IMPORT_BATCH_ROWS", 2)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let header = "id,nombre,codigo,categoria,precio_unitario,certificado_sanitario,condiciones_almacenamiento,\
        tiempo_entrega_dias\n";
    let rows = |ids: &[&str]| -> String {
        ids.iter().map(|id| format!("{id},Nombre,C-{id},V,1.00,S,A,1\n")).collect()
    };
    let upload = |name: &str, text: String| -> Result<Upload> {
        let path = scene.dir.join(name);
        std::fs::write(&path, text)?;
        Ok(Upload::new(&path, SUPPLIER).with("error_policy", "reject_file"))
    };
    // One product is there already; deleted, it is in nobody's way.
    import(&supplier, &upload("one.csv", header.to_owned() + &rows(&["A"]))?).await?;
    let status =
        import(&supplier, &upload("three.csv", header.to_owned() + &rows(&["A", "B", "C"]))?).await?;
    let error = status["error"].as_str().unwrap_or_default();
    ensure!(error.contains("1 filas tienen errores"), "{status:#}");
    ensure!(supplier.delete("/api/v1/catalog/items/A").await?.status == 204, "delete");
    let task = id(&status)?.to_owned();
    ensure!(supplier.task(&task, "retry").await?.status == 202, "retry");
    let status = supplier.finished(&task, LIMIT).await?;
    let resumen = &status["result"]["resumen"];
    ensure!(status["status"] == "completed" && resumen["productos_creados"] == 3, "{status:#}");
    ensure!(resumen["rechazados"] == 0 && status["result"]["errores"] == json!([]), "{status:#}");
    ensure!(catalog(&pool).await?.len() == 3, "three products");
    healthy(&scene).await?;

    // It breaks off behind good rows, at a quote that is never closed; whoever claims it next says so, too.
    let text = header.to_owned() + &rows(&["D", "E", "F", "G"]) + "H,\"" + &"x,\n".repeat(500_000);
    let status = import(&supplier, &upload("broken.csv", text)?).await?;
    let error = status["error"].as_str().unwrap_or_default().to_owned();
    ensure!(status["status"] == "failed" && error.contains("comillas sin cerrar"), "{status:#}");
    let task = id(&status)?.to_owned();
    let killed =
        "UPDATE jobs SET state = 'pending', error = NULL, finished_at = NULL, result = NULL, attempts = 0,
        next_run_at = now(), nudged_at = NULL, version = version + 1 WHERE id = $1::uuid";
    sqlx::query(killed).bind(&task).execute(&pool).await?;
    stack::wait::until("the job should end again", LIMIT, async || {
        let query = "SELECT state = 'failed' FROM jobs WHERE id = $1::uuid";
        sqlx::query_scalar(query).bind(&task).fetch_one(&pool).await.unwrap_or(false)
    })
    .await?;
    let again: String =
        sqlx::query_scalar("SELECT error FROM jobs WHERE id = $1::uuid").bind(&task).fetch_one(&pool).await?;
    ensure!(again == error, "{again}, not {error}");
    healthy(&scene).await
}

#[tokio::test]
async fn a_cancelled_import_says_what_it_did_and_goes_on_when_retried() -> Result<()> {
    let scene = Scene::start("cancel", |options| options.env("IMPORT_BATCH_ROWS", 40)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let (file, truth) = scene.workbook(&Spec { bad: 100, ..Spec::new(1, "LONG", 10_000) })?;
    let upload = Upload::new(&file, SUPPLIER);
    let task = task_id(&supplier.upload(&upload).await?)?;
    stack::wait::until("the import should be under way", LIMIT, async || {
        supplier.status(&task).await.is_ok_and(|status| status["progress"]["processed"].as_u64() > Some(0))
    })
    .await?;

    // The same file again is the same task, while it is not done; with other options it is another.
    let again = supplier.upload(&upload).await?;
    ensure!(again.body["task_id"] == task.as_str(), "{again}");
    let other = task_id(&supplier.upload(&upload.clone().with("dry_run", "true")).await?)?;
    ensure!(other != task, "a dry run is another task");
    ensure!(
        supplier.task(&task, "undo").await?.body["code"] == "not_finished",
        "an undo of a running import"
    );

    let answer = supplier.task(&task, "cancel").await?;
    ensure!(answer.status == 202, "{answer}");
    supplier.task(&other, "cancel").await?;
    let status = supplier.finished(&task, LIMIT).await?;
    let written = catalog(&pool).await?.len();
    ensure!(status["status"] == "failed" && (1..9_900).contains(&written), "{written}: {status:#}");
    ensure!(status["cancelada"] == true, "{status:#}");
    ensure!(status["error"] == format!("Carga cancelada: se aplicaron {written} filas"), "{status:#}");
    ensure!(status["result"]["resumen"]["exitosos"] == written, "{status:#}");
    ensure!(supplier.task(&task, "cancel").await?.body["code"] == "task_finished", "twice cancelled");
    healthy(&scene).await?;

    let resumed = follow(&supplier, &task, "retry").await?;
    exact(&scene, &resumed, &truth, "LONG").await?;
    ensure!(
        supplier.task(&task, "retry").await?.body["code"] == "not_failed",
        "a retry of a completed import"
    );
    supplier.finished(&other, LIMIT).await?;
    healthy(&scene).await
}

#[tokio::test]
async fn the_rejected_rows_of_a_file_can_be_sent_again() -> Result<()> {
    let scene = Scene::start("correct", |options| options.env("IMPORT_BATCH_ROWS", 50)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let other = scene.platform.supplier("PROV002").await?;
    let (file, first) = scene.workbook(&Spec { bad: 25, ..Spec::new(1, "FIX", 300) })?;
    let status = import(&supplier, &Upload::new(&file, SUPPLIER)).await?;
    exact(&scene, &status, &first, "FIX").await?;
    let task = id(&status)?.to_owned();

    // The same rows in the same places, all good.
    let (file, _) = scene.workbook(&Spec::new(2, "FIX", 300))?;
    let upload = Upload::new(&file, SUPPLIER).with("corrige", &task);
    let status = import(&supplier, &upload).await?;
    let resumen = &status["result"]["resumen"];
    ensure!(resumen["total"] == 25 && resumen["productos_creados"] == 25, "{status:#}");
    ensure!(status["corrige"] == task.as_str() && status["progress"]["total"] == 25, "{status:#}");
    let rejected: Vec<_> = first.rejected().map(|row| row.fila).collect();
    let corrected: Vec<i32> =
        sqlx::query_scalar("SELECT row_number FROM import_ledger WHERE import_id = $1::uuid ORDER BY 1")
            .bind(id(&status)?)
            .fetch_all(&scene.platform.catalog().await?)
            .await?;
    ensure!(corrected.iter().map(|row| row.unsigned_abs()).eq(rejected), "{corrected:?}");

    let stranger = Upload::new(&file, "PROV002").with("corrige", &task);
    ensure!(other.upload(&stranger).await?.status == 404, "another supplier's task");
    healthy(&scene).await
}

#[tokio::test]
async fn what_became_of_the_rows_can_be_downloaded() -> Result<()> {
    let scene = Scene::start("downloads", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let (file, truth) = scene.workbook(&Spec { bad: 12, duplicates: 3, ..Spec::new(1, "DOWN", 200) })?;
    let status = import(&supplier, &Upload::new(&file, SUPPLIER)).await?;
    let task = id(&status)?;
    let original = supplier.download(&format!("{STATUS}/{task}/original")).await?;
    ensure!(original == std::fs::read(&file)?, "the original is another file");

    let errors =
        String::from_utf8(supplier.download(&format!("{STATUS}/{task}/errors.csv?crudo=true")).await?)?;
    let mut lines = errors.lines();
    ensure!(lines.next() == Some("fila,tipo,codigo,columna,valor,mensaje"), "{errors}");
    for row in truth.rejected() {
        let line = lines.find(|line| line.contains(",error,")).context("a line a rejected row")?;
        ensure!(line.starts_with(&format!("{},", row.fila)), "{line} should be of row {}", row.fila);
    }
    let changes = supplier.download(&format!("{STATUS}/{task}/changes.csv?crudo=true")).await?;
    let changes = String::from_utf8(changes)?;
    ensure!(changes.lines().count() as u64 == 1 + truth.summary.created, "{changes}");

    let path = format!("{STATUS}/{task}/annotated.xlsx");
    let first = supplier.get(&path).await?;
    ensure!(first.status == 202 || first.status == 200, "{first}");
    stack::wait::until("the annotated workbook", LIMIT, async || {
        supplier.get(&path).await.is_ok_and(|answer| answer.status == 200)
    })
    .await?;
    // It is a workbook that can be sent as it is: its own columns mean nothing to an import.
    let annotated = scene.dir.join("anotado.xlsx");
    std::fs::write(&annotated, supplier.download(&path).await?)?;
    let plan = import(&supplier, &Upload::new(&annotated, SUPPLIER).with("dry_run", "true")).await?;
    ensure!(plan["result"]["resumen"]["total"] == 200, "{plan:#}");
    ensure!(plan["result"]["resumen"]["duplicados"] == 188, "{plan:#}");

    for name in ["vacia", "ejemplo"] {
        let template = scene.dir.join(format!("{name}.xlsx"));
        let path = format!("/api/v1/catalog/templates/{name}.xlsx");
        std::fs::write(&template, supplier.download(&path).await?)?;
        let status = import(&supplier, &Upload::new(&template, SUPPLIER)).await?;
        if name == "ejemplo" {
            ensure!(status["status"] == "completed", "{status:#}");
            ensure!(status["result"]["resumen"]["rechazados"] == 0, "{status:#}");
            ensure!(status["result"]["advertencias"].is_null(), "{status:#}");
            // Ids and codes are one catalog's, and the example is everybody's.
            let other = scene.platform.supplier("PROV002").await?;
            std::fs::write(&template, other.download(&path).await?)?;
            let status = import(&other, &Upload::new(&template, "PROV002")).await?;
            ensure!(status["result"]["resumen"]["rechazados"] == 0, "{status:#}");
        } else {
            ensure!(status["status"] == "failed", "{status:#}");
        }
    }
    let none = supplier.get("/api/v1/catalog/templates/otra.xlsx").await?;
    ensure!(none.status == 404, "{none}");
    healthy(&scene).await
}

#[tokio::test]
async fn products_are_changed_one_by_one_and_their_stock_is_read() -> Result<()> {
    let scene = Scene::start("products", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let other = scene.platform.supplier("PROV002").await?;
    let mut product = json!({
        "id": "P-1", "codigo": "C-1", "nombre": "Amoxicilina 500 mg", "categoria": "ANTIBIOTICS",
        "presentacion": "Caja x 30", "precioUnitario": 1234.5, "requisitosAlmacenamiento": "Lugar seco",
        "certificadoSanitario": "INVIMA 7", "tiempoEntregaDias": 3, "proveedorId": SUPPLIER,
        "stockMinimo": 10, "stockCritico": 5, "requiereLote": false, "requiereVencimiento": true,
    });
    let created = supplier.post("/api/v1/catalog/items", &product).await?;
    ensure!(created.status == 201 && created.body == product, "{created}");
    for (field, value, code) in [
        ("precioUnitario", json!(-1), "out_of_range"),
        ("nombre", json!(""), "required"),
        ("tiempoEntregaDias", json!(1.5), "not_an_integer"),
    ] {
        let mut wrong = product.clone();
        (wrong["id"], wrong["codigo"], wrong[field]) = (json!("P-2"), json!("C-2"), value);
        let refused = supplier.post("/api/v1/catalog/items", &wrong).await?;
        ensure!(refused.status == 422 && refused.body["code"] == code, "{field}: {refused}");
        ensure!(refused.body["details"]["campo"] == field, "{refused}");
    }
    for (field, value) in [("id", "P-3"), ("codigo", "C-3")] {
        let mut twin = product.clone();
        twin[field] = json!(value);
        let refused = supplier.post("/api/v1/catalog/items", &twin).await?;
        ensure!(refused.status == 409 && refused.body["code"] == "duplicate_product", "{refused}");
    }

    let path = "/api/v1/catalog/items/P-1";
    product["precioUnitario"] = json!(99.95);
    let stale = supplier.request(reqwest::Method::PUT, path).header("If-Match", "\"1\"").json(&product);
    let refused = stack::platform::answer(stale).await?;
    ensure!(refused.status == 412 && refused.body["code"] == "product_changed", "{refused}");
    let tag = refused.body["details"]["etag"].as_str().context("an etag")?.to_owned();
    let fresh = supplier.request(reqwest::Method::PUT, path).header("If-Match", &tag).json(&product);
    let replaced = stack::platform::answer(fresh).await?;
    ensure!(replaced.status == 200 && replaced.body == product, "{replaced}");
    ensure!(supplier.get(path).await?.body == product, "what was put is what is read");

    let stock = supplier.get(&format!("{path}/inventario")).await?;
    let lot = &stock.body["items"][0];
    ensure!(stock.body["meta"]["total"] == 1, "{stock}");
    let day = lot["lote"].as_str().and_then(|lot| lot.strip_prefix("LOTE_INICIAL_")).context("a lot")?;
    ensure!(day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit()), "{lot}");
    let expected = json!({
        "producto_id": "P-1", "producto_nombre": "Amoxicilina 500 mg", "producto_codigo": "C-1",
        "categoria": "ANTIBIOTICS", "precio_unitario": 99.95, "bodega_id": "PRINCIPAL", "pais": "CO",
        "lote": lot["lote"], "cantidad": 0, "fecha_vencimiento": lot["fecha_vencimiento"],
        "condiciones": "Lugar seco", "stock_minimo": 10, "stock_critico": 5, "estado_stock": "CRITICO",
        "bodegaId": "PRINCIPAL", "vence": lot["fecha_vencimiento"],
    });
    ensure!(*lot == expected, "{lot:#}");
    let bodega = "/api/v1/inventory/bodega/PRINCIPAL/productos";
    for (query, count) in [("?pais=CO", 1), ("?pais=PE", 0), ("?con_stock=true", 0), ("?page=2&size=200", 0)]
    {
        let found = supplier.get(&format!("{bodega}{query}")).await?;
        ensure!(found.body["items"].as_array().map(Vec::len) == Some(count), "{query}: {found}");
    }
    ensure!(supplier.get(&format!("{bodega}?size=201")).await?.status == 400, "a page is 200 at most");
    ensure!(other.get(bodega).await?.body["items"] == json!([]), "another supplier's stock");

    ensure!(other.delete(path).await?.status == 404, "another supplier's product");
    ensure!(supplier.delete(path).await?.status == 204, "delete");
    ensure!(supplier.get(path).await?.status == 404 && supplier.delete(path).await?.status == 404, "gone");
    ensure!(supplier.get(&format!("{path}/inventario")).await?.status == 404, "its stock too");
    for health in ["/api/v1/inventory/health", "/api/v1/catalog/health"] {
        let answer = Client::nobody(&scene.platform.gateway_url()).get(health).await?;
        ensure!(answer.status == 200 && answer.body["status"] == "healthy", "{health}: {answer}");
    }
    healthy(&scene).await
}

#[tokio::test]
async fn warnings_and_ignored_columns_are_told_apart() -> Result<()> {
    let scene = Scene::start("warnings", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let file = scene.dir.join("notas.csv");
    let text = "id,nombre,codigo,categoria,precio,certificado_sanitario,condiciones_almacenamiento,\
        tiempo_entrega_dias,stock_minimo,stock_critico,Notas internas\n\
        A1,Uno,C1,VITAMINAS,10.50,INVIMA,Seco,3,5,50,hola\n";
    std::fs::write(&file, text)?;
    let status = import(&supplier, &Upload::new(&file, SUPPLIER)).await?;
    ensure!(status["status"] == "completed", "{status:#}");
    let result = &status["result"];
    ensure!(result["resumen"]["exitosos"] == 1 && result["resumen"]["advertencias"] == 1, "{result:#}");
    ensure!(result["advertencias"][0]["fila"] == 2, "{result:#}");
    ensure!(result["columnas_ignoradas"] == json!(["Notas internas"]), "{result:#}");
    Ok(())
}
