//! Documents, by the day of their emission. A document, its lines and its client commit together.

use std::collections::{BTreeMap, HashSet};

use anyhow::anyhow;
use chrono::{DateTime, NaiveDate, Utc};
use messaging::JobError;
use sea_orm::{DbErr, Value};
use serde_json::value::RawValue;

use super::{
    Bsale, Priority,
    calendar::range,
    client::{ApiError, at_once},
    read::{self, Document, Understood},
    record::{Bad, Record, id_of},
    session::{Batch, Session},
    tables::{CLIENTS, DETAILS, DOCUMENTS},
};
use crate::{
    domain::table::Row,
    target::{self, Family, Gone, Page, Quarantined, Sql},
};

/// How often a day is read that changes on the way.
const PASSES: u32 = 5;
/// Clients that a run remembers to have looked for. Those that it forgot are looked for again.
const CLIENTS_KNOWN: usize = 100_000;

/// Reads a day until its lists are stable, then asks for the documents that were of this day and are not in them.
pub async fn read_day(session: &mut Session<'_>, day: NaiveDate) -> Result<(), JobError> {
    let began = Utc::now();
    let mut met = HashSet::new();
    let mut pass = 0;
    while !read_lists(session, day, &mut met).await? {
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
    day: NaiveDate,
    met: &mut HashSet<i64>,
) -> Result<bool, JobError> {
    let mut stable = true;
    for state in ["0", "1"] {
        let query = [
            ("emissiondaterange", range(day, day)),
            ("state", state.to_owned()),
            ("expand", "[details]".to_owned()),
        ];
        let mut pages = session.bsale.client.pages("documents.json", &query, 0, session.priority);
        let (mut before, mut seen) = (None, HashSet::new());
        loop {
            let page = pages.next().await?;
            let (mut batch, ids) = documents(session, &page.items, page.version).await?;
            batch.counters.leidos = page.items.len() as u64;
            seen.extend(ids);
            session.add(batch).await?;
            let before = *before.get_or_insert(page.count);
            if !page.more {
                stable &= page.count == before && seen.len() as u64 >= page.count;
                break;
            }
        }
        met.extend(seen);
    }
    Ok(stable)
}

/// What a page of documents is to write: documents, all their lines, and clients that are not there yet. With the ids
/// of all that the page shows.
async fn documents(
    session: &mut Session<'_>,
    items: &[Box<RawValue>],
    version: i64,
) -> Result<(Batch, Vec<i64>), JobError> {
    let (documents, mut bad) =
        session.understand("document", items, version, |record| read::document(record, version))?;
    let mut ids: Vec<i64> = documents.iter().map(|document| document.id).collect();
    ids.extend(bad.iter().filter_map(|record| record.clave.parse::<i64>().ok()));
    let (mut rows, mut lines, mut families) = (Vec::new(), Vec::new(), Vec::new());
    let (mut clients, mut batch) = (Vec::new(), Batch::default());
    let (bsale, priority) = (session.bsale, session.priority);
    let all: Vec<_> =
        documents.iter().map(|document| all_lines(bsale, document, version, priority)).collect();
    let all = at_once(all).await?;
    for (document, details) in documents.into_iter().zip(all) {
        let Document { id, client, document, details: cut, .. } = document;
        let (details, version) = match details {
            Ok(Some(all)) => all,
            Ok(None) => (cut, version),
            Err(Bad::Drift(what)) => return Err(session.drift(&what)),
            Err(Bad::Record(rule)) => {
                bad.push(Quarantined {
                    stream: session.params.stream.clone(),
                    clave: id.to_string(),
                    regla: rule,
                    registro: raw_of(items, id),
                    version,
                });
                continue;
            }
        };
        batch.note(&document);
        details.iter().for_each(|detail| batch.note(detail));
        let details: Vec<Row> = details.into_iter().map(|detail| detail.row).collect();
        families.push(family(id, &details, version));
        clients.extend(client);
        rows.push(document.row);
        lines.extend(details);
    }
    batch.page.join(Page {
        rows: vec![(&CLIENTS, Vec::new()), (&DOCUMENTS, rows), (&DETAILS, lines)],
        bad,
        families,
        ..Page::default()
    });
    unknown_clients(session, &mut batch, clients).await?;
    Ok((batch, ids))
}

/// All lines of a document whose list was cut or not sent, with the version of their last page. None: they are all
/// there.
///
/// # Errors
/// What the work must return at once.
pub async fn lines(
    bsale: &Bsale,
    document: &Document,
    version: i64,
    priority: Priority,
) -> Result<Option<(Vec<Understood>, i64)>, JobError> {
    all_lines(bsale, document, version, priority).await?.map_err(JobError::fail)
}

/// The same with the version of the last page, and what is wrong with a line.
async fn all_lines(
    bsale: &Bsale,
    document: &Document,
    version: i64,
    priority: Priority,
) -> Result<Result<Option<(Vec<Understood>, i64)>, Bad>, ApiError> {
    if document.lines == Some(document.details.len() as u64) {
        return Ok(Ok(None));
    }
    let path = format!("documents/{}/details.json", document.id);
    let mut lines: BTreeMap<i64, Understood> = BTreeMap::new();
    let (mut offset, mut latest) = (0, version);
    // Not ahead: who reads many documents does so at once, and all but a few have one page.
    loop {
        let page = bsale.client.page(&path, &[], offset, priority).await?;
        for raw in &page.items {
            let line = Record::read("detail", raw)
                .and_then(|record| read::detail(record, document.id, page.version));
            let line = match line {
                Ok(line) => line,
                Err(bad) => return Ok(Err(bad)),
            };
            if let Some(id) = number(&line.row.values[0]) {
                lines.insert(id, line);
            }
        }
        offset += page.items.len() as u64;
        latest = latest.max(page.version);
        if !page.more {
            return Ok(Ok(Some((lines.into_values().collect(), latest))));
        }
    }
}

/// Adds the clients of these that the table does not have, as Bsale has them.
async fn unknown_clients(
    session: &mut Session<'_>,
    batch: &mut Batch,
    mut ids: Vec<i64>,
) -> Result<(), JobError> {
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| !session.clients.contains(id));
    if ids.is_empty() {
        return Ok(());
    }
    let (bsale, priority) = (session.bsale, session.priority);
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
        Some((raw, version)) => Ok(documents(session, &[raw], version).await?.0),
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

fn raw_of(items: &[Box<RawValue>], id: i64) -> String {
    let found = items.iter().find(|raw| id_of(raw) == Some(id));
    found.map(|raw| raw.get().to_owned()).unwrap_or_default()
}

/// The lines of a document, of which these are all.
pub fn family(document: i64, lines: &[Row], version: i64) -> Family {
    let keep = lines.iter().filter_map(|line| number(&line.values[0])).collect();
    Family { table: &DETAILS, column: "id_documento", of: &DOCUMENTS, parent: document, keep, version }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::BigInt(number) => *number,
        _ => None,
    }
}
