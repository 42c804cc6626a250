//! `sms_providers`: who carries messages, and whether it takes them now.

use chassis::db::{NoRelation as Relation, Orm, orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    Condition, ExprTrait as _, QueryOrder as _,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgPool},
};

use crate::domain::sender::ProviderName;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_providers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: ProviderName,
    /// Parts a second that the account may send.
    pub per_second: f64,
    /// Since when nothing is asked of it, and why.
    pub closed_at: Option<DateTime<Utc>>,
    pub closed_reason: Option<String>,
    /// When it opens by itself.
    pub opens_at: Option<DateTime<Utc>>,
    /// The balance that it was last known to have while it was open or when it was closed, or the lowest one since, in millionths:
    /// above it is money again.
    pub lowest_micros: Option<i64>,
    /// Since when it takes messages again.
    pub opened_at: Option<DateTime<Utc>>,
    /// How many requests more had no answer than had one, lately.
    pub silent: i32,
    /// Until when the one request is answered that asks whether it answers again.
    pub probe_until: Option<DateTime<Utc>>,
    /// Until when it was asked who opted out with it.
    pub opt_outs_until: Option<DateTime<Utc>>,
    pub updated_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A provider's row.
pub type Provider = Model;

impl Model {
    pub fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// Whether it did not answer lately: one request at a time asks whether it does again.
    pub fn is_half_open(&self) -> bool {
        self.is_open() && self.silent >= SILENT
    }
}

/// Writes the rate of a provider that is configured; what it says of being closed stays.
pub async fn configure(pool: &PgPool, name: ProviderName, per_second: f64) -> Result<(), DbErr> {
    let row = ActiveModel { name: Set(name), per_second: Set(per_second), ..Default::default() };
    let changed = sea_orm::sea_query::OnConflict::column(Column::Name)
        .update_column(Column::PerSecond)
        .value(Column::UpdatedAt, Expr::current_timestamp())
        .to_owned();
    Entity::insert(row).on_conflict(changed).exec_without_returning(&orm(pool)).await.map(drop)
}

/// All of them.
pub async fn list(connection: &impl ConnectionTrait) -> Result<Vec<Provider>, DbErr> {
    Entity::find().order_by_asc(Column::Name).all(connection).await
}

/// Closes one, unless it is closed already. Gives whether it was open.
pub async fn close(
    conn: &mut PgConnection,
    name: ProviderName,
    reason: &str,
    opens_at: Option<DateTime<Utc>>,
) -> Result<bool, DbErr> {
    close_by(conn, name, reason, opens_at, None).await
}

/// The same by what is known of a moment, if it is given: unless it was opened after that.
pub async fn close_by(
    conn: &mut PgConnection,
    name: ProviderName,
    reason: &str,
    opens_at: Option<DateTime<Utc>>,
    known_of: Option<DateTime<Utc>>,
) -> Result<bool, DbErr> {
    let row = ActiveModel {
        closed_reason: Set(Some(reason.to_owned())),
        opens_at: Set(opens_at),
        ..Default::default()
    };
    let mut close = Entity::update_many()
        .set(row)
        .col_expr(Column::ClosedAt, Expr::current_timestamp())
        .col_expr(Column::UpdatedAt, Expr::current_timestamp())
        .filter(Column::Name.eq(name))
        .filter(Column::ClosedAt.is_null());
    if let Some(moment) = known_of {
        let unopened = Condition::any().add(Column::OpenedAt.is_null()).add(Column::OpenedAt.lte(moment));
        close = close.filter(unopened);
    }
    let closed = close.exec(&Orm::on(conn)).await?;
    Ok(closed.rows_affected > 0)
}

/// Opens those whose time has come, or the one named. One that did not answer is opened for one request at a time, unless it
/// is opened by its name. Gives how many were closed.
pub async fn open(conn: &mut PgConnection, name: Option<ProviderName>) -> Result<u64, DbErr> {
    let mut row = ActiveModel {
        closed_at: Set(None),
        closed_reason: Set(None),
        opens_at: Set(None),
        probe_until: Set(None),
        ..Default::default()
    };
    if name.is_some() {
        row.silent = Set(0);
    }
    let which = match name {
        Some(name) => Condition::all().add(Column::Name.eq(name)),
        None => Condition::all().add(Expr::col(Column::OpensAt).lte(Expr::current_timestamp())),
    };
    let opened = Entity::update_many()
        .set(row)
        .col_expr(Column::OpenedAt, Expr::current_timestamp())
        .col_expr(Column::UpdatedAt, Expr::current_timestamp())
        .filter(which)
        .filter(Column::ClosedAt.is_not_null())
        .exec(&Orm::on(conn))
        .await?;
    Ok(opened.rows_affected)
}

/// Notes a balance: of a provider that is closed the lowest one; of one that is open, is opened by it, or was closed just now,
/// the balance as it is.
pub async fn note_balance(
    conn: &mut PgConnection,
    name: ProviderName,
    balance_micros: i64,
    as_it_is: bool,
) -> sqlx::Result<()> {
    sqlx::query(
        // `least` leaves out what is not known yet.
        "update sms_providers set lowest_micros = case when $3 then $2 else least(lowest_micros, $2) end
         where name = $1 and (lowest_micros is null or lowest_micros > $2 or $3 and lowest_micros <> $2)",
    )
    .bind(name.name())
    .bind(balance_micros)
    .bind(as_it_is)
    .execute(conn)
    .await
    .map(drop)
}

/// At so many requests more without an answer than with one a provider is closed for a while.
pub const SILENT: i32 = 8;

/// Counts requests that had an answer and such that had none, in whichever worker; `probe` where one of them was the one that
/// asks whether it answers again, by until when it had that. Gives whether the provider is to be left alone. Nothing is written while all is well.
pub async fn count_answers(
    conn: &mut PgConnection,
    name: ProviderName,
    (answered, silent): (i32, i32),
    probe: Option<DateTime<Utc>>,
) -> sqlx::Result<bool> {
    let counted: Option<i32> = sqlx::query_scalar(
        "update sms_providers set probe_until = case when probe_until = $5 then null else probe_until end,
             silent = case when silent >= $4 and $2 > 0 then 0 else greatest(0, least($4, silent + $3 - $2)) end
         where name = $1 and (silent > 0 or $3 > $2 or probe_until = $5) returning silent",
    )
    .bind(name.name())
    .bind(answered)
    .bind(silent)
    .bind(SILENT)
    .bind(probe)
    .fetch_optional(conn)
    .await?;
    Ok(silent > 0 && counted.is_some_and(|counted| counted >= SILENT))
}

/// Takes the one request that may ask a provider whether it answers again, for so many seconds. Gives until when; none where
/// somebody else has it, or where it is closed.
pub async fn take_probe(
    conn: &mut PgConnection,
    name: ProviderName,
    seconds: f64,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar(
        "update sms_providers set probe_until = clock_timestamp() + make_interval(secs => $3)
         where name = $1 and silent >= $2 and closed_at is null and (probe_until is null or probe_until < now())
         returning probe_until",
    )
    .bind(name.name())
    .bind(SILENT)
    .bind(seconds)
    .fetch_optional(conn)
    .await
}

/// Gives it back: the request was not made. Where it has lapsed it is somebody else's by now, and stays so.
pub async fn give_probe_back(
    conn: &mut PgConnection,
    name: ProviderName,
    until: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query("update sms_providers set probe_until = null where name = $1 and probe_until = $2")
        .bind(name.name())
        .bind(until)
        .execute(conn)
        .await
        .map(drop)
}

/// Notes until when a provider was asked who opted out with it.
pub async fn note_opt_outs(pool: &PgPool, name: ProviderName, until: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::update_many()
        .set(ActiveModel { opt_outs_until: Set(Some(until)), ..Default::default() })
        .filter(Column::Name.eq(name))
        .exec(&orm(pool))
        .await
        .map(drop)
}
