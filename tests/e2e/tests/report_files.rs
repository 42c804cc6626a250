//! The files of a report as their readers get them: from the bucket, by links, as one archive, and no longer.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use e2e::reports::{LIMIT, arrived, file, finished, ids, report, scene, slashed, today};
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, LOCATION};
use sea_orm::sqlx;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stack::platform::{Campaign, Client, Publisher, Settled};
use stack::services::REPORT;
use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

/// Tells of campaigns of today with so many rows each, and waits until they are in the tables.
async fn told(scene: &Scene, sms: &Publisher, campaigns: &[Campaign], rows: usize) -> Result<()> {
    for campaign in campaigns {
        sms.started(campaign, rows).await?;
        let rows: Vec<_> = (0..rows).map(|row| Settled::sent(row, "hola")).collect();
        sms.settled(campaign, &rows).await?;
    }
    arrived(scene, i64::try_from(campaigns.len() * rows)?).await
}

/// What boto3 finds in a run's folder: SHA-256 by key.
async fn by_boto3(scene: &Scene, run: &str) -> Result<BTreeMap<String, String>> {
    let place = &scene.platform.place;
    let downloads = scene.dir.join("downloads");
    std::fs::create_dir_all(&downloads)?;
    let output = tokio::process::Command::new(stack::home().join("venv/bin/python"))
        .args(["-c", include_str!("boto3_client.py")])
        .args([&place.servers().aws_endpoint, place.bucket(), &format!("campaign-reports/{run}/")])
        .arg(downloads)
        .envs(stack::aws::CREDENTIALS)
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the manifest says: SHA-256 by key.
async fn manifest(client: &Client, run: &str) -> Result<BTreeMap<String, String>> {
    let manifest = client.get(&format!("/api/v1/reports/{run}/manifest")).await?.body;
    let lines = manifest["archivos"].as_array().context("lines")?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
    lines.iter().map(|line| Ok((text(&line["ruta"])?, text(&line["sha256"])?))).collect()
}

#[tokio::test]
async fn boto3_lists_and_downloads_what_the_manifest_says() -> Result<()> {
    let (scene, sms, operator) = scene("reportboto").await?;
    let day = today();
    told(&scene, &sms, &[Campaign::new("Una", day), Campaign::new("Otra", day)], 700).await?;
    // One that S3 takes in several parts.
    let large = ids(&operator, day).await?[0];
    sqlx::query(
        "insert into ta_sms_detalle (id_maestro, fecha, mensaje_id, version, telefono, mensaje, estado)
         select $1, $2, gen_random_uuid(), 1, '+57300' || n, repeat('ñ', 200), 'ENVIADO' from generate_series(1, 50000) n",
    )
    .bind(large)
    .bind(day)
    .execute(&scene.platform.reports().await?)
    .await?;
    for request in [json!({}), json!({ "comprimir": "gzip", "formato": "txt" })] {
        let mut request = request;
        request["fecha"] = json!(slashed(day));
        let run = report(&operator, &request).await?;
        ensure!(run["estado"] == "COMPLETADO" && run["filas"] == 51_400, "{run}");
        let id = run["id"].as_str().context("an id")?;
        let (found, told) = (by_boto3(&scene, id).await?, manifest(&operator, id).await?);
        ensure!(found.len() == 2 && found == told, "boto3 has {found:?}, the manifest {told:?}");
        let large = file(&operator, &run, large).await?;
        let sha256: String = Sha256::digest(&large).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(found.values().any(|found| *found == sha256), "{sha256} is not among {found:?}");
        ensure!(request["comprimir"] == "gzip" || large.len() > 16 << 20, "{} bytes", large.len());
    }
    Ok(())
}

#[tokio::test]
async fn each_link_is_signed_again_and_archives_of_many_files_are_streamed() -> Result<()> {
    const CAMPAIGNS: usize = 300;
    let (scene, _, operator) = scene("reportmany").await?;
    let (day, pool) = (today(), scene.platform.reports().await?);
    sqlx::query("select ensure_day($1)").bind(day).execute(&pool).await?;
    sqlx::query(
        "with made as (
             insert into ta_sms_maestro (fecha, nombre, estado, descripcion, origen, origen_id, filas, cambios)
             select $1, 'C' || n, 'COMPLETADA', '', 'carga', n::text, 3, 1 from generate_series(1, $2) n returning id)
         insert into ta_sms_detalle (id_maestro, fecha, mensaje_id, version, telefono, mensaje, estado)
         select made.id, $1, gen_random_uuid(), 1, '+57300' || n, 'hola', 'ENVIADO'
         from made cross join generate_series(1, 3) n",
    )
    .bind(day)
    .bind(i32::try_from(CAMPAIGNS)?)
    .execute(&pool)
    .await?;
    let run = report(&operator, &json!({ "fecha": slashed(day) })).await?;
    let id = run["id"].as_str().context("an id")?;

    // As a browser that is told not to follow.
    let api = scene.platform.service(&REPORT).url();
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let campaign = ids(&operator, day).await?[0];
    let mut links = Vec::new();
    for _ in 0..2 {
        let answer = browser
            .get(format!("{api}/api/v1/reports/{id}/files/{campaign}/download"))
            .bearer_auth(operator.token().context("a token")?)
            .send()
            .await?;
        ensure!(answer.status() == 307 && answer.headers()["cache-control"] == "no-store", "{answer:?}");
        let link = answer.headers()[LOCATION].to_str()?.to_owned();
        ensure!(link.contains("X-Amz-Expires=900") && link.contains("X-Amz-Signature="), "{link}");
        let bytes = browser.get(&link).send().await?.error_for_status()?.bytes().await?;
        ensure!(bytes == file(&operator, &run, campaign).await?, "{link}");
        links.push(link);
        // Signatures have seconds.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    ensure!(links[0] != links[1], "the link was not signed again: {links:?}");

    let response = operator.request(Method::GET, &format!("/api/v1/reports/{id}/download")).send().await?;
    ensure!(response.status() == 200 && !response.headers().contains_key(CONTENT_LENGTH), "{response:?}");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(response.bytes().await?))?;
    ensure!(archive.len() == CAMPAIGNS, "{} files", archive.len());
    let told = manifest(&operator, id).await?;
    ensure!(told.len() == CAMPAIGNS, "{} lines", told.len());
    for (key, told) in told {
        let mut bytes = Vec::new();
        let name = key.rsplit('/').next().context("a name")?;
        archive.by_name(name)?.read_to_end(&mut bytes)?;
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(sha256 == told, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_makes_only_what_failed() -> Result<()> {
    let (scene, sms, operator) = scene("reportretry").await?;
    let day = today();
    let (good, bad) = (Campaign::new("Buena", day), Campaign::new("Mala", day));
    told(&scene, &sms, &[good], 5).await?;
    sms.started(&bad, 1).await?;
    let euro = Settled::sent(7, "5 €");
    sms.settled(&bad, std::slice::from_ref(&euro)).await?;
    arrived(&scene, 6).await?;
    let run = report(&operator, &json!({ "fecha": slashed(day), "codificacion": "latin-1" })).await?;
    ensure!(run["estado"] == "ERROR", "{run}");
    ensure!(run["archivos"] == json!({ "total": 2, "completados": 1, "fallidos": 1 }), "{run}");
    let id = run["id"].as_str().context("an id")?;
    let files = async || operator.get(&format!("/api/v1/reports/{id}/files")).await;
    let first = files().await?.body["items"].clone();
    ensure!(first[0]["estado"] == "COMPLETADO" && first[1]["estado"] == "ERROR", "{first}");
    ensure!(
        first[1]["error"] == "Fila 1: El carácter '€' (U+20AC) no existe en latin-1; use utf-8",
        "{first}"
    );
    let told = manifest(&operator, id).await?;
    let zip = operator.get(&format!("/api/v1/reports/{id}/download")).await?;
    ensure!(zip.status == 409 && zip.body["detail"] == "El reporte todavía no está completo", "{zip}");

    sms.settled(&bad, &[Settled { version: 2, text: "5 euros".into(), ..euro }]).await?;
    let pool = scene.platform.reports().await?;
    stack::wait::until("the newer text should be in the table", LIMIT, async || {
        let query = "select count(*) from ta_sms_detalle where mensaje = '5 euros'";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&pool).await.is_ok_and(|count| count == 1)
    })
    .await?;
    let retried = operator.post(&format!("/api/v1/reports/{id}/retry"), &json!({})).await?;
    ensure!(retried.status == 202, "{retried}");
    let run = finished(&operator, id).await?;
    ensure!(run["estado"] == "COMPLETADO" && run["filas"] == 6, "{run}");
    // Not made again, not even the same: the object is the first one.
    let (second, now) = (files().await?.body["items"].clone(), manifest(&operator, id).await?);
    ensure!(second[0] == first[0] && second[1]["estado"] == "COMPLETADO", "{second}");
    ensure!(now.len() == 2 && told.iter().all(|(key, sha256)| now.get(key) == Some(sha256)), "{now:?}");
    let again = operator.post(&format!("/api/v1/reports/{id}/retry"), &json!({})).await?;
    ensure!(again.status == 409, "{again}");
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    Ok(())
}

#[tokio::test]
async fn a_viewer_downloads_summaries_and_no_phones() -> Result<()> {
    let (scene, sms, operator) = scene("reportviewer").await?;
    let viewer = scene.platform.user("viewer", None).await?;
    let day = today();
    told(&scene, &sms, &[Campaign::new("Una", day)], 3).await?;
    for (kind, status) in [("detalle", 403), ("resumen", 200)] {
        let run = report(&operator, &json!({ "fecha": slashed(day), "tipo": kind })).await?;
        let id = run["id"].as_str().context("an id")?;
        let files = viewer.get(&format!("/api/v1/reports/{id}/files")).await?;
        let one = files.body["items"][0]["download_url"].as_str().context("a file")?.to_owned();
        for path in [format!("/api/v1/reports/{id}/download"), format!("{one}?directo=true")] {
            let answer = viewer.request(Method::GET, &path).send().await?;
            ensure!(answer.status() == status, "{kind} {path}: {}", answer.status());
        }
    }
    Ok(())
}

#[tokio::test]
async fn files_past_their_days_are_gone_and_their_readers_are_told() -> Result<()> {
    let (mut scene, sms, operator) = scene("reportold").await?;
    let day = today();
    told(&scene, &sms, &[Campaign::new("Vieja", day)], 5).await?;
    let run = report(&operator, &json!({ "fecha": slashed(day) })).await?;
    let id = run["id"].as_str().context("an id")?.to_owned();
    let campaign = ids(&operator, day).await?[0];
    let pool = scene.platform.reports().await?;
    sqlx::query("update runs set finished_at = finished_at - interval '90 days'").execute(&pool).await?;
    // It looks when it starts, and then once an hour.
    scene.platform.service_mut(&REPORT).workers[0].restart().await?;
    stack::wait::until("the files should be deleted", LIMIT, async || {
        operator
            .get(&format!("/api/v1/reports/{id}"))
            .await
            .is_ok_and(|run| run.body["eliminado_en"].is_string())
    })
    .await?;
    ensure!(by_boto3(&scene, &id).await?.is_empty(), "files are in the bucket");
    let told = format!("Los archivos de este reporte se eliminaron el {} por su antigüedad", today());
    // Nobody is sent where nothing is.
    let status = operator.get(&format!("/reporte/status/{campaign}")).await?.body;
    ensure!(status["estado"] == "COMPLETADO" && status["ruta_archivo"].is_null(), "{status}");
    ensure!(status["eliminado_en"].is_string(), "{status}");
    let manifest = operator.get(&format!("/api/v1/reports/{id}/manifest")).await?.body;
    ensure!(manifest["eliminado_en"].is_string() && manifest["archivos"][0]["ruta"].is_null(), "{manifest}");
    ensure!(manifest["archivos"][0]["sha256"].is_string(), "{manifest}");
    let files = operator.get(&format!("/api/v1/reports/{id}/files")).await?.body;
    ensure!(files["items"][0]["download_url"].is_null(), "{files}");
    for path in [format!("files/{campaign}/download"), "download".to_owned()] {
        let refused = operator.get(&format!("/api/v1/reports/{id}/{path}")).await?;
        ensure!(refused.status == 409 && refused.body["code"] == "purged", "{path}: {refused}");
        ensure!(refused.body["detail"] == told.as_str(), "{path}: {refused}");
    }
    // The rows have more days than the files: asked again, the day is reported again.
    let newer = report(&operator, &json!({ "fecha": slashed(day) })).await?;
    ensure!(newer["id"] != id.as_str() && newer["filas"] == 5, "{newer}");
    ensure!(scene.platform.doctor().await?.is_empty(), "{:?}", scene.platform.doctor().await?);
    Ok(())
}

#[tokio::test]
async fn an_upload_that_is_broken_off_leaves_no_parts() -> Result<()> {
    let (scene, sms, operator) = scene("reportparts").await?;
    let day = today();
    told(&scene, &sms, &[Campaign::new("Larga", day)], 1).await?;
    let (campaign, pool) = (ids(&operator, day).await?[0], scene.platform.reports().await?);
    // Parts are on their way when the last row turns out to have a letter that can't be.
    sqlx::query(
        "insert into ta_sms_detalle (id_maestro, fecha, mensaje_id, version, telefono, mensaje, estado)
         select $1, $2, gen_random_uuid(), 1, '+57300' || n,
                case n when 300000 then '€' else md5(n::text) || md5('a' || n) || md5('b' || n) || md5('c' || n) end, 'ENVIADO'
         from generate_series(1, 300000) n",
    )
    .bind(campaign)
    .bind(day)
    .execute(&pool)
    .await?;
    let place = &scene.platform.place;
    let uploads = format!("{}/{}?uploads", place.servers().aws_endpoint, place.bucket());
    let parts = async || -> Result<usize> {
        let text = stack::http().get(&uploads).send().await?.error_for_status()?.text().await?;
        ensure!(text.contains("ListMultipartUploadsResult"), "{text}");
        Ok(text.matches("<UploadId>").count())
    };
    // Asks for a run whose upload is under way when its id is given. On a machine that is quick about it, or busy elsewhere,
    // it may be over before it is seen: then for another one.
    let uploading = async |request: &Value| -> Result<String> {
        let began = Instant::now();
        loop {
            let asked = operator.post("/api/v1/reports", request).await?;
            let id = asked.body["id"].as_str().context("an id")?.to_owned();
            loop {
                let run = operator.get(&format!("/api/v1/reports/{id}")).await?.body;
                if parts().await? > 0 {
                    return Ok(id);
                }
                if run["estado"] == "COMPLETADO" || run["estado"] == "ERROR" {
                    break;
                }
                ensure!(began.elapsed() < LIMIT, "no upload begins: {run}");
            }
        }
    };
    let id = uploading(&json!({ "fecha": slashed(day), "codificacion": "latin-1", "forzar": true })).await?;
    let run = finished(&operator, &id).await?;
    ensure!(run["estado"] == "ERROR" && parts().await? == 0, "{} uploads, {run}", parts().await?);

    // Nor does one whose end was asked for. It takes seconds to compress, and the request is seen within one.
    let id = uploading(&json!({ "fecha": slashed(day), "comprimir": "gzip", "forzar": true })).await?;
    let cancelled = operator.post(&format!("/api/v1/reports/{id}/cancel"), &json!({})).await?;
    ensure!(cancelled.status == 202, "{cancelled}");
    let run = finished(&operator, &id).await?;
    ensure!(run["estado"] == "ERROR" && run["cancelado"] == true, "{run}");
    ensure!(parts().await? == 0 && by_boto3(&scene, &id).await?.is_empty(), "{} uploads", parts().await?);
    ensure!(run["archivos"] == json!({ "total": 1, "completados": 0, "fallidos": 1 }), "{run}");
    Ok(())
}
