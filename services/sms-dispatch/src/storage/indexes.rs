//! The indexes of `contacts`, in one place: a load into an empty table drops them and builds them again. SQL by hand: only
//! the catalogue knows of indexes.

use sea_orm::sqlx::{self, PgExecutor};

/// An index of `contacts`.
#[derive(Debug)]
pub struct Index {
    pub name: &'static str,
    unique: bool,
    on: &'static str,
}

impl Index {
    /// The statement that builds it; it changes nothing where the index is there.
    pub fn create(&self) -> String {
        let unique = if self.unique { "unique " } else { "" };
        format!("create {unique}index if not exists {} on contacts {}", self.name, self.on)
    }

    /// The statement that removes it.
    pub fn drop(&self) -> String {
        format!("drop index if exists {}", self.name)
    }
}

/// The names of those that contacts have.
pub async fn there<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select indexname::text from pg_indexes where schemaname = current_schema() and tablename = 'contacts'",
    )
    .fetch_all(executor)
    .await
}

/// How many of `indexes` contacts have.
pub async fn count<'e>(executor: impl PgExecutor<'e>, indexes: &[Index]) -> sqlx::Result<usize> {
    let there = there(executor).await?;
    Ok(indexes.iter().filter(|index| there.iter().any(|name| name == index.name)).count())
}

/// By this one the phones are unique; merging needs it, and no other.
pub const PHONE: Index = Index { name: "contacts_phone", unique: true, on: "(phone_e164)" };

/// The index of names' words, whose statistics know the common ones; and that of addresses.
pub const NAME_WORDS: &str = "contacts_words_of_names";
pub const ADDRESS_WORDS: &str = "contacts_words_of_addresses";

/// All. By those of places a page is read in the order of the ids however the contacts of a place lie, and whoever opted out
/// is found too: hence the id, and no condition ([ADR 12](../../../../docs/adr/0012-searches-cut-the-ids-into-windows.md)).
/// Those that take longest to build come first: then two builders end together.
pub const ALL: &[Index] = &[
    Index { name: ADDRESS_WORDS, unique: false, on: "using gin (to_tsvector('simple', words(address)))" },
    Index { name: NAME_WORDS, unique: false, on: "using gin (to_tsvector('simple', words(full_name)))" },
    PHONE,
    Index { name: "contacts_city", unique: false, on: "(city, status, id)" },
    Index { name: "contacts_municipality", unique: false, on: "(municipality, status, id)" },
    Index { name: "contacts_state", unique: false, on: "(state_code, status, id)" },
    Index { name: "contacts_lada", unique: false, on: "(lada, status, id)" },
    Index { name: "contacts_id", unique: true, on: "(id)" },
    Index { name: "contacts_send_count", unique: false, on: "(send_count)" },
    // Nearly all are active.
    Index { name: "contacts_status", unique: false, on: "(status, id) where status <> 'ACTIVE'" },
    Index { name: "contacts_last_sent", unique: false, on: "(last_sent_at) where last_sent_at is not null" },
];
