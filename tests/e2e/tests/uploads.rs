//! Uploads as their users know them: script, documents, sums, messages.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use futures::{StreamExt as _, stream};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use sea_orm::sqlx;
use serde_json::{Value, json};
use stack::platform::{Answer, Client, UPLOAD, Upload, answer, compare, task_id};
use stack::wait::until;
use stack::workbook::{Known, Outcome, Spec, Truth};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(60);

/// The script that the users have, as it stands but for the token.
const SCRIPT: &str = r#"
RESPONSE=$(curl -s -X POST "$BASE_URL/api/v1/catalog/items/bulk-upload?proveedor_id=$PROVEEDOR_ID&reemplazar_duplicados=false" \
  -H "Authorization: Bearer $TOKEN" -F "file=@$FILE")
TASK_ID=$(echo "$RESPONSE" | jq -r '.task_id')
while true; do
  STATUS=$(curl -s "$BASE_URL/api/v1/catalog/bulk-upload/status/$TASK_ID" -H "Authorization: Bearer $TOKEN")
  STATE=$(echo "$STATUS" | jq -r '.status')
  echo "estado: $STATE" >&2
  if [ "$STATE" = "completed" ] || [ "$STATE" = "failed" ]; then
    break
  fi
  sleep 2
done
echo "$STATUS"
"#;

/// As much of jq as the script needs, for machines without it.
const JQ: &str = r#"#!/usr/bin/env python3
import json, sys
print(json.load(sys.stdin)[sys.argv[-1].lstrip(".")])
"#;

#[tokio::test]
async fn the_users_script_works_as_it_stands() -> Result<()> {
    let scene = Scene::start("script", |options| options).await?;
    let supplier = scene.platform.supplier("PROV001").await?;
    let spec = Spec { bad: 10, duplicates: 5, ..Spec::new(1, "SCRIPT", 300) };
    let (file, truth) = scene.workbook(&spec)?;
    let path = std::env::var("PATH").context("PATH")?;
    let shim = scene.dir.join("jq");
    std::fs::write(&shim, JQ)?;
    std::fs::set_permissions(&shim, PermissionsExt::from_mode(0o755))?;
    // Behind the real one, if there is one.
    let path = format!("{path}:{}", scene.dir.display());

    let script = tokio::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", SCRIPT])
        .env("PATH", path)
        .env("BASE_URL", supplier.base())
        .env("PROVEEDOR_ID", "PROV001")
        .env("TOKEN", supplier.token().context("a token")?)
        .env("FILE", &file)
        .output();
    let output = tokio::time::timeout(LIMIT, script).await.context("the script ends")??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the script: {}\n{said}", output.status);
    let last: Value = serde_json::from_slice(&output.stdout).context("the last status")?;
    exact(&scene, &last, &truth, "SCRIPT").await
}

/// Fails where the status, the products or the ledger differ from the truth.
async fn exact(scene: &Scene, status: &Value, truth: &Truth, prefix: &str) -> Result<()> {
    let verdict = compare(&scene.platform.catalog().await?, None, status, truth, prefix).await?;
    ensure!(verdict.is_exact(), "{verdict:#?}\n{status:#}");
    Ok(())
}

async fn import(client: &Client, upload: &Upload) -> Result<Value> {
    let task = task_id(&client.upload(upload).await?)?;
    client.finished(&task, LIMIT).await
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

fn refused(answer: &Answer, status: u16, message: &str) -> Result<()> {
    ensure!(answer.status.as_u16() == status, "{message}: {answer}");
    ensure!(answer.content_type == "application/problem+json", "{}", answer.content_type);
    ensure!(answer.body["error"] == message, "{message}: {answer}");
    Ok(())
}

#[tokio::test]
async fn every_document_and_message_is_as_its_clients_know_it() -> Result<()> {
    let scene = Scene::start("documents", |options| options).await?;
    let supplier = scene.platform.supplier("PROV001").await?;
    let other = scene.platform.supplier("PROV002").await?;
    accepted_and_completed(&scene, &supplier).await.context("a workbook")?;
    csv_and_shouting_names(&scene, &supplier).await.context("a CSV file")?;
    updating(&scene, &supplier, &other).await.context("reemplazar_duplicados")?;
    both_spellings(&scene, &supplier).await.context("both spellings")?;
    whole_file_refused(&scene, &supplier).await.context("a file without its columns")?;
    refusals(&scene, &supplier).await.context("refusals")?;
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:?}");
    Ok(())
}

async fn accepted_and_completed(scene: &Scene, supplier: &Client) -> Result<()> {
    let spec = Spec { bad: 10, duplicates: 5, ..Spec::new(2, "DOC", 300) };
    let (file, truth) = scene.workbook(&spec)?;
    let answer = supplier.upload(&Upload::new(&file, "PROV001")).await?;
    let task = task_id(&answer)?;
    let expected = json!({
        "message": "Archivo recibido y encolado para procesamiento",
        "task_id": task,
        "status": "pending",
        "status_url": format!("/api/catalog/bulk-upload/status/{task}"),
        "filename": "DOC.xlsx",
        "proveedor_id": "PROV001",
    });
    ensure!(answer.body == expected, "{answer}");

    let status = supplier.finished(&task, LIMIT).await?;
    let members = BTreeSet::from([
        "task_id",
        "status",
        "filename",
        "proveedor_id",
        "created_at",
        "updated_at",
        "progress",
        "result",
        "error",
        "completed_at",
    ]);
    ensure!(keys(&status) == members, "{status:#}");
    ensure!(status["error"].is_null() && status["filename"] == "DOC.xlsx", "{status:#}");
    let result = &status["result"];
    ensure!(result["mensaje"] == "Carga masiva completada", "{result:#}");
    let sums =
        ["total", "exitosos", "rechazados", "duplicados", "productos_creados", "productos_actualizados"];
    ensure!(keys(&result["resumen"]) == BTreeSet::from(sums), "{result:#}");
    let sum = |name: &str| result["resumen"][name].as_u64().unwrap_or(u64::MAX);
    ensure!(sum("total") == sum("exitosos").saturating_add(sum("rechazados")), "{result:#}");
    ensure!(sum("exitosos") == sum("productos_creados") + sum("productos_actualizados"), "{result:#}");
    ensure!(result["productos_creados"] == json!(truth.created_ids().collect::<Vec<_>>()), "{result:#}");
    ensure!(result["productos_actualizados"] == json!([]), "{result:#}");
    let errors = result["errores"].as_array().context("errores")?;
    ensure!(errors.len() == truth.rejected().count(), "{errors:#?}");
    for (error, row) in errors.iter().zip(truth.rejected()) {
        ensure!(error["fila"] == row.fila, "{error} should be of row {}", row.fila);
        if let Outcome::Rejected { message: Some(message) } = &row.outcome {
            ensure!(error["error"] == *message, "{error} should say {message}");
        }
    }
    exact(scene, &status, &truth, "DOC").await?;

    let row = truth.rows.iter().find(|row| row.outcome == Outcome::Created).context("a product")?;
    let found = supplier.get(&format!("/api/v1/catalog/items?codigo={}", row.codigo)).await?;
    ensure!(found.body["meta"]["total"] == 1, "{found}");
    let product = &found.body["items"][0];
    ensure!(product["id"] == row.id && product["nombre"] == row.nombre, "{product}");
    ensure!(product["proveedorId"] == "PROV001", "{product}");
    let price = product["precioUnitario"].as_f64().context("a price is a number")?;
    ensure!((price * 100.0).round() as i64 == row.precio_cents, "{product}");
    Ok(())
}

async fn csv_and_shouting_names(scene: &Scene, supplier: &Client) -> Result<()> {
    // Three rows: the original's progress ended at 0 with these.
    let spec = Spec { bad: 1, duplicates: 1, ..Spec::new(3, "CSV", 3) };
    let file = scene.dir.join("CATALOGO.CSV");
    let truth = spec.write_csv(&file)?;
    let text = std::fs::read_to_string(&file)?;
    let (header, rows) = text.split_once('\n').context("a header")?;
    std::fs::write(&file, format!("{}\n{rows}", header.to_uppercase()))?;
    let status = import(supplier, &Upload::new(&file, "PROV001")).await?;
    exact(scene, &status, &truth, "CSV").await
}

async fn updating(scene: &Scene, supplier: &Client, other: &Client) -> Result<()> {
    let (file, own) = scene.workbook(&Spec::new(4, "OWN", 40))?;
    exact(scene, &import(supplier, &Upload::new(&file, "PROV001")).await?, &own, "OWN").await?;
    let (file, theirs) = scene.workbook(&Spec::new(5, "THEIRS", 40))?;
    exact(scene, &import(other, &Upload::new(&file, "PROV002")).await?, &theirs, "THEIRS").await?;

    let mut known: Vec<Known> = own.as_known();
    known.truncate(10);
    known.extend(theirs.as_known().into_iter().take(5).map(|known| Known { own: false, ..known }));
    for replace in [false, true] {
        let prefix = if replace { "REPLACED" } else { "KEPT" };
        let spec =
            Spec { collisions: known.len(), known: known.clone(), replace, ..Spec::new(6, prefix, 60) };
        let (file, truth) = scene.workbook(&spec)?;
        let status = import(supplier, &Upload::new(&file, "PROV001").replacing(replace)).await?;
        exact(scene, &status, &truth, prefix).await.context(prefix)?;
        ensure!(status["result"]["resumen"]["duplicados"] == 15, "{status:#}");
        let updated = if replace { 10 } else { 0 };
        ensure!(status["result"]["resumen"]["productos_actualizados"] == updated, "{status:#}");
    }
    // Somebody else's products are as they were.
    exact_products(scene, &theirs).await
}

async fn exact_products(scene: &Scene, truth: &Truth) -> Result<()> {
    let pool = scene.platform.catalog().await?;
    for row in truth.rows.iter().filter(|row| row.outcome == Outcome::Created) {
        let name: String =
            sea_orm::sqlx::query_scalar("SELECT nombre FROM products WHERE id = $1 AND codigo = $2")
                .bind(&row.id)
                .bind(&row.codigo)
                .fetch_one(&pool)
                .await
                .with_context(|| format!("product {} of another supplier", row.id))?;
        ensure!(name == row.nombre, "another supplier's product was changed: {name}");
    }
    Ok(())
}

async fn both_spellings(scene: &Scene, supplier: &Client) -> Result<()> {
    let (file, truth) = scene.workbook(&Spec::new(7, "SPELLED", 10))?;
    let request =
        supplier.upload_request("/api/catalog/items/bulk-upload", &Upload::new(&file, "PROV001")).await?;
    let accepted = answer(request).await?;
    let task = task_id(&accepted)?;
    let status = supplier.finished(&task, LIMIT).await?;
    exact(scene, &status, &truth, "SPELLED").await?;
    let url = accepted.body["status_url"].as_str().context("a status_url")?;
    let short = supplier.get(url).await?;
    ensure!(short.status == 200 && short.body == status, "{short}");
    Ok(())
}

async fn whole_file_refused(scene: &Scene, supplier: &Client) -> Result<()> {
    let file = scene.dir.join("sin-columnas.csv");
    std::fs::write(&file, "id,nombre,codigo\n1,a,b\n")?;
    let status = import(supplier, &Upload::new(&file, "PROV001")).await?;
    ensure!(status["status"] == "failed", "{status:#}");
    let error = status["error"].as_str().context("an error")?;
    ensure!(error.starts_with("Columnas faltantes: "), "{error}");
    for column in ["categoria", "precio_unitario", "certificado_sanitario", "tiempo_entrega_dias"] {
        ensure!(error.contains(column), "{error}");
    }
    ensure!(!error.contains("stock_minimo"), "optional columns may be missing: {error}");
    ensure!(status["failed_at"].is_string() && status["result"].is_null(), "{status:#}");
    ensure!(!keys(&status).contains("completed_at"), "{status:#}");
    Ok(())
}

async fn refusals(scene: &Scene, supplier: &Client) -> Result<()> {
    let good = scene.dir.join("DOC.xlsx");
    let pdf = scene.dir.join("catalogo.pdf");
    std::fs::write(&pdf, "%PDF-1.7")?;
    let answered = supplier.upload(&Upload::new(&pdf, "PROV001")).await?;
    refused(&answered, 400, "Formato de archivo no soportado. Use Excel (.xlsx) o CSV (.csv)")?;

    let path = "/api/v1/catalog/items/bulk-upload";
    let no_file = supplier.request(Method::POST, &format!("{path}?proveedor_id=PROV001"));
    let form = Form::new().part("otro", Part::text("no es el archivo"));
    refused(&answer(no_file.multipart(form)).await?, 400, "No se envió ningún archivo")?;

    // A supplier is its own; who acts for any says for whom.
    let operator = scene.platform.user("operator", None).await?;
    let upload = async |client: &Client, query: &str| {
        let form = Form::new().part("file", Part::bytes(std::fs::read(&good)?).file_name("a.xlsx"));
        answer(client.request(Method::POST, &format!("{path}{query}")).multipart(form)).await
    };
    for query in ["", "?proveedor_id=", "?reemplazar_duplicados=true"] {
        refused(&upload(&operator, query).await?, 400, "proveedor_id es requerido")?;
    }
    refused(&upload(supplier, "?proveedor_id=").await?, 400, "proveedor_id es requerido")?;
    let own = upload(supplier, "").await?;
    ensure!(own.status == 202 && own.body["proveedor_id"] == "PROV001", "{own}");

    for id in ["0190b1a0-0000-7000-8000-000000000000", "no-es-uuid"] {
        let answered = supplier.get(&format!("/api/v1/catalog/bulk-upload/status/{id}")).await?;
        refused(&answered, 404, &format!("Tarea {id} no encontrada"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_repeated_upload_gets_the_first_ones_task() -> Result<()> {
    let scene = Scene::start("idempotency", |options| options).await?;
    let supplier = scene.platform.supplier("PROV001").await?;
    let (file, truth) = scene.workbook(&Spec::new(8, "ONCE", 50))?;
    let (another, _) = scene.workbook(&Spec::new(9, "OTHER", 50))?;

    // At the same time, as a client does whose first request seems to hang.
    let upload = Upload::new(&file, "PROV001").key("k-1");
    let (one, two) = tokio::join!(supplier.upload(&upload), supplier.upload(&upload));
    let (one, two) = (task_id(&one?)?, task_id(&two?)?);
    ensure!(one == two, "{one} and {two} are two tasks");
    let status = supplier.finished(&one, LIMIT).await?;
    exact(&scene, &status, &truth, "ONCE").await?;
    ensure!(task_id(&supplier.upload(&upload).await?)? == one, "also after its end");

    for different in [Upload::new(&another, "PROV001").key("k-1"), upload.clone().replacing(true)] {
        let answered = supplier.upload(&different).await?;
        ensure!(answered.status == 409 && answered.body["code"] == "idempotency_key_reused", "{answered}");
    }
    // A key is its user's: somebody else's is another.
    let colleague = scene.platform.supplier("PROV001").await?;
    let theirs = task_id(&colleague.upload(&upload).await?)?;
    ensure!(theirs != one, "two users share a key");
    colleague.finished(&theirs, LIMIT).await?;

    // What was repeated or refused left no file behind.
    let objects = objects(&scene).await?;
    ensure!(objects == 2, "{objects} objects for two tasks");
    let bad_key =
        answer(supplier.upload_request(stack::platform::UPLOAD, &upload_with_bad_key(&file)).await?).await?;
    ensure!(bad_key.status == 400 && bad_key.body["code"] == "invalid_idempotency_key", "{bad_key}");
    Ok(())
}

#[tokio::test]
async fn a_key_answers_what_it_first_answered_also_where_that_was_anothers_task() -> Result<()> {
    // Nobody processes anything: what is uploaded stays under way.
    let scene = Scene::start("joinedkey", |options| options.workers(0)).await?;
    let supplier = scene.platform.supplier("PROV001").await?;
    let (file, _) = scene.workbook(&Spec::new(8, "JOINED", 5))?;
    let (another, _) = scene.workbook(&Spec::new(9, "OTHER", 5))?;
    let upload = Upload::new(&file, "PROV001");
    let first = task_id(&supplier.upload(&upload).await?)?;
    let keyed = upload.clone().key("k-1");
    ensure!(task_id(&supplier.upload(&keyed).await?)? == first, "the same content is under way already");
    let reused = supplier.upload(&Upload::new(&another, "PROV001").key("k-1")).await?;
    ensure!(reused.status == 409 && reused.body["code"] == "idempotency_key_reused", "{reused}");

    // Its task has ended, and the same content would be a new one: not for this key.
    let cancelled = supplier.task(&first, "cancel").await?;
    ensure!(cancelled.status == 202, "{cancelled}");
    let pool = scene.platform.catalog().await?;
    sqlx::query(
        "update jobs set state = 'failed', error = 'ended', finished_at = now() where id = $1::uuid and owner is null",
    )
    .bind(&first)
    .execute(&pool)
    .await?;
    ensure!(task_id(&supplier.upload(&keyed).await?)? == first, "the key has another answer now");
    ensure!(task_id(&supplier.upload(&upload).await?)? != first, "without a key it is a new request");
    Ok(())
}

fn upload_with_bad_key(file: &Path) -> Upload {
    Upload::new(file, "PROV001").key("with space")
}

async fn objects(scene: &Scene) -> Result<usize> {
    let place = &scene.platform.place;
    let url = format!("{}/{}?list-type=2", place.servers().aws_endpoint, place.bucket());
    let listed = stack::http().get(url).send().await?.error_for_status()?.text().await?;
    Ok(listed.matches("<Key>").count())
}

#[tokio::test]
async fn slow_uploads_keep_nobody_out() -> Result<()> {
    const PIECE: &[u8] = &[b'x'; 256 << 10];
    const PIECES: usize = 16;
    let scene = Scene::start("slow", |options| options).await?;
    let (read, mut slow) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    // As many as two accounts may have at once, of which each has sent 4 MB of a file and then says nothing.
    for proveedor_id in ["PROV001", "PROV002"] {
        let supplier = scene.platform.supplier(proveedor_id).await?;
        for _ in 0..8 {
            let read = read.clone();
            let pieces = stream::iter(0..PIECES).map(move |_| {
                read.fetch_add(1, Ordering::SeqCst);
                Ok::<_, std::io::Error>(PIECE)
            });
            let body = Body::wrap_stream(pieces.chain(stream::pending()));
            let form = Form::new().part("file", Part::stream(body).file_name("lento.csv"));
            slow.spawn(supplier.request(Method::POST, UPLOAD).multipart(form).send());
        }
    }
    until("all that they send is read", LIMIT, async || read.load(Ordering::SeqCst) == 16 * PIECES).await?;

    let file = scene.dir.join("pronto.csv");
    std::fs::write(&file, vec![b'x'; 3 << 20])?;
    let supplier = scene.platform.supplier("PROV003").await?;
    let upload = Upload::new(&file, "PROV003");
    let quick = tokio::time::timeout(Duration::from_secs(20), supplier.upload(&upload));
    let answer = quick.await.context("a quick upload waits for slow ones")??;
    ensure!(answer.status == 202, "{answer}");
    ensure!(slow.try_join_next().is_none(), "the slow ones are still under way");
    slow.shutdown().await;
    Ok(())
}
