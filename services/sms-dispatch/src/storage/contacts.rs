//! One contact: read, changed.

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, FromRow, PgConnection, PgExecutor, Row as _, postgres::PgRow};

/// What is read of a contact `c`. Its version is the transaction that wrote the row last: imports and suppressions change
/// it as people do.
pub const COLUMNS: &str = "c.id, c.phone_e164, c.phone_original, c.full_name, c.address, c.neighborhood, c.municipality,
    c.state_code, c.lada, c.city, c.is_valid, c.is_mobile, c.operator, c.status, c.consent, c.last_sent_at, c.send_count,
    c.opt_out_at, c.created_at, c.updated_at, c.xmin::text::bigint as version,
    (select i.source from imports i where i.number = c.import) as source";

/// A contact's row.
#[derive(Clone, Debug)]
pub struct Contact {
    pub id: i64,
    pub phone_e164: String,
    pub phone_original: Option<String>,
    pub values: Values,
    pub lada: String,
    pub is_valid: bool,
    pub is_mobile: Option<bool>,
    pub operator: Option<String>,
    /// The name of the file it came from.
    pub source: Option<String>,
    pub last_sent_at: Option<DateTime<Utc>>,
    pub send_count: i32,
    pub opt_out_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
}

/// What people may change of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    pub full_name: Option<String>,
    pub address: Option<String>,
    pub neighborhood: Option<String>,
    pub municipality: Option<String>,
    pub state_code: Option<String>,
    pub city: Option<String>,
    pub status: String,
    pub consent: String,
}

impl FromRow<'_, PgRow> for Contact {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            phone_e164: row.try_get("phone_e164")?,
            phone_original: row.try_get("phone_original")?,
            values: Values {
                full_name: row.try_get("full_name")?,
                address: row.try_get("address")?,
                neighborhood: row.try_get("neighborhood")?,
                municipality: row.try_get("municipality")?,
                state_code: row.try_get("state_code")?,
                city: row.try_get("city")?,
                status: row.try_get("status")?,
                consent: row.try_get("consent")?,
            },
            lada: row.try_get("lada")?,
            is_valid: row.try_get("is_valid")?,
            is_mobile: row.try_get("is_mobile")?,
            operator: row.try_get("operator")?,
            source: row.try_get("source")?,
            last_sent_at: row.try_get("last_sent_at")?,
            send_count: row.try_get("send_count")?,
            opt_out_at: row.try_get("opt_out_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            version: row.try_get("version")?,
        })
    }
}

/// One contact.
pub async fn get(executor: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Contact>> {
    let statement = format!("select {COLUMNS} from contacts c where c.id = $1");
    sqlx::query_as(AssertSqlSafe(statement)).bind(id).fetch_optional(executor).await
}

/// One contact, nobody else's to change until the transaction ends.
pub async fn lock(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Contact>> {
    let statement = format!("select {COLUMNS} from contacts c where c.id = $1 for update of c");
    sqlx::query_as(AssertSqlSafe(statement)).bind(id).fetch_optional(conn).await
}

/// The consent of whom nobody knows on what grounds they may be written to.
pub const NO_CONSENT: &str = "unknown";

/// Gives a contact, which is locked, other values. A consent that is taken back is remembered by phone, until a person says on
/// what grounds there is one again.
pub async fn update(
    conn: &mut PgConnection,
    contact: &Contact,
    values: &Values,
    actor: &str,
) -> sqlx::Result<()> {
    let id = contact.id;
    if values.consent != contact.values.consent {
        let statement = match values.consent == NO_CONSENT {
            true => {
                "insert into consent_withdrawals (phone_e164, withdrawn_by) values ($1, $2)
                 on conflict (phone_e164) do nothing"
            }
            false => "delete from consent_withdrawals where phone_e164 = $1 and $2::text is not null",
        };
        sqlx::query(statement).bind(&contact.phone_e164).bind(actor).execute(&mut *conn).await?;
    }
    sqlx::query(
        "update contacts set full_name = $2, address = $3, neighborhood = $4, municipality = $5, state_code = $6,
                city = $7, status = $8, consent = $9, updated_at = now(),
                -- What a person wrote is no guess.
                state_guessed = case when state_code is not distinct from $6 then state_guessed end,
                city_guessed = case when city is not distinct from $7 then city_guessed end
         where id = $1",
    )
    .bind(id)
    .bind(&values.full_name)
    .bind(&values.address)
    .bind(&values.neighborhood)
    .bind(&values.municipality)
    .bind(&values.state_code)
    .bind(&values.city)
    .bind(&values.status)
    .bind(&values.consent)
    .execute(conn)
    .await
    .map(drop)
}
