//! `validations`: which contacts' numbers a provider is asked about. SQL by hand where contacts are chosen: a segment is
//! many conditions, and those that are absent must not be in the statement.

use chassis::db::{NoRelation as Relation, Orm, orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ExprTrait as _, QuerySelect as _,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgPool, Postgres, QueryBuilder},
};

use super::{
    newest_after,
    segment_sql::{Look, Over, push_not_suppressed, push_of_cube, push_rest},
};
use crate::domain::segment::Segment;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "validations")]
pub struct Model {
    /// That of its job.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    #[sea_orm(column_type = "JsonBinary")]
    pub filter: Segment,
    pub budget: i64,
    /// Look-ups that were billed, or may have been.
    pub spent: i64,
    pub fresh_since: DateTime<Utc>,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A validation's row.
pub type Validation = Model;

/// Writes a new one.
pub async fn insert(
    conn: &mut PgConnection,
    id: Uuid,
    filter: &Segment,
    budget: i64,
    fresh_since: DateTime<Utc>,
    actor: &str,
) -> Result<(), DbErr> {
    let validation = ActiveModel {
        id: Set(id),
        filter: Set(filter.clone()),
        budget: Set(budget),
        fresh_since: Set(fresh_since),
        created_by: Set(actor.to_owned()),
        ..Default::default()
    };
    Entity::insert(validation).exec_without_returning(&Orm::on(conn)).await.map(drop)
}

/// Counts look-ups that are about to be asked for, or, below zero, some that were not billed after all. Gives what is spent.
pub async fn spend(conn: &mut PgConnection, id: Uuid, lookups: i64) -> Result<i64, DbErr> {
    let spent = Entity::update_many()
        .col_expr(Column::Spent, Expr::col(Column::Spent).add(lookups))
        .filter(Column::Id.eq(id))
        .exec_with_returning(&Orm::on(conn))
        .await?
        .pop();
    spent.map(|validation| validation.spent).ok_or_else(|| DbErr::RecordNotFound(format!("validation {id}")))
}

/// One of them.
pub async fn get(pool: &PgPool, id: Uuid) -> Result<Option<Validation>, DbErr> {
    Entity::find_by_id(id).one(&orm(pool)).await
}

/// The newest, or those before one of them.
pub async fn list(pool: &PgPool, before: Option<Uuid>, limit: i64) -> Result<Vec<Validation>, DbErr> {
    let query = newest_after::<Entity>((Column::CreatedAt, Column::Id), before);
    query.limit(limit.unsigned_abs()).all(&orm(pool)).await
}

/// How many contacts it has to ask about, up to its budget.
pub async fn count(conn: &mut PgConnection, validation: &Validation) -> sqlx::Result<i64> {
    let mut query = QueryBuilder::new("select count(*) from (select from contacts where true");
    push_due(&mut query, validation, Look::Planned);
    query.push(" limit ").push_bind(validation.budget).push(") due");
    query.build_query_scalar().persistent(false).fetch_one(conn).await
}

/// The next contacts to ask about, after the contact `after`, as id and phone.
pub async fn next(
    conn: &mut PgConnection,
    validation: &Validation,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<(i64, String)>> {
    let mut query = QueryBuilder::new("select id, phone_e164 from contacts where id > ");
    query.push_bind(after);
    push_due(&mut query, validation, Look::OneByOne);
    query.push(" order by id limit ").push_bind(limit);
    query.build_query_as().persistent(false).fetch_all(conn).await
}

/// Its filter as of when it was made, without whom the provider was asked about lately.
fn push_due(query: &mut QueryBuilder<Postgres>, validation: &Validation, look: Look) {
    push_of_cube(query, &validation.filter, Over::Contacts);
    push_rest(query, &validation.filter, validation.created_at);
    push_not_suppressed(query, look);
    query
        .push(" and not exists (select from phone_lookups l where l.phone_e164 = contacts.phone_e164 and l.looked_up_at >= ")
        .push_bind(validation.fresh_since)
        .push(")");
}
