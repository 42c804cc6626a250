//! What the columns of a row say.

use anyhow::{Context as _, bail};
use chrono::{DateTime, Datelike as _, LocalResult, NaiveDate, NaiveDateTime, SubsecRound as _, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use crate::{
    domain::params::MessageState,
    storage::{campaigns::CampaignUpdate, messages::Message},
};

pub const MAESTRO: [&str; 5] = ["id", "fecha", "nombre", "estado", "descripcion"];
pub const DETALLE: [&str; 7] = ["id", "id_maestro", "telefono", "mensaje", "fecha_envio", "estado", "error"];

/// A row of [`MAESTRO`].
///
/// # Errors
/// A value that makes no sense, by name.
pub fn campaign(row: [&str; 5], version: i64) -> anyhow::Result<CampaignUpdate> {
    let [id, day, nombre, estado, descripcion] = row;
    Ok(CampaignUpdate {
        origin_id: number("id", id)?.to_string(),
        fecha: NaiveDate::parse_from_str(day, "%Y-%m-%d")
            .ok()
            .filter(|day| (2000..2100).contains(&day.year()))
            .with_context(|| format!("fecha {day:?} is not a day, expected YYYY-MM-DD from 2000 to 2099"))?,
        nombre: text("nombre", nombre)?,
        estado: text("estado", estado)?,
        descripcion: text("descripcion", descripcion)?,
        expected_rows: None,
        version,
    })
}

/// A row of [`DETALLE`]: the campaign's id in the file, and the message.
///
/// # Errors
/// A value that makes no sense, by name.
pub fn message(row: [&str; 7], version: i64, zone: Tz) -> anyhow::Result<(String, Message)> {
    let [id, campaign, phone, body, sent_at, state, error] = row;
    let id = number("id", id)?;
    let campaign = number("id_maestro", campaign)?;
    let state = match state {
        "ENVIADO" => MessageState::Enviado,
        "PENDIENTE" => MessageState::Pendiente,
        "FALLIDO" => MessageState::Fallido,
        other => bail!("estado {other:?}, expected ENVIADO, PENDIENTE or FALLIDO"),
    };
    let message = Message {
        // No message of sms-dispatch has such a UUID: theirs have a version.
        id: Uuid::from_u128(u128::from(id.unsigned_abs())),
        version,
        phone: text("telefono", phone)?,
        text: text("mensaje", body)?,
        sent_at: time(sent_at, zone)?,
        state,
        error: Some(text("error", error)?).filter(|error| !error.is_empty()),
    };
    Ok((campaign.to_string(), message))
}

fn number(name: &str, text: &str) -> anyhow::Result<i64> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.with_context(|| format!("{name} {text:?} is not an id, expected a number from 1"))
}

/// PostgreSQL's texts hold anything but NUL.
fn text(name: &str, text: &str) -> anyhow::Result<String> {
    if text.contains('\0') {
        bail!("{name} holds a NUL");
    }
    Ok(text.to_owned())
}

/// A time as PostgreSQL or ISO 8601 writes it, with an offset or as a clock in `zone` shows it.
fn time(text: &str, zone: Tz) -> anyhow::Result<Option<DateTime<Utc>>> {
    if text.is_empty() {
        return Ok(None);
    }
    let spaced = text.replacen('T', " ", 1);
    // As exact as the table keeps it.
    let kept = |time: DateTime<Utc>| Ok(Some(time.trunc_subsecs(6)));
    if let Ok(time) = DateTime::parse_from_str(&spaced, "%Y-%m-%d %H:%M:%S%.f%#z") {
        return kept(time.to_utc());
    }
    let (clock, is_utc) = spaced.strip_suffix('Z').map_or((spaced.as_str(), false), |clock| (clock, true));
    let clock = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(clock, format).ok())
        .with_context(|| format!("fecha_envio {text:?} is not a time, expected YYYY-MM-DD HH:MM:SS"))?;
    if is_utc {
        return kept(clock.and_utc());
    }
    match clock.and_local_timezone(zone) {
        LocalResult::Single(time) => kept(time.to_utc()),
        LocalResult::None => bail!("fecha_envio {text:?} does not exist in {zone}: clocks skip it"),
        LocalResult::Ambiguous(..) => {
            bail!("fecha_envio {text:?} is there twice in {zone}: expected one with an offset")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_postgresql_or_iso_8601_writes_them() {
        let zone = chrono_tz::America::Bogota;
        let read = |text| time(text, zone).expect(text).map(|time| time.to_rfc3339());
        assert_eq!(read(""), None);
        for text in [
            "2025-01-27 10:00:00",
            "2025-01-27T10:00:00",
            "2025-01-27T10:00",
            "2025-01-27 10:00:00-05",
            "2025-01-27T15:00:00Z",
            "2025-01-27T15:00:00.000Z",
            "2025-01-27T10:00:00-05:00",
        ] {
            assert_eq!(read(text).as_deref(), Some("2025-01-27T15:00:00+00:00"), "{text}");
        }
        assert_eq!(read("2025-01-27 10:00:00.25+00").as_deref(), Some("2025-01-27T10:00:00.250+00:00"));
        assert_eq!(
            read("2025-01-27T10:00:00.123456789Z").as_deref(),
            Some("2025-01-27T10:00:00.123456+00:00")
        );
        assert!(time("ayer", zone).is_err());
        assert!(time("27/01/2025 10:00", zone).is_err());
        assert!(number("id", "0").is_err() && number("id", "-1").is_err() && number("id", "x").is_err());
    }

    #[test]
    fn a_time_that_a_zone_has_twice_or_never_is_not_guessed() {
        let zone = chrono_tz::America::Santiago;
        let refused = |text| time(text, zone).expect_err(text).to_string();
        assert!(refused("2025-04-05 23:30:00").contains("twice"));
        assert!(refused("2025-09-07 00:30:00").contains("skip it"));
        assert!(time("2025-04-05 23:30:00-03", zone).is_ok());
    }
}
