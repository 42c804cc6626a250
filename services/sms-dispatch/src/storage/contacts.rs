//! `contacts`: one of them, read and changed. SQL by hand to read one, for its version is the transaction that wrote the
//! row last, and to look many up by phone one by one, as a planner would not that doesn't know how few they are.

use chassis::db::{NoRelation as Relation, Orm, columns, orm, sql};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    FromQueryResult,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgPool},
};

use super::consent_withdrawals;
use crate::domain::segment::Status;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "contacts")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    /// +52 and ten digits.
    pub phone_e164: String,
    pub phone_original: Option<String>,
    pub full_name: Option<String>,
    pub address: Option<String>,
    pub neighborhood: Option<String>,
    pub municipality: Option<String>,
    pub state_code: Option<String>,
    /// True where no source says the state and the LADA suggests it; else null. So with the city.
    pub state_guessed: Option<bool>,
    pub lada: String,
    pub city: Option<String>,
    pub city_guessed: Option<bool>,
    pub is_valid: bool,
    /// From the regulator's numbering plan or a provider's look-up, never guessed.
    pub is_mobile: Option<bool>,
    pub operator: Option<String>,
    pub status: Status,
    pub consent: String,
    pub last_sent_at: Option<DateTime<Utc>>,
    pub send_count: i32,
    /// Follows from suppressions, which outlive the contact.
    pub opt_out_at: Option<DateTime<Utc>>,
    /// The number of the import that brought it in, and its row there.
    pub import: i32,
    pub source_id: i64,
    pub migrated_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// What is read of a contact `c`. Its version is the transaction that wrote the row last: imports and suppressions change
/// it as people do.
pub const COLUMNS: &str = "c.id, c.phone_e164, c.phone_original, c.full_name, c.address, c.neighborhood, c.municipality,
    c.state_code, c.lada, c.city, c.is_valid, c.is_mobile, c.operator, c.status, c.consent, c.last_sent_at, c.send_count,
    c.opt_out_at, c.created_at, c.updated_at, c.xmin::text::bigint as version,
    (select i.source from imports i where i.number = c.import) as source";

/// A contact as it is shown.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Contact {
    pub id: i64,
    pub phone_e164: String,
    pub phone_original: Option<String>,
    #[sea_orm(nested)]
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
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Values {
    pub full_name: Option<String>,
    pub address: Option<String>,
    pub neighborhood: Option<String>,
    pub municipality: Option<String>,
    pub state_code: Option<String>,
    pub city: Option<String>,
    pub status: Status,
    pub consent: String,
}

/// One contact.
pub async fn get(conn: &mut PgConnection, id: i64) -> Result<Option<Contact>, DbErr> {
    let statement = sql(format!("select {COLUMNS} from contacts c where c.id = $1"), [id.into()]);
    Contact::find_by_statement(statement).one(&Orm::on(conn)).await
}

/// One contact, nobody else's to change until the transaction ends.
pub async fn lock(conn: &mut PgConnection, id: i64) -> Result<Option<Contact>, DbErr> {
    let statement =
        sql(format!("select {COLUMNS} from contacts c where c.id = $1 for update of c"), [id.into()]);
    Contact::find_by_statement(statement).one(&Orm::on(conn)).await
}

/// Those of some phones.
pub async fn by_phones(pool: &PgPool, phones: Vec<String>) -> Result<Vec<Model>, DbErr> {
    let statement = sql(
        format!(
            "select {columns} from unnest($1::text[]) p (phone)
             cross join lateral (select * from contacts c where c.phone_e164 = p.phone offset 0) c",
            columns = columns::<Entity>("c")
        ),
        [phones.into()],
    );
    Entity::find().from_raw_sql(statement).all(&orm(pool)).await
}

/// How many of the phones a contact has.
pub async fn count_by_phones(pool: &PgPool, phones: Vec<String>) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from unnest($1::text[]) p (phone)
         cross join lateral (select from contacts c where c.phone_e164 = p.phone offset 0) c",
    )
    .bind(phones)
    .fetch_one(pool)
    .await
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
) -> Result<(), DbErr> {
    let (old, on) = (&contact.values, Orm::on(conn));
    if values.consent != old.consent {
        match values.consent == NO_CONSENT {
            true => consent_withdrawals::add(&on, &contact.phone_e164, actor).await?,
            false => consent_withdrawals::remove(&on, &contact.phone_e164).await?,
        }
    }
    // What a person wrote is no guess.
    let no_guess = |same: bool| if same { NotSet } else { Set(None) };
    let row = ActiveModel {
        full_name: Set(values.full_name.clone()),
        address: Set(values.address.clone()),
        neighborhood: Set(values.neighborhood.clone()),
        municipality: Set(values.municipality.clone()),
        state_code: Set(values.state_code.clone()),
        state_guessed: no_guess(values.state_code == old.state_code),
        city: Set(values.city.clone()),
        city_guessed: no_guess(values.city == old.city),
        status: Set(values.status),
        consent: Set(values.consent.clone()),
        ..Default::default()
    };
    Entity::update_many()
        .set(row)
        .col_expr(Column::UpdatedAt, Expr::current_timestamp())
        .filter(Column::Id.eq(contact.id))
        .exec(&on)
        .await
        .map(drop)
}
