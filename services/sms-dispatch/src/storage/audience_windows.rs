//! A window of an audience on its way into the ledger: judged on one connection, into a temporary table, and copied from there
//! into the day's partition on another, so that the next one is judged while it is written. SQL by hand: one statement judges,
//! counts and numbers a window; COPY moves its rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use futures::stream::BoxStream;
use sea_orm::sqlx::{
    self, AssertSqlSafe, Connection as _, PgConnection, PgTransaction, Postgres, QueryBuilder, types::Json,
};
use tokio::sync::mpsc;

use super::{
    audiences::{Among, Audience, Group, Reason, SUMS, push_judged, push_vars},
    ledger::partition,
    slices::{Slice, Wait},
};
use crate::domain::{campaign::Frozen, message_state::MessageState, windows::Clocks};

/// What a window gives the ledger of each recipient.
const COLUMNS: &str = "campaign, position, date, phone_e164, contact_id, state_code, lada, vars, variant";

/// Messages of a slice.
const SLICE: i32 = 500;

/// What a window came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The last position before it; its recipients have the next ones, in the order of their zones.
    base: i32,
    /// The last contact's id, or the last row's of a file.
    pub last: i64,
    pub matched: i64,
    excluded: Vec<Reason>,
    groups: Vec<Group>,
}

impl Window {
    pub fn recipients(&self) -> i64 {
        self.groups.iter().map(|group| group.recipients).sum()
    }

    /// Its ranges of positions, each of one zone.
    fn slices(&self) -> Vec<Slice> {
        let mut zones: BTreeMap<i16, i64> = BTreeMap::new();
        for group in &self.groups {
            *zones.entry(group.zone).or_default() += group.recipients;
        }
        let (mut slices, mut before) = (Vec::new(), self.base);
        for (zone, mut left) in zones {
            while left > 0 {
                let messages = i32::try_from(left).map_or(SLICE, |left| left.min(SLICE));
                let last_position = before + messages;
                slices.push(Slice { first_position: before + 1, last_position, zone });
                (before, left) = (last_position, left - i64::from(messages));
            }
        }
        slices
    }
}

/// What judging gives: how many match, who falls out, the recipients in groups, and the last id.
type Judged = (i64, Json<Vec<Reason>>, Json<Vec<Group>>, Option<i64>);

/// Begins the transaction that judges a window, or the one that writes it. Planned for the values at hand each time, and however
/// long it takes: a sample's window is all contacts.
///
/// # Errors
/// The database.
pub async fn begin(conn: &mut PgConnection) -> sqlx::Result<PgTransaction<'_>> {
    let mut transaction = conn.begin().await?;
    let settings = "set local statement_timeout = 0; set local plan_cache_mode = force_custom_plan";
    sqlx::raw_sql(settings).execute(&mut *transaction).await?;
    Ok(transaction)
}

/// Judges the next `size` contacts behind the id `after`, or a file's rows, and numbers who becomes a recipient from `base` on.
/// A random sample, or the newest, is one window of all contacts: it is drawn among those that nothing excludes. None where
/// nobody is left.
///
/// Whose phone the ledger has already falls out where `repeats` says to look, look-up by look-up, which takes about as long as
/// all else; [`copy`] finds such a phone in any case.
///
/// The recipients wait in a temporary table for [`rows`], until the transaction ends: it should be rolled back, as nothing of it
/// is to stay, and a commit would wait for the disk.
///
/// # Errors
/// The database.
pub async fn judge(
    conn: &mut PgConnection,
    audience: &Audience<'_>,
    after: i64,
    size: i64,
    base: i32,
    repeats: bool,
) -> sqlx::Result<Option<Window>> {
    // As the ledger's columns are, so that COPY's binary rows fit there. No statistics: nothing but whole scans reads it.
    // Between its last row and their way into the ledger the transaction is idle, for as long as that takes; and where nobody
    // waits any more for a sample, which sends nothing until it is drawn, it ends.
    let settings = format!(
        "set local idle_in_transaction_session_timeout = 0;
         set local client_connection_check_interval = '5s';
         create temporary table judged_window on commit drop as select {COLUMNS} from {} with no data",
        partition(audience.date)
    );
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut *conn).await?;
    let mut query = QueryBuilder::<Postgres>::new("");
    push_judged(&mut query, audience, Among::Window { after, size, repeats });
    query.push(format!(", written as (insert into judged_window ({COLUMNS}) select "));
    query.push_bind(audience.campaign).push(", ").push_bind(base);
    query.push(" + row_number() over (order by zone, id), ").push_bind(audience.date);
    // A file's people are nobody's contacts.
    let contact = if audience.frozen.file.is_some() { "null::bigint" } else { "id" };
    query.push(format!(", phone_e164, {contact}, state_code, lada, "));
    push_vars(&mut query, audience.names);
    query.push(", variant from zoned order by zone, id) select").push(SUMS);
    query.push(", (select max(id) from matching)");
    let (matched, excluded, groups, last): Judged =
        query.build_query_as().persistent(false).fetch_one(conn).await?;
    Ok(last.map(|last| Window { base, last, matched, excluded: excluded.0, groups: groups.0 }))
}

/// The recipients of the window that was judged, as [`copy`] takes them. Unless it is read to its end, the connection must be
/// closed: PostgreSQL would go on sending rows.
///
/// # Errors
/// The database.
pub async fn rows(conn: &mut PgConnection) -> sqlx::Result<BoxStream<'_, sqlx::Result<Bytes>>> {
    conn.copy_out_raw("copy judged_window to stdout (format binary)").await
}

/// Copies a window's recipients into the ledger, and gives how many there were. They come in pieces of any size; whoever sends
/// them may stop in their midst, so the caller must look whether all came. After an error the connection must be closed.
///
/// # Errors
/// The database; of a phone that the campaign has already, one that [`is_repeated`].
pub async fn copy(
    conn: &mut PgConnection,
    date: NaiveDate,
    mut pieces: mpsc::Receiver<Bytes>,
) -> sqlx::Result<u64> {
    let statement = format!("copy {} ({COLUMNS}) from stdin (format binary)", partition(date));
    let mut copy = conn.copy_in_raw(&statement).await?;
    while let Some(piece) = pieces.recv().await {
        copy.send(piece).await?;
    }
    copy.finish().await
}

/// Whether the ledger has a row of a window already.
pub fn is_repeated(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

/// Writes what goes with a window's recipients: their slices, what they add to the totals, and who fell out, by reason.
///
/// # Errors
/// The database.
pub async fn record(conn: &mut PgConnection, audience: &Audience<'_>, window: &Window) -> sqlx::Result<()> {
    let slices = window.slices();
    let hours = own_hours(audience.frozen);
    // Whoever goes by no clock of theirs is due at once.
    sqlx::query(
        "insert into slices (campaign, first_position, last_position, zone, due_at, reason)
         select $1, s.first, s.last, s.zone, greatest(now(), s.due), case when s.due > now() then $6 end
         from unnest($2::integer[], $3::integer[], $4::smallint[], $5::timestamptz[]) s (first, last, zone, due)",
    )
    .bind(audience.campaign)
    .bind(slices.iter().map(|slice| slice.first_position).collect::<Vec<_>>())
    .bind(slices.iter().map(|slice| slice.last_position).collect::<Vec<_>>())
    .bind(slices.iter().map(|slice| slice.zone).collect::<Vec<_>>())
    .bind(slices.iter().map(|slice| hours.get(&slice.zone).copied()).collect::<Vec<_>>())
    .bind(Wait::Hours.name())
    .execute(&mut *conn)
    .await?;
    let groups = &window.groups;
    sqlx::query(
        "insert into campaign_deltas
             (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros)
         select $1, coalesce(g.state_code, ''), date_trunc('hour', now(), 'UTC'), $5, '', g.variant, g.messages, 0, 0
         from unnest($2::text[], $3::smallint[], $4::bigint[]) g (state_code, variant, messages)",
    )
    .bind(audience.campaign)
    .bind(groups.iter().map(|group| group.state_code.as_deref()).collect::<Vec<_>>())
    .bind(groups.iter().map(|group| group.variant).collect::<Vec<_>>())
    .bind(groups.iter().map(|group| group.recipients).collect::<Vec<_>>())
    .bind(MessageState::Pending.code())
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "insert into campaign_exclusions as e (campaign, reason, contacts)
         select $1, x.reason, x.contacts from unnest($2::text[], $3::bigint[]) x (reason, contacts)
         on conflict (campaign, reason) do update set contacts = e.contacts + excluded.contacts",
    )
    .bind(audience.campaign)
    .bind(window.excluded.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>())
    .bind(window.excluded.iter().map(|one| one.contacts).collect::<Vec<_>>())
    .execute(conn)
    .await
    .map(drop)
}

/// Adds a window to its campaign's row. False where the campaign was cancelled: then nothing of the window may be committed, for
/// what is left of such a campaign is being settled.
///
/// # Errors
/// The database.
pub async fn add_to_campaign(conn: &mut PgConnection, campaign: i32, window: &Window) -> sqlx::Result<bool> {
    sqlx::query(
        "update campaigns set matched = matched + $2, recipients = recipients + $3, excluded = excluded + $2 - $3,
             version = version + 1, updated_at = now() where number = $1 and state = 'preparing'",
    )
    .bind(campaign)
    .bind(window.matched)
    .bind(window.recipients())
    .execute(conn)
    .await
    .map(|done| done.rows_affected() > 0)
}

/// When messages to each of the clocks are due, by their number, where they go by these.
fn own_hours(frozen: &Frozen) -> BTreeMap<i16, DateTime<Utc>> {
    let Some(hour) = frozen.own_hour else { return BTreeMap::new() };
    Clocks::ALL.into_iter().filter_map(|clocks| Some((clocks.code(), hour.at(clocks)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_the_positions_of_a_window_zone_by_zone() {
        let group = |zone, variant, recipients| Group { state_code: None, zone, variant, recipients };
        let window = Window {
            base: 40,
            last: 9_000,
            matched: 2_000,
            excluded: Vec::new(),
            groups: vec![group(7, 0, 300), group(2, 0, 500), group(7, 1, 701), group(3, 0, 1)],
        };
        let slices: Vec<_> = window
            .slices()
            .into_iter()
            .map(|slice| (slice.zone, slice.first_position, slice.last_position))
            .collect();
        assert_eq!(
            slices,
            [(2, 41, 540), (3, 541, 541), (7, 542, 1_041), (7, 1_042, 1_541), (7, 1_542, 1_542)]
        );
        assert_eq!(window.recipients(), 1_502);
    }
}
