//! `consent_withdrawals`: whose consent a person took back, by phone. Like a suppression it outlives contacts, imports,
//! rollbacks and restores.

use chassis::db::NoRelation as Relation;
use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, entity::prelude::*};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "consent_withdrawals")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub phone_e164: String,
    pub withdrawn_by: String,
    pub withdrawn_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Remembers one, unless it is there.
pub async fn add(connection: &impl ConnectionTrait, phone: &str, actor: &str) -> Result<(), DbErr> {
    let withdrawal = ActiveModel {
        phone_e164: Set(phone.to_owned()),
        withdrawn_by: Set(actor.to_owned()),
        ..Default::default()
    };
    Entity::insert(withdrawal)
        .on_conflict_do_nothing_on([Column::PhoneE164])
        .exec_without_returning(connection)
        .await
        .map(drop)
}

/// Forgets one: there is a consent again.
pub async fn remove(connection: &impl ConnectionTrait, phone: &str) -> Result<(), DbErr> {
    Entity::delete_by_id(phone).exec(connection).await.map(drop)
}
