use std::sync::Arc;

use chassis::{db::Database, redis::Redis};

use crate::{bsale::Bsale, collections::cache::Dashboards, config::EtlSettings};

/// What requests and jobs share.
#[derive(Clone)]
pub struct Resources {
    /// The service's own schema.
    pub database: Database,
    pub redis: Redis,
    pub settings: Arc<EtlSettings>,
    /// None: this installation has no Bsale.
    pub bsale: Option<Arc<Bsale>>,
    /// The collections dashboards.
    pub dashboards: Dashboards,
}
