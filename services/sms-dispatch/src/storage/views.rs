//! The counts by state, LADA and city, and the cube they are made of.

use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};

/// The cube first: the others read it.
const VIEWS: [&str; 4] = ["contact_cube", "contacts_by_state", "contacts_by_lada", "contacts_by_city"];

/// Counts anew, while readers see the old counts.
pub async fn refresh(pool: &PgPool) -> sqlx::Result<()> {
    for view in VIEWS {
        let mut transaction = pool.begin().await?;
        sqlx::raw_sql("set local statement_timeout = 0; set local lock_timeout = 0")
            .execute(&mut *transaction)
            .await?;
        let statement = format!("refresh materialized view concurrently {view}");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(())
}
