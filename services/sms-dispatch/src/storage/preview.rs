//! What a segment comes to, told before anybody is written to.
//!
//! State, LADA, city, type, status and consent are counted in the cube, as of its last refresh. Other conditions are counted
//! in the contacts where the planner thinks that cheap, and else estimated: of what the cube counts, a state's share that
//! also meets them is that of the state's rows in randomly chosen pages of the table.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, PgConnection, Postgres, QueryBuilder, Row as _};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::segment_sql::{Over, push_of_cube, push_rest};
use crate::domain::segment::Segment;

/// The planner's cost up to which all rows are looked at: some tens of milliseconds.
const CHEAP: f64 = 30_000.0;
/// Pages of the table that an estimate looks at.
const PAGES: f32 = 1_000.0;

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

/// How the rows of a preview are had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// All that match.
    All,
    /// Those of some pages.
    OfPages,
}

/// What `segment` comes to at `now`.
pub async fn preview(
    conn: &mut PgConnection,
    segment: &Segment,
    now: DateTime<Utc>,
) -> sqlx::Result<Preview> {
    let (rows, of_cube) = (choose(conn, segment, now).await?, segment.is_of_the_cube());
    let mut query = QueryBuilder::new("with found as materialized (");
    push_found(&mut query, segment, now, rows);
    query.push("), counted as (");
    match (of_cube, rows) {
        (true, _) => push_cube(&mut query, segment),
        (false, Rows::All) => {
            query.push("select state_code, count(*)::bigint as contacts from found group by 1");
        }
        (false, Rows::OfPages) => push_estimate(&mut query, segment),
    }
    query.push(
        ") select (select coalesce(jsonb_agg(counted), '[]') from counted),
                  (select coalesce(jsonb_agg(shown), '[]') from (
                       select id, phone_e164, full_name, city, state_code, lada from found
                       where hit order by random() limit 10) shown),
                  (select max(as_of) from contact_cube)",
    );
    // Planned for these values each time: a plan for any values knows of no large states.
    let row = query.build().persistent(false).fetch_one(conn).await?;
    let counted: Vec<Counted> = decode(row.try_get(0)?)?;
    let from_table = !of_cube && rows == Rows::All;
    Ok(Preview {
        by_state: counted.into_iter().map(|counted| (counted.state_code, counted.contacts)).collect(),
        as_of: if from_table { Some(now) } else { row.try_get(2)? },
        exact: of_cube || rows == Rows::All,
        sample: decode(row.try_get(1)?)?,
    })
}

fn decode<T: DeserializeOwned>(value: Value) -> sqlx::Result<T> {
    serde_json::from_value(value).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// All rows where looking at all of them is cheap.
async fn choose(conn: &mut PgConnection, segment: &Segment, now: DateTime<Utc>) -> sqlx::Result<Rows> {
    let mut query = QueryBuilder::new("explain (format json) ");
    push_found(&mut query, segment, now, Rows::All);
    let plan: Value = query.build().persistent(false).fetch_one(conn).await?.try_get(0)?;
    let cost = plan.pointer("/0/Plan/Total Cost").and_then(Value::as_f64);
    let cost = cost.ok_or_else(|| sqlx::Error::Protocol("a plan without its cost".into()))?;
    Ok(if cost <= CHEAP { Rows::All } else { Rows::OfPages })
}

fn push_found(query: &mut QueryBuilder<Postgres>, segment: &Segment, now: DateTime<Utc>, rows: Rows) {
    query.push("select id, phone_e164, full_name, city, state_code, lada, coalesce(true");
    if rows == Rows::OfPages {
        push_rest(query, segment, now);
    }
    query.push(", false) as hit from contacts");
    if rows == Rows::OfPages {
        query.push(" tablesample system ((select least(100, 100 * ").push_bind(PAGES);
        query.push("::real / greatest(relpages, 1)) from pg_class where oid = 'contacts'::regclass))");
    }
    query.push(" where true");
    push_of_cube(query, segment, Over::Contacts);
    if rows == Rows::All {
        push_rest(query, segment, now);
    }
}

fn push_cube(query: &mut QueryBuilder<Postgres>, segment: &Segment) {
    query.push("select state_code, sum(contacts)::bigint as contacts from contact_cube where true");
    push_of_cube(query, segment, Over::Cube);
    query.push(" group by 1");
}

/// A state of which no row was seen has the share of all.
fn push_estimate(query: &mut QueryBuilder<Postgres>, segment: &Segment) {
    query.push(
        "select k.state_code, round(k.contacts * coalesce(s.share, a.share, 0))::bigint as contacts from (",
    );
    push_cube(query, segment);
    query.push(
        ") k left join (select state_code, avg(hit::integer) as share from found group by 1) s
               on s.state_code is not distinct from k.state_code
           cross join (select avg(hit::integer) as share from found) a",
    );
}
