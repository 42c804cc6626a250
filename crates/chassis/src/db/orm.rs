use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, EnumIter,
    ExecResult, ExprTrait as _, FromQueryResult, IdenStatic as _, Iterable as _, QueryFilter as _,
    QueryOrder as _, QueryResult, RelationDef, RelationTrait, RuntimeErr, Select, SqlxPostgresConnector,
    Statement, Value,
    sea_query::{Expr, Values},
    sqlx::{self, AssertSqlSafe, PgConnection, PgPool, Postgres, postgres::PgRow, query::Query},
};
use sea_query_sqlx::SqlxValues;
use tokio::sync::Mutex;
use uuid::Uuid;

/// The `Relation` that SeaORM wants beside every entity, of one whose rows are joined with no other's.
#[derive(Clone, Copy, Debug, EnumIter)]
pub enum NoRelation {}

impl RelationTrait for NoRelation {
    fn def(&self) -> RelationDef {
        match *self {}
    }
}

/// A connection of sqlx on which entities can be called, so that a row, its outbox message and its job commit in one
/// transaction: `runs::Entity::find_by_id(id).one(&Orm::on(conn))`. SeaORM's own transaction keeps its connection to
/// itself. Statements are prepared once per connection, as sqlx's own are.
///
/// Calls wait for each other: a connection does one thing at a time.
pub struct Orm<'c>(Mutex<&'c mut PgConnection>);

impl<'c> Orm<'c> {
    /// On this connection, in the transaction that it is in.
    pub fn on(conn: &'c mut PgConnection) -> Self {
        Self(Mutex::new(conn))
    }
}

#[async_trait]
impl ConnectionTrait for Orm<'_> {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let mut conn = self.0.lock().await;
        prepared(statement).execute(&mut **conn).await.map(ExecResult::from).map_err(not_executed)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let mut conn = self.0.lock().await;
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **conn).await;
        done.map(ExecResult::from).map_err(not_executed)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let mut conn = self.0.lock().await;
        let row = prepared(statement).fetch_optional(&mut **conn).await.map_err(not_queried)?;
        Ok(row.map(QueryResult::from))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut conn = self.0.lock().await;
        let rows = prepared(statement).fetch_all(&mut **conn).await.map_err(not_queried)?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

fn prepared(statement: Statement) -> Query<'static, Postgres, SqlxValues> {
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    // SeaORM's own text: its values are bound, and never a part of it.
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

fn not_executed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))
}

fn not_queried(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
}

/// Entities on any connection of the pool, outside a transaction.
pub fn orm(pool: &PgPool) -> DatabaseConnection {
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone())
}

/// A row of a query that sqlx made, as the struct that is derived for it.
///
/// # Errors
/// A column that is missing, or of another type.
pub fn decode<T: FromQueryResult>(row: PgRow) -> sqlx::Result<T> {
    T::from_query_result(&row.into(), "").map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The rows of `query` by a time and an id, the newest first; only those that come after the row of `before`, where a page
/// ended.
pub fn newest_first<E: EntityTrait>(
    query: Select<E>,
    (time, id): (E::Column, E::Column),
    before: Option<(DateTime<Utc>, Uuid)>,
) -> Select<E> {
    let query = match before {
        None => query,
        Some((last_time, last_id)) => {
            let row = Expr::tuple([time.into_expr(), id.into_expr()]);
            query.filter(row.lt(Expr::tuple([last_time.into(), last_id.into()])))
        }
    };
    query.order_by_desc(time).order_by_desc(id)
}

/// The columns of an entity, for SQL written by hand that reads its rows from `table`. Never `*`: a connection that has
/// prepared it gets an error once a migration adds a column.
pub fn columns<E: EntityTrait>(table: &str) -> String {
    let names: Vec<_> = E::Column::iter().map(|column| format!("{table}.{}", column.as_str())).collect();
    names.join(", ")
}

/// SQL written by hand, for `find_by_statement` and the raw calls of [`ConnectionTrait`]: `$1` is the first of `values`.
pub fn sql(text: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, text, values)
}
