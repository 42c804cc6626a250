//! Days that have changed at the source since they were read: rows that came later than the look-back, changed or went.
//! BigQuery counts and fingerprints its rows by day; a day that is not as it was when it was read last is read again. SQL by
//! hand: a day is compared with itself, many at once.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use jobs::JobRun;
use messaging::JobError;
use sea_orm::sqlx::{self, PgConnection, PgPool};
use uuid::Uuid;

use super::{
    bigquery::{BigQueryError, Client, decode},
    streams::{RawTable, Slice},
};

/// How often the query is begun where it fails, or its results expire or are not all.
const BEGINNINGS: u32 = 5;
/// How long it waits after the first failure; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks BigQuery about the days of a span and notes what it says. Gives how many bytes that reads there.
///
/// # Errors
/// What the run makes of BigQuery's.
pub async fn look(
    client: &Client,
    pool: &PgPool,
    table: &RawTable,
    run: &JobRun,
    span: (DateTime<Utc>, DateTime<Utc>),
) -> Result<u64, JobError> {
    let Some((sql, parameters)) = table.fingerprints(client.settings(), span) else { return Ok(0) };
    let bytes = client.bytes(&sql, &parameters).await?;
    let JobRun { job, .. } = run;
    let mut failures = 0;
    let seen = loop {
        // A worker that takes over finds the results of the dead one; but not its failures again and again.
        let id = match failures {
            0 => format!("lote_{}_dias_0", job.id.simple()),
            _ => format!("lote_{}_dias_{}_{failures}", job.id.simple(), job.epoch),
        };
        let location = client.insert(&id, &sql, &parameters).await?.location;
        failures += 1;
        match ask(client, &id, location.as_deref()).await {
            Err(
                error @ (BigQueryError::NotFound(_)
                | BigQueryError::JobFailed { .. }
                | BigQueryError::Incomplete { .. }),
            ) if failures < BEGINNINGS => {
                tracing::info!(stream = table.stream, %error, failures, "the days are asked for again");
                tokio::time::sleep(PAUSE * 2_u32.pow(failures - 1)).await;
            }
            answer => break answer?,
        }
    };
    note(pool, table, job.id, span, seen).await.map_err(JobError::retry)?;
    Ok(bytes)
}

/// What BigQuery says of days, a column a vector.
#[derive(Default)]
struct Seen {
    days: Vec<NaiveDate>,
    counts: Vec<i64>,
    prints: Vec<String>,
}

async fn ask(client: &Client, id: &str, location: Option<&str>) -> Result<Seen, BigQueryError> {
    let mut seen = Seen::default();
    let (mut rows, mut token) = (0, None::<String>);
    loop {
        let page = client.page(id, location, token.as_deref(), |fields, rows| {
            rows.iter().map(|row| decode(fields, row)).collect::<Result<Vec<_>, _>>()
        });
        let page = page.await?.counted(rows)?;
        rows += page.number;
        for row in page.rows.map_err(|drift| BigQueryError::Malformed(drift.to_string()))? {
            let day = row.get("dia").and_then(|day| day.as_str()?.parse::<NaiveDate>().ok());
            // Rows without a moment are in no slice either.
            let Some(day) = day else { continue };
            seen.days.push(day);
            seen.counts.push(row.get("filas").and_then(serde_json::Value::as_i64).unwrap_or_default());
            seen.prints.push(row.get("huella").map(ToString::to_string).unwrap_or_default());
        }
        token = page.next;
        if token.is_none() {
            return Ok(seen);
        }
    }
}

async fn note(
    pool: &PgPool,
    table: &RawTable,
    run: Uuid,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    seen: Seen,
) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    // A day that BigQuery does not name has no rows any more.
    sqlx::query(
        "update raw_days set seen_filas = 0, seen_huella = '', seen_run = $2
         where stream = $1 and dia >= ($3 at time zone 'America/Lima')::date and dia < ($4 at time zone 'America/Lima')::date",
    )
    .bind(table.stream)
    .bind(run)
    .bind(from)
    .bind(to)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into raw_days (stream, dia, seen_filas, seen_huella, seen_run)
         select $1, dia, filas, huella, $2 from unnest($3::date[], $4::bigint[], $5::text[]) as seen (dia, filas, huella)
         on conflict (stream, dia) do update
         set seen_filas = excluded.seen_filas, seen_huella = excluded.seen_huella, seen_run = excluded.seen_run",
    )
    .bind(table.stream)
    .bind(run)
    .bind(seen.days)
    .bind(seen.counts)
    .bind(seen.prints)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// The days before `until` that a run found to be others than when they were read, newest first.
///
/// # Errors
/// The database.
pub async fn differing(
    pool: &PgPool,
    table: &RawTable,
    run: Uuid,
    until: NaiveDate,
) -> sqlx::Result<Vec<NaiveDate>> {
    sqlx::query_scalar(
        "select dia from raw_days
         where stream = $1 and seen_run = $2 and dia < $3 and (filas, huella) is distinct from (seen_filas, seen_huella)
         order by dia desc",
    )
    .bind(table.stream)
    .bind(run)
    .bind(until)
    .fetch_all(pool)
    .await
}

/// Notes that a slice's days were read after the run had looked at them, in the caller's transaction. `rows` is how many there
/// were, where the run has looked at all of them: if it had found others, the days are not as they were then, and are compared
/// with nothing the next time.
///
/// # Errors
/// The database.
pub async fn read(
    conn: &mut PgConnection,
    table: &RawTable,
    run: Uuid,
    slice: Slice,
    rows: Option<u64>,
) -> sqlx::Result<()> {
    let Some((from, to)) = slice else { return Ok(()) };
    sqlx::query(
        "with looked as (
             select dia, sum(seen_filas) over () as filas from raw_days
             where stream = $1 and seen_run = $2 and dia >= ($3 at time zone 'America/Lima')::date
               and dia <= (($4 - interval '1 microsecond') at time zone 'America/Lima')::date
         )
         update raw_days d
         set filas = case when $5::bigint is null or $5 = looked.filas then d.seen_filas end, huella = d.seen_huella
         from looked where d.stream = $1 and d.dia = looked.dia",
    )
    .bind(table.stream)
    .bind(run)
    .bind(from)
    .bind(to)
    .bind(rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)))
    .execute(conn)
    .await
    .map(drop)
}

/// Has the next run that looks at these days read them again, in the caller's transaction. Who has looked already and reads
/// them now notes nothing: it may have begun before what the caller does.
///
/// # Errors
/// The database.
pub async fn forget(conn: &mut PgConnection, table: &RawTable, days: &[NaiveDate]) -> sqlx::Result<()> {
    sqlx::query("update raw_days set filas = null, seen_run = $3 where stream = $1 and dia = any ($2)")
        .bind(table.stream)
        .bind(days)
        .bind(Uuid::nil())
        .execute(conn)
        .await
        .map(drop)
}
