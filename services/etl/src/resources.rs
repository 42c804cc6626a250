use std::sync::Arc;

use chassis::{db::Database, redis::Redis};

use crate::{
    bsale::Bsale,
    collections::{bigquery::Client, cache::Dashboards},
    config::EtlSettings,
    domain::stream::Source,
};

/// What requests and jobs share.
#[derive(Clone)]
pub struct Resources {
    /// The service's own schema.
    pub database: Database,
    pub redis: Redis,
    pub settings: Arc<EtlSettings>,
    /// None: this installation has no Bsale.
    pub bsale: Option<Arc<Bsale>>,
    /// None: this installation has no BigQuery.
    pub bigquery: Option<Client>,
    /// The collections dashboards.
    pub dashboards: Dashboards,
}

impl Resources {
    /// Whether this installation has the source.
    pub const fn has(&self, source: Source) -> bool {
        match source {
            Source::Bsale => self.bsale.is_some(),
            Source::BigQuery => self.bigquery.is_some(),
        }
    }
}
