//! A random sample of an import's rows, read again from the source and compared with the tables field by field.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rusqlite::Connection;
use sea_orm::sqlx::PgPool;
use serde::{Deserialize, Serialize};

use super::{clean, sqlite, sqlite::Sqlite};
use crate::{
    domain::{phone, states::State},
    storage::{
        contacts::{self, Model},
        quality,
    },
};

/// Rows of a sample.
const ROWS: usize = 1_000;
/// How many differences are told in words.
const MAX_TOLD: usize = 20;

/// What a sample showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub rows: i64,
    pub as_contact: i64,
    /// Rows that went into another row's contact.
    pub as_merged: i64,
    pub as_rejected: i64,
    /// Rows that the tables don't show as the source has them, by id and field; at most twenty are told.
    pub different: Vec<String>,
}

/// A row as the source has it, by the rules of the mapping.
struct Expected {
    source_id: i64,
    /// None: no Mexican number.
    phone: Option<String>,
    fields: [(&'static str, Option<String>); 7],
    migrated_at: Option<DateTime<Utc>>,
}

const FIELDS: [&str; 7] =
    ["phone_original", "full_name", "address", "neighborhood", "municipality", "state_code", "city"];

/// The same fields of a contact.
fn fields(contact: &Model) -> [&Option<String>; 7] {
    [
        &contact.phone_original,
        &contact.full_name,
        &contact.address,
        &contact.neighborhood,
        &contact.municipality,
        &contact.state_code,
        &contact.city,
    ]
}

/// Draws the rows and compares them. `seed` decides which.
///
/// # Errors
/// A source or a database that can't be read.
pub async fn compare(pool: &PgPool, import: i32, source: &Sqlite, seed: u64) -> anyhow::Result<Sample> {
    let expected = tokio::task::spawn_blocking({
        let source = source.clone();
        move || draw(&source, seed)
    })
    .await??;
    let ids: Vec<i64> = expected.iter().map(|row| row.source_id).collect();
    let phones = expected.iter().filter_map(|row| row.phone.clone()).collect();
    let found = contacts::by_phones(pool, phones).await?;
    let rejected = quality::rejected(pool, import, &ids).await?;
    let merged = quality::merged(pool, import, &ids).await?;

    let mut sample = Sample { rows: i64::try_from(expected.len())?, ..Sample::default() };
    for row in &expected {
        let contact =
            row.phone.as_ref().and_then(|phone| found.iter().find(|found| found.phone_e164 == *phone));
        let is_merged = merged.contains(&row.source_id);
        let wrong = match (&row.phone, contact) {
            (None, _) if rejected.contains(&row.source_id) => {
                sample.as_rejected += 1;
                None
            }
            (None, _) => Some("is neither a contact nor among the rejects".to_owned()),
            (Some(_), None) => Some("has a phone that no contact has".to_owned()),
            (Some(_), Some(_)) if is_merged => {
                sample.as_merged += 1;
                None
            }
            (Some(_), Some(contact)) => {
                sample.as_contact += 1;
                row.differs(contact, contact.import == import)
            }
        };
        if let Some(wrong) = wrong
            && sample.different.len() < MAX_TOLD
        {
            sample.different.push(format!("row {} {wrong}", row.source_id));
        }
    }
    Ok(sample)
}

impl Expected {
    /// In which field the contact is not what the row says. What the row leaves empty, others may have filled; and a
    /// contact of an earlier import keeps its row and its id.
    fn differs(&self, contact: &Model, same_import: bool) -> Option<String> {
        if same_import && contact.source_id != self.source_id {
            return Some(format!("is row {} in the table", contact.source_id));
        }
        for ((name, expected), found) in self.fields.iter().zip(fields(contact)) {
            // A contact of an earlier import keeps the spelling of its phone too.
            let kept = *name == "phone_original" && !same_import && found.is_some();
            if !kept && expected.is_some() && expected != found {
                return Some(format!("has another {name} in the table"));
            }
        }
        (self.migrated_at.is_some() && self.migrated_at != contact.migrated_at)
            .then(|| "has another migrated_at in the table".to_owned())
    }
}

fn all(conn: &Connection, first: i64, last: i64) -> anyhow::Result<BTreeSet<i64>> {
    let mut statement = conn.prepare("select id from numeros where id between ?1 and ?2")?;
    let ids = statement.query_map([first, last], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

fn draw(source: &Sqlite, seed: u64) -> anyhow::Result<Vec<Expected>> {
    let Some((first, last)) = source.bounds else { return Ok(Vec::new()) };
    let conn = source.connect()?;
    let mut random = StdRng::seed_from_u64(seed);
    let wanted = ROWS.min(usize::try_from(source.rows)?);
    let mut ids = if source.rows <= ROWS as i64 { all(&conn, first, last)? } else { BTreeSet::new() };
    // Where ids have wide holes, the same row is drawn often: then fewer will do.
    for _ in 0..ROWS * 4 {
        if ids.len() == wanted {
            break;
        }
        let drawn = random.random_range(first..=last);
        ids.extend(sqlite::next_id(&conn, drawn)?.filter(|id| *id <= last));
    }
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        sqlite::read(&conn, id, id, |raw| {
            let mut repaired = 0;
            let mut text = |raw| clean::text(raw, &mut repaired).map(|text| text.into_owned());
            let state = text(raw.state_code)
                .map(|text| State::parse(&text).map_or(text, |state| state.code().to_owned()));
            let fields = [
                text(raw.phone_original),
                text(raw.full_name),
                text(raw.address),
                text(raw.neighborhood),
                text(raw.municipality),
                state,
                text(raw.city),
            ];
            let migrated_at = clean::time(raw.migrated_at, &mut repaired);
            let [original, name, address, neighborhood, municipality, state, city] = fields;
            rows.push(Expected {
                source_id: raw.source_id,
                phone: phone::normalise(&raw.phone.bytes()).ok().map(|found| found.phone.to_string()),
                fields: [
                    (FIELDS[0], original),
                    (FIELDS[1], name),
                    (FIELDS[2], address),
                    (FIELDS[3], neighborhood),
                    (FIELDS[4], municipality),
                    (FIELDS[5], state),
                    (FIELDS[6], city),
                ],
                migrated_at: migrated_at
                    .and_then(|micros| DateTime::from_timestamp_micros(micros + clean::PG_EPOCH_MICROS)),
            });
            true
        })?;
    }
    Ok(rows)
}
