//! Documents with all of their lines, understood ahead of who writes them and several pages at the same time: what of a page
//! is asked for one by one holds up neither the next page nor the one before.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::anyhow;
use futures::future::try_join_all;
use messaging::JobError;
use sea_orm::Value;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    Priority,
    batch::{Batch, drift, understand},
    client::{AT_ONCE, ApiError, Client, ListPage},
    read::{self, Document, Understood},
    record::{Bad, Record, id_of},
    tables::{CLIENTS, DETAILS, DOCUMENTS},
};
use crate::{
    domain::table::Row,
    target::{Family, Page, Quarantined},
};

/// Pages that are understood, or on their way to it, before the caller wants them.
const AHEAD: usize = 3;

/// Documents of a list's page, or one alone.
pub struct Documents {
    /// What they are to write, but for clients that are not there yet.
    pub batch: Batch,
    /// Of all that the page shows.
    pub ids: Vec<i64>,
    /// Whom they name as clients.
    pub clients: Vec<i64>,
    /// How many documents the list has.
    pub count: u64,
    /// Whether the list goes on.
    pub more: bool,
}

/// Who reads documents for a run.
#[derive(Clone, Debug)]
pub struct DocumentReader {
    client: Client,
    stream: String,
    priority: Priority,
    /// Who asks for the lines of a document has one of [`AT_ONCE`] places, whatever page the document is of.
    places: Arc<Semaphore>,
}

impl DocumentReader {
    /// One for a run of `stream`.
    pub fn new(client: Client, stream: String, priority: Priority) -> Self {
        Self { client, stream, priority, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The pages of documents that some queries list, one list after the other, each from its first page on.
    pub fn pages(self, lists: Vec<Vec<(&'static str, String)>>) -> DocumentPages {
        let (sender, read) = mpsc::channel(AHEAD);
        let reading = async move {
            for query in lists {
                let mut pages = self.client.pages("documents.json", &query, 0, self.priority);
                loop {
                    let page = pages.next().await;
                    let (failed, more) = (page.is_err(), page.as_ref().is_ok_and(|page| page.more));
                    let reader = self.clone();
                    let understanding = async move {
                        match page {
                            Ok(page) => reader.page(page).await,
                            Err(error) => Err(error.into()),
                        }
                    };
                    let understanding = tokio::spawn(understanding.in_current_span());
                    if sender.send(AbortOnDropHandle::new(understanding)).await.is_err() || failed {
                        return;
                    }
                    if !more {
                        break;
                    }
                }
            }
        };
        DocumentPages { read, _reading: AbortOnDropHandle::new(tokio::spawn(reading.in_current_span())) }
    }

    async fn page(&self, page: ListPage) -> Result<Documents, JobError> {
        let mut documents = self.understand(&page.items, page.version).await?;
        documents.batch.counters.leidos = page.items.len() as u64;
        (documents.count, documents.more) = (page.count, page.more);
        Ok(documents)
    }

    /// One document that was asked for by itself.
    ///
    /// # Errors
    /// What the walk must return at once.
    pub async fn one(&self, raw: Box<RawValue>, version: i64) -> Result<Documents, JobError> {
        self.understand(&[raw], version).await
    }

    async fn understand(&self, items: &[Box<RawValue>], version: i64) -> Result<Documents, JobError> {
        let (documents, mut bad) =
            understand(&self.stream, "document", items, version, |record| read::document(record, version))?;
        let mut ids: Vec<i64> = documents.iter().map(|document| document.id).collect();
        ids.extend(bad.iter().filter_map(|record| record.clave.parse::<i64>().ok()));
        let (mut rows, mut lines, mut families) = (Vec::new(), Vec::new(), Vec::new());
        let (mut clients, mut batch) = (Vec::new(), Batch::default());
        let all: Vec<_> = documents
            .iter()
            .map(|document| async move {
                let _place = self.places.acquire().await;
                all_lines(&self.client, document, version, self.priority).await
            })
            .collect();
        // Not as many of them at once: most have nothing to ask for, and those behind one that waits would wait with it.
        let all = try_join_all(all).await?;
        for (document, details) in documents.into_iter().zip(all) {
            let Document { id, client, document, details: whole } = document;
            let (details, version) = match details {
                Ok(Some(all)) => all,
                Ok(None) => (whole.unwrap_or_default(), version),
                Err(Bad::Drift(what)) => return Err(drift(&self.stream, &what)),
                Err(Bad::Record(rule)) => {
                    bad.push(Quarantined {
                        stream: self.stream.clone(),
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
        // Clients stand before the documents that name them, whoever brings them.
        batch.page.join(Page {
            rows: vec![(&CLIENTS, Vec::new()), (&DOCUMENTS, rows), (&DETAILS, lines)],
            bad,
            families,
            ..Page::default()
        });
        Ok(Documents { batch, ids, clients, count: items.len() as u64, more: false })
    }
}

/// Pages of documents. Nobody reads on once this is dropped.
pub struct DocumentPages {
    read: mpsc::Receiver<AbortOnDropHandle<Result<Documents, JobError>>>,
    _reading: AbortOnDropHandle<()>,
}

impl DocumentPages {
    /// The next page, of a list that has more, or the first one of the next list.
    ///
    /// # Errors
    /// What the walk must return at once.
    pub async fn next(&mut self) -> Result<Documents, JobError> {
        // As of pages: an end without an error is no end of the list.
        let ended = || JobError::retry(anyhow!("whoever read documents has ended"));
        self.read.recv().await.ok_or_else(ended)?.await.map_err(JobError::retry)?
    }
}

/// All lines of a document whose list was cut or not sent, with the version of their last page. None: they are all
/// there.
///
/// # Errors
/// What the work must return at once.
pub async fn lines(
    client: &Client,
    document: &Document,
    version: i64,
    priority: Priority,
) -> Result<Option<(Vec<Understood>, i64)>, JobError> {
    all_lines(client, document, version, priority).await?.map_err(JobError::fail)
}

/// The same with what is wrong with a line.
async fn all_lines(
    client: &Client,
    document: &Document,
    version: i64,
    priority: Priority,
) -> Result<Result<Option<(Vec<Understood>, i64)>, Bad>, ApiError> {
    if document.details.is_some() {
        return Ok(Ok(None));
    }
    let path = format!("documents/{}/details.json", document.id);
    let mut lines: BTreeMap<i64, Understood> = BTreeMap::new();
    let (mut offset, mut latest) = (0, version);
    // Not ahead: who reads many documents does so at once, and all but a few have one page.
    loop {
        let page = client.page(&path, &[], offset, priority).await?;
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
