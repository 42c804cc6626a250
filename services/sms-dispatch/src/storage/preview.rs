//! What a segment comes to, told before anybody is written to. SQL by hand: counts, samples of pages and the planner's
//! estimates.
//!
//! State, LADA, city, type, status and consent are counted in the cube, as of its last refresh. Other conditions are counted
//! in the contacts where the planner thinks that cheap, and else estimated: of what the cube counts, a state's share that
//! also meets them is that of the state's rows in randomly chosen pages of the table.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, PgConnection, Postgres, QueryBuilder, Row as _};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::segment_sql::{Look, Over, push_not_suppressed, push_of_cube, push_rest};
use crate::domain::segment::Segment;

/// Contacts that a preview shows.
const SHOWN: usize = 10;
/// Phones that are drawn for them: some hit nobody, or one twice.
const DRAWN: i64 = 40;
/// Contacts that are looked at from a drawn phone on.
const WALK: i64 = 100;
/// The planner's cost up to which all rows are looked at: some tens of milliseconds.
const CHEAP: f64 = 20_000.0;
/// Pages of the table that an estimate looks at.
const PAGES: f32 = 1_000.0;

/// What is shown of a contact.
const EXAMPLE: &str = "id, phone_e164, full_name, city, state_code, lada";

/// What a segment comes to.
#[derive(Clone, Debug)]
pub struct Preview {
    /// By the state's code; none where a contact has none.
    pub by_state: BTreeMap<Option<String>, i64>,
    /// When it was counted.
    pub as_of: Option<DateTime<Utc>>,
    /// Whether it was counted; else it is estimated.
    pub exact: bool,
    /// Some of them, ten at most.
    pub sample: Vec<Example>,
}

/// One of a segment.
#[derive(Clone, Debug, Deserialize)]
pub struct Example {
    pub id: i64,
    pub phone_e164: String,
    pub full_name: Option<String>,
    pub city: Option<String>,
    pub state_code: Option<String>,
    pub lada: String,
}

#[derive(Deserialize)]
struct Counted {
    state_code: Option<String>,
    contacts: i64,
}

/// Where the count comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Cube,
    Contacts,
    Estimate,
}

/// What `segment` comes to at `now`.
pub async fn preview(
    conn: &mut PgConnection,
    segment: &Segment,
    now: DateTime<Utc>,
) -> sqlx::Result<Preview> {
    let count = if segment.is_of_the_cube() {
        Count::Cube
    } else if is_cheap(conn, segment, now).await? {
        Count::Contacts
    } else {
        Count::Estimate
    };
    let mut query = QueryBuilder::new("with ");
    push_drawn(&mut query, segment, now);
    query.push(", counted as (");
    match count {
        Count::Cube => push_cube(&mut query, segment, "state_code"),
        Count::Contacts => {
            query.push("select state_code, count(*)::bigint as contacts from contacts where true");
            push_all(&mut query, segment, now);
            push_not_suppressed(&mut query, Look::OneByOne);
            query.push(" group by 1");
        }
        Count::Estimate => push_estimate(&mut query, segment, now),
    }
    query.push(format!(
        ") select (select coalesce(jsonb_agg(counted), '[]') from counted),
                  (select coalesce(jsonb_agg(shown), '[]') from (select * from drawn limit {SHOWN}) shown),
                  (select max(as_of) from contact_cube)"
    ));
    // Planned for these values each time: a plan for any values knows of no large states.
    let row = query.build().persistent(false).fetch_one(&mut *conn).await?;
    let counted: Vec<Counted> = decode(row.try_get(0)?)?;
    let mut sample: Vec<Example> = decode(row.try_get(1)?)?;
    if sample.len() < SHOWN
        && counted.iter().map(|of_state| of_state.contacts).sum::<i64>() > sample.len() as i64
    {
        sample = search_sample(conn, segment, now).await?;
    }
    Ok(Preview {
        by_state: counted.into_iter().map(|counted| (counted.state_code, counted.contacts)).collect(),
        as_of: if count == Count::Contacts { Some(now) } else { row.try_get(2)? },
        exact: count != Count::Estimate,
        sample,
    })
}

fn decode<T: DeserializeOwned>(value: Value) -> sqlx::Result<T> {
    serde_json::from_value(value).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Whether looking at all rows of the segment is cheap. Each row's look at the suppressions is not reckoned: it is a few
/// microseconds, and the planner, which expects each from the disk, would take small segments for costly ones.
async fn is_cheap(conn: &mut PgConnection, segment: &Segment, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let mut query = QueryBuilder::new("explain (format json) select state_code from contacts where true");
    push_all(&mut query, segment, now);
    let plan: Value = query.build().persistent(false).fetch_one(conn).await?.try_get(0)?;
    let cost = plan.pointer("/0/Plan/Total Cost").and_then(Value::as_f64);
    cost.map(|cost| cost <= CHEAP).ok_or_else(|| sqlx::Error::Protocol("a plan without its cost".into()))
}

fn push_all(query: &mut QueryBuilder<Postgres>, segment: &Segment, now: DateTime<Utc>) {
    push_of_cube(query, segment, Over::Contacts);
    push_rest(query, segment, now);
}

/// Some of the segment, whatever its size: phones are drawn, of each LADA as often as the cube says it has contacts of the
/// segment, and from each on the next contact is taken.
fn push_drawn(query: &mut QueryBuilder<Postgres>, segment: &Segment, now: DateTime<Utc>) {
    query.push(
        "ladas as materialized (select lada, contacts, sum(contacts) over (order by lada) as up_to from (",
    );
    push_cube(query, segment, "lada");
    query.push(") of_lada), phones as materialized (select '+52' || lada as prefix, ");
    query.push("lpad(floor(random() * 10 ^ (10 - length(lada)))::bigint::text, 10 - length(lada), '0') as rest from (");
    query.push("select random() * (select sum(contacts) from ladas)::float8 as at from generate_series(1, ");
    query.push_bind(DRAWN).push(")) draw cross join lateral (");
    query.push("select lada from ladas where up_to > draw.at order by up_to limit 1) of), ");
    query.push(format!(
        "drawn as (select distinct on (id) {EXAMPLE} from phones cross join lateral (select * from ("
    ));
    query.push("select * from contacts where phone_e164 >= prefix || rest and phone_e164 < prefix || ':'");
    query.push(" order by phone_e164 limit ").push_bind(WALK).push(") contacts where true");
    push_all(query, segment, now);
    push_not_suppressed(query, Look::OneByOne);
    query.push(" order by phone_e164 limit 1) hit)");
}

/// Some of a segment whose contacts are too few, or lie too close together, to be drawn by phone: of all of them where that is
/// cheap, else of those in some pages.
async fn search_sample(
    conn: &mut PgConnection,
    segment: &Segment,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Example>> {
    let cheap = is_cheap(conn, segment, now).await?;
    let mut query = QueryBuilder::new("select coalesce(jsonb_agg(shown), '[]') from (");
    query.push(format!("select {EXAMPLE} from contacts"));
    if !cheap {
        push_pages(&mut query);
    }
    query.push(" where true");
    push_all(&mut query, segment, now);
    push_not_suppressed(&mut query, Look::OneByOne);
    query.push(format!(" order by random() limit {SHOWN}) shown"));
    decode(query.build().persistent(false).fetch_one(conn).await?.try_get(0)?)
}

fn push_pages(query: &mut QueryBuilder<Postgres>) {
    query.push(" tablesample system ((select least(100, 100 * ").push_bind(PAGES);
    query.push("::real / greatest(relpages, 1)) from pg_class where oid = 'contacts'::regclass))");
}

/// Contacts of the segment by `key`, as the cube knows them.
fn push_cube(query: &mut QueryBuilder<Postgres>, segment: &Segment, key: &str) {
    query.push(format!("select {key}, sum(contacts)::bigint as contacts from contact_cube where true"));
    push_of_cube(query, segment, Over::Cube);
    query.push(" group by 1");
}

/// Of what the cube counts in a state, the share that meets the other conditions in some pages; a state of which no row was
/// seen there has the share of all. A share doesn't notice who is suppressed and not marked yet: they are not asked about.
fn push_estimate(query: &mut QueryBuilder<Postgres>, segment: &Segment, now: DateTime<Utc>) {
    query.push("with seen as materialized (select state_code, coalesce(true");
    push_rest(query, segment, now);
    query.push(", false)::integer as hit from contacts");
    push_pages(query);
    query.push(" where true");
    push_of_cube(query, segment, Over::Contacts);
    query.push(
        ") select k.state_code, round(k.contacts * coalesce(s.share, a.share, 0))::bigint as contacts from (",
    );
    push_cube(query, segment, "state_code");
    query.push(
        ") k left join (select state_code, avg(hit) as share from seen group by 1) s
               on s.state_code is not distinct from k.state_code
           cross join (select avg(hit) as share from seen) a",
    );
}
