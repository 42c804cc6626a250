//! What callers of the API get of syncs.

use std::time::Duration;

use actix_web::{App, http::StatusCode, test, web::Data};
use anyhow::{Context as _, Result, ensure};
use chassis::auth::{Role, testing::Keys};
use etl::{
    domain::run::{Mode, RunParams},
    request_run::request_run,
    target,
};
use jobs::State;
use sea_orm::sqlx;
use serde_json::{Value, json};
use simulators::bsale::{Fault, Shop, Size};
use stack::wait;

use crate::world::{Kind, World};

/// An API over a world, and what asks it as somebody of a role.
macro_rules! api {
    ($world:ident, $ask:ident) => {
        let keys = Keys::generate();
        let app = App::new()
            .app_data(Data::new(keys.verifier()))
            .app_data(Data::new($world.resources.clone()))
            .configure(|config| (etl::http::API.routes)().configure(config));
        let app = test::init_service(app).await;
        let $ask = async |role: Role, path: &str, body: Option<Value>| {
            let token = format!("Bearer {}", keys.token_for(role));
            let request = match &body {
                None => test::TestRequest::get().uri(path),
                Some(body) => test::TestRequest::post().uri(path).set_json(body),
            };
            let request = request.insert_header(("authorization", token)).to_request();
            let answer = test::call_service(&app, request).await;
            let status = answer.status();
            (status, test::read_body_json::<Value, _>(answer).await)
        };
    };
}

#[actix_web::test]
async fn a_table_is_as_fresh_as_its_last_run_that_went_well() -> Result<()> {
    let world = World::new("etlfresh", Kind::Postgres, Shop::new(3, Size::default())).await?;
    api!(world, ask);
    let last = async || {
        let (status, body) = ask(Role::Viewer, "/api/v1/etl/status/table/clientes", None).await;
        ensure!(status == StatusCode::OK, "{body}");
        let last = body["last_extracted"].as_str().map(str::parse::<chrono::DateTime<chrono::Utc>>);
        Ok::<_, anyhow::Error>(last.transpose()?)
    };
    ensure!(last().await?.is_none(), "never");
    let job = world.sync("bsale.clientes", Mode::Full).await?;
    ensure!(last().await? == job.finished_at);
    world.bsale.fail_next([Fault::Status(402)]);
    let failed = world.run(&RunParams::new("bsale.clientes", Mode::Full)).await?;
    ensure!(failed.state == State::Failed);
    ensure!(last().await? == job.finished_at, "a run that failed extracts nothing");
    Ok(())
}

#[actix_web::test]
async fn viewers_see_which_field_of_a_record_is_bad_and_not_the_record() -> Result<()> {
    let world = World::new("etlmask", Kind::MariaDb, Shop::new(3, Size::default())).await?;
    world.bsale.shop(|shop| {
        let client = shop.clients.values_mut().next().expect("a client");
        client.first_name = Some("Secreto ".repeat(60));
    });
    world.sync("bsale.clientes", Mode::Full).await?;
    api!(world, ask);
    let path = "/api/v1/etl/quarantine?flujo=bsale.clientes";
    let (_, all) = ask(Role::Operator, path, None).await;
    ensure!(all["items"][0]["registro"].as_str().context("a record")?.contains("Secreto"), "{all}");
    let (_, by_table) = ask(Role::Operator, "/api/v1/etl/quarantine?flujo=clientes", None).await;
    ensure!(by_table == all, "{by_table}");
    let (status, unknown) = ask(Role::Operator, "/api/v1/etl/quarantine?flujo=nada", None).await;
    ensure!(status == StatusCode::NOT_FOUND, "no records of what there is not: {unknown}");
    let (status, masked) = ask(Role::Viewer, path, None).await;
    ensure!(status == StatusCode::OK && !masked.to_string().contains("Secreto"), "{masked}");
    ensure!(masked["items"][0]["regla"] == "client.firstName", "{masked}");
    ensure!(masked["items"][0]["clave"] == "(oculto)", "keys have mails and document numbers: {masked}");
    Ok(())
}

#[actix_web::test]
async fn tables_go_by_the_names_that_the_source_has() -> Result<()> {
    let world = World::new("etlnames", Kind::Postgres, Shop::new(3, Size::default())).await?;
    api!(world, ask);
    let (status, body) = ask(Role::Operator, "/api/v1/etl/refresh/table/pagos", Some(json!({}))).await;
    ensure!(status == StatusCode::ACCEPTED && body["tables_requested"] == json!(["pagos"]), "{body}");
    for name in ["pagos", "raw_pagos", "bigquery.pagos"] {
        let (status, body) = ask(Role::Viewer, &format!("/api/v1/etl/status/table/{name}"), None).await;
        ensure!(status == StatusCode::OK && body["table_name"] == "pagos", "{name}: {body}");
        let (status, body) =
            ask(Role::Operator, &format!("/api/v1/etl/cancel/table/{name}"), Some(json!({}))).await;
        ensure!(status == StatusCode::ACCEPTED, "{name}: {body}");
    }
    let tables = json!({ "tables": ["asignaciones", "stock"], "max_concurrent": 3 });
    let (status, body) = ask(Role::Operator, "/api/v1/etl/refresh/dashboard", Some(tables)).await;
    ensure!(status == StatusCode::ACCEPTED, "{body}");
    ensure!(body["tables_requested"] == json!(["asignaciones", "stock"]), "{body}");
    // All of them, as clients say it that have a field for it.
    let none = json!({ "force": false, "tables": null, "max_concurrent": null });
    let (status, body) = ask(Role::Operator, "/api/v1/etl/refresh/dashboard", Some(none)).await;
    ensure!(status == StatusCode::ACCEPTED, "{body}");
    ensure!(body["tables_requested"].as_array().is_some_and(|all| all.len() == 9), "{body}");
    Ok(())
}

#[actix_web::test]
async fn days_that_the_source_has_nothing_of_are_refused() -> Result<()> {
    let world = World::new("etldays", Kind::Postgres, Shop::new(3, Size::default())).await?;
    api!(world, ask);
    for (from, to) in [
        ("-262143-01-01", None),
        ("0205-01-01", None),
        ("2999-01-01", None),
        ("2026-11-20", Some("+262142-12-31")),
    ] {
        for table in ["documentos_venta", "pagos"] {
            let days = json!({ "tabla": table, "desde": from, "hasta": to });
            let (status, body) = ask(Role::Operator, "/api/v1/etl/backfill", Some(days)).await;
            ensure!(status == StatusCode::UNPROCESSABLE_ENTITY && body["code"] == "invalid_day", "{body}");
        }
    }
    // The users' own call takes any day, and means what there is since then.
    let path = "/api/v1/etl/sync/documents?start_date=-262143-01-01";
    let (status, body) = ask(Role::Operator, path, Some(json!({}))).await;
    ensure!(status == StatusCode::OK, "{body}");
    let runs = body["runs"].as_array().context("runs")?;
    let documents = runs.last().and_then(Value::as_str).context("the documents' run")?.parse()?;
    let job = world.attempt(documents).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    for far in ["-100000-01-01", "+100000-01-01"] {
        for name in ["fechaInicio", "fechaFin"] {
            let filters = json!({ "filters": { name: far } });
            let (status, body) = ask(Role::Viewer, "/api/v1/dashboard", Some(filters)).await;
            ensure!(status == StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        }
    }
    Ok(())
}

#[actix_web::test]
async fn requests_that_name_tables_in_other_orders_do_not_wait_in_a_circle() -> Result<()> {
    let world = World::new("etlorders", Kind::Postgres, Shop::new(3, Size::default())).await?;
    api!(world, ask);
    let pool = &world.resources.database.pool;
    // Both have to wait for one of the tables, so that both have begun.
    let mut other = pool.begin().await?;
    chassis::lock::hold(&mut other, "lane bigquery.pagos").await?;
    let refresh = |tables: Value| {
        ask(Role::Operator, "/api/v1/etl/refresh/dashboard", Some(json!({ "tables": tables })))
    };
    let meanwhile = async {
        wait::until("both should wait", Duration::from_secs(60), async || {
            let waiting = "select count(*) >= 2 from pg_locks join pg_stat_activity using (pid)
                           where locktype = 'advisory' and not granted and usename = current_user";
            sqlx::query_scalar::<_, bool>(waiting).fetch_one(pool).await.unwrap_or(false)
        })
        .await?;
        other.commit().await?;
        Ok::<_, anyhow::Error>(())
    };
    let (one, another, meanwhile) = tokio::join!(
        refresh(json!(["pagos", "trandeuda", "pagos"])),
        refresh(json!(["trandeuda", "pagos"])),
        meanwhile
    );
    meanwhile?;
    ensure!(one.0 == StatusCode::ACCEPTED && another.0 == StatusCode::ACCEPTED, "{one:?} {another:?}");
    // Each in its own order, both the same runs.
    let runs = |body: &Value| body["runs"].as_array().cloned().unwrap_or_default();
    let (one, another) = (runs(&one.1), runs(&another.1));
    ensure!(one.len() == 3 && one[0] == one[2], "{one:?}");
    ensure!(one[0] == another[1] && one[1] == another[0], "{one:?} {another:?}");
    Ok(())
}

#[actix_web::test]
async fn a_reset_waits_for_a_run_that_is_being_asked_for() -> Result<()> {
    let world = World::new("etlresetrace", Kind::Postgres, Shop::new(3, Size::default())).await?;
    world.sync("bsale.clientes", Mode::Full).await?;
    api!(world, ask);
    let pool = &world.resources.database.pool;
    let mut other = pool.begin().await?;
    let params = RunParams::new("bsale.clientes", Mode::Daily);
    request_run(&mut other, &world.resources.settings, &params, "ana", None).await?;
    let meanwhile = async {
        wait::until("the reset should wait", Duration::from_secs(60), async || {
            let waits = "select exists (
                             select from pg_locks join pg_stat_activity using (pid)
                             where locktype = 'advisory' and not granted and usename = current_user)";
            sqlx::query_scalar::<_, bool>(waits).fetch_one(pool).await.unwrap_or(false)
        })
        .await?;
        other.commit().await?;
        Ok::<_, anyhow::Error>(())
    };
    let form = Some(json!({ "tabla": "clientes" }));
    let (answer, meanwhile) = tokio::join!(ask(Role::Operator, "/api/v1/etl/reset", form.clone()), meanwhile);
    meanwhile?;
    ensure!(answer.0 == StatusCode::CONFLICT && answer.1["code"] == "run_active", "{answer:?}");
    let watermark = async || -> Result<_> {
        let lane = target::lane(&world.ours().target.db, "bsale.clientes").await?;
        Ok(lane.context("a lane")?.watermark)
    };
    ensure!(watermark().await?.is_some(), "the run goes by it");
    let run = world.ask(&params).await?.job().id;
    world.attempt(run).await?;
    let (status, body) = ask(Role::Operator, "/api/v1/etl/reset", form).await;
    ensure!(status == StatusCode::OK && watermark().await?.is_none(), "{body}");
    Ok(())
}

#[actix_web::test]
async fn a_backfill_may_be_forced() -> Result<()> {
    let world = World::new("etlforcedays", Kind::Postgres, Shop::new(3, Size::default())).await?;
    api!(world, ask);
    let days = json!({ "tabla": "pagos", "desde": "2025-06-01", "hasta": "2025-06-02", "force": true });
    let (status, body) = ask(Role::Operator, "/api/v1/etl/backfill", Some(days)).await;
    ensure!(status == StatusCode::ACCEPTED, "{body}");
    let run = world.job(body["runs"][0].as_str().context("a run")?.parse()?).await?;
    ensure!(run.params["force"] == true && run.params["mode"] == "backfill", "{run:?}");
    Ok(())
}

#[actix_web::test]
async fn a_backfill_that_failed_goes_on_with_the_day_where_it_was() -> Result<()> {
    let world = World::new("etlresume", Kind::MariaDb, Shop::new(5, Size::default())).await?;
    world.sync_all(Mode::Full).await?;
    api!(world, ask);
    let today = world.bsale.shop(|shop| shop.today);
    let from = today - chrono::Days::new(15);
    let days = RunParams::new("bsale.documentos", Mode::Backfill);
    // A day takes two requests or more: some are read before the account is not paid any more.
    let faults = [Fault::Slow(Duration::from_millis(1)); 20].into_iter().chain([Fault::Status(402)]);
    world.bsale.fail_next(faults);
    let failed = world.run(&RunParams { from: Some(from), to: Some(today), ..days }).await?;
    ensure!(failed.state == State::Failed, "{:?} {:?}", failed.state, failed.error);
    world.bsale.take_log();
    let path = format!("/api/v1/etl/runs/{}/resume", failed.id);
    let (status, body) = ask(Role::Operator, &path, Some(json!({}))).await;
    ensure!(status == StatusCode::ACCEPTED && body["estado"] == "pending", "{body}");
    let job = world.attempt(failed.id).await?;
    ensure!(job.state == State::Completed, "{:?}", job.error);
    let log = world.bsale.take_log();
    let is_read = |day: chrono::NaiveDate| {
        let midnight = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp().to_string();
        log.iter().any(|line| line.contains(&midnight))
    };
    ensure!(!is_read(today) && is_read(from), "{log:?}");
    Ok(())
}

#[actix_web::test]
async fn webhooks_about_one_resource_are_one_fetch_until_it_begins() -> Result<()> {
    let more = [("BSALE_WEBHOOK_SECRET", "geheim")];
    let world = World::with("etlhooktwice", Kind::Postgres, Shop::new(3, Size::default()), &more).await?;
    let app = App::new()
        .app_data(Data::new(world.resources.clone()))
        .configure(|config| (etl::http::API.routes)().configure(config));
    let app = test::init_service(app).await;
    let send = async |resource: &str| {
        let notice = json!({ "cpnId": 1, "resource": resource, "resourceId": "1", "topic": "product",
            "action": "put", "send": 1_700_000_000 });
        let request = test::TestRequest::post().uri("/webhooks/bsale/geheim").set_json(notice);
        test::call_service(&app, request.to_request()).await.status()
    };
    let pool = &world.resources.database.pool;
    let fetches = async || {
        let resources = "select params ->> 'resource' from jobs where kind = 'etl.webhooks' order by 1";
        sqlx::query_scalar::<_, String>(resources).fetch_all(pool).await
    };
    for resource in ["/v2/products/1.json", "/products/1.json", "/v2/products/1.json", "/v2/products/2.json"]
    {
        ensure!(send(resource).await == StatusCode::ACCEPTED, "{resource}");
    }
    ensure!(fetches().await? == ["/products/1.json", "/products/2.json"], "{:?}", fetches().await?);
    // One that has begun may have asked before this change.
    let begun = "update jobs set started_at = now() where params ->> 'resource' = '/products/1.json'";
    sqlx::query(begun).execute(pool).await?;
    for _ in 0..2 {
        ensure!(send("/v2/products/1.json").await == StatusCode::ACCEPTED);
    }
    let three = ["/products/1.json", "/products/1.json", "/products/2.json"];
    ensure!(fetches().await? == three, "{:?}", fetches().await?);
    Ok(())
}
