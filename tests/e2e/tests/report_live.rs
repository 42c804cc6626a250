//! The end of a report as those see it who watch the stream.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use e2e::reports::{arrived, finished, slashed, today};
use e2e::stream::{Stream, about};
use serde_json::json;
use stack::platform::{Campaign, Publisher, Settled, Upload, task_id};
use stack::services::REPORT;
use stack::workbook::Spec;

const READY: &str = "lote.report.v1.ReportReady";
const FAILED: &str = "lote.report.v1.ReportFailed";

#[tokio::test]
async fn operators_and_viewers_see_how_a_report_ends_and_suppliers_do_not() -> Result<()> {
    let scene = Scene::start("reportlive", |options| options.with(&REPORT, 1)).await?;
    let (sms, day) = (Publisher::new(&scene.platform.place), today());
    let campaign = Campaign::new("Viva", day);
    sms.started(&campaign, 3).await?;
    // Whichever comes first in the file.
    let rows = [Settled::sent(1, "5 €"), Settled::sent(2, "5 €"), Settled::sent(3, "5 €")];
    sms.settled(&campaign, &rows).await?;
    arrived(&scene, 3).await?;
    let (operator, viewer) =
        (scene.platform.user("operator", None).await?, scene.platform.user("viewer", None).await?);
    let supplier = scene.platform.supplier("PROV001").await?;
    let mut watchers = [Stream::open(&operator, None).await?, Stream::open(&viewer, None).await?];
    let mut suppliers = Stream::open(&supplier, None).await?;

    let asked = operator.post("/api/v1/reports", &json!({ "fecha": slashed(day) })).await?;
    let good = asked.body["id"].as_str().context("an id")?.to_owned();
    let run = finished(&operator, &good).await?;
    let request = json!({ "fecha": slashed(day), "codificacion": "latin-1" });
    let asked = operator.post("/api/v1/reports", &request).await?;
    let bad = asked.body["id"].as_str().context("an id")?.to_owned();
    for stream in &mut watchers {
        let seen = stream.until(READY, &good).await?;
        let ready = &seen.last().context("the event")?.data["data"];
        ensure!(ready["estado"] == "COMPLETADO" && ready["tipo"] == "detalle", "{ready}");
        ensure!(ready["fecha"] == day.to_string() && ready["archivos"] == 1, "{ready}");
        ensure!(ready["filas"] == 3 && ready["bytes"] == run["bytes"], "{ready}, and not {run}");
        let seen = stream.until(FAILED, &bad).await?;
        let failed = &seen.last().context("the event")?.data["data"];
        ensure!(
            failed["estado"] == "ERROR" && failed["archivos"] == 1 && failed["fallidos"] == 1,
            "{failed}"
        );
        let why = "1 de 1 archivos no se generaron: \
                   Fila 1: El carácter '€' (U+20AC) no existe en latin-1; use utf-8";
        ensure!(failed["error"] == why, "{failed}");
    }

    // The supplier's stream lives: it shows an import of theirs, and nothing before that of the reports.
    let (file, _) = scene.workbook(&Spec::new(1, "THEIRS", 20))?;
    let task = task_id(&supplier.upload(&Upload::new(&file, "PROV001")).await?)?;
    let seen = suppliers.until("lote.catalog.v1.ImportCompleted", &task).await?;
    ensure!(about(&seen, &good).is_empty() && about(&seen, &bad).is_empty(), "{seen:?}");
    Ok(())
}
