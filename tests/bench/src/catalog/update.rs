use super::{Arena, SUPPLIER, import::indexed};
use crate::figure::{Figure, median};
use anyhow::{Result, ensure};
use sea_orm::sqlx::{self, PgPool};
use serde_json::Value;
use stack::platform::{Client, Upload, task_id};
use std::time::{Duration, Instant};

const ROWS: usize = 100_000;
const ROUNDS: usize = 3;
/// Of the rows of a resync, how many changed.
const CHANGED_PERCENT: u64 = 5;

/// The rows of a file as one statement writes them.
const FLOOR: &str = "
    insert into products (id, codigo, nombre, categoria, presentacion, precio_unitario, certificado_sanitario,
        condiciones_almacenamiento, tiempo_entrega_dias, stock_minimo, stock_critico, requiere_lote,
        requiere_vencimiento, proveedor_id, version)
    select id, codigo, nombre, categoria, presentacion, precio_unitario, certificado_sanitario,
        condiciones_almacenamiento, tiempo_entrega_dias, stock_minimo, stock_critico, requiere_lote,
        requiere_vencimiento, proveedor_id, nextval('product_versions') from staged
    on conflict (id) do update set codigo = excluded.codigo, nombre = excluded.nombre,
        categoria = excluded.categoria, presentacion = excluded.presentacion,
        precio_unitario = excluded.precio_unitario, certificado_sanitario = excluded.certificado_sanitario,
        condiciones_almacenamiento = excluded.condiciones_almacenamiento,
        tiempo_entrega_dias = excluded.tiempo_entrega_dias, stock_minimo = excluded.stock_minimo,
        stock_critico = excluded.stock_critico, requiere_lote = excluded.requiere_lote,
        requiere_vencimiento = excluded.requiere_vencimiento, version = excluded.version, updated_at = now()";

/// `resync_100k`: a file that was imported comes again when 5 % of its products differ from it; what it is measured by is
/// its first import, of new products. `update_100k`: all of them differ; the floor is one statement that writes the same
/// rows from a table. Both from 202 to `completed`.
pub async fn measure(arena: &Arena) -> Result<()> {
    let client = arena.platform.admin().await?;
    let pool = arena.platform.catalog().await?;
    let (mut imports, mut resyncs, mut updates, mut floors) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (file, truth) = arena.workbook(&format!("U{round}"), ROWS)?;
        let products = truth.summary.created;
        let upload = Upload::new(&file, SUPPLIER).replacing(true);
        let (took, status) = import(&client, &upload).await?;
        ensure!(
            status["result"]["resumen"]["productos_creados"] == products,
            "the import is wrong: {status:#}"
        );
        imports.push(took);
        for statement in [
            "drop table if exists staged",
            "create table staged as select * from products where id in (
                select product_id from import_ledger where import_id = (
                    select id from imports order by created_at desc limit 1))",
            "analyze staged",
        ] {
            sqlx::raw_sql(statement).execute(&pool).await?;
        }

        for (percent, times) in [(CHANGED_PERCENT, &mut resyncs), (100, &mut updates)] {
            let changed = alter(&pool, percent).await?;
            let (took, status) = import(&client, &upload).await?;
            let resumen = &status["result"]["resumen"];
            // Left out where it is none.
            let unchanged = resumen["sin_cambios"].as_u64().unwrap_or_default();
            ensure!(
                resumen["productos_actualizados"] == products && unchanged == products - changed,
                "{changed} of {products} changed: {status:#}"
            );
            times.push(took);
        }

        alter(&pool, 100).await?;
        let began = Instant::now();
        let written = sqlx::query(FLOOR).execute(&pool).await?.rows_affected();
        floors.push(began.elapsed().as_secs_f64());
        ensure!(written == products, "the floor wrote {written} of {products}");
        eprintln!(
            "import {imports:.2?} s, resync {resyncs:.2?} s, update {updates:.2?} s, floor {floors:.2?} s"
        );
    }
    sqlx::raw_sql("drop table staged").execute(&pool).await?;
    Figure::new("catalog", "resync_100k", median(resyncs), "s")
        .floor_of_time(median(imports))
        .n(ROWS)
        .print();
    Figure::new("catalog", "update_100k", median(updates), "s").floor_of_time(median(floors)).n(ROWS).print();
    Ok(())
}

async fn import(client: &Client, upload: &Upload) -> Result<(f64, Value)> {
    let task = task_id(&client.upload(upload).await?)?;
    let began = Instant::now();
    let status = client.finished(&task, Duration::from_secs(300)).await?;
    let took = began.elapsed().as_secs_f64();
    ensure!(status["status"] == "completed", "{status:#}");
    Ok((took, status))
}

/// Gives so many of the staged products another price, and leaves the table as it is once that is some time ago. Gives
/// how many.
async fn alter(pool: &PgPool, percent: u64) -> Result<u64> {
    indexed(pool).await?;
    let statement =
        "update products p set precio_unitario = case when p.precio_unitario < 5 then 5 else 1 end
        from staged s where p.id = s.id and mod(abs(hashtext(p.id)::bigint), 100) < $1";
    let altered = sqlx::query(statement).bind(percent as i64).execute(pool).await?.rows_affected();
    sqlx::raw_sql("vacuum (analyze) products").execute(pool).await?;
    ensure!(altered > 0, "nothing was altered");
    Ok(altered)
}
