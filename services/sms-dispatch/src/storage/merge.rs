//! Staged rows become contacts, one contact a phone. SQL by hand: a batch of any size is one statement.
//!
//! Rows of one import with one phone merge: the most complete one wins, the lowest source id among equals, and the
//! others' filled fields complete it. A contact that an earlier import brought in takes what the new rows know, and
//! keeps what they don't; and the spelling of its phone. State and city that no row knows are guessed by the LADA for
//! contacts of this import alone: a guess counts for nothing beside what a row, a person or an earlier import says. A consent
//! that a person took back is not returned by a file.

use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool};

use crate::domain::{State, ladas};

/// The fields that make a row complete, and that others complete.
pub const FIELDS: [&str; 6] = ["full_name", "address", "neighborhood", "municipality", "state_code", "city"];
/// Fields that go with them, but count for nothing.
pub const EXTRAS: [&str; 4] = ["phone_original", "is_mobile", "operator", "migrated_at"];
/// Whether a field of them is what the LADA suggests: true or null.
pub const GUESSES: [(&str, &str); 2] = [("state_guessed", "state_code"), ("city_guessed", "city")];

/// What became of a batch of staged rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub rows: i64,
    pub created: i64,
    pub updated: i64,
    pub unchanged: i64,
    /// Rows that went into another row's contact.
    pub merged: i64,
}

/// The last phone of the next batch of some `size` rows after `after`; none where no rows are left.
pub async fn next_phone(
    conn: &mut PgConnection,
    import: i32,
    after: &str,
    size: i64,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(
        "select max(phone_e164) from (
             select phone_e164 from import_staged where import = $1 and phone_e164 > $2
             order by phone_e164 limit $3) batch",
    )
    .bind(import)
    .bind(after)
    .bind(size)
    .fetch_one(conn)
    .await
}

/// Merges the staged rows whose phones are in `after..=to`. Their contacts are locked first, by a statement of its own:
/// the next one sees them as they then are, and finds them by their place, for which a load needs no index.
pub async fn merge(
    conn: &mut PgConnection,
    import: i32,
    after: &str,
    to: &str,
    consent: &str,
) -> sqlx::Result<Merged> {
    sqlx::query(
        "select count(*) from (
             select from (select distinct phone_e164 from import_staged
                          where import = $1 and phone_e164 > $2 and phone_e164 <= $3) p
             cross join lateral (select from contacts c where c.phone_e164 = p.phone_e164 offset 0 for update) c) locked",
    )
    .bind(import)
    .bind(after)
    .bind(to)
    .execute(&mut *conn)
    .await?;
    let guesses: Vec<_> = ladas::all().collect();
    let (rows, created, updated, unchanged, merged) =
        sqlx::query_as::<_, (i64, i64, i64, i64, i64)>(AssertSqlSafe(statement()))
            .bind(import)
            .bind(after)
            .bind(to)
            .bind(consent)
            .bind(guesses.iter().map(|(lada, _)| lada.to_string()).collect::<Vec<_>>())
            .bind(guesses.iter().map(|(_, info)| info.state.map(State::code)).collect::<Vec<_>>())
            .bind(guesses.iter().map(|(_, info)| info.city).collect::<Vec<_>>())
            .fetch_one(conn)
            .await?;
    Ok(Merged { rows, created, updated, unchanged, merged })
}

/// Tells the planner how many rows are staged: it would take them for few, and compare each with each.
pub async fn analyze(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query("analyze import_staged").execute(pool).await.map(drop)
}

/// Forgets an import's staged rows.
pub async fn clear(conn: &mut PgConnection, import: i32) -> sqlx::Result<()> {
    sqlx::query("delete from import_staged where import = $1").bind(import).execute(conn).await.map(drop)
}

/// Each field as `each` writes it, in one order.
fn list(each: impl Fn(&str) -> String) -> String {
    FIELDS.into_iter().chain(EXTRAS).map(each).collect::<Vec<_>>().join(", ")
}

fn columns() -> String {
    list(str::to_owned)
}

fn flags() -> String {
    GUESSES.map(|(flag, _)| flag).join(", ")
}

/// What an update of a contact `c` sets to a row `m`.
fn set() -> String {
    let flags = GUESSES.map(|(flag, _)| format!("{flag} = m.{flag}")).join(", ");
    format!("{}, {flags}", list(|field| format!("{field} = m.{field}")))
}

fn statement() -> String {
    format!(
        "with {}, {}, {}, {},
         counts as (
             select (select count(*) from staged) as rows, (select count(*) from created) as created,
                    (select count(*) from updated) as updated, (select count(*) from losers) as merged,
                    (select count(*) from there where import <> $1) as of_others)
         select rows, created, updated, of_others - updated, merged from counts",
        merged_rows(),
        guessed_rows(),
        own_contacts(),
        contacts_of_others()
    )
}

/// `merged`: one row a phone, of the staged ones and of the contacts that this import made.
fn merged_rows() -> String {
    let (columns, filled) = (columns(), FIELDS.join(", "));
    let first_filled = list(|field| {
        format!("(array_agg({field} order by rank) filter (where {field} is not null))[1] as {field}")
    });
    // What a provider said of a phone is newer than any numbering plan.
    let of_staged = list(|field| match field {
        "operator" | "is_mobile" => format!("coalesce(l.{field}, s.{field}) as {field}"),
        field => format!("s.{field}"),
    });
    let of_contact = list(|field| match GUESSES.iter().find(|(_, guessed)| *guessed == field) {
        Some((flag, _)) => format!("case when {flag} then null else {field} end as {field}"),
        None => field.to_owned(),
    });
    format!(
        "staged as materialized (
             select {of_staged}, s.phone_e164, s.lada, s.source_id, s.is_valid
             from import_staged s left join phone_lookups l using (phone_e164)
             where s.import = $1 and s.phone_e164 > $2 and s.phone_e164 <= $3),
         -- Look-ups one by one: a planner that thinks the table empty would read it whole, and the other way round.
         there as materialized (
             select c.* from (select distinct phone_e164 from staged) p
             cross join lateral (select ctid as at, * from contacts c where c.phone_e164 = p.phone_e164 offset 0) c),
         candidates as (
             select phone_e164, lada, source_id, is_valid, {columns} from staged
             union all
             select phone_e164, lada, source_id, is_valid, {of_contact} from there where import = $1),
         ranked as materialized (
             select *, count(*) over (partition by phone_e164) as rivals,
                    row_number() over by_merit as rank, first_value(source_id) over by_merit as winner
             from candidates
             window by_merit as (partition by phone_e164 order by num_nonnulls({filled}) desc, source_id)),
         merged as materialized (
             select phone_e164, lada, source_id, is_valid, {columns} from ranked where rivals = 1
             union all
             select phone_e164, min(lada), min(winner), bool_or(is_valid), {first_filled}
             from ranked where rivals > 1 group by phone_e164)"
    )
}

/// `full_ones`: the same, where a gap that no row fills is filled by the LADA; for contacts of this import.
fn guessed_rows() -> String {
    // No city of another state than the rows name.
    let guess = |field: &str| match field {
        "city" => "case when coalesce(m.state_code, g.state_code) = g.state_code then g.city end".to_owned(),
        field => format!("g.{field}"),
    };
    let completed = list(|field| match GUESSES.iter().any(|(_, guessed)| *guessed == field) {
        true => format!("coalesce(m.{field}, {}) as {field}", guess(field)),
        false => format!("m.{field}"),
    });
    let guessed = GUESSES.map(|(flag, field)| {
        format!("nullif(m.{field} is null and {} is not null, false) as {flag}", guess(field))
    });
    format!(
        "full_ones as (
             select m.phone_e164, m.lada, m.source_id, m.is_valid, {completed}, {guessed}
             from merged m left join unnest($5::text[], $6::text[], $7::text[]) g (lada, state_code, city) using (lada))",
        guessed = guessed.join(", ")
    )
}

/// What becomes of the contacts of this import: new ones, and those that are what its rows come to.
fn own_contacts() -> String {
    let (columns, flags, set) = (columns(), flags(), set());
    format!(
        "losers as (
             insert into contact_merges (import, source_id, phone_e164, into_source_id)
             select $1, source_id, phone_e164, winner from ranked where rank > 1 returning 1),
         created as (
             insert into contacts (phone_e164, lada, source_id, is_valid, {columns}, {flags}, import, status, consent,
                                   opt_out_at)
             select m.phone_e164, m.lada, m.source_id, m.is_valid, {columns}, {flags}, $1,
                    case when m.is_valid then 'ACTIVE' else 'INVALID' end,
                    case when exists (select from consent_withdrawals w where w.phone_e164 = m.phone_e164)
                         then 'unknown' else $4 end,
                    (select min(s.effective_at) from suppressions s
                     where s.phone_e164 = m.phone_e164 and s.effective_at <= now())
             from full_ones m where not exists (select from there t where t.phone_e164 = m.phone_e164)
             order by m.source_id
             returning 1),
         own as (
             update contacts c set source_id = m.source_id, is_valid = m.is_valid,
                    status = case when m.is_valid then 'ACTIVE' else 'INVALID' end, {set}
             from full_ones m join there t using (phone_e164)
             where c.ctid = t.at and t.import = $1
             returning 1)"
    )
}

/// What becomes of the contacts of other imports: they take what the rows know, and what they were is kept.
fn contacts_of_others() -> String {
    let set = set();
    let kept_flags = GUESSES
        .map(|(flag, field)| format!("case when m.{field} is null then t.{flag} end as {flag}"))
        .join(", ");
    // One phone has many spellings, none better than the other: the first stays, so that parts of a file, imported again,
    // don't rewrite each other's.
    let completed = list(|field| match field {
        "phone_original" => "coalesce(t.phone_original, m.phone_original) as phone_original".to_owned(),
        field => format!("coalesce(m.{field}, t.{field}) as {field}"),
    });
    let differ = FIELDS.into_iter().chain(EXTRAS).map(|field| match field {
        "phone_original" => "(t.phone_original is null and m.phone_original is not null)".to_owned(),
        field => format!("(m.{field} is not null and m.{field} is distinct from t.{field})"),
    });
    let differ = differ.collect::<Vec<_>>().join(" or ");
    let image = |of: &str| {
        let flags = GUESSES.iter().map(|(flag, _)| *flag);
        let fields = FIELDS.into_iter().chain(EXTRAS).chain(flags);
        let fields = fields.map(|field| format!("'{field}', {of}.{field}")).collect::<Vec<_>>().join(", ");
        format!("'is_valid', {of}.is_valid, 'status', {of}.status, 'consent', {of}.consent, {fields}")
    };
    let (before, after) = (image("t"), image("c"));
    format!(
        "changed as (
             select t.at, t.id, m.is_valid as still_valid, {completed}, {kept_flags}, m.consent,
                    jsonb_build_object({before}) as before
             from (
                 select m.*, case when w.phone_e164 is null then $4 else 'unknown' end as consent
                 from merged m left join consent_withdrawals w using (phone_e164)) m
             join there t using (phone_e164)
             where t.import <> $1 and ({differ} or (t.is_valid and not m.is_valid)
                 or (t.consent = 'unknown' and m.consent <> 'unknown'))),
         updated as (
             update contacts c set is_valid = c.is_valid and m.still_valid,
                    status = case when c.status = 'ACTIVE' and not m.still_valid then 'INVALID' else c.status end,
                    consent = case when c.consent = 'unknown' then m.consent else c.consent end,
                    updated_at = now(), {set}
             from changed m where c.ctid = m.at
             returning c.id, m.before, jsonb_build_object({after}) as after),
         remembered as (
             insert into contact_changes (import, contact_id, before, after) select $1, id, before, after from updated)"
    )
}
