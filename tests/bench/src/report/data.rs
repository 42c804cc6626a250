use anyhow::Result;
use chrono::NaiveDate;
use sea_orm::sqlx::{self, PgPool};

/// Campaigns of a day with `rows` messages each, straight into the tables, as a load would leave them.
pub async fn campaigns(pool: &PgPool, day: NaiveDate, campaigns: i64, rows: i64) -> Result<()> {
    sqlx::query("select ensure_day($1)").bind(day).execute(pool).await?;
    sqlx::query(
        "insert into ta_sms_maestro (fecha, nombre, estado, descripcion, origen, origen_id, filas, cambios)
         select $1, 'Campaña ' || n, 'COMPLETADA', 'Cobranza', 'carga', $1 || ' ' || n, $3, 1
         from generate_series(1, $2) n",
    )
    .bind(day)
    .bind(campaigns)
    .bind(rows)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into ta_sms_detalle
             (id_maestro, fecha, mensaje_id, version, telefono, mensaje, fecha_envio, estado, error)
         select m.id, $1, gen_random_uuid(), 1, '+57300' || lpad(n::text, 7, '0'),
                'Hola, su factura ' || n || ' vence mañana; responda \"PAGAR\" o llame al 018000 123 456',
                timestamptz '2026-01-27 15:00:00Z' + n * interval '10 milliseconds',
                case when n % 50 = 0 then 'FALLIDO' else 'ENVIADO' end,
                case when n % 50 = 0 then 'Número inválido' end
         from ta_sms_maestro m cross join generate_series(1, $2) n where m.fecha = $1 order by m.id, n",
    )
    .bind(day)
    .bind(rows)
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze ta_sms_detalle").execute(pool).await?;
    Ok(())
}
