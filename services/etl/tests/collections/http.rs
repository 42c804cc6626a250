//! What callers of the API get.

use actix_web::{App, http::StatusCode, test, web::Data};
use anyhow::Result;
use chassis::auth::{Role, testing::Keys};
use serde_json::{Value, json};

use crate::{World, data::Raw};

async fn world() -> Result<World> {
    let world = World::new("dashboards_http").await?;
    Raw::generate(11, 200, 800).write(&world.pool).await?;
    etl::collections::refresh(&world.pool, chrono::Utc::now()).await?;
    Ok(world)
}

#[actix_web::test]
async fn dashboards_are_served_with_and_without_a_slash_and_say_what_they_are_from() -> Result<()> {
    let (world, keys) = (world().await?, Keys::generate());
    let resources = world.resources()?;
    let verifier = Data::new(keys.verifier());
    let app = App::new()
        .app_data(verifier)
        .app_data(Data::new(resources))
        .configure(|config| (etl::http::API.routes)().configure(config));
    let app = test::init_service(app).await;
    let viewer = keys.token_for(Role::Viewer);
    let get = |path: &str| {
        test::TestRequest::get().uri(path).insert_header(("authorization", format!("Bearer {viewer}")))
    };
    for path in [
        "dashboard",
        "evolution",
        "assignment",
        "operation",
        "productivity",
        "filters",
        "evolution/carteras",
        "evolution/metrics",
    ] {
        for slash in ["", "/"] {
            let path = format!("/api/v1/{path}{slash}");
            let answer = test::call_service(&app, get(&path).to_request()).await;
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
        }
    }
    let body = async |path: &str| -> Value {
        let answer = test::call_service(&app, get(&format!("/api/v1/{path}")).to_request()).await;
        test::read_body_json(answer).await
    };
    let carteras = body("evolution/carteras").await;
    let filters = body("filters").await;
    let values = |name: &str| -> Vec<Value> {
        let choices = filters["data"][name].as_array().cloned().unwrap_or_default();
        assert!(choices.iter().all(|choice| choice["label"].is_string()), "{filters}");
        choices.iter().map(|choice| choice["value"].clone()).collect()
    };
    assert_eq!(filters["status"], "success");
    let (all, known) = (values("cartera"), carteras.as_array().cloned().unwrap_or_default());
    assert!(known.len() > 1 && all[0] == "TODAS" && all[1..] == known, "{filters}");
    assert_eq!(values("servicio"), ["TODOS", "MOVIL", "FIJA"]);
    assert_eq!(values("periodo"), ["ACTUAL", "ANTERIOR", "ULTIMO_MES", "ULTIMOS_3_MESES"]);
    let metrics = body("evolution/metrics").await;
    let recovered = metrics.as_array().into_iter().flatten().find(|metric| metric["metric"] == "recupero");
    let recovered = recovered.expect("a metric");
    assert!(recovered["valueType"] == "currency" && recovered["description"].is_string(), "{metrics}");
    // One question however it is asked: the second is a hit, with the same tag.
    let first = "/api/v1/dashboard?cartera=OTRAS&cartera=TEMPRANA&servicio=TODOS&fecha_corte=2025-06-10";
    let second = "/api/v1/dashboard/?fecha_corte=2025-06-10&cartera=TEMPRANA&cartera=OTRAS&cartera=OTRAS";
    let answer = test::call_service(&app, get(first).to_request()).await;
    let header = |answer: &actix_web::dev::ServiceResponse<_>, name: &str| {
        answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    assert_eq!(header(&answer, "x-cache"), "MISS");
    assert_eq!(header(&answer, "x-data-version"), "1");
    assert!(header(&answer, "x-data-as-of").ends_with('Z'));
    let tag = header(&answer, "etag");
    let body: Value = test::read_body_json(answer).await;
    assert!(body["segmentoData"].as_array().is_some_and(|rows| !rows.is_empty()));
    let answer = test::call_service(&app, get(second).to_request()).await;
    assert_eq!((header(&answer, "x-cache"), header(&answer, "etag")), ("HIT".to_owned(), tag.clone()));
    let answer =
        test::call_service(&app, get(second).insert_header(("if-none-match", tag)).to_request()).await;
    assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
    // A POST asks the same.
    let filters = json!({ "filters": { "cartera": ["OTRAS", "TEMPRANA"] }, "fechaCorte": "2025-06-10", "dimensions": ["cartera"] });
    let post = |body: &Value| {
        test::TestRequest::post()
            .uri("/api/v1/dashboard")
            .insert_header(("authorization", format!("Bearer {viewer}")))
            .set_json(body)
            .to_request()
    };
    let answer = test::call_service(&app, post(&filters)).await;
    assert_eq!(header(&answer, "x-cache"), "HIT");
    assert_eq!(test::read_body_json::<Value, _>(answer).await, body);
    let answer = test::call_service(&app, post(&json!({}))).await;
    assert_eq!(answer.status(), StatusCode::OK, "all of it is optional");
    // Values that are not known are named.
    for (path, named) in [
        ("/api/v1/dashboard?cartera=NADA", "cartera"),
        ("/api/v1/dashboard?fecha_corte=ayer", "fecha_corte"),
        ("/api/v1/dashboard?fecha_corte=2999-01-01", "fecha_corte"),
        ("/api/v1/operation?fecha_analisis=2999-01-01", "fecha_analisis"),
        ("/api/v1/evolution?metrics=cd,nada", "metrics"),
        ("/api/v1/productivity?fecha_inicio=2025-06-02&fecha_fin=2025-06-01", "fecha_inicio"),
    ] {
        let answer = test::call_service(&app, get(path).to_request()).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let problem: Value = test::read_body_json(answer).await;
        assert!(problem["detail"].as_str().unwrap_or_default().starts_with(named), "{problem}");
    }
    for (path, body, named) in [
        ("dashboard", json!({ "fechaCorte": "2999-01-01" }), "fechaCorte"),
        ("evolution", json!({ "fechaFin": "2999-01-01" }), "fechaFin"),
        ("evolution", json!({ "fechaInicio": "2025-06-02", "fechaFin": "2025-06-01" }), "fechaInicio"),
        ("evolution", json!({ "comparisonDimension": "nada" }), "comparisonDimension"),
        ("evolution", json!({ "includeMetrics": ["nada"] }), "includeMetrics"),
    ] {
        let request = test::TestRequest::post().uri(&format!("/api/v1/{path}")).set_json(&body);
        let request = request.insert_header(("authorization", format!("Bearer {viewer}")));
        let answer = test::call_service(&app, request.to_request()).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let problem: Value = test::read_body_json(answer).await;
        assert!(problem["detail"].as_str().unwrap_or_default().starts_with(named), "{problem}");
    }
    Ok(())
}

#[actix_web::test]
async fn the_status_says_what_the_dashboards_show_and_what_holds_them_back() -> Result<()> {
    let (world, keys) = (world().await?, Keys::generate());
    let source = simulators::bigquery::BigQuery::start()?;
    let bigquery = Some(crate::sync::client(&source, None)?);
    let resources = etl::Resources { bigquery, ..world.resources()? };
    let app = App::new()
        .app_data(Data::new(keys.verifier()))
        .app_data(Data::new(resources))
        .configure(|config| (etl::http::API.routes)().configure(config));
    let app = test::init_service(app).await;
    let viewer = format!("Bearer {}", keys.token_for(Role::Viewer));
    let status = async || {
        let request = test::TestRequest::get().uri("/api/v1/etl/status");
        let request = request.insert_header(("authorization", viewer.as_str())).to_request();
        test::read_body_json::<Value, _>(test::call_service(&app, request).await).await
    };
    let told = status().await;
    let shown = &told["dashboards"];
    assert_eq!((&told["status"], &shown["data_version"]), (&json!("healthy"), &json!(1)), "{told}");
    assert!(shown["held_back"].is_null() && shown["data_as_of"].is_string(), "{told}");
    // A backfill ended within a day: no run of a table has failed, and yet nothing newer is shown.
    let reason = "bigquery.pagos#backfill cancelled: ";
    etl::storage::mart_version::hold_back(&world.database.orm, reason).await?;
    let told = status().await;
    assert_eq!((&told["status"], &told["failed_tables"]), (&json!("degraded"), &json!(0)), "{told}");
    assert_eq!(told["dashboards"]["held_back"], reason, "{told}");
    Ok(())
}

#[actix_web::test]
async fn nobody_and_suppliers_see_no_dashboards() -> Result<()> {
    let (world, keys) = (world().await?, Keys::generate());
    let resources = world.resources()?;
    let app = App::new()
        .app_data(Data::new(keys.verifier()))
        .app_data(Data::new(resources))
        .configure(|config| (etl::http::API.routes)().configure(config));
    let app = test::init_service(app).await;
    for path in [
        "dashboard",
        "evolution",
        "assignment",
        "operation",
        "productivity",
        "filters",
        "evolution/carteras",
        "evolution/metrics",
    ] {
        let request = || test::TestRequest::get().uri(&format!("/api/v1/{path}"));
        let answer = test::call_service(&app, request().to_request()).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        let supplier = format!("Bearer {}", keys.token_for(Role::Supplier));
        let answer =
            test::call_service(&app, request().insert_header(("authorization", supplier)).to_request()).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    }
    Ok(())
}
