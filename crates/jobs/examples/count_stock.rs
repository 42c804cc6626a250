use async_trait::async_trait;
use contracts::{Queue, Transport};
use jobs::{Job, JobKind, JobRun, Jobs, Outcome, Position, Progress, Work};
use messaging::JobError;
use sea_orm::sqlx::{PgConnection, PgPool};
use serde_json::json;

// services/shop/src/jobs/count_stock.rs: a kind of job and its work.

// In a service, one of `contracts::queues`. Kinds may share a queue.
static STOCK: Queue = Queue { name: "shop.stock", transport: Transport::Amqp, events: &[] };

/// What counts are called, and how they are run.
fn kind() -> JobKind {
    JobKind { concurrency: 2, max_attempts: 5, ..JobKind::new("shop", "shop.counts", &STOCK) }
}

struct CountStock {
    pool: PgPool,
}

#[async_trait]
impl Work for CountStock {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        // Where the attempt before came to.
        let checkpoint = run.job.checkpoint.as_ref();
        let start = checkpoint.and_then(|checkpoint| checkpoint["shelf"].as_i64()).unwrap_or(0);
        for shelf in start..100 {
            let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
            // … count this shelf, in the transaction …
            let done = shelf + 1;
            let progress = Progress { total: Some(100), processed: done, successful: done, failed: 0 };
            let checkpoint = json!({ "shelf": done });
            run.checkpoint(&mut transaction, &checkpoint, Position::new(0, done), &progress).await?;
            transaction.commit().await.map_err(JobError::retry)?;
            run.proceed()?;
        }
        Ok(Outcome::Done(json!({ "shelves": 100 })))
    }

    async fn ended(&self, _conn: &mut PgConnection, _job: &Job) -> anyhow::Result<()> {
        // … publish the service's event, in the transaction that ends the job …
        Ok(())
    }
}

// services/shop/src/app.rs: every kind of job of the service, a line each. `chassis::background` runs them.
fn jobs(pool: PgPool) -> Jobs {
    Jobs::new(pool.clone()).register(kind(), CountStock { pool })
}

// services/shop/src/http/stock.rs: whoever wants one.
async fn count(pool: &PgPool, user: &str) -> anyhow::Result<uuid::Uuid> {
    let job = kind().job(user);
    let id = job.id;
    let mut transaction = pool.begin().await?;
    kind().create(&mut transaction, job, None).await?;
    transaction.commit().await?;
    Ok(id)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pool = PgPool::connect("postgres://shop@localhost/shop").await?;
    println!("job {}", count(&pool, "ana").await?);
    println!("{} queue of jobs", jobs(pool).sweepers(&messaging::Broker::memory()).count());
    Ok(())
}
