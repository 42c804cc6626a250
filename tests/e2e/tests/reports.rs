//! Reports as their clients use them: campaigns arrive as events, a day is asked for, its files are in S3.

use anyhow::{Context, Result, ensure};
use chrono::{Days, NaiveDate};
use e2e::reports::{LIMIT, arrived, file, finished, ids, report, scene, slashed, today};
use reqwest::Method;
use sea_orm::sqlx;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stack::platform::{Campaign, Client, Publisher, Settled, answer};
use std::io::Read;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Three campaigns of 700 rows each, completed.
async fn three_campaigns(sms: &Publisher, day: NaiveDate) -> Result<Vec<Campaign>> {
    let mut campaigns = Vec::new();
    for number in 0..3 {
        let campaign = Campaign::new(&format!("Campaña {number}"), day);
        let rows: Vec<_> = (0..700).map(|row| Settled::sent(row, "Hola, \"ñandú\"")).collect();
        // The rows of the second come before their campaign, those of the third twice.
        if number != 1 {
            sms.started(&campaign, rows.len()).await?;
        }
        sms.settled(&campaign, &rows).await?;
        if number == 2 {
            sms.settled(&campaign, &rows).await?;
        }
        sms.completed(&Campaign { state: "COMPLETADA".into(), version: 2, ..campaign.clone() }, rows.len())
            .await?;
        campaigns.push(campaign);
    }
    Ok(campaigns)
}

/// The manifest tells the truth, and the archive has the same files.
async fn manifest_and_archive_have_the_files(operator: &Client, run: &Value) -> Result<()> {
    let run_id = run["id"].as_str().context("an id")?;
    let manifest = operator.get(&format!("/api/v1/reports/{run_id}/manifest")).await?.body;
    let archive = operator.download(&format!("/api/v1/reports/{run_id}/download")).await?;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive))?;
    ensure!(archive.len() == 3 && manifest["archivos"].as_array().is_some_and(|lines| lines.len() == 3));
    for line in manifest["archivos"].as_array().context("lines")? {
        let campaign = line["id_campana"].as_i64().context("a campaign")?;
        let bytes = file(operator, run, campaign).await?;
        ensure!(line["bytes"] == bytes.len() && line["filas"] == 700, "{line}");
        ensure!(line["sha256"] == sha256(&bytes), "{line}");
        let mut packed = Vec::new();
        archive.by_name(line["archivo"].as_str().context("a name")?)?.read_to_end(&mut packed)?;
        ensure!(packed == bytes, "{line}");
        // By the link, without a credential.
        let link = operator
            .request(Method::GET, &format!("/api/v1/reports/{run_id}/files/{campaign}/download"))
            .send()
            .await?;
        ensure!(link.bytes().await? == bytes, "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_day_of_campaigns_becomes_files_as_its_clients_know_them() -> Result<()> {
    let (scene, sms, operator) = scene("reportday").await?;
    let day = today();
    let campaigns = three_campaigns(&sms, day).await?;
    arrived(&scene, 2_100).await?;
    let pool = scene.platform.reports().await?;
    stack::wait::until("all campaigns should be complete", LIMIT, async || {
        sqlx::query_scalar::<_, i64>("select count(*) from ta_sms_maestro where estado = 'COMPLETADA'")
            .fetch_one(&pool)
            .await
            .is_ok_and(|count| count == 3)
    })
    .await?;

    // As the web client does: each day that it was told goes, as it stands, into the next questions.
    let days = operator.get("/campania/fechas").await?;
    ensure!(days.body == json!({ "fechas": [slashed(day)], "total": 1 }), "{days}");
    let told = days.body["fechas"][0].as_str().context("a day")?;
    let list = operator.get(&format!("/campania/list/?fecha={told}&page=2&page_size=2")).await?;
    ensure!(list.body["total"] == 3 && list.body["total_pages"] == 2, "{list}");
    ensure!(list.body["items"][0]["nombre"] == "Campaña 2" && list.body["page"] == 2, "{list}");
    ensure!(list.body["items"][0]["fecha"] == day.to_string(), "{list}");

    let begun = operator.get(&format!("/reporte?fecha={told}")).await?;
    ensure!(begun.status == 200, "{begun}");
    ensure!(begun.body["mensaje"] == "Generación de reportes iniciada para 3 campañas", "{begun}");
    ensure!(begun.body["campanias"][0]["estado"] == "PENDIENTE", "{begun}");
    let id = begun.body["campanias"][0]["id"].as_i64().context("an id")?;
    let path = format!("/reporte/status/{id}");
    stack::wait::until("the file should be made", LIMIT, async || {
        operator.get(&path).await.is_ok_and(|answer| answer.body["estado"] == "COMPLETADO")
    })
    .await?;
    let status = operator.get(&path).await?.body;
    ensure!(status["id_campana"] == id && status["fecha"] == day.to_string(), "{status}");
    let path = status["ruta_archivo"].as_str().context("a path")?;
    ensure!(path.contains(&format!("/report_campaign_{id}_")) && path.ends_with(".csv"), "{path}");

    // Asked again, the same run answers: nothing is made twice.
    let runs = operator.get("/api/v1/reports").await?;
    let run = finished(&operator, runs.body["items"][0]["id"].as_str().context("a run")?).await?;
    operator.get(&format!("/reporte?fecha={}", slashed(day))).await?;
    let again = report(&operator, &json!({ "fecha": slashed(day) })).await?;
    ensure!(again["id"] == run["id"] && again["filas"] == 2_100, "{again}");
    ensure!(again["filas_procesadas"] == 2_100, "{again}");

    let text = String::from_utf8(file(&operator, &run, id).await?)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    ensure!(
        text.starts_with(
            "ID Campaña,Nombre Campaña,Fecha Campaña,Teléfono,Mensaje,Fecha Envío,Estado Mensaje,Error\r\n"
        ),
        "{}",
        &text[..200]
    );
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
    ensure!(records.len() == 700, "{} records", records.len());
    ensure!(records[0][0] == id.to_string() && records[0][1].starts_with("Campaña "), "{:?}", records[0]);
    ensure!(&records[0][4] == "Hola, \"ñandú\"" && &records[0][6] == "ENVIADO", "{:?}", records[0]);
    ensure!(records.iter().all(|record| record[3].starts_with("+57300") && record[7].is_empty()));

    manifest_and_archive_have_the_files(&operator, &run).await?;

    // One row changes: the finished run no longer holds.
    let late = Settled::sent(9_999, "tarde");
    sms.settled(&campaigns[0], &[late]).await?;
    arrived(&scene, 2_101).await?;
    let newer = report(&operator, &json!({ "fecha": slashed(day) })).await?;
    ensure!(newer["id"] != run["id"] && newer["filas"] == 2_101, "{newer}");
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    Ok(())
}

#[tokio::test]
async fn formats_encodings_states_and_totals() -> Result<()> {
    let (scene, sms, operator) = scene("reportforms").await?;
    let day = today();
    let campaign = Campaign::new("=Ñ|1", day);
    sms.started(&campaign, 3).await?;
    let failed = Settled {
        state: "MESSAGE_STATE_FAILED",
        sent_at: None,
        error: "-1".into(),
        ..Settled::sent(2, "dos\nlíneas")
    };
    sms.settled(&campaign, &[Settled::sent(1, "a|b\\c"), failed]).await?;
    arrived(&scene, 2).await?;
    let id = ids(&operator, day).await?[0];
    let ask = async |more: Value| {
        let mut request = json!({ "fecha": slashed(day) });
        for (name, value) in more.as_object().into_iter().flatten() {
            request[name] = value.clone();
        }
        report(&operator, &request).await
    };

    let txt = ask(json!({ "formato": "txt", "codificacion": "latin-1" })).await?;
    ensure!(txt["estado"] == "COMPLETADO", "{txt}");
    let bytes = file(&operator, &txt, id).await?;
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    ensure!(text.contains("|'=Ñ\\|1|") && text.contains("|a\\|b\\\\c|"), "{text}");
    ensure!(text.contains("|dos\\nlíneas||FALLIDO|'-1\n"), "{text}");

    let only =
        ask(json!({ "estados": ["FALLIDO"], "comprimir": "gzip", "codificacion": "utf-8-bom" })).await?;
    ensure!(only["filas"] == 1, "{only}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&file(&operator, &only, id).await?[..]).read_to_string(&mut text)?;
    ensure!(
        text.starts_with("\u{feff}ID Campaña,") && text.contains("\"dos\nlíneas\",,FALLIDO,'-1\r\n"),
        "{text}"
    );

    let totals = ask(json!({ "tipo": "resumen", "separador": ";" })).await?;
    let text = String::from_utf8(file(&operator, &totals, 0).await?)?;
    ensure!(text.ends_with(&format!("\r\n{id};'=Ñ|1;{day};EN PROCESO;2;1;0;1\r\n")), "{text}");
    // None of these is the report that clients of the long-known paths ask for.
    let status = operator.get(&format!("/reporte/status/{id}")).await?;
    ensure!(status.status == 404, "{status}");

    // A letter that latin-1 lacks: the file fails, with the reason, and can be asked for otherwise.
    sms.settled(&campaign, &[Settled::sent(3, "5 €")]).await?;
    arrived(&scene, 3).await?;
    let lacks = ask(json!({ "codificacion": "latin-1" })).await?;
    ensure!(lacks["estado"] == "ERROR" && lacks["archivos"]["fallidos"] == 1, "{lacks}");
    let run = lacks["id"].as_str().context("an id")?;
    let files = operator.get(&format!("/api/v1/reports/{run}/files")).await?;
    let error = files.body["items"][0]["error"].as_str().context("an error")?;
    let told = ": El carácter '€' (U+20AC) no existe en latin-1; use utf-8";
    ensure!(error.starts_with("Fila ") && error.ends_with(told), "{error}");
    // In the campaign's own name, no row is without it.
    sms.started(&Campaign { version: 2, name: "5 €".into(), ..campaign.clone() }, 3).await?;
    stack::wait::until("the name should have changed", LIMIT, async || {
        let list = operator.get(&format!("/campania/list?fecha={}", slashed(day))).await;
        list.is_ok_and(|list| list.body["items"][0]["nombre"] == "5 €")
    })
    .await?;
    for tipo in ["detalle", "resumen"] {
        let named = ask(json!({ "codificacion": "latin-1", "tipo": tipo })).await?;
        let named = named["id"].as_str().context("an id")?;
        let files = operator.get(&format!("/api/v1/reports/{named}/files")).await?;
        let told = "Fila 1: El carácter '€' (U+20AC) no existe en latin-1; use utf-8";
        ensure!(files.body["items"][0]["error"] == told, "{tipo}: {files}");
    }
    let retried = operator.post(&format!("/api/v1/reports/{run}/retry"), &json!({})).await?;
    ensure!(retried.status == 202 && retried.body["archivos"]["fallidos"] == 0, "{retried}");
    ensure!(finished(&operator, run).await?["estado"] == "ERROR");
    ensure!(operator.post(&format!("/api/v1/reports/{run}/cancel"), &json!({})).await?.status == 409);
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_is_said_clearly() -> Result<()> {
    let (_scene, _, operator) = scene("reporterrors").await?;
    for bad in ["2025/13/01", "2025-01-27", "", "2025/02/29"] {
        let answer = operator.get(&format!("/reporte?fecha={bad}")).await?;
        ensure!(answer.status == 400, "{bad}: {answer}");
        ensure!(answer.body["detail"] == "Formato de fecha inválido. Use 'YYYY/MM/DD'.", "{bad}: {answer}");
        let posted = operator.post("/api/v1/reports", &json!({ "fecha": bad })).await?;
        ensure!(posted.status == 400 && posted.body["detail"] == answer.body["detail"], "{bad}: {posted}");
    }
    ensure!(operator.get("/reporte").await?.status == 400);
    let listed = operator.get("/campania/list?fecha=2025-01-27").await?;
    ensure!(listed.status == 400, "{listed}");
    ensure!(listed.body["detail"] == "Formato de fecha inválido. Use 'YYYY/MM/DD'.", "{listed}");
    let none = operator.get("/reporte?fecha=2024/02/29").await?;
    ensure!(none.status == 404, "{none}");
    ensure!(none.body["detail"] == "No se encontraron campañas para la fecha 2024-02-29", "{none}");
    for request in [json!({}), json!({ "tipo": "resumen", "forzar": true })] {
        let mut request = request;
        request["fecha"] = json!("2024/02/29");
        let posted = operator.post("/api/v1/reports", &request).await?;
        ensure!(posted.status == 404 && posted.body["detail"] == none.body["detail"], "{posted}");
    }
    for campaign in ["77", "0", "-1", "abc", "99999999999999999999"] {
        let unknown = operator.get(&format!("/reporte/status/{campaign}")).await?;
        ensure!(unknown.status == 404, "{unknown}");
        let told = format!("No se encontró reporte para la campaña {campaign}");
        ensure!(unknown.body["detail"] == told.as_str(), "{unknown}");
    }
    for separator in ["", "¦", "ab", "\n", "\"", "a", "7", "+", "\\"] {
        let request = json!({ "fecha": "2024/02/29", "separador": separator });
        let answer = operator.post("/api/v1/reports", &request).await?;
        ensure!(
            answer.status == 422 && answer.body["code"] == "invalid_separator",
            "{separator:?}: {answer}"
        );
        let told = format!(
            "separador {separator:?} inválido: se espera un solo carácter, como , ; | o tabulador; ni letra, ni dígito, \
             ni comilla, ni barra invertida, ni fin de línea"
        );
        ensure!(answer.body["detail"] == told.as_str(), "{answer}");
    }
    for (name, value) in [("formato", "pdf"), ("codificacion", "utf-16"), ("comprimir", "zip")] {
        let answer = operator.post("/api/v1/reports", &json!({ "fecha": "2024/02/29", name: value })).await?;
        ensure!(
            answer.status == 400 && answer.body["detail"].to_string().contains(value),
            "{name}: {answer}"
        );
    }
    let states =
        operator.post("/api/v1/reports", &json!({ "fecha": "2024/02/29", "estados": ["PERDIDO"] })).await?;
    ensure!(states.status == 400 && states.body["detail"].to_string().contains("PERDIDO"), "{states}");
    let request = json!({ "fecha": "2024/02/29", "tipo": "resumen", "estados": ["ENVIADO"] });
    let states = operator.post("/api/v1/reports", &request).await?;
    ensure!(states.status == 422 && states.body["code"] == "invalid_states", "{states}");
    ensure!(operator.get("/campania/list?page_size=101").await?.status == 400);
    Ok(())
}

#[tokio::test]
async fn a_schedule_reports_yesterday_once() -> Result<()> {
    let (scene, sms, operator) = scene("reportcron").await?;
    let yesterday = today().checked_sub_days(Days::new(1)).context("a day before")?;
    let campaign = Campaign::new("Ayer", yesterday);
    sms.started(&campaign, 1).await?;
    sms.settled(&campaign, &[Settled::sent(1, "hola")]).await?;
    arrived(&scene, 1).await?;
    let path = "/api/v1/reports/schedules";
    let bad = operator.post(path, &json!({ "cron": "cada día" })).await?;
    ensure!(bad.status == 422, "{bad}");
    let made = operator.post(path, &json!({ "cron": "0 6 * * *", "zona_horaria": "UTC" })).await?;
    ensure!(made.status == 201 && made.body["activo"] == true, "{made}");
    let id = made.body["id"].as_str().context("an id")?;
    // Its time comes now, by the calendar of the database.
    let pool = scene.platform.reports().await?;
    sqlx::query("update schedules set next_at = now() - interval '1 second'").execute(&pool).await?;
    let mine = format!("{path}/{id}");
    stack::wait::until("the schedule should have its turn", LIMIT, async || {
        operator.get(&mine).await.is_ok_and(|answer| answer.body["ultimo_reporte"].is_string())
    })
    .await?;
    let schedule = operator.get(&mine).await?.body;
    let run = finished(&operator, schedule["ultimo_reporte"].as_str().context("a run")?).await?;
    ensure!(run["estado"] == "COMPLETADO" && run["fecha"] == yesterday.to_string(), "{run}");
    ensure!(
        operator.get("/api/v1/reports").await?.body["items"].as_array().is_some_and(|all| all.len() == 1)
    );
    let paused =
        operator.put(&format!("{path}/{id}"), &json!({ "cron": "0 7 * * *", "activo": false })).await?;
    ensure!(paused.status == 200 && paused.body["proxima"].is_null(), "{paused}");
    let gone = answer(operator.request(Method::DELETE, &format!("{path}/{id}"))).await?;
    ensure!(gone.status == 204 && operator.get(&format!("{path}/{id}")).await?.status == 404);
    Ok(())
}
