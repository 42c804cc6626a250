//! What the contacts are, to be compared.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use serde_json::Value;

/// What one import of the same rows must leave, whichever way it took: all columns but the surrogate id, the import's
/// number, and when the row was written. `migrated_at` is the source's, and compared.
pub const CONTENT: &[&str] = &["id", "import", "created_at", "updated_at"];
/// The same without the row that a contact came from: what two imports leave, whose rows may be other ones.
pub const PEOPLE: &[&str] = &["id", "import", "created_at", "updated_at", "source_id"];
/// What a rollback must leave.
pub const BUT_UPDATED_AT: &[&str] = &["updated_at"];
/// Everything: a row that was written to at all looks different.
pub const ALL: &[&str] = &[];

/// Contacts by phone.
pub type Picture = BTreeMap<String, Value>;

/// All contacts, without some columns.
pub async fn take(pool: &PgPool, without: &[&str]) -> Result<Picture> {
    let less: String = without.iter().map(|column| format!(" - '{column}'")).collect();
    let query = format!("select phone_e164, to_jsonb(c){less} from contacts c");
    let rows: Vec<(String, Value)> = sqlx::query_as(AssertSqlSafe(query)).fetch_all(pool).await?;
    let count = rows.len();
    let picture: Picture = rows.into_iter().collect();
    ensure!(picture.len() == count, "{count} contacts have {} phones", picture.len());
    Ok(picture)
}

/// Fails where they differ, and shows in what.
pub fn same(one: &Picture, other: &Picture) -> Result<()> {
    let phones = one.keys().chain(other.keys().filter(|phone| !one.contains_key(*phone)));
    let different: Vec<_> = phones
        .filter(|phone| one.get(*phone) != other.get(*phone))
        .map(|phone| format!("{:?}\n    {:?}", one.get(phone), other.get(phone)))
        .collect();
    ensure!(
        different.is_empty(),
        "{} of {} contacts differ:\n{}",
        different.len(),
        one.len(),
        different[..different.len().min(5)].join("\n")
    );
    Ok(())
}
