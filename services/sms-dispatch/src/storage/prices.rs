//! `sms_prices`: what a part costs at a provider, by the kind of its sender, from one day on.

use chassis::db::{NoRelation as Relation, Orm, orm};
use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{
    ActiveValue::Set,
    QueryOrder as _, SqlErr,
    entity::prelude::*,
    sqlx::{PgConnection, PgPool},
};

use crate::domain::{
    money::Money,
    sender::{ProviderName, SenderKind},
};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_prices")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub provider: ProviderName,
    /// None: of every kind that has no price of its own.
    pub kind: Option<SenderKind>,
    pub valid_from: Date,
    /// The last day; none: until another begins.
    pub valid_until: Option<Date>,
    /// Millionths of `currency` a part.
    pub price_micros: i64,
    /// ISO 4217.
    pub currency: String,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A price's row.
pub type Price = Model;

/// A price to be.
#[derive(Clone, Debug)]
pub struct PriceValues {
    pub provider: ProviderName,
    pub kind: Option<SenderKind>,
    pub valid_from: NaiveDate,
    pub valid_until: Option<NaiveDate>,
    pub price: Money,
}

/// Writes a new price; none where one of the same provider and kind begins that day already.
pub async fn insert(
    conn: &mut PgConnection,
    values: &PriceValues,
    actor: &str,
) -> Result<Option<Price>, DbErr> {
    let row = ActiveModel {
        id: Set(Uuid::now_v7()),
        provider: Set(values.provider),
        kind: Set(values.kind),
        valid_from: Set(values.valid_from),
        valid_until: Set(values.valid_until),
        price_micros: Set(values.price.micros),
        currency: Set(values.price.currency().to_owned()),
        created_by: Set(actor.to_owned()),
        ..Default::default()
    };
    match Entity::insert(row).exec_with_returning(&Orm::on(conn)).await {
        Ok(price) => Ok(Some(price)),
        Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// All of them, by provider and kind, the latest first.
pub async fn list(pool: &PgPool) -> Result<Vec<Price>, DbErr> {
    ordered().all(&orm(pool)).await
}

/// The same in a transaction.
pub async fn all(conn: &mut PgConnection) -> Result<Vec<Price>, DbErr> {
    ordered().all(&Orm::on(conn)).await
}

fn ordered() -> sea_orm::Select<Entity> {
    Entity::find().order_by_asc(Column::Provider).order_by_asc(Column::Kind).order_by_desc(Column::ValidFrom)
}

/// What a part costs on a day: by the latest price of this kind that holds then, else by the latest of every kind.
pub fn on(
    prices: &[Price],
    provider: ProviderName,
    kind: SenderKind,
    day: NaiveDate,
) -> Option<(i64, String)> {
    let holds = |price: &&Price| {
        price.provider == provider
            && price.valid_from <= day
            && price.valid_until.is_none_or(|until| day <= until)
            && price.kind.is_none_or(|of| of == kind)
    };
    let best = prices.iter().filter(holds).max_by_key(|price| (price.kind.is_some(), price.valid_from))?;
    Some((best.price_micros, best.currency.clone()))
}

/// Takes a price away that has not begun on `today`. Gives it as it was; none where there is no such price.
pub async fn delete_future(
    conn: &mut PgConnection,
    id: Uuid,
    today: NaiveDate,
) -> Result<Option<Price>, DbErr> {
    let gone = Entity::delete_many()
        .filter(Column::Id.eq(id))
        .filter(Column::ValidFrom.gt(today))
        .exec_with_returning(&Orm::on(conn))
        .await?;
    Ok(gone.into_iter().next())
}

/// Whether there is a price of this id.
pub async fn exists(conn: &mut PgConnection, id: Uuid) -> Result<bool, DbErr> {
    Ok(Entity::find_by_id(id).one(&Orm::on(conn)).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(kind: Option<SenderKind>, from: &str, until: Option<&str>, price_micros: i64) -> Price {
        let day = |text: &str| text.parse().expect("a day");
        Price {
            id: Uuid::nil(),
            provider: ProviderName::Telnyx,
            kind,
            valid_from: day(from),
            valid_until: until.map(day),
            price_micros,
            currency: "USD".to_owned(),
            created_by: String::new(),
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_latest_price_that_holds_counts_and_that_of_the_kind_before_the_general_one() {
        let short = Some(SenderKind::ShortCode);
        let prices = [
            price(None, "2026-01-01", None, 1),
            price(None, "2026-06-01", None, 2),
            price(short, "2026-01-01", Some("2026-03-31"), 3),
            price(short, "2026-12-01", None, 4),
        ];
        let on = |kind, day: &str| {
            on(&prices, ProviderName::Telnyx, kind, day.parse().expect("a day")).map(|(micros, _)| micros)
        };
        assert_eq!(on(SenderKind::LongCode, "2025-12-31"), None);
        assert_eq!(on(SenderKind::LongCode, "2026-05-31"), Some(1));
        assert_eq!(on(SenderKind::LongCode, "2026-06-01"), Some(2));
        assert_eq!(on(SenderKind::ShortCode, "2026-03-31"), Some(3));
        assert_eq!(on(SenderKind::ShortCode, "2026-04-01"), Some(1), "its own has ended");
        assert_eq!(on(SenderKind::ShortCode, "2026-12-01"), Some(4));
        assert_eq!(
            super::on(&prices, ProviderName::Twilio, SenderKind::LongCode, prices[0].valid_from),
            None
        );
    }
}
