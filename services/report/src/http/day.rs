//! Days, as clients write them.

use chassis::Problem;
use chrono::NaiveDate;

use crate::domain::date;

/// A day as clients write it, or what they are told.
pub(super) fn day(text: &str) -> Result<NaiveDate, Problem> {
    date::parse(text).map_err(|error| Problem::bad_request("invalid_date", error.to_string()))
}

pub(super) fn no_campaigns(fecha: NaiveDate) -> Problem {
    Problem::not_found(format!("No se encontraron campañas para la fecha {fecha}"))
}
