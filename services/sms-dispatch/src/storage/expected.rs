//! What an audience comes to before anything of it is written: judged by the same SQL as the ledger's rows, over all contacts
//! (or a file's rows) where that is quick, else over some of the table's pages. SQL by hand: one statement on top of [`audiences`].

use std::time::Duration;

use sea_orm::sqlx::{self, Acquire as _, PgConnection, Postgres, QueryBuilder};
use serde::Deserialize;
use sqlx::types::Json;

use super::audiences::{Among, Audience, Group, Reason, SUMS, push_judged, push_vars};

/// How long all contacts may be looked at.
const ALL: Duration = Duration::from_secs(3);
/// How long some pages may be.
const SOME: Duration = Duration::from_secs(6);
/// Pages that are looked at where all are too many: some ten thousand contacts.
const PAGES: f32 = 2_000.0;
/// Rows of a file that are looked at where all are too many.
const ROWS: i64 = 20_000;
/// Recipients whose texts are made.
const DRAWN: i64 = 500;
/// PostgreSQL's code for a statement that its timeout ended.
const TIMED_OUT: &str = "57014";

/// What an audience comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Counted; else estimated from some pages.
    pub exact: bool,
    pub matched: i64,
    /// Who falls out, by the first reason that holds.
    pub excluded: Vec<(String, i64)>,
    pub groups: Vec<Group>,
    /// Some of the recipients, at random.
    pub drawn: Vec<Drawn>,
}

/// A recipient's values, as its row of the ledger would have them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Drawn {
    pub id: i64,
    pub vars: Vec<String>,
    pub variant: i16,
}

/// What the statement gives: how many match, who falls out, groups of recipients, and some of them.
type Counted = (i64, Json<Vec<Reason>>, Json<Vec<Group>>, Json<Vec<Drawn>>);

/// What `audience` comes to, within some seconds; none where even a sample takes longer, as while contacts have no indexes.
pub async fn expected(conn: &mut PgConnection, audience: &Audience<'_>) -> sqlx::Result<Option<Expected>> {
    if let Some(all) = within(conn, audience, Among::All, ALL).await? {
        return Ok(Some(all));
    }
    if let Some(file) = &audience.frozen.file {
        // Each so manieth row of it.
        let every = (file.people / ROWS).max(1);
        return sampled(conn, audience, 100.0 / every as f32).await;
    }
    let pages: f32 = sqlx::query_scalar(
        "select greatest(relpages, 1)::real from pg_class where oid = 'contacts'::regclass",
    )
    .fetch_one(&mut *conn)
    .await?;
    sampled(conn, audience, (100.0 * PAGES / pages).min(100.0)).await
}

/// The same estimated from so many of a hundred pages.
pub async fn sampled(
    conn: &mut PgConnection,
    audience: &Audience<'_>,
    percent: f32,
) -> sqlx::Result<Option<Expected>> {
    let Some(seen) = within(conn, audience, Among::Pages { percent }, SOME).await? else { return Ok(None) };
    let scale = 100.0 / f64::from(percent);
    let most = audience.frozen.filter.sample.map(|sample| sample.size);
    Ok(Some(seen.scaled(scale, most)))
}

async fn within(
    conn: &mut PgConnection,
    audience: &Audience<'_>,
    among: Among,
    limit: Duration,
) -> sqlx::Result<Option<Expected>> {
    let mut transaction = conn.begin().await?;
    let settings = format!(
        "set local statement_timeout = {}; set local plan_cache_mode = force_custom_plan",
        limit.as_millis()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(settings)).execute(&mut *transaction).await?;
    let mut query = QueryBuilder::<Postgres>::new("");
    push_judged(&mut query, audience, among);
    query.push(" select").push(SUMS);
    query.push(", (select coalesce(jsonb_agg(d), '[]') from (select id, variant, ");
    push_vars(&mut query, audience.names);
    query.push(" as vars from zoned order by hashint8extended(id, ").push_bind(audience.frozen.seed);
    query.push("), id limit ").push_bind(DRAWN).push(") d)");
    let found = query.build_query_as().persistent(false).fetch_one(&mut *transaction).await;
    transaction.rollback().await?;
    let (matched, reasons, groups, drawn): Counted = match found {
        Ok(found) => found,
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(TIMED_OUT) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(Some(Expected {
        exact: among == Among::All,
        matched,
        excluded: reasons.0.into_iter().map(|one| (one.reason, one.contacts)).collect(),
        groups: groups.0,
        drawn: drawn.0,
    }))
}

impl Expected {
    /// So many times as much. Where only `most` are drawn of those that nothing excludes, the others are `not_drawn`, and each
    /// group keeps its share.
    fn scaled(mut self, scale: f64, most: Option<i64>) -> Self {
        let times = |many: i64, scale: f64| (many as f64 * scale).round() as i64;
        let eligible = times(self.recipients(), scale);
        let drawn = most.map_or(eligible, |most| most.min(eligible));
        let share = if eligible > 0 { scale * drawn as f64 / eligible as f64 } else { scale };
        for group in &mut self.groups {
            group.recipients = times(group.recipients, share);
        }
        for (_, contacts) in &mut self.excluded {
            *contacts = times(*contacts, scale);
        }
        let rest = eligible - self.recipients();
        if most.is_some() && rest > 0 {
            self.excluded.push(("not_drawn".to_owned(), rest));
        }
        // Rounded each by itself; the sum still holds.
        self.matched = self.recipients() + self.excluded.iter().map(|(_, contacts)| contacts).sum::<i64>();
        self
    }

    /// How many are written to.
    pub fn recipients(&self) -> i64 {
        self.groups.iter().map(|group| group.recipients).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_keeps_its_sums_and_draws_no_more_than_is_asked_for() {
        let group = |variant, recipients| Group { state_code: None, zone: 0, variant, recipients };
        let seen = Expected {
            exact: false,
            matched: 16,
            excluded: vec![("opt_out".to_owned(), 6)],
            groups: vec![group(0, 7), group(1, 3)],
            drawn: Vec::new(),
        };
        let all = seen.clone().scaled(33.3, None);
        assert_eq!((all.recipients(), all.matched), (333, 533));
        let some = seen.scaled(33.3, Some(100));
        assert_eq!(some.groups, [group(0, 70), group(1, 30)]);
        assert_eq!(some.excluded, [("opt_out".to_owned(), 200), ("not_drawn".to_owned(), 233)]);
        assert_eq!(some.matched, 533);
    }
}
