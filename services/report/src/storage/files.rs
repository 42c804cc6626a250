//! `run_files`: the files of runs. SQL by hand to show them with their runs and with their jobs, whose table is of
//! another crate, and to give many of them their jobs in one statement.

use chassis::db::{NoRelation as Relation, Orm, sql};
use chrono::{DateTime, NaiveDate, Utc};
use jobs::State;
use sea_orm::{
    ActiveValue::Set,
    FromQueryResult, QueryOrder as _, QuerySelect as _, Statement, Value,
    entity::prelude::*,
    sqlx::{self, PgConnection},
};

use crate::domain::params::Params;

/// One a campaign; with campaign 0, the one of a summary.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "run_files")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub campaign_id: i64,
    /// The job that makes it, once the run has begun.
    pub job_id: Option<Uuid>,
    /// Once it is made, as all that follow.
    pub object_key: Option<String>,
    pub rows: Option<i64>,
    pub bytes: Option<i64>,
    pub sha256: Option<String>,
    /// What the campaign's count of changes was in the snapshot that the file shows.
    pub changes: Option<i64>,
    /// How many rows the campaign was to have, in that snapshot; none where nobody has said.
    pub expected: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A file that was made, or is on its way, with its job.
#[derive(Clone, Debug, FromQueryResult)]
pub struct File {
    pub run_id: Uuid,
    /// 0 for a summary's.
    pub campaign_id: i64,
    /// The run's day.
    pub fecha: NaiveDate,
    pub job_id: Option<Uuid>,
    pub object_key: Option<String>,
    pub rows: Option<i64>,
    pub bytes: Option<i64>,
    pub sha256: Option<String>,
    /// How many rows the campaign was to have, in the snapshot that the file shows.
    pub expected: Option<i64>,
    /// Its job's state (`pending` before it has one), rows so far, all rows if that is known, and error.
    pub state: State,
    pub processed: i64,
    pub total: Option<i64>,
    pub error: Option<String>,
    /// When the run's files were deleted for their age.
    pub purged_at: Option<DateTime<Utc>>,
}

impl File {
    /// The key in the bucket, while the file is there.
    pub fn kept(&self) -> Option<&str> {
        self.object_key.as_deref().filter(|_| self.purged_at.is_none())
    }

    /// The name, without the folders.
    pub fn name(&self) -> Option<&str> {
        self.object_key.as_deref().and_then(|key| key.rsplit('/').next())
    }
}

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub object_key: String,
    pub rows: i64,
    pub bytes: i64,
    pub sha256: String,
    /// What the campaign's count of changes was in its snapshot.
    pub changes: i64,
    /// How many rows the campaign was to have, in that snapshot.
    pub expected: Option<i64>,
}

const SELECT: &str = "
    select f.run_id, f.campaign_id, f.job_id, f.object_key, f.rows, f.bytes, f.sha256, f.expected,
           coalesce(j.state, case when r.state in ('failed', 'cancelled') then 'failed' else 'pending' end) as state,
           coalesce(j.processed, 0) as processed, j.total, j.error, r.fecha, r.purged_at
    from run_files f join runs r on r.id = f.run_id left join jobs j on j.id = f.job_id";

fn query(rest: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    sql(format!("{SELECT} {rest}"), values)
}

/// The files of a run.
pub async fn of_run(connection: &impl ConnectionTrait, run: Uuid) -> Result<Vec<File>, DbErr> {
    let files = query("where f.run_id = $1 order by f.campaign_id", [run.into()]);
    File::find_by_statement(files).all(connection).await
}

/// The files of a run after the one of this campaign, `size` of them.
pub async fn page(
    connection: &impl ConnectionTrait,
    run: Uuid,
    after: i64,
    size: i64,
) -> Result<Vec<File>, DbErr> {
    let rest = "where f.run_id = $1 and f.campaign_id > $2 order by f.campaign_id limit $3";
    File::find_by_statement(query(rest, [run.into(), after.into(), size.into()])).all(connection).await
}

/// The file of a campaign in a run.
pub async fn get(connection: &impl ConnectionTrait, run: Uuid, campaign: i64) -> Result<Option<File>, DbErr> {
    let file = query("where f.run_id = $1 and f.campaign_id = $2", [run.into(), campaign.into()]);
    File::find_by_statement(file).one(connection).await
}

/// The file that a job makes.
pub async fn of_job(connection: &impl ConnectionTrait, job: Uuid) -> Result<Option<File>, DbErr> {
    File::find_by_statement(query("where f.job_id = $1", [job.into()])).one(connection).await
}

/// The campaign's file in the run with these parameters that was asked for last.
pub async fn latest(
    connection: &impl ConnectionTrait,
    campaign: i64,
    params: &Params,
) -> Result<Option<File>, DbErr> {
    let rest = "where f.campaign_id = $1 and r.params = $2 order by r.created_at desc, r.id desc limit 1";
    let values = [campaign.into(), params.clone().into()];
    File::find_by_statement(query(rest, values)).one(connection).await
}

/// How many rows the files of a run have reached.
pub async fn processed(executor: impl sqlx::PgExecutor<'_>, run: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(j.processed), 0)::bigint from run_files f join jobs j on j.id = f.job_id
         where f.run_id = $1",
    )
    .bind(run)
    .fetch_one(executor)
    .await
}

/// The campaigns of a run whose files have no job yet.
pub async fn without_job(conn: &mut PgConnection, run: Uuid) -> Result<Vec<i64>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::CampaignId)
        .filter(Column::RunId.eq(run))
        .filter(Column::JobId.is_null())
        .order_by_asc(Column::CampaignId)
        .into_tuple()
        .all(&Orm::on(conn))
        .await
}

/// Notes the jobs of files.
pub async fn give_jobs(
    conn: &mut PgConnection,
    run: Uuid,
    campaigns: &[i64],
    jobs: &[Uuid],
) -> sqlx::Result<()> {
    sqlx::query(
        "update run_files f set job_id = t.job_id from unnest($2::bigint[], $3::uuid[]) as t (campaign_id, job_id)
         where f.run_id = $1 and f.campaign_id = t.campaign_id",
    )
    .bind(run)
    .bind(campaigns)
    .bind(jobs)
    .execute(conn)
    .await
    .map(drop)
}

/// Notes what a job has made, in the transaction that ends it.
pub async fn record(conn: &mut PgConnection, job: Uuid, made: &Made) -> Result<(), DbErr> {
    let made = ActiveModel {
        object_key: Set(Some(made.object_key.clone())),
        rows: Set(Some(made.rows)),
        bytes: Set(Some(made.bytes)),
        sha256: Set(Some(made.sha256.clone())),
        changes: Set(Some(made.changes)),
        expected: Set(made.expected),
        ..Default::default()
    };
    Entity::update_many().set(made).filter(Column::JobId.eq(job)).exec(&Orm::on(conn)).await.map(drop)
}
