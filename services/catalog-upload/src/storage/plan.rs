//! The plan of a dry run, and of the first pass of an import that is all or nothing.

use std::collections::BTreeMap;

use sea_orm::sqlx::{self, PgConnection};
use uuid::Uuid;

use super::ledger::LISTED;
use crate::{
    domain::{RowError, Summary},
    status::{PlannedChange, Simulacion},
};

/// The first updates that a dry run would make, and how many products each column would change of.
pub async fn describe(conn: &mut PgConnection, import: Uuid) -> sqlx::Result<Simulacion> {
    const CHANGES: &str = "
        select row_number, product_id, coalesce(fields, '{}') from import_plan
        where import_id = $1 and action = 'updated' and fields <> '{}' order by row_number limit $2";
    const COLUMNS: &str = "
        select field, count(*) from import_plan, unnest(fields) as field
        where import_id = $1 and action = 'updated' group by field";
    let changes: Vec<(i32, String, Vec<String>)> =
        sqlx::query_as(CHANGES).bind(import).bind(LISTED).fetch_all(&mut *conn).await?;
    let columns: Vec<(String, i64)> = sqlx::query_as(COLUMNS).bind(import).fetch_all(conn).await?;
    Ok(Simulacion {
        cambios: changes
            .into_iter()
            .map(|(fila, producto_id, campos)| PlannedChange { fila, producto_id, campos })
            .collect(),
        campos: columns
            .into_iter()
            .map(|(column, count)| (column, count.unsigned_abs()))
            .collect::<BTreeMap<_, _>>(),
    })
}

/// The first products that a dry run would create or update, in the order of the sheet.
pub async fn first_products(
    conn: &mut PgConnection,
    import: Uuid,
    action: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select product_id from import_plan
        where import_id = $1 and action = $2 and fields is distinct from '{}' order by row_number limit $3",
    )
    .bind(import)
    .bind(action)
    .bind(LISTED)
    .fetch_all(conn)
    .await
}

/// One bad row refuses them all: the rows that were planned are rejected too. Gives the sums after that.
pub async fn refuse(conn: &mut PgConnection, import: Uuid, planned: &Summary) -> sqlx::Result<Summary> {
    const STATEMENT: &str = "
        with planned as (delete from import_plan where import_id = $1 returning row_number, product_id, action)
        insert into import_rejections (import_id, row_number, code, \"column\", value, message, product_id)
        select $1, row_number, $2, 'id', left(product_id, $3),
            'No se aplicó: el archivo se rechaza completo si alguna de sus filas tiene errores',
            -- A row that met its product by its code has another id.
            case when action = 'created' then product_id end
        from planned";
    sqlx::query(STATEMENT)
        .bind(import)
        .bind("file_refused")
        .bind(RowError::MAX_VALUE as i32)
        .execute(conn)
        .await?;
    Ok(Summary {
        total: planned.total,
        rejected: planned.total,
        duplicates: planned.duplicates,
        ..Summary::default()
    })
}

/// The plan is products now.
pub async fn carried_out(conn: &mut PgConnection, import: Uuid) -> sqlx::Result<()> {
    sqlx::query("delete from import_plan where import_id = $1").bind(import).execute(conn).await.map(drop)
}

/// Forgets a plan and what was noted with it, so that it is made anew.
pub async fn forget(conn: &mut PgConnection, import: Uuid) -> sqlx::Result<()> {
    for table in ["import_plan", "import_rejections", "import_warnings", "import_claims"] {
        let statement = format!("delete from {table} where import_id = $1");
        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(import).execute(&mut *conn).await?;
    }
    Ok(())
}
