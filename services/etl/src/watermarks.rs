//! How far behind its source each stream is, for the metrics.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    Resources,
    domain::stream::Source,
    metrics::WATERMARK_AGE,
    storage::raw_streams,
    streams,
    target::{self, Lane},
};

const EVERY: Duration = Duration::from_secs(60);

/// The background task of either role, so that a stream that stands still is seen while no worker runs.
pub struct Watermarks {
    resources: Resources,
    /// As last read: a stream ages on while its database can't be asked.
    known: BTreeMap<&'static str, DateTime<Utc>>,
}

impl Watermarks {
    pub fn new(resources: Resources) -> Self {
        Self { resources, known: BTreeMap::new() }
    }

    /// Looks once a minute until `shutdown` is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            if shutdown.run_until_cancelled(self.look(Utc::now())).await.is_none()
                || shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none()
            {
                return;
            }
        }
    }

    /// Brings the gauges up to date.
    pub async fn look(&mut self, now: DateTime<Utc>) {
        match raw_streams::all(&self.resources.database.orm).await {
            Ok(rows) => {
                self.learn(Source::BigQuery, rows.iter().map(|row| (row.stream.as_str(), row.watermark)));
            }
            Err(error) => tracing::debug!(%error, "watermarks of BigQuery's streams are not read"),
        }
        if let Some(bsale) = self.resources.bsale.clone() {
            match target::lanes(&bsale.target.db).await {
                Ok(lanes) => self.learn(Source::Bsale, lanes.iter().map(of_lane)),
                Err(error) => tracing::debug!(%error, "watermarks of Bsale's streams are not read"),
            }
        }
        for stream in streams::all() {
            let labels = &[stream.name];
            match self.known.get(stream.name) {
                Some(watermark) => {
                    WATERMARK_AGE.with_label_values(labels).set((now - watermark).as_seconds_f64().max(0.0));
                }
                // There is no age of what was never read; the series may not be there.
                None => drop(WATERMARK_AGE.remove_label_values(labels)),
            }
        }
    }

    /// All that there is of one source. Lanes of other names are not whole streams.
    fn learn<'a>(&mut self, source: Source, rows: impl Iterator<Item = (&'a str, Option<DateTime<Utc>>)>) {
        self.known.retain(|name, _| streams::named(name).is_some_and(|stream| stream.source != source));
        for (name, watermark) in rows {
            if let (Some(stream), Some(watermark)) = (streams::named(name), watermark) {
                self.known.insert(stream.name, watermark);
            }
        }
    }
}

fn of_lane(lane: &Lane) -> (&str, Option<DateTime<Utc>>) {
    (&lane.lane, lane.watermark)
}
