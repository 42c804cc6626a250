//! What the release before wrote into its outboxes and queues, this one runs.

use anyhow::{Context as _, Result, ensure};
use e2e::Scene;
use sea_orm::sqlx::{self, PgPool};
use serde_json::json;
use stack::services;
use stack::wait;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A command of the release before: its type, its queue, its only field, and the kind of job that it had run.
type Command = (&'static str, &'static str, &'static str, &'static str);

const CATALOG: &[Command] = &[
    ("lote.catalog.v1.ProcessImport", "catalog.imports", "taskId", "catalog.imports"),
    ("lote.catalog.v1.UndoImport", "catalog.imports", "taskId", "catalog.undos"),
    ("lote.catalog.v1.AnnotateImport", "catalog.reports", "jobId", "catalog.reports"),
];

const REPORT: &[Command] = &[
    ("lote.report.v1.StartRun", "report.runs", "runId", "report.runs"),
    ("lote.report.v1.ExportCampaign", "report.campaigns", "jobId", "report.files"),
];

const SMS: &[Command] = &[
    ("lote.sms.v1.ImportContacts", "sms.imports", "importId", "sms.imports"),
    ("lote.sms.v1.RollBackImport", "sms.imports", "jobId", "sms.rollbacks"),
    ("lote.sms.v1.ValidateContacts", "sms.validations", "validationId", "sms.validations"),
];

/// A worker claims a job as the kind that its row has, or not at all: that it was claimed says that its command was understood.
#[tokio::test]
async fn a_command_of_the_previous_release_has_its_job_claimed() -> Result<()> {
    let scene = Scene::start("previous", |options| {
        options.with(&services::REPORT, 1).with(&services::SMS_DISPATCH, 1)
    })
    .await?;
    let platform = &scene.platform;
    let services = [
        (platform.catalog().await?, CATALOG),
        (platform.reports().await?, REPORT),
        (platform.contacts().await?, SMS),
    ];
    for (pool, commands) in &services {
        for command in *commands {
            let job = send(pool, *command).await.context(command.0)?;
            wait::until(&format!("{} is understood", command.0), LIMIT, || async {
                claims(pool, &job).await.is_ok_and(|epoch| epoch > 0)
            })
            .await?;
        }
        let letters: Vec<(String, String)> =
            sqlx::query_as("SELECT kind, error FROM dead_letters").fetch_all(pool).await?;
        ensure!(letters.is_empty(), "{letters:?}");
    }
    Ok(())
}

/// A job's row and its command in the outbox. Its sweeper finds it nudged often and lately, and leaves it alone for minutes.
async fn send(pool: &PgPool, (name, queue, field, kind): Command) -> Result<String> {
    let job: String = sqlx::query_scalar(
        "INSERT INTO jobs (id, kind, params, created_by, max_attempts, nudged_at, nudges)
         VALUES (gen_random_uuid(), $1, 'null', 'previous', 1, now(), 10) RETURNING id::text",
    )
    .bind(kind)
    .fetch_one(pool)
    .await?;
    let id: String = sqlx::query_scalar("SELECT gen_random_uuid()::text").fetch_one(pool).await?;
    let body = json!({
        "specversion": "1.0",
        "id": id,
        "type": name,
        "source": "/lote/previous",
        "subject": job,
        "time": "2026-07-01T00:00:00Z",
        "datacontenttype": "application/json",
        "data": { field: job },
    });
    sqlx::query("INSERT INTO outbox (destination, message_id, kind, body) VALUES ($1, $2::uuid, $3, $4)")
        .bind(format!("queue:{queue}"))
        .bind(&id)
        .bind(name)
        .bind(body.to_string())
        .execute(pool)
        .await?;
    Ok(job)
}

async fn claims(pool: &PgPool, job: &str) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT epoch FROM jobs WHERE id = $1::uuid").bind(job).fetch_one(pool).await?)
}
