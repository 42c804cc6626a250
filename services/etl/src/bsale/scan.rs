//! Streams that can only be read whole: Bsale does not say what changed since.
//!
//! Lists are newest first, so records that come or go while it is read shift the pages. A slice whose count changed on
//! the way is read again. What the table has and no page showed is asked for by its id before it is marked as deleted.

use std::collections::HashSet;

use anyhow::anyhow;
use chrono::Utc;
use messaging::JobError;
use sea_orm::Value;
use serde_json::value::RawValue;

use super::{
    Priority,
    batch::Batch,
    client::{ApiError, Client, PAGE, at_once},
    read::{self, Understood},
    record::{Bad, Record},
    session::Session,
};
use crate::{
    config::BsaleSettings,
    domain::table::{Table, key_text},
    target::{self, Claim, Gone, Page},
};

/// How often a slice is read that changes on the way.
const PASSES: u32 = 5;
/// Rows that may go at once whatever share of the table they are: of a table of ten, one is 10 %.
pub const FUSE_FLOOR: u64 = 10;

/// What is scanned, and how.
pub struct Spec {
    what: &'static str,
    path: String,
    /// The queries that together give all: active ones, and inactive ones.
    slices: Vec<Vec<(&'static str, String)>>,
    table: &'static Table,
    parse: Parse,
    /// The key of the row that a record is, also of one that can't be read otherwise; none: that can't be read either.
    key: Key,
    /// Where one of them is, by its id; none: single ones can't be asked for.
    one: Option<&'static str>,
    /// Which rows of the table the scan is about.
    only: (&'static str, Vec<Value>),
}

impl Spec {
    /// Where the rows go.
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// A record of it, as of when it was asked for.
    ///
    /// # Errors
    /// What it breaks.
    pub fn read(&self, raw: &RawValue, version: i64) -> Result<Understood, Bad> {
        Record::read(self.what, raw).and_then(|record| (self.parse)(record, version))
    }
}

type Parse = Box<dyn Fn(Record<'_>, i64) -> Result<Understood, Bad> + Send + Sync>;
type Key = Box<dyn Fn(&mut Record<'_>) -> Result<String, Bad> + Send + Sync>;

impl Spec {
    /// The key of a record as it came.
    fn key_of(&self, raw: &str) -> Option<String> {
        let raw: &RawValue = serde_json::from_str(raw).ok()?;
        (self.key)(&mut Record::read(self.what, raw).ok()?).ok()
    }
}

/// A part of a key.
fn part(record: &mut Record<'_>, name: &'static str) -> Result<i64, Bad> {
    record.nested_id(name)?.ok_or_else(|| Bad::Record(format!("{name} is missing")))
}

/// The scan of a stream.
pub fn spec(stream: &str, settings: &BsaleSettings) -> Option<Spec> {
    use super::tables;
    let states = || vec![vec![("state", "0".to_owned())], vec![("state", "1".to_owned())]];
    let by_state =
        |what, path: &'static str, table, parse: fn(Record<'_>, i64) -> Result<Understood, Bad>| Spec {
            what,
            path: format!("{path}.json"),
            slices: states(),
            table,
            parse: Box::new(parse),
            key: Box::new(|record| Ok(record.id("id")?.to_string())),
            one: Some(path),
            only: ("", Vec::new()),
        };
    Some(match stream {
        "bsale.tipos_documento" => {
            by_state("document_type", "document_types", &tables::DOCUMENT_TYPES, read::document_type)
        }
        "bsale.tipos_producto" => {
            by_state("product_type", "product_types", &tables::PRODUCT_TYPES, read::product_type)
        }
        "bsale.productos" => by_state("product", "products", &tables::PRODUCTS, read::product),
        "bsale.variantes" => by_state("variant", "variants", &tables::VARIANTS, read::variant),
        "bsale.clientes" => by_state("client", "clients", &tables::CLIENTS, read::client),
        "bsale.stock" => Spec {
            what: "stock",
            path: "stocks.json".to_owned(),
            slices: vec![Vec::new()],
            table: &tables::STOCK,
            parse: Box::new(read::stock),
            key: Box::new(|record| Ok(format!("{}|{}", part(record, "variant")?, part(record, "office")?))),
            one: None,
            only: ("", Vec::new()),
        },
        "bsale.listas_precio" => {
            let list = settings.price_list;
            Spec {
                what: "price",
                path: format!("price_lists/{list}/details.json"),
                slices: vec![Vec::new()],
                table: &tables::PRICES,
                parse: Box::new(move |record, version| read::price(record, list, version)),
                key: Box::new(move |record| Ok(format!("{list}|{}", part(record, "variant")?))),
                one: None,
                only: ("t.id_lista = ?", vec![list.into()]),
            }
        }
        _ => return None,
    })
}

/// Reads all slices, then looks for what was not met.
pub async fn walk(session: &mut Session<'_>, spec: &Spec) -> Result<(), JobError> {
    while session.place.phase == 0 {
        match spec.slices.get(session.place.slice) {
            Some(query) => slice(session, spec, query).await?,
            None => session.place.phase = 1,
        }
    }
    // An earlier worker may have ended the scan, and not the run: what it met is forgotten by now.
    if session.place.phase == 1 {
        sweep(session, spec).await?;
    }
    Ok(())
}

async fn slice(
    session: &mut Session<'_>,
    spec: &Spec,
    query: &[(&'static str, String)],
) -> Result<(), JobError> {
    let mut pages = session.bsale.client.pages(&spec.path, query, session.place.offset, session.priority);
    loop {
        let page = pages.next().await?;
        let received = page.items.len() as u64;
        let version = page.version;
        let (rows, mut bad) =
            session.understand(spec.what, &page.items, version, |record| (spec.parse)(record, version))?;
        let mut batch = Batch::new(Page::default(), received);
        rows.iter().for_each(|understood| batch.note(understood));
        let mut met: Vec<String> = rows.iter().map(|understood| understood.row.key(spec.table)).collect();
        if session.place.offset == 0 {
            let before = session.seen.replace(HashSet::new());
            // At most: a pass may meet again what another one has met. Too many only let a pass be repeated that another
            // worker has ended; asking the database would wait for a commit.
            let known = before.map(|before| session.place.met_before + before.len() as u64);
            session.place.met_before = match known {
                Some(most) => most,
                None => met_by_run(session, &[]).await?,
            };
        }
        // A record that could not be read is there all the same.
        for record in &mut bad {
            match spec.key_of(&record.registro) {
                Some(key) => {
                    met.push(key.clone());
                    record.clave = key;
                }
                None => {
                    session.place.keyless = true;
                    session.saw(&record.registro);
                }
            }
        }
        met.iter().for_each(|key| session.saw(key));
        // One that came and one that went leave the count as it was, but not the number of those met. Where another
        // worker began the pass, the database knows that of a first one; a later one is read once more.
        let seen = match session.seen.as_ref().map(HashSet::len) {
            _ if page.more => 0,
            Some(seen) => seen as u64,
            None if session.place.pass == 0 => {
                met_by_run(session, &met).await?.saturating_sub(session.place.met_before)
            }
            None => 0,
        };
        let rows = rows.into_iter().map(|understood| understood.row).collect();
        batch.page = Page { rows: vec![(spec.table, rows)], met, bad, ..Page::default() };

        let before = *session.place.count.get_or_insert(page.count);
        session.place.offset += received;
        let mut changes = false;
        if !page.more {
            let whole = page.count == before && session.place.offset >= page.count && seen >= page.count;
            if whole {
                (session.place.slice, session.place.pass) = (session.place.slice + 1, 0);
            } else {
                session.place.pass += u32::from(session.seen.is_some());
                changes = session.place.pass >= PASSES;
            }
            if changes {
                // The next attempt begins the slice, not where this one ended.
                session.place.pass = 0;
            }
            (session.place.offset, session.place.count) = (0, None);
        }
        session.add(batch).await?;
        if changes {
            return Err(JobError::retry(anyhow!(
                "{}: the list changed {PASSES} times while it was read",
                spec.path
            )));
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// How many keys the run has met, with those of a page.
async fn met_by_run(session: &mut Session<'_>, page: &[String]) -> Result<u64, JobError> {
    session.flush().await?;
    let Claim { lane, run, .. } = &session.claim;
    target::count_met(&session.bsale.target.db, lane, run, page).await.map_err(JobError::retry)
}

/// What the table has and the scan has not met.
async fn sweep(session: &mut Session<'_>, spec: &Spec) -> Result<(), JobError> {
    session.flush().await?;
    let (bsale, priority) = (session.bsale, session.priority);
    let db = &bsale.target.db;
    let only = (spec.only.0, spec.only.1.clone());
    let unmet =
        target::unmet(db, spec.table, &session.claim.lane, &session.claim.run, session.began, only).await;
    let mut unmet = unmet.map_err(JobError::retry)?;
    if session.place.keyless {
        tracing::warn!(path = spec.path, "a record without a key: no row is taken for gone");
        unmet.clear();
    }
    if !session.params.force {
        let live = target::count_live(db, spec.table.name).await.map_err(JobError::retry)?;
        fuse(unmet.len() as u64, live, bsale.settings.fuse_percent)
            .map_err(|reason| JobError::fail(anyhow!("{}: {reason}", spec.table.name)))?;
    }
    for keys in unmet.chunks(PAGE) {
        let Some(path) = spec.one else {
            // The scan says so, which is as of its beginning.
            session.add(gone(spec.table, keys.to_vec(), session.began.timestamp_micros())).await?;
            continue;
        };
        // Those that are there after all are read.
        let asked: Vec<_> = keys
            .iter()
            .map(|key| {
                let path = format!("{path}/{}.json", key_text(key));
                async move {
                    let found = bsale.client.one(&path, &[], priority).await?;
                    Ok::<_, ApiError>((found, Utc::now().timestamp_micros()))
                }
            })
            .collect();
        for (key, (found, answered)) in keys.iter().zip(at_once(asked).await?) {
            let batch = match found {
                None => gone(spec.table, vec![key.clone()], answered),
                Some((raw, version)) => {
                    let (rows, bad) = session
                        .understand(spec.what, &[raw], version, |record| (spec.parse)(record, version))?;
                    let rows = rows.into_iter().map(|understood| understood.row).collect();
                    let met = vec![key_text(key)];
                    Batch::new(Page { rows: vec![(spec.table, rows)], met, bad, ..Page::default() }, 0)
                }
            };
            session.add(batch).await?;
        }
    }
    session.place.phase = 2;
    // What a scan has read whole is as of its beginning.
    let end = Batch::new(Page { forget: true, ..Page::default() }, 0);
    session.add(Batch { watermark: Some(session.began), ..end }).await
}

fn gone(table: &'static Table, keys: Vec<Vec<Value>>, version: i64) -> Batch {
    Batch::new(Page { deleted: vec![Gone { table, keys, version }], ..Page::default() }, 0)
}

/// Whether so many rows may be marked as deleted.
///
/// # Errors
/// They may not: somebody has to say that they are really gone.
pub fn fuse(gone: u64, live: u64, percent: u32) -> Result<(), String> {
    let most = (live * u64::from(percent) / 100).max(FUSE_FLOOR);
    if gone > most {
        return Err(format!(
            "{gone} of {live} rows are not at the source any more, which is more than {percent} %: run it again with force where that is so"
        ));
    }
    Ok(())
}

/// One record that a webhook named. None: there is none.
///
/// # Errors
/// As [`Client::get`].
pub async fn one(client: &Client, spec: &Spec, id: i64) -> Result<Option<Result<Understood, Bad>>, ApiError> {
    let Some(path) = spec.one else { return Ok(None) };
    let found = client.one(&format!("{path}/{id}.json"), &[], Priority::Webhook).await?;
    Ok(found
        .map(|(raw, version)| Record::read(spec.what, &raw).and_then(|record| (spec.parse)(record, version))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fuse_stops_what_would_empty_a_table() {
        assert!(fuse(10, 10, 5).is_ok(), "the floor");
        assert!(fuse(11, 100, 5).is_err());
        assert!(fuse(50, 1_000, 5).is_ok());
        assert!(fuse(51, 1_000, 5).is_err());
    }
}
