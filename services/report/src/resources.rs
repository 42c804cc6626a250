use std::sync::Arc;

use aws_sdk_s3::Client;
use chassis::db::Database;

use crate::{config::ReportSettings, live::Live};

/// What requests and jobs share.
#[derive(Clone)]
pub struct Resources {
    pub database: Database,
    pub live: Live,
    pub s3: Client,
    /// Signs URLs with the address at which clients reach S3.
    pub signer: Client,
    pub bucket: String,
    pub settings: Arc<ReportSettings>,
}
