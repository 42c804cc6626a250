use std::sync::Arc;

use aws_sdk_s3::Client;
use chassis::db::Database;

use crate::{
    config::{ImportSettings, LookupSettings, SmsSettings},
    report_writer::ReportWriter,
};

/// What requests and jobs share.
#[derive(Clone)]
pub struct Resources {
    pub database: Database,
    pub s3: Client,
    pub bucket: String,
    pub settings: Arc<ImportSettings>,
    pub lookups: Arc<LookupSettings>,
    pub sms: Arc<SmsSettings>,
    /// What providers report is written by.
    pub reports: ReportWriter,
    /// Phones that a user who sees phones masked may search for in an hour.
    pub phone_searches: i64,
}
