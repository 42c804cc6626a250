//! The figures of a quality report. SQL by hand: counts over whole tables, and look-ups of many rows in the ledgers.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sqlx::{self, AssertSqlSafe, PgPool, Postgres, Transaction};

/// An import's contacts with one state and LADA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub state_code: Option<String>,
    pub lada: String,
    pub contacts: i64,
    pub valid: i64,
    pub e164: i64,
    pub without_city: i64,
}

/// A transaction whose statements take as long as they take: tables of tens of millions of rows are counted.
async fn patient(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql("set local statement_timeout = 0").execute(&mut *transaction).await?;
    Ok(transaction)
}

/// The contacts that an import brought in, in one pass over the table.
pub async fn groups(pool: &PgPool, import: i32) -> sqlx::Result<Vec<Group>> {
    let mut transaction = patient(pool).await?;
    let rows: Vec<(Option<String>, String, i64, i64, i64, i64)> = sqlx::query_as(
        r"select state_code, lada, count(*), count(*) filter (where is_valid),
                 count(*) filter (where phone_e164 ~ '^\+52[2-9][0-9]{9}$'), count(*) filter (where city is null)
          from contacts where import = $1 group by 1, 2",
    )
    .bind(import)
    .fetch_all(&mut *transaction)
    .await?;
    let group = |(state_code, lada, contacts, valid, e164, without_city)| Group {
        state_code,
        lada,
        contacts,
        valid,
        e164,
        without_city,
    };
    Ok(rows.into_iter().map(group).collect())
}

/// Rejects by their reason.
pub async fn rejects(pool: &PgPool, import: i32) -> sqlx::Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select reason, count(*) from contact_rejects where import = $1 group by 1")
            .bind(import)
            .fetch_all(&mut *patient(pool).await?)
            .await?;
    Ok(rows.into_iter().collect())
}

/// How many rows an import has in its two ledgers: changes and merges.
pub async fn ledgers(pool: &PgPool, import: i32) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "select (select count(*) from contact_changes where import = $1),
                (select count(*) from contact_merges where import = $1)",
    )
    .bind(import)
    .fetch_one(&mut *patient(pool).await?)
    .await
}

/// Those of the source's rows that were rejected.
pub async fn rejected(pool: &PgPool, import: i32, rows: &[i64]) -> sqlx::Result<BTreeSet<i64>> {
    rows_in(pool, "contact_rejects", import, rows).await
}

/// Those of the source's rows that went into another row's contact.
pub async fn merged(pool: &PgPool, import: i32, rows: &[i64]) -> sqlx::Result<BTreeSet<i64>> {
    rows_in(pool, "contact_merges", import, rows).await
}

async fn rows_in(pool: &PgPool, ledger: &str, import: i32, rows: &[i64]) -> sqlx::Result<BTreeSet<i64>> {
    let select = format!(
        "select i.id from unnest($2::bigint[]) i (id)
         where exists (select from {ledger} t where t.import = $1 and t.source_id = i.id)"
    );
    let found: Vec<i64> =
        sqlx::query_scalar(AssertSqlSafe(select)).bind(import).bind(rows).fetch_all(pool).await?;
    Ok(found.into_iter().collect())
}
