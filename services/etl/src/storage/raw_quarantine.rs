//! `raw_quarantine`: records of BigQuery's that could not be read, as they came.

use chassis::db::NoRelation as Relation;
use chrono::{DateTime, Utc};
use sea_orm::{QueryOrder as _, QuerySelect as _, QueryTrait as _, entity::prelude::*};

use crate::target::{KeptRecord, Quarantined};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "raw_quarantine")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub stream: String,
    pub clave: String,
    pub regla: String,
    pub registro: Json,
    pub corrida: Uuid,
    pub visto_en: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Those of a stream, or of all, newest first.
///
/// # Errors
/// The database.
pub async fn list(
    connection: &impl ConnectionTrait,
    stream: Option<&str>,
    size: u64,
) -> Result<Vec<KeptRecord>, DbErr> {
    let found = Entity::find()
        .apply_if(stream, |found, stream| found.filter(Column::Stream.eq(stream)))
        .order_by_desc(Column::VistoEn)
        .order_by_asc(Column::Id)
        .limit(size);
    Ok(found.all(connection).await?.into_iter().map(kept).collect())
}

fn kept(row: Model) -> KeptRecord {
    let Model { id, stream, clave, regla, registro, corrida, visto_en } = row;
    let version = visto_en.timestamp_micros();
    let record = Quarantined { stream, clave, regla, registro: registro.to_string(), version };
    KeptRecord { id, record, corrida: corrida.to_string(), visto_en }
}
