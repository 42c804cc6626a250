//! Streams, as data.

/// Where a stream's rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Bsale,
    BigQuery,
}

/// How a stream advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The source can't say what changed: every run reads all, and what it does not meet is looked for and marked.
    Scan,
    /// By days; `look_back` of them are read again each time, as rows come late.
    Days,
}

/// A stream: rows of one kind of a source, and how they are kept up with.
#[derive(Debug)]
pub struct Stream {
    /// As `bsale.documentos`.
    pub name: &'static str,
    pub source: Source,
    /// The table that its rows go to first.
    pub table: &'static str,
    pub walk: Walk,
    /// Whether a daily run includes it.
    pub daily: bool,
    /// The stream whose rows it goes by: while that one is run, it waits.
    pub after: Option<&'static str>,
}

impl Stream {
    /// What the API calls its table: of BigQuery's the source's own name (`pagos`), which our table's (`raw_pagos`) is made
    /// of.
    pub fn shown(&self) -> &'static str {
        match self.source {
            Source::Bsale => self.table,
            Source::BigQuery => self.name.rsplit('.').next().unwrap_or(self.name),
        }
    }
}
