//! What follows an import of updates: a cancel, a workbook with its errors, a file of corrections.

use super::*;

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

/// Between the look at an import and the beginning of its workbook, the import may go on or go.
#[tokio::test]
async fn no_annotated_workbook_begins_of_an_import_that_is_not_as_it_was() -> Result<()> {
    let scene = Scene::start("uplatenotes", |options| options).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let pool = scene.platform.catalog().await?;
    let status = import(&supplier, &Upload::new(&csv(&scene, "one.csv", &rows(3))?, SUPPLIER)).await?;
    let task = status["task_id"].as_str().context("a task")?;
    let mut somebody = pool.begin().await?;
    let hold = "SELECT FROM imports WHERE id = $1::uuid FOR UPDATE";
    sqlx::query(hold).bind(task).execute(&mut *somebody).await?;
    let path = format!("{STATUS}/{task}/annotated.xlsx");
    let meanwhile = async {
        blocked(&pool).await?;
        let purge = "UPDATE imports SET purged_at = now() WHERE id = $1::uuid";
        sqlx::query(purge).bind(task).execute(&mut *somebody).await?;
        somebody.commit().await?;
        anyhow::Ok(())
    };
    tokio::try_join!(supplier.get(&path), meanwhile)?;
    let begun: i64 = sqlx::query_scalar("SELECT count(*) FROM import_reports").fetch_one(&pool).await?;
    ensure!(begun == 0, "a workbook of a file that is gone is being made");
    let told = supplier.get(&path).await?;
    ensure!(told.status == 409 && told.body["code"] == "purged", "{told}");
    Ok(())
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
    healthy(&scene).await?;
    // A plan that outlives what it corrects can't be carried out, and says why.
    let purge = "UPDATE imports SET purged_at = now() WHERE id = $1::uuid";
    sqlx::query(purge).bind(&task).execute(&scene.platform.catalog().await?).await?;
    let late = supplier.task(status["task_id"].as_str().context("a task")?, "apply").await?;
    ensure!(late.status == 409 && late.body["code"] == "purged", "{late}");
    Ok(())
}
