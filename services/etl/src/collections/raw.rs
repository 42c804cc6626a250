//! A page of BigQuery's into a raw table. SQL by hand: a page is merged by two statements, as what it did not have is found.

use std::collections::HashSet;

use chassis::idempotency::hex;
use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sqlx::{self, Arguments as _, AssertSqlSafe, PgConnection, PgPool, postgres::PgArguments};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    arrays::{self, Keys, hashed, quoted},
    beaten::{self, Beaten},
    rows::{BadRecord, Datum, Row, newest},
    streams::RawTable,
};

/// Rows that may go at once whatever share of the slice they are.
const FUSE_FLOOR: i64 = 10;

/// How much of a slice may go at once.
#[derive(Clone, Copy, Debug)]
pub struct Fuse {
    /// Of the slice's rows, or of the table's.
    pub percent: u32,
    /// What the run has marked so far.
    pub before: u64,
    /// A day may lose most of its rows, where they have got another: what counts is how much of the table the run marks.
    pub of_table: bool,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub inserted: u64,
    pub updated: u64,
    /// As they were, older than what is there, or twice in the page.
    pub rest: u64,
}

/// Makes the caller's transaction the only one that merges into the table, or sweeps it, until its end: a daily run and a
/// backfill take turns, a page at a time. So what a page finds as it was can be left alone without being locked row by row.
///
/// # Errors
/// The database; the connection's `lock_timeout` has passed.
pub async fn take_turn(conn: &mut PgConnection, table: &RawTable) -> sqlx::Result<()> {
    chassis::lock::hold(conn, &format!("merging {}", table.name)).await
}

/// Merges rows of one page, in the caller's transaction, which has taken its turn: one row a key, the newest; what is as it
/// was is not written; an older version never beats a newer. What is not written is noted as met by the run, and what has lost
/// to another row with its key as beaten: that says nothing of the row that the table has.
///
/// # Errors
/// The database.
pub async fn merge(
    conn: &mut PgConnection,
    table: &RawTable,
    run: Uuid,
    rows: Vec<Row>,
) -> sqlx::Result<Merged> {
    let number = rows.len() as u64;
    if rows.is_empty() {
        return Ok(Merged::default());
    }
    let (rows, twice) = newest(table, rows);
    let differing = differing(conn, table, &rows).await?;
    let mut beaten: Vec<Beaten<'_>> =
        twice.iter().filter_map(|row| Some(Beaten::new(row, row.moment(table)?))).collect();
    let mut lost = HashSet::new();
    let mut written = Vec::with_capacity(differing.len());
    for Differs { at, other, wins } in differing {
        let Some(row) = rows.get(at) else { continue };
        written.push(row);
        match other {
            Some(other) if wins => beaten.push(Beaten::by(row, other)),
            Some(_) => {
                lost.insert(at);
                beaten.extend(row.moment(table).map(|moment| Beaten::new(row, moment)));
            }
            None => {}
        }
    }
    let (inserted, updated) = write(conn, table, &written).await?;
    beaten::note(conn, table, &beaten).await?;
    // What was written is of this snapshot: nothing takes it for gone.
    if inserted + updated < rows.len() as u64 {
        let met = rows.iter().enumerate().filter(|(at, _)| !lost.contains(at));
        let met: Vec<&[Datum]> = met.map(|(_, row)| row.values.as_slice()).collect();
        meet(conn, table, run, &met).await?;
    }
    Ok(Merged { inserted, updated, rest: number - inserted - updated })
}

/// What raw tables have beside the source's columns.
const OWN: [&str; 3] = ["extra", "huella", "leido_en"];

type Moment = DateTime<Utc>;

/// A row that differs: its place, from 1, and of the row that the table has with its key when it was read, whether it is live, its
/// cursor, and its version.
type Found = (i64, Option<Moment>, bool, Option<Moment>, Option<Moment>);

/// A row that the table has not, or not so.
struct Differs {
    /// Its place among the rows.
    at: usize,
    /// The moment of the row that the table has with its key, where that is another one.
    other: Option<Moment>,
    /// Whether it beats that row.
    wins: bool,
}

/// Finds the rows that the table does not have as they are. Their keys and hashes are enough for that: where nothing changed the
/// rest is not sent to the database.
async fn differing(conn: &mut PgConnection, table: &RawTable, rows: &[Row]) -> sqlx::Result<Vec<Differs>> {
    let mut arguments = PgArguments::default();
    let values: Vec<&[Datum]> = rows.iter().map(|row| row.values.as_slice()).collect();
    let (mut arrays, mut names) =
        arrays::columns(&mut arguments, table, &values, |name| table.key.contains(&name))?;
    let hashes: Vec<&str> = rows.iter().map(|row| row.hash.as_str()).collect();
    names.push(quoted("huella"));
    arrays.push(format!("${}::text[]", arrays.len() + 1));
    arguments.add(hashes).and_then(|()| arguments.add(rows.len() as i64)).map_err(sqlx::Error::Encode)?;
    let same: Vec<String> =
        table.key.iter().map(|name| format!("t.{name} = p.{name}", name = quoted(name))).collect();
    let known = |name: Option<&str>| match name {
        Some(name) => format!("known.{}", quoted(name)),
        None => "null::timestamptz".to_owned(),
    };
    // The look-up by the key goes by its index whatever the planner knows of the table and of the arrays: `limit` keeps it
    // from being joined in another way. Arrays in a select list are read side by side, those in `from` each kept as a table.
    let sql = format!(
        "select p.lugar, known.leido_en, known.eliminado_en is null, {cursor}, {version}
         from (select {unnested}, generate_series(1, ${number}) as lugar) as p
         left join lateral (select * from {name} t where {same} limit 1) as known on true
         where known.huella is distinct from p.huella or known.eliminado_en is not null",
        cursor = known(table.cursor),
        version = known(table.version),
        unnested = unnested(&arrays, &names),
        number = arrays.len() + 1,
        name = table.name,
        same = same.join(" and "),
    );
    let found: Vec<Found> = sqlx::query_as_with(AssertSqlSafe(sql), arguments).fetch_all(conn).await?;
    let differs = |(place, read_at, live, cursor, version): Found| {
        let at = usize::try_from(place - 1).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let row = &rows[at];
        let other = cursor.filter(|cursor| live && Some(*cursor) != row.moment(table));
        let wins = (row.version(table), Some(row.read_at)) >= (version, read_at);
        Ok(Differs { at, other, wins })
    };
    found.into_iter().map(differs).collect()
}

/// Arrays as columns with these names.
fn unnested(arrays: &[String], names: &[String]) -> String {
    let one = |(array, name): (&String, &String)| format!("unnest({array}) as {name}");
    arrays.iter().zip(names).map(one).collect::<Vec<_>>().join(", ")
}

/// Writes rows that the table has not, or not so. Gives how many were inserted and updated.
async fn write(conn: &mut PgConnection, table: &RawTable, rows: &[&Row]) -> sqlx::Result<(u64, u64)> {
    if rows.is_empty() {
        return Ok((0, 0));
    }
    let mut arguments = PgArguments::default();
    let values: Vec<&[Datum]> = rows.iter().map(|row| row.values.as_slice()).collect();
    let (mut arrays, mut names) = arrays::columns(&mut arguments, table, &values, |_| true)?;
    let picked: Vec<String> = names.iter().map(|name| format!("p.{name}")).collect();
    let extra: Vec<Option<&str>> = rows.iter().map(|row| row.extra.as_deref()).collect();
    let hashes: Vec<&str> = rows.iter().map(|row| row.hash.as_str()).collect();
    let read_at: Vec<DateTime<Utc>> = rows.iter().map(|row| row.read_at).collect();
    for (name, kind) in OWN.into_iter().zip(["text", "text", "timestamptz"]) {
        names.push(quoted(name));
        arrays.push(format!("${}::{kind}[]", arrays.len() + 1));
    }
    let added =
        arguments.add(extra).and_then(|()| arguments.add(hashes)).and_then(|()| arguments.add(read_at));
    added.map_err(sqlx::Error::Encode)?;
    let set: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let sql = format!(
        "with written as (
             insert into {name} ({names})
             select {picked}, coalesce(p.extra::jsonb, '{{}}'), p.huella, p.leido_en from (select {unnested}) as p
             on conflict ({key}) do update set {set}, eliminado_en = null
                 -- What is gone comes back only by a snapshot that is not older than the one which did not have it.
                 where case when {name}.eliminado_en is null then {newer} >= {known}
                            else excluded.leido_en >= {name}.leido_en end
             returning xmax = 0 as inserted
         )
         select count(*) filter (where inserted), count(*) filter (where not inserted) from written",
        name = table.name,
        names = names.join(", "),
        picked = picked.join(", "),
        unnested = unnested(&arrays, &names),
        key = table.key.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "),
        set = set.join(", "),
        newer = version(table, "excluded"),
        known = version(table, table.name),
    );
    let (inserted, updated): (i64, i64) =
        sqlx::query_as_with(AssertSqlSafe(sql), arguments).fetch_one(conn).await?;
    Ok((inserted.unsigned_abs(), updated.unsigned_abs()))
}

/// What decides which of two rows with one key is the newer one.
fn version(table: &RawTable, of: &str) -> String {
    match table.version {
        Some(name) => format!("({of}.\"{name}\", {of}.leido_en)"),
        None => format!("{of}.leido_en"),
    }
}

/// Notes rows as met by the run, by their keys. They are one row of the table: an index of keys would cost as much as all else
/// where nothing changed.
///
/// # Errors
/// The database.
pub async fn meet(
    conn: &mut PgConnection,
    table: &RawTable,
    run: Uuid,
    rows: &[&[Datum]],
) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut arguments = PgArguments::default();
    let Keys { arrays, names, hash } = arrays::keys(&mut arguments, table, rows)?;
    arguments.add(run).map_err(sqlx::Error::Encode)?;
    let sql = format!(
        "insert into raw_met (run, keys) select ${run}::uuid, array_agg({hash}) from unnest({arrays}) as p ({names})",
        run = arguments.len(),
        arrays = arrays.join(", "),
        names = names.join(", "),
    );
    sqlx::query_with(AssertSqlSafe(sql), arguments).execute(conn).await.map(drop)
}

/// What a slice does not have any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// How many rows.
    pub rows: u64,
    /// Days of rows that these had beaten: the source may have them still.
    pub days: Vec<NaiveDate>,
}

/// Marks the rows of a slice as gone that the run has not met in it: the source does not have them any more. Rows that
/// were read after the slice's snapshot stay. Gives what is gone, or why so much may not go.
///
/// # Errors
/// The database.
pub async fn sweep(
    conn: &mut PgConnection,
    table: &RawTable,
    run: Uuid,
    slice: super::streams::Slice,
    snapshot: DateTime<Utc>,
    fuse: Option<Fuse>,
) -> sqlx::Result<Result<Gone, String>> {
    let key: Vec<String> = table.key.iter().map(|name| format!("t.{}", quoted(name))).collect();
    let within = match table.cursor {
        Some(cursor) => {
            format!("($2::timestamptz is null or (t.\"{cursor}\" >= $2 and t.\"{cursor}\" < $3))")
        }
        None => "$2::timestamptz is not distinct from $3::timestamptz".to_owned(),
    };
    let (from, to) = slice.unzip();
    let live = format!(
        "select count(*) from {} t where t.eliminado_en is null and {within} and $1::uuid is not null",
        table.name
    );
    let live: i64 =
        sqlx::query_scalar(AssertSqlSafe(live)).bind(run).bind(from).bind(to).fetch_one(&mut *conn).await?;
    // How many keys there are in arrays the planner can't know, and takes them for few: in a loop it would look through all
    // of them for each row.
    let sql = format!(
        "with met as materialized (
             select unnest(m.keys) as key from raw_met m where m.run = $1
         ), gone as (
             update {name} t set eliminado_en = now(), leido_en = $4
             where t.eliminado_en is null and {within} and t.leido_en < $4
               and not exists (select from met where met.key = {hash})
             returning {hash} as clave
         )
         select (select count(*) from gone),
                (select coalesce(array_agg(distinct b.dia), '{{}}') from raw_beaten b
                 where b.stream = $5 and b.clave in (select clave from gone))",
        name = table.name,
        hash = hashed(&key),
    );
    sqlx::query("set local enable_nestloop = off").execute(&mut *conn).await?;
    let found = sqlx::query_as(AssertSqlSafe(sql)).bind(run).bind(from).bind(to).bind(snapshot);
    let (number, days): (i64, Vec<NaiveDate>) = found.bind(table.stream).fetch_one(&mut *conn).await?;
    sqlx::query("set local enable_nestloop = on").execute(&mut *conn).await?;
    if let Some(Fuse { percent, before, of_table }) = fuse {
        let most = |live: i64| (live * i64::from(percent) / 100).max(FUSE_FLOOR);
        let (mut gone, mut live) = (number, live);
        if of_table && gone > most(live) {
            gone += i64::try_from(before).unwrap_or(i64::MAX / 2);
            let left = format!("select count(*) from {} where eliminado_en is null", table.name);
            live = gone + sqlx::query_scalar::<_, i64>(AssertSqlSafe(left)).fetch_one(&mut *conn).await?;
        }
        if gone > most(live) {
            return Ok(Err(format!(
                "{gone} of {live} rows are not at the source any more, which is more than {percent} %: run it again with force where that is so"
            )));
        }
    }
    Ok(Ok(Gone { rows: number.unsigned_abs(), days }))
}

/// Keeps records that could not be read, with why, as they came.
///
/// # Errors
/// The database.
pub async fn quarantine(
    conn: &mut PgConnection,
    stream: &str,
    run: Uuid,
    read_at: DateTime<Utc>,
    bad: &[BadRecord],
) -> sqlx::Result<()> {
    for record in bad {
        let text = record.record.to_string();
        let id = hex(&Sha256::digest(format!("{stream}\0{text}"))[..16]);
        sqlx::query(
            "insert into raw_quarantine (id, stream, clave, regla, registro, corrida, leido_en, visto_en)
             values ($1, $2, $3, $4, $5, $6, $7, now())
             on conflict (id) do update set regla = excluded.regla, corrida = excluded.corrida,
                 leido_en = excluded.leido_en, visto_en = excluded.visto_en",
        )
        .bind(id)
        .bind(stream)
        .bind(&record.key)
        .bind(&record.rule)
        .bind(&record.record)
        .bind(run)
        .bind(read_at)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Deletes records in quarantine that no run has met since, and what runs that have ended had met. Gives how many
/// records.
///
/// # Errors
/// The database.
pub async fn purge(pool: &PgPool, before: DateTime<Utc>) -> sqlx::Result<u64> {
    sqlx::query(
        "delete from raw_met m where not exists (
             select from jobs j where j.id = m.run and j.state in ('pending', 'running'))",
    )
    .execute(pool)
    .await?;
    let gone =
        sqlx::query("delete from raw_quarantine where visto_en < $1").bind(before).execute(pool).await?;
    Ok(gone.rows_affected())
}

/// Forgets which keys a run has met.
///
/// # Errors
/// The database.
pub async fn forget_met(conn: &mut PgConnection, run: Uuid) -> sqlx::Result<()> {
    sqlx::query("delete from raw_met where run = $1").bind(run).execute(conn).await.map(drop)
}
