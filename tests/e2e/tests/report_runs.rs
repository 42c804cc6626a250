//! Runs while things change and die under them.

use anyhow::{Context, Result, ensure};
use e2e::reports::{LIMIT, arrived, file, finished, ids, report, scene, slashed, today};
use sea_orm::sqlx;
use serde_json::json;
use stack::platform::{Campaign, Settled};
use stack::services::REPORT;

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
    // Generation after generation: each transaction rewrites every row's text and adds a row.
    let writer = tokio::spawn({
        let pool = pool.clone();
        async move {
            for generation in 1..60 {
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
    let mut generations = std::collections::BTreeSet::new();
    while !writer.is_finished() {
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
    writer.await??;
    ensure!(generations.len() > 1, "nothing changed meanwhile: {generations:?}");
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

#[tokio::test]
async fn existing_data_is_loaded_once_and_goes_on_where_it_was() -> Result<()> {
    let (scene, sms, operator) = scene("reportload").await?;
    let day = today();
    // A live campaign, whose own ids may be the same as those of the files.
    let live = Campaign::new("Viva", day);
    sms.started(&live, 1).await?;
    sms.settled(&live, &[Settled::sent(1, "hola")]).await?;
    arrived(&scene, 1).await?;
    let (maestro, detalle) = (scene.dir.join("maestro.csv"), scene.dir.join("detalle.csv"));
    std::fs::write(
        &maestro,
        format!("id,fecha,nombre,estado,descripcion\n1,{day},Uno,CERRADA,\n2,{day},\"Do,s\",,x\n"),
    )?;
    let mut lines = "id,id_maestro,telefono,mensaje,fecha_envio,estado,error\n".to_owned();
    for row in 1..=12_000 {
        let campaign = 1 + row % 2;
        lines.push_str(&format!("{row},{campaign},+57300{row:07},hola {row},{day} 10:00:00,ENVIADO,\n"));
    }
    std::fs::write(&detalle, format!("{lines}12001,1,+57,\"roto\",,PERDIDO,\n"))?;
    let api = scene.platform.service(&REPORT).api.service();
    let (maestro, detalle) = (maestro.display().to_string(), detalle.display().to_string());
    let load = api.with_args(&["load", "--maestro", &maestro, "--detalle", &detalle]);

    for _ in 0..2 {
        let (status, said) = load.run().await?;
        ensure!(!status.success(), "the last line makes no sense: {said}");
        // Whole batches of 5,000 are in.
        arrived(&scene, 10_001).await?;
    }
    let pool = scene.platform.reports().await?;
    let query = "select rows from loads where not finished";
    let (rows,): (i64,) = sqlx::query_as(query).fetch_one(&pool).await?;
    ensure!(rows == 10_000, "the second time went on after {rows} rows");
    std::fs::write(scene.dir.join("detalle.csv"), lines)?;
    for _ in 0..2 {
        let (status, said) = load.run().await?;
        ensure!(status.success(), "{said}");
        arrived(&scene, 12_001).await?;
    }
    let run = report(&operator, &json!({ "fecha": slashed(day) })).await?;
    ensure!(run["filas"] == 12_001 && run["archivos"]["completados"] == 3, "{run}");
    let loaded = ids(&operator, day).await?[1];
    let text = String::from_utf8(file(&operator, &run, loaded).await?)?;
    ensure!(
        text.contains(&format!("{loaded},Uno,{day},+573000000002,hola 2,{day} 10:00:00,ENVIADO,\r\n")),
        "{text:.300}"
    );
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
