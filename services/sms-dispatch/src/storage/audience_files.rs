//! `audience_files`, `audience_rows`, `audience_rejects`: files whose people are a campaign's audience. SQL by hand to copy rows
//! in, to delete them in batches, to page rejects, and where a file's campaigns are looked for by what their plan says.

use chassis::db::{NoRelation as Relation, Orm, orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    QuerySelect as _,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgPool},
};

use super::{newest_after, rejects::Reject};
use crate::{
    domain::{
        audience_file::{Consent, FileAudience, Shape},
        campaign::State,
        source::Mapping,
    },
    import::audience_list::{REJECT_COLUMNS, ROW_COLUMNS},
};

/// Rows that a statement deletes.
const BATCH: i64 = 5_000;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audience_files")]
pub struct Model {
    /// Its job's id too.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What rows and campaigns carry of it; the database gives it.
    pub number: i32,
    pub filename: String,
    pub object_key: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub mapping: Mapping,
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub consent: Option<Consent>,
    /// What its rows hold, and how many there are; none before all are here.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub shape: Option<Shape>,
    /// `rows = accepted + rejected`.
    pub rows: Option<i64>,
    pub accepted: Option<i64>,
    pub rejected: Option<i64>,
    pub loaded_at: Option<DateTime<Utc>>,
    /// Since when no campaign may use it.
    pub purged_at: Option<DateTime<Utc>>,
    /// Whether its rows are gone.
    pub emptied: bool,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A file's row.
pub type AudienceFile = Model;

impl Model {
    /// The file as a campaign uses it; none where it is not loaded, or was deleted.
    pub fn audience(&self) -> Option<FileAudience> {
        let (shape, people) = self.shape.clone().zip(self.accepted)?;
        self.purged_at.is_none().then_some(FileAudience { number: self.number, people, shape })
    }
}

/// A file to be.
#[derive(Clone, Debug)]
pub struct NewFile<'a> {
    pub id: Uuid,
    pub filename: &'a str,
    pub object_key: &'a str,
    pub mapping: &'a Mapping,
    pub consent: Option<&'a Consent>,
    pub created_by: &'a str,
}

/// Writes a file's row, after its job's.
pub async fn insert(conn: &mut PgConnection, new: &NewFile<'_>) -> Result<(), DbErr> {
    let row = ActiveModel {
        id: Set(new.id),
        filename: Set(new.filename.to_owned()),
        object_key: Set(new.object_key.to_owned()),
        mapping: Set(new.mapping.clone()),
        consent: Set(new.consent.cloned()),
        created_by: Set(new.created_by.to_owned()),
        ..Default::default()
    };
    Entity::insert(row).exec_without_returning(&Orm::on(conn)).await.map(drop)
}

/// One of them.
pub async fn get(pool: &PgPool, id: Uuid) -> Result<Option<AudienceFile>, DbErr> {
    Entity::find_by_id(id).one(&orm(pool)).await
}

/// One of them, nobody else's to let go until the transaction ends.
pub async fn lock(conn: &mut PgConnection, id: Uuid) -> Result<Option<AudienceFile>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(&Orm::on(conn)).await
}

/// The newest, or those before one of them.
pub async fn list(pool: &PgPool, before: Option<Uuid>, limit: i64) -> Result<Vec<AudienceFile>, DbErr> {
    let query = newest_after::<Entity>((Column::CreatedAt, Column::Id), before);
    query.limit(limit.unsigned_abs()).all(&orm(pool)).await
}

/// Copies rows in that are encoded as [`ROW_COLUMNS`] and [`REJECT_COLUMNS`] say.
pub async fn copy(conn: &mut PgConnection, people: Vec<u8>, rejects: Vec<u8>) -> sqlx::Result<()> {
    for (table, columns, data) in
        [("audience_rows", ROW_COLUMNS, people), ("audience_rejects", REJECT_COLUMNS, rejects)]
    {
        if !data.is_empty() {
            let mut copy = conn.copy_in_raw(&format!("copy {table} ({columns}) from stdin")).await?;
            copy.send(data).await?;
            copy.finish().await?;
        }
    }
    Ok(())
}

/// Writes that all of a file's rows are here: what they hold, how many are people, and how many are nobody.
pub async fn loaded(
    conn: &mut PgConnection,
    id: Uuid,
    shape: Shape,
    (accepted, rejected): (i64, i64),
) -> Result<(), DbErr> {
    let change = ActiveModel {
        shape: Set(Some(shape)),
        rows: Set(Some(accepted + rejected)),
        accepted: Set(Some(accepted)),
        rejected: Set(Some(rejected)),
        loaded_at: Set(Some(Utc::now())),
        ..Default::default()
    };
    Entity::update_many().set(change).filter(Column::Id.eq(id)).exec(&Orm::on(conn)).await.map(drop)
}

/// From now on no campaign may use a file, and its rows go.
pub async fn let_go(conn: &mut PgConnection, id: Uuid) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::PurgedAt, Expr::current_timestamp())
        .filter(Column::Id.eq(id))
        .filter(Column::PurgedAt.is_null())
        .exec(&Orm::on(conn))
        .await
        .map(drop)
}

/// Which of the campaigns in these states name a file.
pub async fn campaigns_of(conn: &mut PgConnection, id: Uuid, states: &[State]) -> sqlx::Result<Vec<String>> {
    let states: Vec<&str> = states.iter().map(|state| state.name()).collect();
    sqlx::query_scalar(
        "select name from campaigns where plan #>> '{audience,file_id}' = $1 and state = any($2) order by number",
    )
    .bind(id.to_string())
    .bind(states)
    .fetch_all(conn)
    .await
}

/// Files that were uploaded before a moment and may still be used.
pub async fn older_than(pool: &PgPool, before: DateTime<Utc>) -> Result<Vec<AudienceFile>, DbErr> {
    Entity::find()
        .filter(Column::CreatedAt.lt(before))
        .filter(Column::LoadedAt.is_not_null())
        .filter(Column::PurgedAt.is_null())
        .filter(Column::Emptied.eq(false))
        .all(&orm(pool))
        .await
}

/// Deletes the rows of files that were let go, so many at a time. Gives how many. Several processes may do so at once.
pub async fn empty(pool: &PgPool) -> sqlx::Result<u64> {
    let files: Vec<i32> =
        sqlx::query_scalar("select number from audience_files where purged_at is not null and not emptied")
            .fetch_all(pool)
            .await?;
    let mut deleted = 0;
    for file in files {
        for table in ["audience_rows", "audience_rejects"] {
            let statement = format!(
                "delete from {table} where file = $1 and id in (
                     select id from {table} where file = $1 order by id limit {BATCH} for update skip locked)"
            );
            loop {
                let done =
                    sqlx::query(sqlx::AssertSqlSafe(statement.clone())).bind(file).execute(pool).await?;
                deleted += done.rows_affected();
                if done.rows_affected() == 0 {
                    break;
                }
            }
        }
        // What another process holds is looked for again.
        sqlx::query(
            "update audience_files set emptied = true where number = $1
                 and not exists (select from audience_rows where file = $1)
                 and not exists (select from audience_rejects where file = $1)",
        )
        .bind(file)
        .execute(pool)
        .await?;
    }
    Ok(deleted)
}

/// Which of these objects are a file's, and whether that is still to be read.
pub async fn uses_of(conn: &mut PgConnection, keys: &[String]) -> sqlx::Result<Vec<(String, bool)>> {
    sqlx::query_as(
        "select object_key, loaded_at is null and purged_at is null from audience_files where object_key = any($1)",
    )
    .bind(keys)
    .fetch_all(conn)
    .await
}

/// The rejected rows of a file after the row `after`, in the file's order; `limit` at most.
pub async fn rejects(pool: &PgPool, file: i32, after: i64, limit: i64) -> sqlx::Result<Vec<Reject>> {
    let rows: Vec<(i64, Option<String>, String)> = sqlx::query_as(
        "select id, value, reason from audience_rejects where file = $1 and id > $2 order by id limit $3",
    )
    .bind(file)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(source_id, value, reason)| Reject { source_id, value, reason }).collect())
}
