mod forms;
mod latency;
mod rate;
mod streams;

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder};
use stack::platform::{Client, Options, Place, Platform, Upload, task_id};
use stack::services::CATALOG_UPLOAD;
use stack::workbook::Spec;
use stack::{Namespace, Stack};
use std::time::{Duration, Instant};

/// What everybody reads here: a page of products, which the service answers from one index.
const PAGE: &str = "/api/v1/catalog/items?size=20";
const PRODUCTS: usize = 2_000;

/// Measures what is wanted: what the gateway adds to the service that it stands before.
pub async fn measure(wanted: impl Fn(&str) -> bool) -> Result<()> {
    let dir = stack::home().join(format!("bench/gateway-{}", stack::random_hex(3)));
    let stack = Stack::start(&dir).await?;
    let namespace = Namespace::create_on(&stack.servers(), "gateway").await?;
    let options = Options::new(&dir)
        .env("ACCESS_TOKEN_SECONDS", 86_400)
        .env("RUST_LOG", "warn")
        .env("STREAM_CONNECTIONS", streams::OPEN)
        // One caller stands for many.
        .env("UPLOAD_CONNECTIONS", 1_000)
        .env("CALLER_CONNECTIONS", 10_000);
    let platform = Platform::start(Place::of(&namespace).await?, &options).await?;
    let callers = Callers::of(&platform).await?;
    let file = dir.join("products.xlsx");
    Spec::new(1, "GATE", PRODUCTS).write_xlsx(&file)?;
    let task = task_id(&callers.through.upload(&Upload::new(&file, "PROV-BENCH")).await?)?;
    callers.through.finished(&task, Duration::from_secs(60)).await?;

    if wanted("added") {
        latency::measure(&callers, "added").await?;
    }
    if wanted("throughput") {
        rate::measure(&callers, "throughput").await?;
    }
    if wanted("added_with_streams") || wanted("throughput_with_streams") {
        let open = streams::open(&callers).await?;
        latency::measure(&callers, "added_with_streams").await?;
        rate::measure(&callers, "throughput_with_streams").await?;
        open.end()?;
    }
    if wanted("malformed_forms") {
        forms::measure(&callers, &platform.supplier("PROV-OTHER").await?).await?;
    }
    drop(platform);
    namespace.cleanup().await?;
    stack.remove().await
}

/// One user, who asks through the gateway and the service itself.
struct Callers {
    through: Client,
    direct: Client,
}

impl Callers {
    async fn of(platform: &Platform) -> Result<Self> {
        let through = platform.admin().await?;
        let direct = through.at(&platform.service(&CATALOG_UPLOAD).url());
        Ok(Self { through, direct })
    }
}

/// The milliseconds until the last byte of a page.
async fn page(client: &Client) -> Result<f64> {
    let asked = Instant::now();
    read(client.request(Method::GET, PAGE)).await?;
    Ok(asked.elapsed().as_secs_f64() * 1_000.0)
}

async fn read(request: RequestBuilder) -> Result<()> {
    let body = request.send().await?.error_for_status()?.bytes().await?;
    // The page, and no short answer in its place.
    (body.len() > 2_000).then_some(()).with_context(|| format!("a page of {} bytes", body.len()))
}
