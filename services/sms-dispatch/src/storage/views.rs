//! The counts by state, LADA and city, and the cube they are made of. SQL by hand: it refreshes materialised views.

use std::time::Duration;

use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};

/// The cube first: the others read it.
const VIEWS: [&str; 4] = ["contact_cube", "contacts_by_state", "contacts_by_lada", "contacts_by_city"];

/// Counts again, while readers see the old counts.
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

/// Whether the counts are older than that, or were never made.
pub async fn older_than(pool: &PgPool, age: Duration) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select coalesce(max(as_of) < now() - make_interval(secs => $1), true) from contact_cube",
    )
    .bind(age.as_secs_f64())
    .fetch_one(pool)
    .await
}
