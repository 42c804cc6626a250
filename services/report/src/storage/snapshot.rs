//! What a file shows: one transaction, one snapshot, streamed. SQL by hand: COPY, on a connection with settings of its
//! own.

use bytes::Bytes;
use chrono::NaiveDate;
use chrono_tz::Tz;
use futures::stream::BoxStream;
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool, Postgres, pool::PoolConnection};

use crate::domain::params::MessageState;

/// A snapshot of the tables. Unless it was finished, its connection is closed: PostgreSQL would go on sending rows
/// that nobody reads.
pub struct Snapshot {
    conn: PoolConnection<Postgres>,
    finished: bool,
}

/// What the rows of a campaign's file have in common.
#[derive(Clone, Debug)]
pub struct Head {
    pub nombre: String,
    pub fecha: NaiveDate,
    pub rows: i64,
    pub changes: i64,
    /// How many rows it was to have, if anybody has said.
    pub expected: Option<i64>,
}

impl Snapshot {
    /// Begins; times are shown as a clock in `zone` would.
    pub async fn begin(pool: &PgPool, zone: Tz) -> sqlx::Result<Self> {
        let mut snapshot = Self { conn: pool.acquire().await?, finished: false };
        // However long the reader takes. In the order of the index: a sort would spill to disk before the first
        // row is sent.
        let begin = format!(
            "begin isolation level repeatable read read only;
             set local statement_timeout = 0;
             -- A summary sends nothing until its end: a reader that is gone would not be noticed before.
             set local client_connection_check_interval = '5s';
             set local timezone = '{zone}';
             set local enable_sort = off;
             set local max_parallel_workers_per_gather = 0"
        );
        sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *snapshot.conn).await?;
        Ok(snapshot)
    }

    /// A campaign, if it is there.
    pub async fn head(&mut self, campaign: i64) -> sqlx::Result<Option<Head>> {
        let head = "select nombre, fecha, filas, cambios, filas_esperadas from ta_sms_maestro where id = $1";
        let found: Option<(String, NaiveDate, i64, i64, Option<i64>)> =
            sqlx::query_as(head).bind(campaign).fetch_optional(&mut *self.conn).await?;
        Ok(found.map(|(nombre, fecha, rows, changes, expected)| Head {
            nombre,
            fecha,
            rows,
            changes,
            expected,
        }))
    }

    /// How many campaigns a day has, and what marks each change of theirs.
    pub async fn day(&mut self, fecha: NaiveDate) -> sqlx::Result<(i64, i64)> {
        sqlx::query_as(
            "select count(*), coalesce(sum(cambios + 1), 0)::bigint from ta_sms_maestro where fecha = $1",
        )
        .bind(fecha)
        .fetch_one(&mut *self.conn)
        .await
    }

    /// A campaign's messages in the order of their ids, as COPY's text: phone, text, time, state, error.
    pub async fn messages(
        &mut self,
        campaign: i64,
        fecha: NaiveDate,
        states: &[MessageState],
    ) -> sqlx::Result<BoxStream<'_, sqlx::Result<Bytes>>> {
        // COPY binds no parameters: all that goes in here are numbers, days and words of ours.
        let only = if states.is_empty() {
            String::new()
        } else {
            let names: Vec<_> = states.iter().map(|state| format!("'{}'", state.name())).collect();
            format!("where estado in ({})", names.join(", "))
        };
        let copy = format!(
            "copy (select telefono, mensaje, to_char(fecha_envio, 'YYYY-MM-DD HH24:MI:SS'), estado, error
                   from sp_obtener_detalle_campana_paginado({campaign}, 0, null, date '{fecha}') {only} order by id)
             to stdout"
        );
        self.conn.copy_out_raw(&copy).await
    }

    /// A day's campaigns with their totals, as COPY's text: id, name, state, all, sent, pending, failed.
    pub async fn totals(&mut self, fecha: NaiveDate) -> sqlx::Result<BoxStream<'_, sqlx::Result<Bytes>>> {
        let copy = format!(
            "copy (select m.id, m.nombre, m.estado, coalesce(d.todas, 0), coalesce(d.enviadas, 0),
                          coalesce(d.pendientes, 0), coalesce(d.fallidas, 0)
                   from sp_obtener_campanas_por_fecha(date '{fecha}') m left join (
                       select id_maestro, count(*) as todas, count(*) filter (where estado = 'ENVIADO') as enviadas,
                              count(*) filter (where estado = 'PENDIENTE') as pendientes,
                              count(*) filter (where estado = 'FALLIDO') as fallidas
                       from ta_sms_detalle where fecha = date '{fecha}' group by id_maestro) d on d.id_maestro = m.id
                   order by m.id)
             to stdout"
        );
        self.conn.copy_out_raw(&copy).await
    }

    /// Ends it: all rows were read.
    pub async fn finish(mut self) -> sqlx::Result<()> {
        sqlx::raw_sql("commit").execute(&mut *self.conn).await?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !self.finished {
            self.conn.close_on_drop();
        }
    }
}
