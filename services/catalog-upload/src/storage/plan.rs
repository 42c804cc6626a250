//! `import_plan`: what a dry run would do, and the first pass of an import that is all or nothing. SQL by hand: a row a row
//! of a file, written and read a batch at a time.

use std::collections::BTreeMap;

use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::{
    batch::{BOUND, ROWS, bind, values_but},
    ledger::{Action, LISTED},
};
use crate::domain::{
    Column, ExistingProduct, ProductRow, RowError, Summary,
    import_result::{PlannedChange, Simulacion},
};

/// The products that have any of the ids or any of the codes, as they would be after what the import has planned so
/// far.
pub async fn matching(
    conn: &mut PgConnection,
    ids: &[&str],
    codigos: &[&str],
    import: Uuid,
    proveedor_id: &str,
) -> sqlx::Result<Vec<ExistingProduct>> {
    const QUERY: &str = "
        with wanted as materialized (select * from unnest($1::text[], $2::text[]) as wanted (id, codigo)),
        met as (
            select met.id from wanted cross join lateral (
                select id from products p where p.id = wanted.id offset 0) met
            union
            select met.id from wanted cross join lateral (
                select id from products p where p.codigo = wanted.codigo offset 0) met
            union
            select met.product_id from wanted cross join lateral (
                select product_id from import_plan l
                where l.import_id = $3 and l.product_id = wanted.id offset 0) met
            union
            select met.product_id from wanted cross join lateral (
                select product_id from import_plan l
                where l.import_id = $3 and l.codigo = wanted.codigo offset 0) met
        )
        select met.id, coalesce(plan.codigo, p.codigo), coalesce(p.proveedor_id, $4), plan.product_id is not null
        from met
            left join lateral (select * from products p where p.id = met.id offset 0) p on true
            left join lateral (
                select * from import_plan l where l.import_id = $3 and l.product_id = met.id offset 0) plan on true";
    let rows: Vec<(String, String, String, bool)> =
        sqlx::query_as(QUERY).bind(ids).bind(codigos).bind(import).bind(proveedor_id).fetch_all(conn).await?;
    let product = |(id, codigo, proveedor_id, from_this_file)| ExistingProduct {
        id,
        codigo,
        proveedor_id,
        // No plan rests on it.
        version: 0,
        from_this_file,
    };
    Ok(rows.into_iter().map(product).collect())
}

/// Notes which columns the updates of a dry run would change; gives how many would change none.
pub async fn record_updates(
    conn: &mut PgConnection,
    import: Uuid,
    updates: &[(&str, &ProductRow)],
    absent: &[Column],
) -> sqlx::Result<u64> {
    if updates.is_empty() {
        return Ok(0);
    }
    let changed = |name: &str| format!("case when p.{name} is distinct from r.{name} then '{name}' end");
    let (rows, fields, of) = (&*ROWS, values_but(absent, changed, ", "), BOUND + 1);
    let statement = format!(
        "with planned as (
            insert into import_plan (import_id, row_number, product_id, codigo, action, fields)
            select ${of}, r.row_number, p.id, r.codigo, 'updated', array_remove(array[{fields}], null)
            from {rows} join products p on p.id = r.target
            returning fields
        )
        select count(*), count(*) filter (where fields = '{{}}') from planned"
    );
    let planned = bind(statement, updates).bind(import).fetch_one(conn).await?;
    let (planned, unchanged): (i64, i64) = (planned.try_get(0)?, planned.try_get(1)?);
    if planned != updates.len() as i64 {
        // A product is gone since the look-up: the batch is rolled back and decided again.
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(unchanged.unsigned_abs())
}

/// Notes the products that a dry run would create.
pub async fn record_creations(
    conn: &mut PgConnection,
    import: Uuid,
    created: &[&ProductRow],
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into import_plan (import_id, row_number, product_id, codigo, action)
        select $1, row_number, id, codigo, 'created'
        from unnest($2::int[], $3::text[], $4::text[]) as r (row_number, id, codigo)";
    if created.is_empty() {
        return Ok(());
    }
    sqlx::query(STATEMENT)
        .bind(import)
        .bind(created.iter().map(|row| row.row as i32).collect::<Vec<_>>())
        .bind(created.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
        .bind(created.iter().map(|row| row.codigo.as_str()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

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
        se_rechazaria_completo: false,
    })
}

/// The first products that a dry run would create or update, in the order of the sheet.
pub async fn first_products(
    conn: &mut PgConnection,
    import: Uuid,
    action: Action,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select product_id from import_plan
        where import_id = $1 and action = $2 and fields is distinct from '{}' order by row_number limit $3",
    )
    .bind(import)
    .bind(action.name())
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

/// Forgets a plan and what was noted with it, so that it is made again.
pub async fn forget(conn: &mut PgConnection, import: Uuid) -> sqlx::Result<()> {
    for table in ["import_plan", "import_rejections", "import_warnings", "import_claims"] {
        let statement = format!("delete from {table} where import_id = $1");
        sqlx::query(AssertSqlSafe(statement)).bind(import).execute(&mut *conn).await?;
    }
    Ok(())
}
