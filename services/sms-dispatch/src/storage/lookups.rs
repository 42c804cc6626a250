//! `phone_lookups`: what providers said of phones. It was paid for: it outlives contacts, imports and restores. SQL by hand
//! where answers are kept and contacts follow, each batch in one statement.

use chassis::db::{NoRelation as Relation, Orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    entity::prelude::*,
    sqlx::{self, AssertSqlSafe, PgConnection, PgPool},
};

use super::batches;
use crate::domain::lookup::Lookup;

/// Look-ups a transaction, where contacts are made to follow.
const BATCH: i64 = 10_000;

/// What was asked about one phone, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub phone: String,
    /// The answer, or why there is none.
    pub answer: Result<Lookup, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "phone_lookups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub phone_e164: String,
    pub provider: String,
    /// In the provider's words.
    pub line_type: Option<String>,
    pub operator: Option<String>,
    pub is_mobile: Option<bool>,
    pub is_valid: Option<bool>,
    /// Why the provider had no answer.
    pub refusal: Option<String>,
    /// That in which it was asked.
    pub validation: Uuid,
    pub looked_up_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// What is known of a phone.
pub type Known = Model;

/// What is known of a phone; nothing where nobody asked.
pub async fn of_phone(conn: &mut PgConnection, phone: &str) -> Result<Option<Known>, DbErr> {
    Entity::find_by_id(phone).one(&Orm::on(conn)).await
}

/// Keeps what came of some questions, and lets the contacts follow. A refusal leaves what was known before. Returns how many
/// contacts changed.
pub async fn record(
    conn: &mut PgConnection,
    validation: Uuid,
    provider: &str,
    asked: &[Asked],
) -> sqlx::Result<i64> {
    let answer = |asked: &Asked| asked.answer.as_ref().ok().cloned().unwrap_or_default();
    let answers: Vec<Lookup> = asked.iter().map(answer).collect();
    let statement = format!(
        "with given as materialized (
             select * from unnest($3::text[], $4::text[], $5::text[], $6::boolean[], $7::boolean[], $8::text[])
                 g (phone_e164, line_type, operator, is_mobile, is_valid, refusal)),
         kept as (
             insert into phone_lookups as l (phone_e164, provider, line_type, operator, is_mobile, is_valid, refusal, validation)
             select phone_e164, $2, line_type, operator, is_mobile, is_valid, refusal, $1 from given order by phone_e164
             on conflict (phone_e164) do update set
                 line_type = case when excluded.refusal is null then excluded.line_type else l.line_type end,
                 operator = case when excluded.refusal is null then excluded.operator else l.operator end,
                 is_mobile = case when excluded.refusal is null then excluded.is_mobile else l.is_mobile end,
                 is_valid = case when excluded.refusal is null then excluded.is_valid else l.is_valid end,
                 provider = excluded.provider, refusal = excluded.refusal, validation = excluded.validation,
                 looked_up_at = now()),
         known as (select * from given where refusal is null), {}",
        follow("true")
    );
    sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(validation)
        .bind(provider)
        .bind(asked.iter().map(|asked| asked.phone.as_str()).collect::<Vec<_>>())
        .bind(answers.iter().map(|answer| answer.line_type.as_deref()).collect::<Vec<_>>())
        .bind(answers.iter().map(|answer| answer.operator.as_deref()).collect::<Vec<_>>())
        .bind(answers.iter().map(Lookup::is_mobile).collect::<Vec<_>>())
        .bind(answers.iter().map(|answer| answer.valid).collect::<Vec<_>>())
        .bind(asked.iter().map(|asked| asked.answer.as_ref().err().map(String::as_str)).collect::<Vec<_>>())
        .fetch_one(conn)
        .await
}

/// Whose validity and status follow what was looked up. In the others people may have changed these since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusOf {
    Nobody,
    /// Contacts that this import brought in.
    Import(i32),
    /// Contacts whose phones were looked up after this time, and answered; none: at any time.
    LookedUpAfter(Option<DateTime<Utc>>),
}

/// Lets contacts follow what was looked up before they came, or came back: operator and type for all of them, validity and
/// status for some. Returns how many changed.
pub async fn apply(pool: &PgPool, status: StatusOf) -> sqlx::Result<i64> {
    let status_too = match status {
        StatusOf::Nobody => "false",
        StatusOf::Import(_) => "c.import = $3",
        StatusOf::LookedUpAfter(_) => {
            "(t.refusal is null and ($3::timestamptz is null or t.looked_up_at > $3))"
        }
    };
    let statement = format!(
        "with batch as (
             select * from phone_lookups where phone_e164 > $1 order by phone_e164 limit $2),
         known as (select * from batch where coalesce(operator, is_mobile::text, is_valid::text) is not null), {}
         , (select max(phone_e164) from batch)",
        follow(status_too)
    );
    let (mut after, mut changed) = (String::new(), 0);
    loop {
        let mut transaction = pool.begin().await?;
        batches::relax(&mut transaction).await?;
        let query = sqlx::query_as::<_, (i64, Option<String>)>(AssertSqlSafe(statement.clone()));
        let query = query.bind(&after).bind(BATCH);
        let query = match status {
            StatusOf::Nobody => query,
            StatusOf::Import(import) => query.bind(import),
            StatusOf::LookedUpAfter(time) => query.bind(time),
        };
        let (followed, last) = query.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        changed += followed;
        match last {
            Some(last) => after = last,
            None => return Ok(changed),
        }
    }
}

/// The end of a statement: the contacts of `known`'s phones follow it, their status only where `status_too` holds of the contact
/// `c` and of what is known, `t`. It selects how many changed.
///
/// A number that can't be is INVALID; one that can be is not, and whether somebody uses it, no provider says.
fn follow(status_too: &str) -> String {
    let set = [
        ("operator", "coalesce(t.operator, c.operator)".to_owned()),
        ("is_mobile", "coalesce(t.is_mobile, c.is_mobile)".to_owned()),
        (
            "is_valid",
            format!("case when {status_too} then coalesce(t.is_valid, c.is_valid) else c.is_valid end"),
        ),
        (
            "status",
            format!(
                "case when not ({status_too}) then c.status when not t.is_valid then 'INVALID'
                      when t.is_valid and c.status = 'INVALID' then 'ACTIVE' else c.status end"
            ),
        ),
    ];
    let sets: Vec<_> = set.iter().map(|(column, value)| format!("{column} = {value}")).collect();
    let differ: Vec<_> =
        set.iter().map(|(column, value)| format!("c.{column} is distinct from {value}")).collect();
    format!(
        "there as materialized (
             select c.id as contact, k.* from known k cross join lateral (
                 select id from contacts c where c.phone_e164 = k.phone_e164 offset 0) c),
         followed as (
             update contacts c set {}, updated_at = now() from there t where c.id = t.contact and ({}) returning 1)
         select (select count(*) from followed)",
        sets.join(", "),
        differ.join(" or ")
    )
}
