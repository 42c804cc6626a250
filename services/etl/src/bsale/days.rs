//! Documents, by the day of their emission. A document, its lines and its client commit together.

use std::collections::HashSet;

use anyhow::anyhow;
use chrono::{DateTime, NaiveDate, Utc};
use messaging::JobError;
use sea_orm::DbErr;

use super::{
    Bsale,
    batch::Batch,
    calendar::range,
    client::at_once,
    documents::{DocumentPages, Documents, family},
    read,
    session::Session,
    tables::{CLIENTS, DOCUMENTS},
};
use crate::target::{self, Gone, Page, Sql};

/// How often a day is read that changes on the way.
const PASSES: u32 = 5;
/// Active and annulled documents are lists of their own, read in this order: one that is annulled meanwhile is in the second.
const STATES: [&str; 2] = ["0", "1"];
/// Clients that a run remembers to have looked for. Those that it forgot are looked for again.
const CLIENTS_KNOWN: usize = 100_000;
/// Clients that are read from the table at the first question: with one for each page that has a new one, half of the pages
/// of a run would ask.
const CLIENTS_AT_ONCE: usize = 5_000;

/// Reads a day until its lists are stable, then asks for the documents that were of this day and are not in them. `next` is
/// the day that will be read after it, if there is one.
pub async fn read_day(
    session: &mut Session<'_>,
    day: NaiveDate,
    next: Option<NaiveDate>,
) -> Result<(), JobError> {
    let began = Utc::now();
    let mut pages = match session.next_day.take() {
        Some((begun, pages)) if begun == day => pages,
        _ => pages_of(session, day),
    };
    session.next_day = next.map(|next| (next, pages_of(session, next)));
    let mut met = HashSet::new();
    let mut pass = 0;
    while !read_lists(session, pages, &mut met).await? {
        pages = pages_of(session, day);
        pass += 1;
        if pass >= PASSES {
            return Err(JobError::retry(anyhow!(
                "the documents of {day} changed {PASSES} times while they were read"
            )));
        }
    }
    let known = documents_of(session.bsale, day, began).await.map_err(JobError::retry)?;
    for id in known.into_iter().filter(|id| !met.contains(id)) {
        let batch = one(session, id).await?;
        session.add(batch).await?;
    }
    Ok(())
}

/// Whether the lists of active and of annulled documents stayed as they were while they were read.
async fn read_lists(
    session: &mut Session<'_>,
    mut pages: DocumentPages,
    met: &mut HashSet<i64>,
) -> Result<bool, JobError> {
    let mut stable = true;
    for _ in STATES {
        let (mut before, mut seen) = (None, HashSet::new());
        loop {
            let Documents { mut batch, ids, clients, count, more } = pages.next().await?;
            unknown_clients(session, &mut batch, clients).await?;
            session.add(batch).await?;
            seen.extend(ids);
            let before = *before.get_or_insert(count);
            if !more {
                stable &= count == before && seen.len() as u64 >= count;
                break;
            }
        }
        met.extend(seen);
    }
    Ok(stable)
}

/// The pages of a day's lists, which are asked for from now on.
fn pages_of(session: &Session<'_>, day: NaiveDate) -> DocumentPages {
    let list = |state: &str| {
        vec![
            ("emissiondaterange", range(day, day)),
            ("state", state.to_owned()),
            ("expand", "[details]".to_owned()),
        ]
    };
    session.documents.clone().pages(STATES.map(list).into())
}

/// Adds the clients of these that the table does not have, as Bsale has them.
async fn unknown_clients(
    session: &mut Session<'_>,
    batch: &mut Batch,
    mut ids: Vec<i64>,
) -> Result<(), JobError> {
    let bsale = session.bsale;
    if session.clients.is_empty() && !ids.is_empty() {
        let known = target::highest(&bsale.target.db, &CLIENTS, CLIENTS_AT_ONCE).await;
        session.clients.extend(known.map_err(JobError::retry)?);
    }
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| !session.clients.contains(id));
    if ids.is_empty() {
        return Ok(());
    }
    let priority = session.priority;
    let known = target::present(&bsale.target.db, &CLIENTS, &ids).await.map_err(JobError::retry)?;
    let unknown = ids.iter().filter(|id| !known.contains(id));
    let asked: Vec<_> = unknown
        .map(|id| {
            let path = format!("clients/{id}.json");
            async move { bsale.client.one(&path, &[], priority).await }
        })
        .collect();
    // A document may name a client that is gone: it keeps the number.
    for (raw, version) in at_once(asked).await?.into_iter().flatten() {
        let (clients, bad) =
            session.understand("client", &[raw], version, |record| read::client(record, version))?;
        clients.iter().for_each(|client| batch.note(client));
        let rows = clients.into_iter().map(|client| client.row).collect();
        batch.page.join(Page { rows: vec![(&CLIENTS, rows)], bad, ..Page::default() });
    }
    if session.clients.len() > CLIENTS_KNOWN {
        session.clients.clear();
    }
    session.clients.extend(ids);
    Ok(())
}

/// One document, asked for by its id: as it is now, or gone with its lines.
pub async fn one(session: &mut Session<'_>, id: i64) -> Result<Batch, JobError> {
    let query = [("expand", "[details]".to_owned())];
    let found = session.bsale.client.one(&format!("documents/{id}.json"), &query, session.priority).await?;
    match found {
        Some((raw, version)) => {
            let Documents { mut batch, clients, .. } = session.documents.one(raw, version).await?;
            unknown_clients(session, &mut batch, clients).await?;
            Ok(batch)
        }
        None => Ok(Batch::new(gone(id), 0)),
    }
}

/// A document that Bsale does not have any more.
pub fn gone(id: i64) -> Page {
    let version = Utc::now().timestamp_micros();
    let document = Gone { table: &DOCUMENTS, keys: vec![vec![id.into()]], version };
    Page { deleted: vec![document], families: vec![family(id, &[], version)], ..Page::default() }
}

/// Documents that are in the table as of this day, and were not written since.
async fn documents_of(bsale: &Bsale, day: NaiveDate, since: DateTime<Utc>) -> Result<Vec<i64>, DbErr> {
    let query = "SELECT id_bsale FROM documentos_venta
                 WHERE fecha_emision = ? AND eliminado_en IS NULL AND actualizado_en < ? ORDER BY id_bsale";
    let rows = Sql::new(query).bind(day).bind(since).all(&bsale.target.db).await?;
    rows.iter().map(|row| row.try_get("", "id_bsale")).collect()
}
