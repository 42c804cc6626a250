//! Contacts that match, by id, a page at a time, among tens of millions. SQL by hand: its plans are its point.
//!
//! What stands in the contacts' order of a place or a status is read from its index, in the order of the ids.
//!
//! Words are not so lucky. A common first name stands in a tenth of the rows, a rare one in a handful. Walking along the ids
//! until a page is full is fast for the one and endless for the other; an index of words the other way round, for it gives
//! all matches before the first can be shown. So the ids are cut into windows, wide enough for the planner's estimate of how
//! often a page is full after the first: in a window the server either reads all rows, or cuts the index of words with that
//! of ids before it reads a single one. Where the estimate was too high (what matches lies together, as cities do), each
//! further window is wider, and the last takes all that is left. What is so rare that all of it is little is read whole.

use chassis::db::decode;
use sea_orm::sqlx::{self, Acquire as _, PgConnection, Postgres, QueryBuilder, Row as _};
use serde_json::Value;

use super::{
    contacts::{COLUMNS, Contact},
    indexes,
};
use crate::domain::{
    search::{self, PhoneQuery},
    segment::Status,
};

/// Matches that are read whole and sorted.
const FEW: f64 = 500.0;
/// Of them so many at least must lie close together to say how close the others do.
const CLOSE: usize = 50;
/// No window is narrower.
const LEAST_WINDOW: f64 = 2_000.0;
/// Pages that a window is expected to fill.
const MARGIN: f64 = 2.0;
/// How much wider each further window is.
const GROWTH: i64 = 4;

/// What to look for; nothing of it is everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// As `to_tsquery` takes them.
    pub name: Option<String>,
    pub address: Option<String>,
    pub phone: Option<PhoneQuery>,
    pub state_code: Option<String>,
    pub lada: Option<String>,
    pub city: Option<String>,
    pub municipality: Option<String>,
    pub status: Option<String>,
}

impl Filter {
    /// Adds its conditions on `c`, each after an `and`. The words' conditions are the indexes' own expressions.
    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        for (column, words) in [("full_name", &self.name), ("address", &self.address)] {
            if let Some(words) = words {
                query.push(format!(
                    " and to_tsvector('simple', words(c.{column})) @@ to_tsquery('simple', plain("
                ));
                query.push_bind(words.clone()).push("))");
            }
        }
        match &self.phone {
            Some(PhoneQuery::Whole(phone)) => {
                query.push(" and c.phone_e164 = ").push_bind(phone.to_string());
            }
            Some(PhoneQuery::Begins(digits)) => {
                // A colon comes right after the digits.
                query.push(" and c.phone_e164 >= ").push_bind(format!("+52{digits}"));
                query.push(" and c.phone_e164 < ").push_bind(format!("+52{digits}:"));
            }
            None => {}
        }
        for (column, value) in [
            ("state_code", &self.state_code),
            ("lada", &self.lada),
            ("city", &self.city),
            ("municipality", &self.municipality),
            ("status", &self.status),
        ] {
            if let Some(value) = value {
                query.push(format!(" and c.{column} = ")).push_bind(value.clone());
            }
        }
    }
}

/// The first `limit` contacts after the contact `after` that match: by id, or by phone where the beginning of one is asked
/// for.
pub async fn page(
    conn: &mut PgConnection,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Contact>> {
    let mut conn = conn.begin().await?;
    // The matches of a common word's beginning fit into this much memory; where they don't, every row of their pages is looked
    // at. And a page of contacts has no claim on more than one core.
    sqlx::raw_sql("set local work_mem = '64MB'; set local max_parallel_workers_per_gather = 0")
        .execute(&mut *conn)
        .await?;
    let mut filter = filter.clone();
    for (index, words) in
        [(indexes::NAME_WORDS, &mut filter.name), (indexes::ADDRESS_WORDS, &mut filter.address)]
    {
        if let Some(words) = words
            && let Some(begun) = words.strip_suffix(search::BEGUN)
            && is_common(&mut conn, index, begun.rsplit(search::AND).next().unwrap_or(begun)).await?
        {
            *words = begun.to_owned();
        }
    }
    let found = match filter.phone {
        Some(PhoneQuery::Begins(_)) => by_phone(&mut conn, &filter, after, limit).await?,
        _ => in_order_of_ids(&mut conn, &filter, after, limit).await?,
    };
    conn.commit().await?;
    Ok(found)
}

/// Whether a word stands in so many contacts that statistics know it. Such a word is meant as it is: to read all words that begin
/// as it does takes ten times as long, and finds few more.
async fn is_common(conn: &mut PgConnection, index: &str, word: &str) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar(
        "select plain($2) = any (most_common_elems::text::text[]) from pg_stats
         where schemaname = current_schema() and tablename = $1",
    );
    Ok(found.bind(index).bind(word).fetch_optional(conn).await?.flatten().unwrap_or(false))
}

async fn in_order_of_ids(
    conn: &mut PgConnection,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Contact>> {
    let (first, last): (Option<i64>, Option<i64>) =
        sqlx::query_as("select min(id), max(id) from contacts").fetch_one(&mut *conn).await?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(Vec::new()) };
    let mut expected = estimate(conn, filter).await?.max(1.0);
    if expected < FEW {
        match few(conn, filter, after, limit, last).await? {
            Few::All(page) => return Ok(page),
            Few::AtLeast(more) => expected = more,
        }
    }
    if filter.name.is_none() && filter.address.is_none() && filter.phone.is_none() {
        return by_place(conn, filter, after, limit).await;
    }
    let mut width = LEAST_WINDOW.max(MARGIN * limit as f64 * (last - first) as f64 / expected) as i64;
    let (mut found, mut from) = (Vec::new(), after.max(first - 1));
    while from < last && (found.len() as i64) < limit {
        let to = from.saturating_add(width);
        let to = if to < last { to } else { i64::MAX };
        found.extend(window(conn, filter, from, to, limit - found.len() as i64).await?);
        (from, width) = (to, width.saturating_mul(GROWTH));
    }
    Ok(found)
}

/// Phones with one beginning lie together in their index, and in the files that contacts come from: along the ids all before
/// them would be looked at.
async fn by_phone(
    conn: &mut PgConnection,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Contact>> {
    let mut query = QueryBuilder::new("select ");
    query
        .push(COLUMNS)
        .push(" from contacts c where c.phone_e164 > coalesce((select phone_e164 from contacts where id = ");
    query.push_bind(after).push("), '')");
    filter.push(&mut query);
    query.push(" order by c.phone_e164 limit ").push_bind(limit);
    read(&mut query, conn).await
}

/// The contacts that a query gives. It is planned for its values each time: a plan for any values knows of no common names.
async fn read(query: &mut QueryBuilder<Postgres>, conn: &mut PgConnection) -> sqlx::Result<Vec<Contact>> {
    let rows = query.build().persistent(false).fetch_all(conn).await?;
    rows.into_iter().map(decode).collect()
}

/// What became of an attempt to read all that matches.
enum Few {
    /// The page is cut from all of it.
    All(Vec<Contact>),
    /// It is not little; by those that came first there may be so many in all.
    AtLeast(f64),
}

/// Reads all that matches, unless it is more than the planner thought: words that go together, as those of `de la cruz` do,
/// are a hundred times as many as words that meet by chance.
async fn few(
    conn: &mut PgConnection,
    filter: &Filter,
    after: i64,
    limit: i64,
    last: i64,
) -> sqlx::Result<Few> {
    let mut query = QueryBuilder::new("select ");
    query.push(COLUMNS).push(" from contacts c where c.id > ").push_bind(after);
    filter.push(&mut query);
    query.push(" limit ").push_bind(FEW as i64 + 1);
    let mut found = read(&mut query, conn).await?;
    found.sort_unstable_by_key(|contact| contact.id);
    if found.len() as f64 > FEW {
        // They came as they lie in the table: in the order of their ids, but for those that were changed since. So the ids
        // where they lie closest tell how close the first ones lie.
        let all = (last - after).max(1) as f64;
        let density =
            |(number, contact): (usize, &Contact)| number as f64 * all / (contact.id - after).max(1) as f64;
        return Ok(Few::AtLeast(found.iter().enumerate().skip(CLOSE).map(density).fold(FEW, f64::max)));
    }
    found.truncate(usize::try_from(limit).unwrap_or_default());
    Ok(Few::All(found))
}

/// By the index of a place, which has its contacts of one status in the order of their ids; without a place by that of the
/// status, or by the ids themselves.
async fn by_place(
    conn: &mut PgConnection,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Contact>> {
    let has_place = [&filter.city, &filter.municipality, &filter.lada, &filter.state_code]
        .iter()
        .any(|place| place.is_some());
    let each: Vec<Option<Status>> = match filter.status {
        None if has_place => Status::ALL.into_iter().map(Some).collect(),
        _ => vec![None],
    };
    let mut query = QueryBuilder::new("select * from (");
    for (number, status) in each.into_iter().enumerate() {
        query.push(if number > 0 { " union all (select " } else { "(select " });
        query.push(COLUMNS).push(" from contacts c where c.id > ").push_bind(after);
        if let Some(status) = status {
            query.push(" and c.status = ").push_bind(status.name());
        }
        filter.push(&mut query);
        query.push(" order by c.id limit ").push_bind(limit).push(")");
    }
    query.push(") found order by id limit ").push_bind(limit);
    read(&mut query, conn).await
}

/// How many contacts the planner thinks match.
async fn estimate(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<f64> {
    let mut query = QueryBuilder::new("explain (format json) select from contacts c where true");
    filter.push(&mut query);
    let plan: Value = query.build().persistent(false).fetch_one(conn).await?.try_get(0)?;
    plan.pointer("/0/Plan/Plan Rows")
        .and_then(Value::as_f64)
        .ok_or_else(|| sqlx::Error::Protocol("a plan without its rows".into()))
}

async fn window(
    conn: &mut PgConnection,
    filter: &Filter,
    from: i64,
    to: i64,
    limit: i64,
) -> sqlx::Result<Vec<Contact>> {
    let mut query = QueryBuilder::new("select ");
    query.push(COLUMNS).push(" from contacts c where c.id > ").push_bind(from);
    if to < i64::MAX {
        query.push(" and c.id <= ").push_bind(to);
    }
    filter.push(&mut query);
    // No walk along the ids until the page is full: nothing says that it will be soon, and each row's words are looked at.
    query.push(" order by c.id + 0 limit ").push_bind(limit);
    read(&mut query, conn).await
}
