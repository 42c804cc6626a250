//! `import_claims`: the ids and codes that the accepted rows of a file have. SQL by hand to read them as a stream: a large
//! file has tens of megabytes of them.

use chassis::db::{NoRelation as Relation, Orm};
use futures::TryStreamExt as _;
use sea_orm::{
    ActiveValue::Set,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgExecutor},
};

use crate::domain::{Accepted, Claims};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "import_claims")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub last_row: i32,
    /// Of the rows of a batch, 16 bytes each, in order.
    pub keys: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Keeps the ids and codes of the rows of a batch that were accepted.
pub async fn record(
    conn: &mut PgConnection,
    import: Uuid,
    last_row: u32,
    accepted: &Accepted,
) -> Result<(), DbErr> {
    let claim = ActiveModel {
        import_id: Set(import),
        last_row: Set(last_row as i32),
        keys: Set(accepted.to_bytes()),
    };
    Entity::insert(claim).exec_without_returning(&Orm::on(conn)).await.map(drop)
}

/// Adds the ids and codes of the rows of an import that were accepted so far.
pub async fn read(executor: impl PgExecutor<'_>, import: Uuid, mut claims: Claims) -> sqlx::Result<Claims> {
    let mut batches = sqlx::query_scalar::<_, Vec<u8>>(
        "select keys from import_claims where import_id = $1 order by last_row",
    )
    .bind(import)
    .fetch(executor);
    while let Some(keys) = batches.try_next().await? {
        claims.take(
            Accepted::from_bytes(&keys)
                .ok_or_else(|| sqlx::Error::Decode("keys of a batch are out of order".into()))?,
        );
    }
    Ok(claims)
}

/// Forgets them: no row of the file is to come, or all come again.
pub async fn forget(conn: &mut PgConnection, import: Uuid) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::ImportId.eq(import)).exec(&Orm::on(conn)).await.map(drop)
}
