//! What this service's messages do, a file a message.

pub mod campaign_told;
pub mod export_campaign;
pub mod messages_settled;
pub mod start_run;

use anyhow::Context as _;
use messaging::JobError;
use uuid::Uuid;

/// The id that a command names.
pub fn job_id(text: &str) -> Result<Uuid, JobError> {
    Uuid::parse_str(text).with_context(|| format!("{text:?} is no UUID")).map_err(JobError::Fail)
}

/// The most rows of ours that a clock of theirs can ask for: a day outside makes no partition.
fn sensible_day(text: &str) -> anyhow::Result<chrono::NaiveDate> {
    let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .with_context(|| format!("{text:?} is no day, expected YYYY-MM-DD"))?;
    let year = chrono::Datelike::year(&day);
    anyhow::ensure!((2000..2100).contains(&year), "{text} is not a day of this century");
    Ok(day)
}

/// PostgreSQL's text holds no NUL.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}
