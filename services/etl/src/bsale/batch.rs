//! What was understood of the source's records, on its way to a commit.

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use messaging::JobError;
use serde_json::value::RawValue;

use super::{
    read::Understood,
    record::{Bad, Record, id_of},
};
use crate::{
    domain::run::Counters,
    target::{Page, Quarantined},
};

/// What some of the source's records are to write, and what they count. It commits whole, or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    pub page: Page,
    pub counters: Counters,
    /// Up to where all is in the tables, once this is.
    pub watermark: Option<DateTime<Utc>>,
}

impl Batch {
    /// What `read` records are to write.
    pub fn new(page: Page, read: u64) -> Self {
        let counters = Counters { leidos: read, ..Counters::default() };
        Self { page, counters, watermark: None }
    }

    /// Counts what a record was found to be.
    pub fn note(&mut self, understood: &Understood) {
        if let Some(reason) = understood.skipped {
            self.counters.skipped(reason);
        }
        for field in &understood.new_fields {
            self.counters.new_field(field);
        }
    }
}

/// Reads the records of an answer one by one. What is bad of itself goes to quarantine; what says that the source has changed
/// stops the stream.
///
/// # Errors
/// Drift, with the name of what drifted.
pub fn understand<T>(
    stream: &str,
    what: &'static str,
    items: &[Box<RawValue>],
    version: i64,
    parse: impl Fn(Record<'_>) -> Result<T, Bad>,
) -> Result<(Vec<T>, Vec<Quarantined>), JobError> {
    let (mut good, mut bad) = (Vec::with_capacity(items.len()), Vec::new());
    for raw in items {
        match Record::read(what, raw).and_then(&parse) {
            Ok(record) => good.push(record),
            Err(Bad::Drift(what)) => return Err(drift(stream, &what)),
            Err(Bad::Record(rule)) => bad.push(Quarantined {
                stream: stream.to_owned(),
                clave: id_of(raw).map(|id| id.to_string()).unwrap_or_default(),
                regla: rule,
                registro: raw.get().to_owned(),
                version,
            }),
        }
    }
    Ok((good, bad))
}

/// The stream stops, with the name of what is missing or of another type.
pub fn drift(stream: &str, what: &str) -> JobError {
    JobError::fail(anyhow!("{stream}: the source has changed: {what}"))
}
