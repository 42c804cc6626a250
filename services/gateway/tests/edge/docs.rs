use std::{sync::atomic::Ordering, time::Duration};

use serde_json::Value;
use stack::{Namespace, wait::until};

use crate::{
    harness::{Setup, problem},
    upstream::Upstream,
};

#[tokio::test]
async fn one_document_for_everything_that_survives_a_service() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_docs").await?;
    let port = stack::ports::free()?;
    let gateway = Setup::new(&namespace, &format!("http://127.0.0.1:{port}")).start().await?;
    let document = async || -> anyhow::Result<Value> {
        Ok(gateway.get("/api-docs/openapi.json").send().await?.error_for_status()?.json().await?)
    };
    let alone = document().await?;
    assert!(alone["paths"]["/api/v1/auth/login"].is_object());
    assert!(alone["paths"]["/api/v1/stream"].is_object());
    assert!(alone["paths"]["/api/v1/catalog/items"].is_null());

    let upstream = Upstream::start_on(port)?;
    until("the service that came later is there", Duration::from_secs(20), async || {
        document().await.is_ok_and(|both| both["paths"]["/api/v1/catalog/items"].is_object())
    })
    .await?;
    let both = document().await?;
    assert!(both["paths"]["/metrics"].is_null(), "not to be reached through the gateway");
    assert!(both["components"]["schemas"]["Item"].is_object());
    upstream.stop().await;
    assert!(document().await?["paths"]["/api/v1/catalog/items"].is_object(), "it went and is remembered");

    let page = gateway.get("/docs/").send().await?.error_for_status()?;
    let policy = page.headers()["content-security-policy"].to_str()?.to_owned();
    assert!(policy.contains("script-src 'self';"), "{policy}");
    let html = page.text().await?;
    assert!(html.contains("swagger-ui"), "{html}");
    assert!(!html.contains("<script>"), "the policy allows no inline script");
    let script = gateway.get("/docs/swagger-initializer.js").send().await?.error_for_status()?;
    assert!(script.text().await?.contains("/api-docs/openapi.json"));
    assert_eq!(gateway.get("/docs").send().await?.headers()["location"], "/docs/");
    assert_eq!(gateway.get("/docs/nothing.js").send().await?.status(), 404);
    Ok(())
}

#[tokio::test]
async fn a_service_that_is_down_has_the_others_asked_no_more_often() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_docs_down").await?;
    let upstream = Upstream::start().await?;
    let nobody = format!("http://127.0.0.1:{}", stack::ports::free()?);
    let gateway = Setup::new(&namespace, &upstream.url).with("SMS_DISPATCH_URL", nobody).start().await?;
    for _ in 0..20 {
        gateway.get("/api-docs/openapi.json").send().await?.error_for_status()?;
    }
    let asked = upstream.seen.documents.load(Ordering::SeqCst);
    assert!((1..=2).contains(&asked), "twenty readers had it asked {asked} times");
    Ok(())
}

#[tokio::test]
async fn workers_of_all_services_for_operators() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_workers").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let operator = gateway.user("operator", None).await?;
    let viewer = gateway.user("viewer", None).await?;
    let list = async |token: &str| gateway.get("/api/v1/admin/workers").bearer_auth(token).send().await;

    let by_service = async || -> anyhow::Result<(Vec<String>, Value)> {
        let all: Value = list(&operator).await?.error_for_status()?.json().await?;
        let items = all["items"].as_array().cloned().unwrap_or_default();
        let names = items.iter().filter_map(|item| Some(item["service"].as_str()?.to_owned())).collect();
        Ok((names, all["unavailable"].clone()))
    };
    until("the gateway has announced itself", Duration::from_secs(20), async || {
        by_service().await.is_ok_and(|(names, _)| names == ["gateway", "catalog-upload"])
    })
    .await?;
    assert_eq!(by_service().await?.1, serde_json::json!([]));
    // The gateway's own administration asks for the same roles.
    let letters = gateway.get("/api/v1/admin/gateway/dead-letters").bearer_auth(&operator).send().await?;
    assert_eq!(letters.error_for_status()?.json::<Value>().await?["items"], serde_json::json!([]));
    let letters = gateway.get("/api/v1/admin/gateway/dead-letters").bearer_auth(&viewer).send().await?;
    assert_eq!(problem(letters).await?["status"], 403);
    assert_eq!(problem(list(&viewer).await?).await?["status"], 403);
    upstream.stop().await;
    assert_eq!(by_service().await?, (vec!["gateway".to_owned()], serde_json::json!(["catalog-upload"])));
    Ok(())
}
