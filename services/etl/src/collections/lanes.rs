//! Whether the raw tables hold whole days only: nobody reads, and who read last got to an end. SQL by hand: it asks for the
//! runs of all lanes at once.

use sea_orm::sqlx::{self, PgConnection};

use super::streams::TABLES;

/// What the runs of all streams have left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lanes {
    Whole,
    /// A stream is being read, or waits to be; or a day of a backfill is.
    Busy,
    /// A run ended before its end: which, and why.
    Broken(String),
}

/// Looks at the live runs of all streams and at their backfills, in the snapshot of the caller's transaction.
///
/// The last live run of a stream must have completed. A backfill is asked for by people, for days of their choice: one that
/// ended within a day has left it half-read, until a run that began later has read all of its days.
pub(super) async fn lanes(conn: &mut PgConnection) -> sqlx::Result<Lanes> {
    let live: Vec<&str> = TABLES.iter().map(|table| table.stream).collect();
    let backfills: Vec<String> = live.iter().map(|stream| format!("{stream}#backfill")).collect();
    // Between two of its days a backfill has left whole ones only, however long it waits there.
    let busy: bool = sqlx::query_scalar(
        "select exists (select from jobs where kind = 'etl.runs' and state in ('pending', 'running')
                        and (params ->> 'lane' = any ($1)
                             or params ->> 'lane' = any ($2)
                                and (checkpoint ->> 'snapshot' is not null or (checkpoint ->> 'beginning')::bigint > 0)))",
    )
    .bind(&live)
    .bind(&backfills)
    .fetch_one(&mut *conn)
    .await?;
    if busy {
        return Ok(Lanes::Busy);
    }
    let broken: Option<(String, String, Option<String>)> = sqlx::query_as(
        "with latest as (
             select distinct on (params ->> 'lane') params ->> 'lane' as lane, state::text, error from jobs
             where kind = 'etl.runs' and params ->> 'lane' = any ($1)
             order by params ->> 'lane', created_at desc, id desc
         )
         select lane, state, error from latest where state <> 'completed'
         union all
         select b.params ->> 'lane', b.state::text, b.error from jobs b
         where b.kind = 'etl.runs' and b.params ->> 'lane' = any ($2) and b.state <> 'completed'
           -- Within a slice: it was begun, or is to be begun again.
           and (b.checkpoint ->> 'snapshot' is not null or (b.checkpoint ->> 'beginning')::bigint > 0)
           and not exists (
               select from jobs r
               where r.kind = 'etl.runs' and r.params ->> 'lane' in (b.params ->> 'lane', b.params ->> 'stream')
                 and r.state = 'completed' and r.started_at > b.finished_at
                 and (r.checkpoint ->> 'from')::timestamptz <= (b.checkpoint ->> 'from')::timestamptz
                 and (r.checkpoint ->> 'to')::timestamptz >= (b.checkpoint ->> 'to')::timestamptz)
         limit 1",
    )
    .bind(&live)
    .bind(&backfills)
    .fetch_optional(conn)
    .await?;
    Ok(match broken {
        None => Lanes::Whole,
        Some((lane, state, error)) => {
            Lanes::Broken(format!("{lane} {state}: {}", error.as_deref().unwrap_or_default()))
        }
    })
}
