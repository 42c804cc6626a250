//! From a value as stored to one that PostgreSQL takes. A NUL byte or bad UTF-8 would abort a whole COPY.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use super::raw::Raw;

/// No name, address or place is longer; an index entry must stay below 2,700 bytes.
pub const MAX_TEXT_BYTES: usize = 500;

/// A text without blanks around it; none where nothing is left. `repaired` counts those that lost something: NUL
/// bytes, bytes that are no UTF-8 (each becomes U+FFFD), what is over [`MAX_TEXT_BYTES`].
pub fn text<'a>(raw: Raw<'a>, repaired: &mut u64) -> Option<Cow<'a, str>> {
    let bytes = match raw {
        Raw::Null => return None,
        Raw::Text(bytes) => Cow::Borrowed(bytes),
        other => other.bytes(),
    };
    let text = match bytes {
        Cow::Borrowed(bytes) if memchr::memchr(0, bytes).is_none() && bytes.len() <= MAX_TEXT_BYTES => {
            match std::str::from_utf8(bytes) {
                Ok(text) => Cow::Borrowed(text.trim()),
                Err(_) => Cow::Owned(repair(bytes, repaired)),
            }
        }
        Cow::Borrowed(bytes) => Cow::Owned(repair(bytes, repaired)),
        Cow::Owned(bytes) => Cow::Owned(repair(&bytes, repaired)),
    };
    (!text.is_empty()).then_some(text)
}

#[cold]
fn repair(bytes: &[u8], repaired: &mut u64) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\0', "");
    let mut text = text.trim().to_owned();
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    }
    if text.as_bytes() != bytes.trim_ascii() {
        *repaired += 1;
    }
    text
}

/// Microseconds since 2000-01-01, as PostgreSQL counts time.
pub type PgTime = i64;

const PG_EPOCH_SECONDS: i64 = 946_684_800;
/// PostgreSQL's epoch in microseconds since 1970.
pub const PG_EPOCH_MICROS: i64 = PG_EPOCH_SECONDS * 1_000_000;

/// A time in the forms SQLite has: `YYYY-MM-DD HH:MM:SS` with or without fractions, a `T` or an offset; seconds since
/// 1970; a Julian day (<https://sqlite.org/lang_datefunc.html>). None where there is none; one that makes no sense counts
/// as `repaired`.
pub fn time(raw: Raw<'_>, repaired: &mut u64) -> Option<PgTime> {
    let found = match raw {
        Raw::Null => return None,
        Raw::Integer(seconds) => DateTime::from_timestamp(seconds, 0).map(|time| time.naive_utc()),
        Raw::Real(days) => julian(days),
        Raw::Text(bytes) | Raw::Blob(bytes) => {
            let bytes = bytes.trim_ascii();
            if bytes.is_empty() {
                return None;
            }
            plain(bytes).or_else(|| odd(std::str::from_utf8(bytes).ok()?))
        }
    };
    let found = found.map(|time| time.and_utc());
    // What PostgreSQL can hold and a person would believe.
    let found = found.filter(|time| (1900..=2200).contains(&chrono::Datelike::year(time)));
    if found.is_none() {
        *repaired += 1;
    }
    found.map(|time| time.timestamp_micros() - PG_EPOCH_MICROS)
}

/// `YYYY-MM-DD HH:MM:SS`, the form of CURRENT_TIMESTAMP, without a general parser.
fn plain(bytes: &[u8]) -> Option<NaiveDateTime> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b' ' | b'T', h1, h2, b':', i1, i2, b':', s1, s2] =
        bytes
    else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0u32, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
    };
    let year = i32::try_from(number(&[y1, y2, y3, y4])?).ok()?;
    NaiveDate::from_ymd_opt(year, number(&[m1, m2])?, number(&[d1, d2])?)?.and_hms_opt(
        number(&[h1, h2])?,
        number(&[i1, i2])?,
        number(&[s1, s2])?,
    )
}

#[cold]
fn odd(text: &str) -> Option<NaiveDateTime> {
    const FORMS: [&str; 4] =
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    let with_offset = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z"))
        .map(|time| time.naive_utc());
    let without = || FORMS.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    with_offset.ok().or_else(without).or_else(day)
}

fn julian(days: f64) -> Option<NaiveDateTime> {
    const UNIX_EPOCH_DAYS: f64 = 2_440_587.5;
    let micros = (days - UNIX_EPOCH_DAYS) * 86_400e6;
    // Saturates, and what is out of range is none.
    DateTime::from_timestamp_micros(micros as i64).map(|time| time.naive_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_loses_only_what_postgresql_refuses() {
        let read = |bytes: &[u8]| {
            let mut repaired = 0;
            (text(Raw::Text(bytes), &mut repaired).map(Cow::into_owned), repaired)
        };
        assert_eq!(read(b"  CATALINO  "), (Some("CATALINO".to_owned()), 0));
        assert_eq!(read("PEÑA".as_bytes()), (Some("PEÑA".to_owned()), 0));
        assert_eq!(read(b"   "), (None, 0));
        assert_eq!(read(b"A\0B"), (Some("AB".to_owned()), 1));
        assert_eq!(read(b"PE\xd1A"), (Some("PE\u{fffd}A".to_owned()), 1));
        assert_eq!(read(b"\0"), (None, 1));
        let (long, repaired) = read("ñ".repeat(400).as_bytes());
        assert_eq!((long.map(|text| text.len()), repaired), (Some(500), 1));
        let mut repaired = 0;
        assert_eq!(text(Raw::Integer(7), &mut repaired).as_deref(), Some("7"));
        assert_eq!(text(Raw::Null, &mut repaired), None);
    }

    #[test]
    fn times_are_read_in_every_form_of_sqlite() {
        let read = |raw| {
            let mut repaired = 0;
            (time(raw, &mut repaired).map(|micros| micros / 1_000_000 + PG_EPOCH_SECONDS), repaired)
        };
        let at = 1_735_787_045; // 2025-01-02 03:04:05 UTC
        for form in [
            "2025-01-02 03:04:05",
            "2025-01-02T03:04:05",
            "2025-01-02 03:04:05.000",
            "2025-01-02T03:04:05Z",
            "2025-01-01T21:04:05-06:00",
            " 2025-01-02 03:04:05 ",
        ] {
            assert_eq!(read(Raw::Text(form.as_bytes())), (Some(at), 0), "{form}");
        }
        assert_eq!(read(Raw::Integer(at)), (Some(at), 0));
        assert_eq!(read(Raw::Text(b"2025-01-02")), (Some(1_735_776_000), 0));
        assert_eq!(read(Raw::Real(2_460_677.5)), (Some(1_735_776_000), 0));
        for wrong in ["2025-13-02 03:04:05", "ayer", "0000-00-00 00:00:00", "9999-01-01 00:00:00"] {
            assert_eq!(read(Raw::Text(wrong.as_bytes())), (None, 1), "{wrong}");
        }
        assert_eq!(read(Raw::Text(b"")), (None, 0));
        assert_eq!(read(Raw::Integer(i64::MAX)), (None, 1));
    }
}
