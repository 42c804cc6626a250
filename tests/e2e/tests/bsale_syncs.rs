//! Syncs of Bsale through the gateway: the calls that the users' scheduler makes, webhooks, and what dashboards read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use sea_orm::sqlx::{self, MySqlPool};
use serde_json::{Value, json};
use simulators::bsale::{Bsale, Shop, Size};
use stack::Namespace;
use stack::platform::Client;
use stack::services::ETL;
use stack::wait;

const TOKEN: &str = "a token of tests";
const PATIENCE: Duration = Duration::from_secs(120);

struct World {
    scene: Scene,
    bsale: Bsale,
    sales: MySqlPool,
    /// Goes last.
    _sales: Namespace,
}

async fn world(label: &str) -> Result<World> {
    stack::install_tls();
    let bsale = Bsale::start(Shop::new(4, Size { days: 3, ..Size::default() }), TOKEN)?;
    let namespace = Namespace::create("sales").await?;
    let url = namespace.mysql_database().await?;
    let start = bsale.shop(|shop| shop.today) - chrono::Days::new(40);
    let scene = Scene::start(label, |options| {
        options
            .workers(0)
            .with(&ETL, 1)
            // As SQLAlchemy spells it.
            .env("SALES_DATABASE_URL", url.replacen("mysql://", "mysql+pymysql://", 1))
            .env("BSALE_API_URL", bsale.url())
            .env("BSALE_API_TOKEN", TOKEN)
            .env("BSALE_REQUESTS_PER_SECOND", 1_000)
            .env("BSALE_START_DATE", start)
            .env("BSALE_WEBHOOK_SECRET", "geheim")
            .env("BSALE_COMPANY_ID", 4321)
    })
    .await?;
    Ok(World { scene, bsale, sales: MySqlPool::connect(&url).await?, _sales: namespace })
}

async fn ended(admin: &Client, run: &Value) -> Result<Value> {
    for id in run["runs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let path = format!("/api/v1/etl/runs/{id}");
        wait::until("a run should end", PATIENCE, async || {
            let finished = admin.get(&path).await.map(|answer| !answer.body["terminado_en"].is_null());
            finished.unwrap_or_default()
        })
        .await?;
    }
    let id = run["run_id"].as_str().with_context(|| format!("a run: {run}"))?;
    let path = format!("/api/v1/etl/runs/{id}");
    wait::until("the runs should end", PATIENCE, async || {
        admin.get(&path).await.is_ok_and(|answer| answer.body["estado"] != "running" && answer.status == 200)
    })
    .await?;
    Ok(admin.get(&path).await?.body)
}

#[tokio::test]
async fn the_users_calls_answer_at_once_and_as_they_are_known() -> Result<()> {
    let World { scene, bsale, sales, _sales } = world("synccalls").await?;
    let admin = scene.platform.admin().await?;
    let full = admin.post("/etl/run-full-sync", &json!({})).await?;
    ensure!(full.status == 200 && full.body["status"] == "Full sync started", "{full}");
    let runs = ended(&admin, &full.body).await?;
    ensure!(runs["estado"] == "completed", "{runs}");
    let shop = bsale.shop(|shop| shop.clone());
    let count = async |table: &'static str| {
        let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar::<_, i64>(query).fetch_one(&sales).await
    };
    ensure!(count("documentos_venta").await? == shop.documents.len() as i64);
    ensure!(count("variantes").await? == shop.variants.len() as i64);
    ensure!(count("documento_venta").await? > 0 && count("detalle_documento").await? > 0);

    let daily = admin.post("/etl/run-daily-sync", &json!({})).await?;
    ensure!(daily.status == 200 && daily.body["status"] == "Daily sync started", "{daily}");
    ended(&admin, &daily.body).await?;
    for path in ["/etl/sync/clients", "/api/v1/etl/sync/documents?start_date=2026-01-01"] {
        let synced = admin.post(path, &json!({})).await?;
        let entity = if path.contains("clients") { "clients" } else { "documents" };
        ensure!(synced.status == 200 && synced.body["status"] == "sincronización completada", "{synced}");
        ensure!(synced.body["entity"] == entity, "{synced}");
    }
    // Asked for twice, it is one run, and that is where to look.
    let twice = admin.post("/api/v1/etl/refresh/table/clientes", &json!({})).await?;
    let again = admin.post("/api/v1/etl/refresh/table/clientes", &json!({})).await?;
    for begun in [&twice, &again] {
        ensure!(begun.status == 202 && begun.body["status"] == "started", "{begun}");
        ended(&admin, &begun.body).await?;
    }
    for entity in ["products", "all"] {
        let synced = admin.post(&format!("/api/v1/etl/sync/{entity}"), &json!({})).await?;
        ensure!(synced.status == 200 && synced.body["entity"] == entity, "{synced}");
        ended(&admin, &synced.body).await?;
    }
    let reloaded = admin.post("/api/v1/etl/clean-and-reload", &json!({})).await?;
    ensure!(reloaded.status == 200 && reloaded.body["status"] == "success", "{reloaded}");
    ensure!(!reloaded.body["message"].is_null() && !reloaded.body["run_id"].is_null(), "{reloaded}");
    ended(&admin, &reloaded.body).await?;
    let daily = admin.post("/api/v1/scheduler/etl/daily", &json!({})).await?;
    ensure!(daily.status == 200 && daily.body["status"] == "success", "{daily}");
    for name in ["message", "start_time", "end_time", "duration_seconds", "executed_by", "run_id"] {
        ensure!(!daily.body[name].is_null(), "{name}: {daily}");
    }
    ended(&admin, &daily.body).await?;
    let tested = admin.get("/api/v1/scheduler/etl/test?entity=documents&limit=5").await?;
    let there = &tested.body["records"]["documentos_venta"];
    ensure!(tested.body["status"] == "success" && *there == shop.documents.len(), "{tested}");
    let unknown = admin.get("/api/v1/scheduler/etl/test?entity=nada").await?;
    ensure!(unknown.status == 404 && unknown.body["detail"] == "Entidad 'nada' no encontrada.", "{unknown}");
    let unknown = admin.post("/etl/sync/nada", &json!({})).await?;
    ensure!(unknown.status == 404 && unknown.body["detail"] == "Entidad 'nada' no encontrada.", "{unknown}");
    let incremental = admin.post("/api/v1/scheduler/etl/incremental?days=2", &json!({})).await?;
    ensure!(
        incremental.body["status"] == "success" && incremental.body["days_processed"] == 2,
        "{incremental}"
    );
    for name in
        ["message", "start_time", "end_time", "duration_seconds", "executed_by", "start_date", "run_id"]
    {
        ensure!(!incremental.body[name].is_null(), "{name}: {incremental}");
    }
    ended(&admin, &incremental.body).await?;
    let health = admin.get("/api/v1/scheduler/health").await?;
    ensure!(health.body["status"] == "healthy" && health.body["bsale_configured"] == true, "{health}");
    let status = admin.get("/api/v1/etl/status/table/documentos_venta").await?;
    ensure!(
        status.body["status"] == "completed" && status.body["records_count"] == shop.documents.len(),
        "{status}"
    );
    ensure!(!status.body["next_scheduled"].is_null() && status.body["error_message"].is_null(), "{status}");
    let all = admin.get("/api/v1/etl/status").await?;
    ensure!(all.body["status"] == "healthy" && all.body["total_tables"] == 9, "{all}");
    let findings = scene.platform.doctor().await?;
    ensure!(findings.is_empty(), "{findings:#?}");
    Ok(())
}

#[tokio::test]
async fn webhooks_are_fetched_once_and_forged_ones_are_not() -> Result<()> {
    let World { scene, bsale, sales, _sales } = world("syncwebhooks").await?;
    let admin = scene.platform.admin().await?;
    let full = admin.post("/etl/run-full-sync", &json!({})).await?;
    ended(&admin, &full.body).await?;
    let nobody = Client::nobody(&scene.platform.gateway_url());
    let (id, notice) = bsale.shop(|shop| {
        let id = *shop.products.keys().next().expect("a product");
        shop.notices.clear();
        shop.rename(id, "Nombre nuevo");
        (id, shop.notices[0].clone())
    });
    bsale.take_log();
    let forged = |name: &str, value: Value| {
        let mut forged = notice.clone();
        forged[name] = value;
        forged
    };
    for (path, body, status) in [
        ("/webhooks/bsale/guessed", notice.clone(), 404),
        ("/webhooks/bsale/geheim", forged("cpnId", json!(1)), 400),
        ("/webhooks/bsale/geheim", forged("resource", json!("https://evil.example/v2/products/1.json")), 400),
        ("/webhooks/bsale/geheim", forged("resource", json!("/v2/products/../clients/1.json")), 400),
        ("/webhooks/bsale/geheim", json!("nada"), 400),
        ("/webhooks/bsale/geheim", forged("send", json!("x".repeat(70_000))), 413),
    ] {
        let answer = nobody.post(path, &body).await?;
        ensure!(answer.status == status, "{path}: {answer}");
    }
    ensure!(bsale.take_log().is_empty(), "nothing is fetched for a forged one");
    for _ in 0..3 {
        let answer = nobody.post("/webhooks/bsale/geheim", &notice).await?;
        ensure!(answer.status == 202, "{answer}");
    }
    wait::until("the product should have its new name", PATIENCE, async || {
        let name = sqlx::query_scalar::<_, Option<String>>("SELECT nombre FROM productos WHERE id_bsale = ?");
        name.bind(id).fetch_one(&sales).await.is_ok_and(|name| name.as_deref() == Some("Nombre nuevo"))
    })
    .await?;
    let asked = bsale.take_log();
    ensure!(asked.iter().all(|line| line.starts_with(&format!("/v1/products/{id}.json"))), "{asked:?}");
    Ok(())
}
