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
    client::{ApiError, PAGE},
    read::{self, Document, Understood},
    record::{Bad, Record, id_of},
    session::Session,
    tables::{CLIENTS, DETAILS, DOCUMENTS},
};
use crate::{
    domain::table::Row,
    target::{Family, Gone, Page, Quarantined, Sql},
};

/// How often a day is read that changes on the way.
const PASSES: u32 = 5;

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
        let page = one(session, id).await?;
        session.commit(page, 0).await?;
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
        let (mut offset, mut before, mut seen) = (0, None, HashSet::new());
        loop {
            let page = session.bsale.client.page("documents.json", &query, offset, session.priority).await?;
            let received = page.items.len() as u64;
            let (commit, ids) = documents(session, &page.items, page.version).await?;
            seen.extend(ids);
            if received > 0 {
                session.commit(commit, received).await?;
            }
            offset += received;
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
) -> Result<(Page, Vec<i64>), JobError> {
    let (documents, mut bad) =
        session.understand("document", items, |record| read::document(record, version))?;
    let mut ids: Vec<i64> = documents.iter().map(|document| document.id).collect();
    ids.extend(bad.iter().filter_map(|record| record.clave.parse::<i64>().ok()));
    let (mut rows, mut lines, mut families) = (Vec::new(), Vec::new(), Vec::new());
    let mut clients = Vec::new();
    for document in documents {
        let details = all_lines(session.bsale, &document, version, session.priority).await?;
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
                });
                continue;
            }
        };
        session.note(&document);
        details.iter().for_each(|detail| session.note(detail));
        let keep = details.iter().filter_map(|detail| number(&detail.row.values[0])).collect();
        families.push(Family { table: &DETAILS, column: "id_documento", parent: id, keep, version });
        clients.extend(client);
        rows.push(document.row);
        lines.extend(details.into_iter().map(|detail| detail.row));
    }
    let (clients, bad_clients) = unknown_clients(session, clients).await?;
    bad.extend(bad_clients);
    let page = Page {
        rows: vec![(&CLIENTS, clients), (&DOCUMENTS, rows), (&DETAILS, lines)],
        bad,
        families,
        ..Page::default()
    };
    Ok((page, ids))
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

/// The clients of these that the table does not have, as Bsale has them.
async fn unknown_clients(
    session: &mut Session<'_>,
    mut ids: Vec<i64>,
) -> Result<(Vec<Row>, Vec<Quarantined>), JobError> {
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let known = present(session.bsale, "clientes", &ids).await.map_err(JobError::retry)?;
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    for id in ids.into_iter().filter(|id| !known.contains(id)) {
        let found = session.bsale.client.one(&format!("clients/{id}.json"), &[], session.priority).await?;
        // A document may name a client that is gone: it keeps the number.
        let Some((raw, version)) = found else { continue };
        let (clients, wrong) =
            session.understand("client", &[raw], |record| read::client(record, version))?;
        clients.iter().for_each(|client| session.note(client));
        rows.extend(clients.into_iter().map(|client| client.row));
        bad.extend(wrong);
    }
    Ok((rows, bad))
}

/// One document, asked for by its id: as it is now, or gone with its lines.
pub async fn one(session: &mut Session<'_>, id: i64) -> Result<Page, JobError> {
    let query = [("expand", "[details]".to_owned())];
    let found = session.bsale.client.one(&format!("documents/{id}.json"), &query, session.priority).await?;
    match found {
        Some((raw, version)) => Ok(documents(session, &[raw], version).await?.0),
        None => Ok(gone(id)),
    }
}

/// A document that Bsale does not have any more.
pub fn gone(id: i64) -> Page {
    let version = Utc::now().timestamp_micros();
    let family = Family { table: &DETAILS, column: "id_documento", parent: id, keep: Vec::new(), version };
    let document = Gone { table: &DOCUMENTS, keys: vec![vec![id.into()]], version };
    Page { deleted: vec![document], families: vec![family], ..Page::default() }
}

/// Documents that are in the table as of this day, and were not written since.
async fn documents_of(bsale: &Bsale, day: NaiveDate, since: DateTime<Utc>) -> Result<Vec<i64>, DbErr> {
    let query = "SELECT id_bsale FROM documentos_venta
                 WHERE fecha_emision = ? AND eliminado_en IS NULL AND actualizado_en < ? ORDER BY id_bsale";
    let rows = Sql::new(query).bind(day).bind(since).all(&bsale.target.db).await?;
    rows.iter().map(|row| row.try_get("", "id_bsale")).collect()
}

/// Those of `ids` that are keys of the table.
pub async fn present(bsale: &Bsale, table: &str, ids: &[i64]) -> Result<HashSet<i64>, DbErr> {
    let mut present = HashSet::new();
    for ids in ids.chunks(10 * PAGE) {
        let places = vec!["?"; ids.len()].join(", ");
        let query = Sql::new(format!("SELECT id_bsale FROM {table} WHERE id_bsale IN ({places})"));
        for row in query.bind_all(ids.iter().map(|id| (*id).into())).all(&bsale.target.db).await? {
            present.insert(row.try_get("", "id_bsale")?);
        }
    }
    Ok(present)
}

fn raw_of(items: &[Box<RawValue>], id: i64) -> String {
    let found = items.iter().find(|raw| id_of(raw) == Some(id));
    found.map(|raw| raw.get().to_owned()).unwrap_or_default()
}

/// The lines of a document, of which these are all.
pub fn family(document: i64, lines: &[Row], version: i64) -> Family {
    let keep = lines.iter().filter_map(|line| number(&line.values[0])).collect();
    Family { table: &DETAILS, column: "id_documento", parent: document, keep, version }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::BigInt(number) => *number,
        _ => None,
    }
}
