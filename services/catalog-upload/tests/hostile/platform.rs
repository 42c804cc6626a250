//! The table through the gateway, the API and one worker, against the real servers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catalog_upload::{domain::Column, files::Limits};
use futures::future::join_all;
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::Value;
use stack::services::CATALOG_UPLOAD;
use stack::{
    Namespace,
    platform::{Answer, Client, Options, Place, Platform, UPLOAD, answer, task_id},
};

use crate::{
    case::{Case, Expected},
    names::MAX_UPLOAD,
};

/// For one file, with all the others before it.
const LIMIT: Duration = Duration::from_secs(240);

/// The worker's settings that bound its memory.
const CONCURRENCY: u64 = 2;
const BATCH_ROWS: u64 = 200;
const MB: u64 = 1024 * 1024;

/// What the worker may take over what it took when it had started, bytes.
///
/// Per import: the rows of a batch that is read, one that waits and one that is written, each cell as long as
/// it may be (four bytes a character); the parts that are held whole, parsed to thrice their size; a cell or
/// record with its copy. The table of strings may take `max_shared_strings_bytes`, but no file here whose
/// strings are accepted has any to speak of. The rest, for clients and for what an allocator keeps, doesn't
/// grow with files.
fn allowance(limits: &Limits) -> u64 {
    let row = Column::COUNT * limits.max_cell_chars * 4;
    let import =
        3 * BATCH_ROWS * row as u64 + 3 * limits.max_small_part_bytes + 2 * limits.max_token_bytes as u64;
    CONCURRENCY * import + 64 * MB
}

#[tokio::test]
async fn the_worker_survives_them_all() -> Result<()> {
    // Outlives the processes, which are declared after it.
    let namespace = Namespace::create("hostile").await?;
    let place = Place::of(&namespace).await?;
    let options = Options::new(stack::servers::shared_dir().join("logs").join(&namespace.name))
        .env("IMPORT_CONCURRENCY", CONCURRENCY)
        .env("IMPORT_BATCH_ROWS", BATCH_ROWS)
        .env("UPLOAD_MAX_BYTES", MAX_UPLOAD)
        .env("SQS_WAIT_SECONDS", 2);
    let platform = Platform::start(place, &options).await?;
    let supplier = platform.supplier("PROV001").await?;
    let worker = platform.service(&CATALOG_UPLOAD).workers[0].daemon();
    let before = worker.peak_memory().context("the worker's memory")?;

    let mut wrong = Vec::new();
    let cases = super::all("A")?;
    for case in &cases {
        wrong.extend(problem(case, run(&supplier, case).await));
        ensure!(worker.is_running(), "{} killed the worker:\n{}", case.name, worker.log_tail());
    }
    ensure!(wrong.is_empty(), "one after another, {}:\n{}", wrong.len(), wrong.join("\n"));

    let cases = super::all("B")?;
    let found = join_all(cases.iter().map(|case| run(&supplier, case))).await;
    ensure!(worker.is_running(), "all at once they killed the worker:\n{}", worker.log_tail());
    wrong.extend(cases.iter().zip(found).filter_map(|(case, found)| problem(case, found)));
    ensure!(wrong.is_empty(), "all at once, {}:\n{}", wrong.len(), wrong.join("\n"));

    let peak = worker.peak_memory().context("the worker's memory")?;
    let bound = before + allowance(&Limits::default());
    eprintln!(
        "worker: {} MB at its start, {} MB at its peak, {} MB allowed",
        before / MB,
        peak / MB,
        bound / MB
    );
    ensure!(peak <= bound, "the worker took {} MB of {} MB", peak / MB, bound / MB);
    let findings = platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:?}");
    Ok(())
}

fn problem(case: &Case, found: Result<Expected>) -> Option<String> {
    match found {
        Ok(found) if found == case.expected => None,
        Ok(found) => Some(format!("{}: {found:?}, expected {:?}", case.name, case.expected)),
        Err(error) => Some(format!("{}: {error:#}", case.name)),
    }
}

/// Uploads a file and waits for what becomes of it.
async fn run(client: &Client, case: &Case) -> Result<Expected> {
    let answered = upload(client, case).await?;
    if answered.status.is_client_error() {
        let code = answered.body["code"].as_str().unwrap_or_default();
        let known = match &case.expected {
            Expected::Refused(_, expected) if *expected == code => *expected,
            _ => anyhow::bail!("{answered}"),
        };
        return Ok(Expected::Refused(answered.status.as_u16(), known));
    }
    let status = client.finished(&task_id(&answered)?, LIMIT).await?;
    if status["status"] == "failed" {
        return Ok(Expected::Failed(status["error"].as_str().unwrap_or_default().to_owned()));
    }
    completed(&status)
}

async fn upload(client: &Client, case: &Case) -> Result<Answer> {
    let part = Part::bytes(case.bytes.clone()).file_name(case.filename.clone());
    let request = client.request(Method::POST, UPLOAD).query(&[("proveedor_id", "PROV001")]);
    answer(request.multipart(Form::new().part("file", part))).await
}

fn completed(status: &Value) -> Result<Expected> {
    let result = &status["result"];
    let sum = |name: &str| result["resumen"][name].as_u64().with_context(|| format!("{name}: {status:#}"));
    let created = sum("productos_creados")?;
    let mut rejected = Vec::new();
    for error in result["errores"].as_array().context("errores")? {
        let row = error["fila"].as_u64().context("fila")?;
        rejected.push((row, error["codigo"].as_str().context("codigo")?.to_owned()));
    }
    rejected.sort_unstable();
    let refused = rejected.len() as u64;
    ensure!(sum("exitosos")? == created && sum("productos_actualizados")? == 0, "{status:#}");
    ensure!(sum("rechazados")? == refused && sum("total")? == created + refused, "{status:#}");
    let progress = &status["progress"];
    ensure!(
        progress["total"] == created + refused && progress["processed"] == created + refused,
        "{status:#}"
    );
    ensure!(progress["successful"] == created && progress["failed"] == refused, "{status:#}");
    Ok(Expected::Completed { created, rejected })
}
