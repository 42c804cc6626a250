//! A list of suppressions is taken: whole, or not at all where no row of it is good.

use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sea_orm::{
    DbErr,
    sqlx::{self, PgPool},
};
use serde_json::json;

use crate::{
    domain::{source::Mapping, suppression::Cause},
    import::{
        csv::Place,
        suppression_list::{List, Listed, Refused},
    },
    storage::{
        audit,
        suppressions::{self, New},
    },
};

/// Suppressions a transaction.
const BATCH: usize = 5_000;
/// Refused rows that are told one by one.
const TOLD: usize = 1_000;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// Of rows that name none.
    pub cause: Cause,
    /// Of rows that name none; the cause's own unless told.
    pub effective_at: Option<DateTime<Utc>>,
    /// Where the list is from.
    pub source: String,
    pub mapping: Mapping,
}

/// What became of a list: `rows = added + known + rejected`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub rows: i64,
    pub added: i64,
    /// Those that were there already, or stand in the list twice.
    pub known: i64,
    pub rejected: i64,
    /// Contacts that nobody writes to from now on.
    pub opted_out: i64,
    /// The first thousand rejected rows.
    pub refused: Vec<Refused>,
}

/// Why nothing of a list was taken.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is no list, or lacks a column; for its user, in Spanish.
    #[error("{0:#}")]
    Unreadable(anyhow::Error),
    /// It has no row that holds.
    #[error("Ninguna de las {} filas tiene un teléfono válido con su motivo y fecha", .0.rows)]
    NoGoodRow(Outcome),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Entity(#[from] DbErr),
    #[error(transparent)]
    Internal(anyhow::Error),
}

/// Takes the list at `path`, for `actor`. Its rows are read twice: what can't be read to its end, or has no good row, leaves
/// nothing behind. After that rows are kept batch by batch: a list that breaks off is sent again, and what was kept is known.
///
/// # Errors
/// As [`ListError`] says.
pub async fn import(
    pool: &PgPool,
    path: &Path,
    request: &ListRequest,
    actor: &str,
) -> Result<Outcome, ListError> {
    let now = suppressions::now(&mut *pool.acquire().await?).await?;
    let (list, mut outcome) = blocking({
        let (path, request) = (path.to_owned(), request.clone());
        move || look(&path, &request, now)
    })
    .await?;
    if outcome.rows == outcome.rejected {
        return Err(ListError::NoGoodRow(outcome));
    }
    let mut place = Some(list.first_place());
    while let Some(from) = place {
        let (good, next) = blocking({
            let list = list.clone();
            move || some(&list, &from)
        })
        .await?;
        place = next;
        let batch: Vec<New> = good.into_iter().map(new).collect();
        let mut transaction = pool.begin().await?;
        suppressions::turn(&mut transaction).await?;
        let added = suppressions::add(&mut transaction, &batch, &request.source, actor).await?;
        transaction.commit().await?;
        outcome.added += added.added;
        outcome.known += batch.len() as i64 - added.added;
        outcome.opted_out += added.opted_out;
    }
    let Outcome { rows, added, known, rejected, opted_out, .. } = &outcome;
    let details = json!({
        "source": request.source, "rows": rows, "added": added, "known": known, "rejected": rejected, "opted_out": opted_out,
    });
    audit::record(&mut *pool.acquire().await?, actor, "suppressions_imported", None, &details).await?;
    Ok(outcome)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, ListError> {
    let done = tokio::task::spawn_blocking(work).await.context("reading a list");
    done.map_err(ListError::Internal)?.map_err(ListError::Unreadable)
}

/// Reads the list to its end, and counts.
fn look(path: &Path, request: &ListRequest, now: DateTime<Utc>) -> anyhow::Result<(List, Outcome)> {
    let list = List::open(path, &request.mapping, request.cause, request.effective_at, now)?;
    let mut outcome = Outcome::default();
    list.read(&list.first_place(), usize::MAX, &mut |row| {
        outcome.rows += 1;
        if let Err(refused) = row {
            outcome.rejected += 1;
            if outcome.refused.len() < TOLD {
                outcome.refused.push(refused);
            }
        }
    })?;
    Ok((list, outcome))
}

/// The good ones of the next rows.
fn some(list: &List, from: &Place) -> anyhow::Result<(Vec<Listed>, Option<Place>)> {
    let mut good = Vec::new();
    let next = list.read(from, BATCH, &mut |row| good.extend(row.ok()))?;
    Ok((good, next))
}

fn new(listed: Listed) -> New {
    let Listed { phone, cause, effective_at } = listed;
    New { phone: phone.to_string(), cause, effective_at }
}
