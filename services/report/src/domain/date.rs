//! Days as the clients of the reports write them.

use chrono::NaiveDate;

/// Not a day. The text is for the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Formato de fecha inválido. Use 'YYYY/MM/DD'.")]
pub struct BadDate;

/// A day as [`parse`] reads it.
pub fn show(day: NaiveDate) -> String {
    day.format("%Y/%m/%d").to_string()
}

/// A day as `YYYY/MM/DD`, with all its digits.
///
/// # Errors
/// Another form, or a day that the calendar lacks.
pub fn parse(text: &str) -> Result<NaiveDate, BadDate> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    if bytes.len() != 10 || bytes[4] != b'/' || bytes[7] != b'/' {
        return Err(BadDate);
    }
    if !(digits(0..4) && digits(5..7) && digits(8..10)) {
        return Err(BadDate);
    }
    NaiveDate::parse_from_str(text, "%Y/%m/%d").map_err(|_| BadDate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_back() {
        let day = NaiveDate::from_ymd_opt(987, 3, 4).expect("a day");
        assert_eq!(show(day), "0987/03/04");
        assert_eq!(parse(&show(day)), Ok(day));
    }

    #[test]
    fn a_day_is_four_two_and_two_digits_of_the_calendar() {
        assert_eq!(parse("2025/01/27"), Ok(NaiveDate::from_ymd_opt(2025, 1, 27).expect("a day")));
        assert!(parse("2024/02/29").is_ok(), "2024 is a leap year");
        for wrong in [
            "",
            "2025-01-27",
            "2025/13/01",
            "2025/02/29",
            "2025/1/27",
            "25/01/27",
            "2025/01/27 ",
            "+025/01/27",
            "2025/00/10",
            "2025/01/00",
            "mañana",
            "２０25/1/1",
        ] {
            assert_eq!(parse(wrong), Err(BadDate), "{wrong}");
        }
    }
}
