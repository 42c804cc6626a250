//! What an import brought in is taken out again. SQL by hand: ledgers of any size, a batch in one statement.

use std::fmt;

use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

use super::merge;

/// An import that must go before another one can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    pub id: Uuid,
    /// The other one wrote after it too: each stands on contacts of the other.
    pub interleaved: bool,
}

/// Says what must go first, for people.
impl fmt::Display for Later {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id;
        if self.interleaved {
            write!(
                formatter,
                "Esta importación y la {id} escribieron por turnos, y cada una se apoya en contactos de la otra: \
                 no se pueden revertir por separado; restaure un respaldo anterior a ambas"
            )
        } else {
            write!(formatter, "Revierta primero la importación {id}, que es posterior")
        }
    }
}

/// The import that wrote last, was not rolled back, and wrote anything after this one began to: its rows may have gone into
/// this one's contacts.
pub async fn later(pool: &PgPool, import: i32) -> sqlx::Result<Option<Later>> {
    let found: Option<(Uuid, bool)> = sqlx::query_as(
        "select other.id, coalesce(other.first_turn, other.number) < coalesce(this.last_turn, this.number)
         from imports this join imports other on other.number <> this.number
         where this.number = $1 and other.mode in ('fast', 'merge') and other.rolled_back_at is null
             and coalesce(other.last_turn, other.number) > coalesce(this.first_turn, this.number)
         order by coalesce(other.last_turn, other.number) desc limit 1",
    )
    .bind(import)
    .fetch_optional(pool)
    .await?;
    Ok(found.map(|(id, interleaved)| Later { id, interleaved }))
}

/// Takes the values back that the import changed in contacts of earlier ones, field by field where a field is still as
/// the import left it, and no provider has said better since; for some `size` contacts. Returns how many there were, none at the end.
pub async fn restore(conn: &mut PgConnection, import: i32, size: i64) -> sqlx::Result<i64> {
    // `name` follows whether `of` is as it was left.
    let field = |name: &str, of: &str, from: &str| {
        format!(
            "{name} = case when to_jsonb(c.{of}) is not distinct from nullif(b.after -> '{of}', 'null') \
             then {from} else c.{name} end"
        )
    };
    let flags =
        merge::GUESSES.iter().map(|(flag, of)| field(flag, of, &format!("(b.before ->> '{flag}')::boolean")));
    let sets = merge::FIELDS
        .iter()
        .chain(&merge::EXTRAS)
        .chain(&["is_valid", "status", "consent"])
        .map(|name| {
            let before = match *name {
                "is_valid" | "is_mobile" => format!("(b.before ->> '{name}')::boolean"),
                "migrated_at" => "(b.before ->> 'migrated_at')::timestamptz".to_owned(),
                _ => format!("(b.before ->> '{name}')"),
            };
            // What a provider said since is newer than what was known before.
            let known = match *name {
                "operator" | "is_mobile" | "is_valid" => format!("coalesce(b.said_{name}, {before})"),
                "status" => format!("case when not b.said_is_valid then 'INVALID' else {before} end"),
                _ => before,
            };
            field(name, name, &known)
        })
        .chain(flags)
        .collect::<Vec<_>>()
        .join(", ");
    let statement = format!(
        "with batch as (
             delete from contact_changes where (import, contact_id) in (
                 select import, contact_id from contact_changes where import = $1 order by contact_id limit $2)
             returning contact_id, before, after),
         known as materialized (
             select b.*, l.operator as said_operator, l.is_mobile as said_is_mobile, l.is_valid as said_is_valid
             from batch b cross join lateral (
                 select phone_e164 from contacts c where c.id = b.contact_id offset 0) c
             left join phone_lookups l using (phone_e164)),
         restored as (
             update contacts c set {sets}, updated_at = now() from known b where c.id = b.contact_id returning 1)
         select count(*) from batch"
    );
    sqlx::query_scalar(AssertSqlSafe(statement)).bind(import).bind(size).fetch_one(conn).await
}

/// Whether all contacts are this import's.
pub async fn is_alone(conn: &mut PgConnection, import: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar("select not exists (select from contacts where import <> $1)")
        .bind(import)
        .fetch_one(conn)
        .await
}

/// Removes all contacts at once.
pub async fn empty(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("truncate contacts").execute(conn).await.map(drop)
}

/// The ids between which the import's contacts are.
pub async fn bounds(conn: &mut PgConnection, import: i32) -> sqlx::Result<Option<(i64, i64)>> {
    let (first, last): (Option<i64>, Option<i64>) =
        sqlx::query_as("select min(id), max(id) from contacts where import = $1")
            .bind(import)
            .fetch_one(conn)
            .await?;
    Ok(first.zip(last))
}

/// Removes the import's contacts of `first..=last`.
pub async fn remove(conn: &mut PgConnection, import: i32, first: i64, last: i64) -> sqlx::Result<u64> {
    let removed = sqlx::query("delete from contacts where id between $2 and $3 and import = $1")
        .bind(import)
        .bind(first)
        .bind(last)
        .execute(conn)
        .await?;
    Ok(removed.rows_affected())
}

/// Forgets the import's ledgers, and marks it.
pub async fn finish(conn: &mut PgConnection, import: i32) -> sqlx::Result<()> {
    for table in [
        "contact_rejects",
        "contact_merges",
        "contact_changes",
        "import_staged",
        "import_batches",
        "source_missing_ladas",
        "source_statistics",
    ] {
        let statement = format!("delete from {table} where import = $1");
        sqlx::query(AssertSqlSafe(statement)).bind(import).execute(&mut *conn).await?;
    }
    sqlx::query("update imports set rolled_back_at = now() where number = $1")
        .bind(import)
        .execute(conn)
        .await
        .map(drop)
}
