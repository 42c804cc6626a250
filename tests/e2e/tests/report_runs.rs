//! Runs while things change and die under them.

use anyhow::{Context, Result, ensure};
use chrono::NaiveDate;
use e2e::reports::{LIMIT, arrived, file, finished, ids, report, scene, slashed, today};
use sea_orm::sqlx;
use serde_json::json;
use stack::platform::{Campaign, Settled};
use stack::services::REPORT;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

#[tokio::test]
async fn a_file_is_one_snapshot_while_its_rows_change() -> Result<()> {
    let (scene, sms, operator) = scene("reportsnap").await?;
    let day = today();
    let campaign = Campaign::new("Viva", day);
    sms.started(&campaign, 5_000).await?;
    let rows: Vec<_> = (0..5_000).map(|row| Settled::sent(row, "g0")).collect();
    sms.settled(&campaign, &rows).await?;
    arrived(&scene, 5_000).await?;
    let (pool, id) = (scene.platform.reports().await?, ids(&operator, day).await?[0]);
    // Generation after generation, for as long as files are made: each transaction rewrites every row's text and adds a row.
    let enough = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (pool, enough) = (pool.clone(), enough.clone());
        async move {
            for generation in 1.. {
                if enough.load(Ordering::Relaxed) {
                    break;
                }
                let mut transaction = pool.begin().await?;
                sqlx::query("update ta_sms_detalle set mensaje = $1 where id_maestro = $2")
                    .bind(format!("g{generation}"))
                    .bind(id)
                    .execute(&mut *transaction)
                    .await?;
                sqlx::query(
                    "insert into ta_sms_detalle (id_maestro, fecha, mensaje_id, version, telefono, mensaje, estado)
                     values ($2, $3, gen_random_uuid(), 1, '+57', $1, 'ENVIADO')",
                )
                .bind(format!("g{generation}"))
                .bind(id)
                .bind(day)
                .execute(&mut *transaction)
                .await?;
                sqlx::query(
                    "update ta_sms_maestro set filas = filas + 1, cambios = cambios + 1 where id = $1",
                )
                .bind(id)
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await?;
            }
            anyhow::Ok(())
        }
    });
    let (mut generations, began) = (BTreeSet::new(), Instant::now());
    while generations.len() < 4 && !writer.is_finished() {
        ensure!(began.elapsed() < LIMIT, "nothing changed meanwhile: {generations:?}");
        let run = report(&operator, &json!({ "fecha": slashed(day), "forzar": true })).await?;
        ensure!(run["estado"] == "COMPLETADO", "{run}");
        let text = file(&operator, &run, id).await?;
        let mut reader = csv::Reader::from_reader(&text[..]);
        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
        let generation: usize = records[0][4].trim_start_matches('g').parse()?;
        ensure!(records.iter().all(|record| record[4] == records[0][4]), "rows of several generations");
        ensure!(records.len() == 5_000 + generation, "{} rows in generation {generation}", records.len());
        generations.insert(generation);
    }
    enough.store(true, Ordering::Relaxed);
    writer.await??;
    Ok(())
}

#[tokio::test]
async fn a_dead_workers_file_is_made_by_another_and_a_cancel_ends_a_run() -> Result<()> {
    let (mut scene, sms, operator) = scene("reportdead").await?;
    let day = today();
    for number in 0..20 {
        let campaign = Campaign::new(&format!("C{number}"), day);
        sms.started(&campaign, 500).await?;
        let rows: Vec<_> = (0..500).map(|row| Settled::sent(row, "hola")).collect();
        sms.settled(&campaign, &rows).await?;
    }
    arrived(&scene, 10_000).await?;
    let asked = operator.post("/api/v1/reports", &json!({ "fecha": slashed(day) })).await?;
    let id = asked.body["id"].as_str().context("an id")?.to_owned();
    let worker = &mut scene.platform.service_mut(&REPORT).workers[0];
    worker.kill().await?;
    worker.restart().await?;
    let run = finished(&operator, &id).await?;
    ensure!(run["estado"] == "COMPLETADO" && run["filas"] == 10_000, "{run}");
    ensure!(run["archivos"] == json!({ "total": 20, "completados": 20, "fallidos": 0 }), "{run}");

    // Nobody works on this one until its end was asked for.
    let worker = &mut scene.platform.service_mut(&REPORT).workers[0];
    worker.kill().await?;
    let asked = operator.post("/api/v1/reports", &json!({ "fecha": slashed(day), "forzar": true })).await?;
    let id = asked.body["id"].as_str().context("an id")?.to_owned();
    let cancelled = operator.post(&format!("/api/v1/reports/{id}/cancel"), &json!({})).await?;
    ensure!(cancelled.status == 202 && cancelled.body["cancelado"] == true, "{cancelled}");
    worker.restart().await?;
    let run = finished(&operator, &id).await?;
    ensure!(run["estado"] == "ERROR" && run["cancelado"] == true, "{run}");
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    // Thought better of.
    let retried = operator.post(&format!("/api/v1/reports/{id}/retry"), &json!({})).await?;
    ensure!(retried.status == 202, "{retried}");
    let run = finished(&operator, &id).await?;
    ensure!(run["estado"] == "COMPLETADO" && run["cancelado"] == false, "{run}");
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    Ok(())
}

/// Whoever ends a file's job holds it, and then wants the run. A cancel that held the run meanwhile, and wanted the
/// job, would deadlock with it.
#[tokio::test]
async fn a_cancel_waits_for_a_file_that_ends() -> Result<()> {
    let (mut scene, sms, operator) = scene("reportcancel").await?;
    let day = today();
    for number in 0..3 {
        let campaign = Campaign::new(&format!("C{number}"), day);
        sms.started(&campaign, 10).await?;
        let rows: Vec<_> = (0..10).map(|row| Settled::sent(row, "hola")).collect();
        sms.settled(&campaign, &rows).await?;
    }
    arrived(&scene, 30).await?;
    let ask = json!({ "fecha": slashed(day), "forzar": true });
    scene.platform.service_mut(&REPORT).workers[0].kill().await?;
    let id = operator.post("/api/v1/reports", &ask).await?.body["id"].as_str().context("an id")?.to_owned();
    let pool = scene.platform.reports().await?;
    // As if it had begun: each file has a job that a worker is about to end.
    sqlx::query(
        "with j as (insert into jobs (id, kind, params, max_attempts)
                    select gen_random_uuid(), 'report.files', 'null', 3 from run_files returning id),
              numbered as (select id, row_number() over () n from j)
         update run_files f set job_id = numbered.id from numbered,
             (select campaign_id, row_number() over () n from run_files) c
         where c.n = numbered.n and f.campaign_id = c.campaign_id",
    )
    .execute(&pool)
    .await?;
    let mut ending = pool.begin().await?;
    sqlx::query("select from jobs where kind = 'report.files' order by id desc limit 1 for update")
        .execute(&mut *ending)
        .await?;
    let cancelling = tokio::spawn({
        let (operator, path) = (operator.clone(), format!("/api/v1/reports/{id}/cancel"));
        async move { operator.post(&path, &json!({})).await }
    });
    stack::wait::until("the cancel should wait for the job", LIMIT, async || {
        let waiting = "select exists (select from pg_stat_activity
            where wait_event_type = 'Lock' and query like '%FROM jobs%FOR UPDATE%')";
        sqlx::query_scalar::<_, bool>(waiting).fetch_one(&pool).await.is_ok_and(|waits| waits)
    })
    .await?;
    sqlx::query("set local lock_timeout = '5s'").execute(&mut *ending).await?;
    sqlx::query("update runs set version = version + 1").execute(&mut *ending).await?;
    ending.commit().await?;
    let cancelled = cancelling.await??;
    ensure!(cancelled.status == 202 && cancelled.body["cancelado"] == true, "{cancelled}");
    let asked: i64 = sqlx::query_scalar("select count(*) from jobs where cancel_requested_at is not null")
        .fetch_one(&pool)
        .await?;
    ensure!(asked == 4, "the run's job and its files': {asked}");

    // It is dying: who asks now gets another.
    let next = operator.get(&format!("/reporte?fecha={}", slashed(day))).await?;
    ensure!(next.status == 200, "{next}");
    scene.platform.service_mut(&REPORT).workers[0].restart().await?;
    let run = finished(&operator, &id).await?;
    ensure!(run["estado"] == "ERROR" && run["cancelado"] == true, "{run}");
    let left: i64 = sqlx::query_scalar(
        "select count(*) from jobs where state in ('pending', 'running') and cancel_requested_at is not null",
    )
    .fetch_one(&pool)
    .await?;
    ensure!(left == 0, "{left} jobs of the cancelled run have not ended");
    let newest = operator.get("/api/v1/reports?size=1").await?.body["items"][0]["id"].clone();
    let newest = newest.as_str().context("an id")?;
    ensure!(newest != id, "the cancelled run was given to who asked after it");
    let run = finished(&operator, newest).await?;
    ensure!(run["estado"] == "COMPLETADO" && run["filas"] == 30, "{run}");
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    Ok(())
}

const DETAIL_HEAD: &str = "id,id_maestro,telefono,mensaje,fecha_envio,estado,error\n";

/// A file of 12,000 rows of two campaigns, and lines behind them of which all but two are wrong.
fn details(day: NaiveDate) -> (String, String) {
    let mut lines = DETAIL_HEAD.to_owned();
    for row in 1..=12_000 {
        let campaign = 1 + row % 2;
        lines.push_str(&format!("{row},{campaign},+57300{row:07},hola {row},{day}T10:00:00,ENVIADO,\n"));
    }
    // The first of these is in the file already, in another batch.
    let wrong = [
        format!("1,2,+57,otro,{day} 10:00:00,ENVIADO,"),
        format!("2,1,+573000000002,hola 2,{day} 10:00:00,ENVIADO,"),
        "12001,1,+57,roto,,PERDIDO,".to_owned(),
        "12002,1,+57,roto,ayer,ENVIADO,".to_owned(),
        "12003,9,+57,sin campaña,,ENVIADO,".to_owned(),
        "12004,1,+57".to_owned(),
        format!("12005,1,=HYPERLINK(1),fórmula,{day} 10:00:00,ENVIADO,"),
    ]
    .join("\n");
    (lines, wrong)
}

#[tokio::test]
async fn existing_data_is_loaded_once_and_what_makes_no_sense_is_set_aside() -> Result<()> {
    let (scene, sms, operator) = scene("reportload").await?;
    let day = today();
    // A live campaign, whose own ids may be the same as those of the files.
    let live = Campaign::new("Viva", day);
    sms.started(&live, 1).await?;
    sms.settled(&live, &[Settled::sent(1, "hola")]).await?;
    arrived(&scene, 1).await?;
    let (maestro, detalle) = (scene.dir.join("maestro.csv"), scene.dir.join("detalle.csv"));
    let campaigns = format!("1,{day},Uno,CERRADA,\n2,{day},\"Do,s\",,x\n");
    std::fs::write(&maestro, format!("id,fecha,nombre,estado,descripcion\n{campaigns}"))?;
    let (lines, wrong) = details(day);
    std::fs::write(&detalle, format!("{lines}{wrong}\n"))?;
    let api = scene.platform.service(&REPORT).api.service();
    let rejected = scene.dir.join("detalle.csv.rejected.csv");
    let (maestro_path, detalle_path) = (maestro.display().to_string(), detalle.display().to_string());
    let load = api.with_args(&["load", "--maestro", &maestro_path, "--detalle", &detalle_path]);

    for _ in 0..2 {
        let (status, said) = load.run().await?;
        ensure!(status.code() == Some(3), "some are rejected: {said}");
        ensure!(said.contains("12007 rows, 5 of them rejected: see "), "{said}");
        arrived(&scene, 12_002).await?;
        let text = std::fs::read_to_string(&rejected)?;
        let reasons: Vec<_> = text.lines().collect();
        ensure!(
            reasons.len() == 6 && reasons[0] == format!("row,reason,{}", DETAIL_HEAD.trim_end()),
            "{text}"
        );
        for (line, says) in reasons[1..].iter().zip([
            "12001,\"this id is loaded with other values",
            "12003,\"estado \"\"PERDIDO\"\", expected ENVIADO, PENDIENTE or FALLIDO\",12001,1",
            "12004,\"fecha_envio \"\"ayer\"\" is not a time",
            "12005,campaign 9 is not loaded",
            "12006,\"3 columns, expected 7\",12004,1,+57",
        ]) {
            ensure!(line.starts_with(says), "{line}, expected {says}");
        }
    }
    // Few are mistakes, many are another kind of file.
    let strict = api.with_args(&["load", "--detalle", &detalle_path, "--max-rejects", "2"]);
    std::fs::write(&detalle, format!("{DETAIL_HEAD}{wrong}\n"))?;
    let (status, said) = strict.run().await?;
    ensure!(status.code() == Some(1), "{status}: {said}");

    // A day can't change, and what an older file says counts for nothing.
    std::fs::write(&maestro, "id,fecha,nombre,estado,descripcion\n1,2001-01-01,Uno,CERRADA,\n2,")?;
    let (status, said) = api.with_args(&["load", "--maestro", &maestro_path]).run().await?;
    ensure!(status.code() == Some(3) && said.contains("2 of them rejected"), "{said}");
    let text = std::fs::read_to_string(scene.dir.join("maestro.csv.rejected.csv"))?;
    ensure!(text.contains(&format!("the campaign is loaded with {day}")), "{text}");
    std::fs::write(&maestro, format!("id,fecha,nombre,estado,descripcion\n1,{day},Vieja,,\n"))?;
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
    std::fs::File::options().write(true).open(&maestro)?.set_modified(old)?;
    let (status, said) = api.with_args(&["load", "--maestro", &maestro_path]).run().await?;
    ensure!(status.success() && said.contains("1 of them older than what is loaded"), "{said}");

    let run = report(&operator, &json!({ "fecha": slashed(day) })).await?;
    ensure!(run["filas"] == 12_002 && run["archivos"]["completados"] == 3, "{run}");
    let loaded = ids(&operator, day).await?[1];
    let text = String::from_utf8(file(&operator, &run, loaded).await?)?;
    ensure!(
        text.contains(&format!("{loaded},Uno,{day},+573000000002,hola 2,{day} 10:00:00,ENVIADO,\r\n")),
        "{text:.300}"
    );
    // What is no number must not run in a spreadsheet.
    ensure!(text.contains(&format!("{loaded},Uno,{day},'=HYPERLINK(1),fórmula,")), "{text:.300}");
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    Ok(())
}

#[tokio::test]
async fn a_load_that_was_killed_goes_on_where_it_was() -> Result<()> {
    const ROWS: i64 = 100_000;
    let (scene, _, _) = scene("reportkilled").await?;
    let day = today();
    let (maestro, detalle) = (scene.dir.join("maestro.csv"), scene.dir.join("detalle.csv"));
    std::fs::write(&maestro, format!("id,fecha,nombre,estado,descripcion\n1,{day},Uno,CERRADA,\n"))?;
    let mut lines = "id,id_maestro,telefono,mensaje,fecha_envio,estado,error\n".to_owned();
    for row in 1..=ROWS {
        lines.push_str(&format!("{row},1,+57300{row:07},hola {row},{day} 10:00:00,ENVIADO,\n"));
    }
    std::fs::write(&detalle, lines)?;
    let api = scene.platform.service(&REPORT).api.service();
    let (maestro, detalle) = (maestro.display().to_string(), detalle.display().to_string());
    let load = api.with_args(&["load", "--maestro", &maestro, "--detalle", &detalle]);
    let pool = scene.platform.reports().await?;
    let rows = async || {
        let query = "select count(*), count(distinct mensaje_id) from ta_sms_detalle";
        sqlx::query_as::<_, (i64, i64)>(query).fetch_one(&pool).await
    };

    let killed = load.spawn_daemon()?;
    while rows().await?.0 < 10_000 {
        ensure!(killed.is_running(), "it ended by itself: {}", killed.log_tail());
    }
    killed.kill().await?;
    let (before, _) = rows().await?;
    ensure!(before < ROWS && before % 5_000 == 0, "{before} rows when it was killed");
    let (status, said) = load.run().await?;
    ensure!(status.success() && said.contains(&format!("{ROWS} rows")), "{said}");
    ensure!(killed.log_tail().contains(&format!("goes on after {before} rows")), "{}", killed.log_tail());
    ensure!(rows().await? == (ROWS, ROWS), "{:?}", rows().await?);
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    Ok(())
}

#[tokio::test]
async fn who_asks_again_gets_the_run_there_is() -> Result<()> {
    let (mut scene, sms, operator) = scene("reportagain").await?;
    let day = today();
    sms.started(&Campaign::new("Una", day), 0).await?;
    stack::wait::until("the campaign should be there", LIMIT, async || {
        ids(&operator, day).await.is_ok_and(|ids| ids.len() == 1)
    })
    .await?;
    // Nobody works on it: it stays active.
    let worker = &mut scene.platform.service_mut(&REPORT).workers[0];
    worker.kill().await?;
    let ask = async |more: serde_json::Value| {
        let mut request = json!({ "fecha": slashed(day) });
        for (name, value) in more.as_object().into_iter().flatten() {
            request[name] = value.clone();
        }
        let asked = operator.post("/api/v1/reports", &request).await?;
        ensure!(asked.status == 202, "{asked}");
        Ok(asked.body["id"].as_str().context("an id")?.to_owned())
    };
    // At once, too.
    let asked = futures::future::try_join_all((0..8).map(|_| ask(json!({})))).await?;
    ensure!(asked.iter().all(|id| *id == asked[0]), "{asked:?}");
    // The parameters that go without saying are the same said; others are others.
    ensure!(ask(json!({ "formato": "csv", "separador": ",", "estados": [] })).await? == asked[0]);
    let states = ask(json!({ "estados": ["FALLIDO", "ENVIADO"] })).await?;
    ensure!(states != asked[0]);
    ensure!(ask(json!({ "estados": ["ENVIADO", "FALLIDO", "ENVIADO"] })).await? == states);
    let forced = ask(json!({ "forzar": true })).await?;
    ensure!(forced != asked[0] && forced != states);
    let runs = operator.get("/api/v1/reports?size=2").await?.body;
    let rest = runs["siguiente"].as_str().context("a cursor")?;
    let rest = operator.get(&format!("/api/v1/reports?size=2&despues_de={rest}")).await?.body;
    let listed = |page: &serde_json::Value| {
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    ensure!([listed(&runs), listed(&rest)].concat() == [&forced, &states, &asked[0]].map(String::clone));
    ensure!(rest["siguiente"].is_null(), "{rest}");
    worker.restart().await?;
    for id in [&asked[0], &states, &forced] {
        let run = finished(&operator, id).await?;
        ensure!(run["estado"] == "COMPLETADO" && run["filas"] == 0, "{run}");
    }
    ensure!(ask(json!({})).await? == forced, "the newest that still holds answers");
    Ok(())
}
