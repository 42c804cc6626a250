mod merging;
mod previews;
mod searches;

use crate::figure::{Figure, percentile};
use crate::numbers;
use anyhow::{Context, Result, ensure};
use sea_orm::sqlx::{self, PgPool};
use serde_json::Value;
use stack::platform::{Answer, Client, Options, Place, Platform};
use stack::process::Service;
use stack::services::SMS_DISPATCH;
use stack::{Namespace, Stack};
use std::path::Path;
use std::time::Instant;

/// Requests a figure.
const REQUESTS: usize = 300;

/// Measures what is wanted, through the API of sms-dispatch, on servers of its own that are as durable as in production and
/// contacts that an import brought in: `ROWS` of them, 1,000,000 unless told.
pub async fn measure(wanted: impl Fn(&str) -> bool) -> Result<()> {
    let dir = stack::home().join(format!("bench/segments-{}", stack::random_hex(3)));
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("numeros.db");
    numbers::database(&file).await?;
    let stack = Stack::start(&dir.join("servers")).await?;
    let arena = Arena::start(&stack, &dir, &file).await?;
    arena.measure(&dir, &wanted).await?;
    arena.end().await?;
    stack.remove().await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// A platform with contacts, and somebody who asks for them at the service's own port.
struct Arena {
    namespace: Namespace,
    platform: Platform,
    pool: PgPool,
    client: Client,
    contacts: usize,
}

impl Arena {
    async fn start(stack: &Stack, dir: &Path, file: &Path) -> Result<Self> {
        let namespace = Namespace::create_on(&stack.servers(), "segments").await?;
        let options = Options::new(dir.join("platform"))
            .workers(0)
            .with(&SMS_DISPATCH, 1)
            .env("ACCESS_TOKEN_SECONDS", 86_400)
            .env("RUST_LOG", "warn");
        let platform = Platform::start(Place::of(&namespace).await?, &options).await?;
        let service = platform.service(&SMS_DISPATCH).api.service();
        let began = Instant::now();
        let path = file.to_str().context("a path")?;
        let (status, said) = service.with_args(&["import", path]).run().await?;
        ensure!(status.success(), "import: {status}\n{said}");
        let pool = platform.contacts().await?;
        let contacts: i64 = sqlx::query_scalar("select count(*) from contacts").fetch_one(&pool).await?;
        eprintln!("{contacts} contacts imported in {:.0} s", began.elapsed().as_secs_f64());
        let client = platform.admin().await?.at(&platform.service(&SMS_DISPATCH).url());
        Ok(Self { namespace, platform, pool, client, contacts: usize::try_from(contacts)? })
    }

    async fn end(self) -> Result<()> {
        self.pool.close().await;
        drop(self.platform);
        self.namespace.cleanup().await
    }

    async fn measure(&self, dir: &Path, wanted: &impl Fn(&str) -> bool) -> Result<()> {
        if wanted("preview_100k") {
            previews::some(self, "preview_100k", 100_000).await?;
        }
        if wanted("preview_1m") {
            previews::some(self, "preview_1m", 1_000_000).await?;
        }
        if wanted("search_name") {
            searches::by_name(self).await?;
        }
        if wanted("search_phone") {
            searches::by_phone(self).await?;
        }
        if wanted("stats") {
            let mut times = Vec::new();
            for _ in 0..REQUESTS {
                let (took, answer) = timed(self.client.get("/api/v1/contacts/stats")).await?;
                ensure!(answer.body["total"] == self.contacts, "{answer}");
                times.push(took);
            }
            self.figure("stats", times).print();
        }
        if wanted("read_during_merge") {
            merging::reads(self, dir).await?;
        }
        Ok(())
    }

    fn service(&self) -> Result<&Service> {
        Ok(self.platform.service(&SMS_DISPATCH).api.service())
    }

    /// The 95th percentile; beside it the middle and the worst.
    fn figure(&self, metric: &str, times: Vec<f64>) -> Figure {
        let (middle, worst) = (percentile(times.clone(), 50.0), percentile(times.clone(), 100.0));
        Figure::new("segments", metric, percentile(times, 95.0), "ms")
            .n(self.contacts)
            .number("p50_ms", middle)
            .number("max_ms", worst)
    }
}

/// An answer that is 200, and how many milliseconds it took.
async fn timed(request: impl Future<Output = Result<Answer>>) -> Result<(f64, Answer)> {
    let began = Instant::now();
    let answer = request.await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    ensure!(answer.status == 200, "{answer}");
    Ok((took, answer))
}

/// The items of a page.
fn items(answer: &Answer) -> &[Value] {
    answer.body["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}
