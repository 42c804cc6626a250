use std::collections::HashMap;

use chrono::{DateTime, Datelike as _, Utc};
use sea_orm::sqlx::{self, PgConnection, PgPool};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Job, State};

/// Which jobs. All that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The kind of work.
    pub kind: Option<String>,
    /// Where it stands.
    pub state: Option<State>,
    /// Who created it.
    pub user: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the page before; none for the first.
    pub after: Option<String>,
    /// Jobs a page, 1 to 200; 0 means 50.
    pub size: u32,
}

/// A page of jobs, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Pages {
    /// The jobs.
    pub items: Vec<Job>,
    /// What asks for the next page; none on the last.
    pub next: Option<String>,
}

/// One job.
///
/// # Errors
/// The database.
pub async fn get(conn: &mut PgConnection, id: Uuid) -> Result<Option<Job>, Error> {
    let row = sqlx::query("SELECT * FROM jobs WHERE id = $1").bind(id).fetch_optional(conn).await?;
    Ok(row.as_ref().map(Job::read).transpose()?)
}

/// Some jobs, by their ids, in one question; those that are not there are left out.
///
/// # Errors
/// The database.
pub async fn get_all(conn: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Job>, Error> {
    let rows = sqlx::query("SELECT * FROM jobs WHERE id = ANY($1)").bind(ids).fetch_all(conn).await?;
    let jobs = rows.iter().map(|row| Job::read(row).map(|job| (job.id, job)));
    Ok(jobs.collect::<sqlx::Result<_>>()?)
}

fn parse_cursor(text: &str) -> Option<(DateTime<Utc>, Uuid)> {
    let (micros, id) = text.split_once('_')?;
    let at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
    // Other years are none of ours, and PostgreSQL's dates end before chrono's do.
    (1..=9999).contains(&at.year()).then_some((at, id.parse().ok()?))
}

/// Lists jobs, newest first. A page begins after the last job of the page before it, so that jobs that
/// arrive meanwhile shift nothing. An `after` that is no cursor gives the first page.
///
/// # Errors
/// The database.
pub async fn list(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Pages, Error> {
    let size = if page.size == 0 { 50 } else { page.size.min(200) };
    let after = page.after.as_deref().and_then(parse_cursor);
    // Planned for its arguments each time, so that a filter that is absent costs nothing.
    let rows = sqlx::query(
        "SELECT * FROM jobs
         WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR state = $2)
           AND ($3::text IS NULL OR created_by = $3)
           AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5))
         ORDER BY created_at DESC, id DESC LIMIT $6",
    )
    .bind(&filter.kind)
    .bind(filter.state.map(State::name))
    .bind(&filter.user)
    .bind(after.map(|(created_at, _)| created_at))
    .bind(after.map(|(_, id)| id))
    .bind(i64::from(size) + 1)
    .persistent(false)
    .fetch_all(pool)
    .await?;
    let mut items = rows.iter().map(Job::read).collect::<sqlx::Result<Vec<_>>>()?;
    let more = items.len() > size as usize;
    items.truncate(size as usize);
    let next = items
        .last()
        .filter(|_| more)
        .map(|job| format!("{}_{}", job.created_at.timestamp_micros(), job.id.simple()));
    Ok(Pages { items, next })
}
