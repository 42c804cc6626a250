//! What PostgreSQL can hold of what strangers send.

use std::borrow::Cow;

use chrono::{DateTime, Datelike as _, Utc};
use sea_orm::sqlx;

/// PostgreSQL's text holds no NUL: U+FFFD stands for it.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// A time with a year of four digits, the only ones that RFC 3339 knows. PostgreSQL's own range is wider, but no
/// client reads all of it: years below -4712 are refused, and those above 262142 can't be read back.
pub(crate) fn time(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (1..=9999).contains(&time.year()).then_some(time)
}

/// A limit of times that are compared with [`time`]s: one beyond all of them is as good as the last.
pub(crate) fn limit(limit: DateTime<Utc>) -> DateTime<Utc> {
    // In microseconds: the first moment of the year 1, and the last of 9999.
    let end = |micros| DateTime::from_timestamp_micros(micros).unwrap_or(limit);
    limit.clamp(end(-62_135_596_800_000_000), end(253_402_300_799_999_999))
}

/// Whether the database refuses what it was given for what it says, so that it would refuse it again: a value that
/// can't be sent, and SQLSTATE's classes 22 (data), 23 (constraints) and 54 (too large). Anything else may pass:
/// a server that is away, read-only after a failover, not migrated yet.
pub(crate) fn refuses(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_beyond_all_times_are_at_their_ends() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let first = at("0001-01-01T00:00:00Z");
        let last = at("9999-12-31T23:59:59.999999Z");
        assert_eq!(limit(DateTime::<Utc>::MIN_UTC), first);
        assert_eq!(limit(DateTime::<Utc>::MAX_UTC), last);
        assert_eq!(limit(at("2026-07-01T00:00:00Z")), at("2026-07-01T00:00:00Z"));
        for (text, kept) in [
            ("-0001-01-01T00:00:00Z", false),
            ("0001-01-01T00:00:00Z", true),
            ("9999-12-31T23:59:59Z", true),
            ("+10000-01-01T00:00:00Z", false),
        ] {
            assert_eq!(time(at(text)).is_some(), kept, "{text}");
        }
    }
}
