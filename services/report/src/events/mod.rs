//! What this service learns from events: one file a handler.

pub mod campaign_updated;
pub mod messages_settled;

use anyhow::Context as _;

/// The day of a campaign. One outside this century makes no partition: a clock of theirs is wrong.
fn sensible_day(text: &str) -> anyhow::Result<chrono::NaiveDate> {
    let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .with_context(|| format!("{text:?} is not a valid day, expected YYYY-MM-DD"))?;
    let year = chrono::Datelike::year(&day);
    anyhow::ensure!((2000..2100).contains(&year), "{text} is not a day of this century");
    Ok(day)
}

/// PostgreSQL's text holds no NUL.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}
