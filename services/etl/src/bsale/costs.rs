//! What variants cost. One request a variant, so a daily run asks only for those that receptions brought in since.

use std::collections::BTreeSet;

use chrono::{NaiveDate, Utc};
use messaging::JobError;
use sea_orm::DbErr;

use super::{
    Bsale,
    batch::Batch,
    calendar::{before, midnight},
    client::{ApiError, at_once},
    read::{cost, received},
    record::{Bad, Record},
    session::Session,
    tables::COSTS,
};
use crate::{
    domain::{run::Mode, table::Row},
    target::{Gone, Page, Quarantined, Sql},
};

/// Variants of one transaction.
const BATCH: usize = 20;

/// All variants, or those that were received on the days since the watermark.
pub async fn walk(session: &mut Session<'_>) -> Result<(), JobError> {
    let settings = &session.bsale.settings;
    let (_, clock) =
        session.bsale.client.count("variants", &[("limit", "1".to_owned())], session.priority).await?;
    let today = *session.place.last_day.get_or_insert(clock.date_naive());
    // Nothing is known yet: all of them.
    if session.params.mode == Mode::Full || (session.watermark.is_none() && session.params.from.is_none()) {
        loop {
            let variants =
                variants_after(session.bsale, session.place.after).await.map_err(JobError::retry)?;
            let Some(last) = variants.last().copied() else { break };
            let batch = fetch(session, &variants).await?;
            session.place.after = last;
            session.add(batch).await?;
        }
        return session.add(Batch { watermark: Some(midnight(today)), ..Batch::default() }).await;
    }
    if session.params.mode == Mode::Daily {
        // Variants that came since: nothing of theirs may have been received yet.
        loop {
            let variants = variants_without_cost(session.bsale, session.place.after).await;
            let variants = variants.map_err(JobError::retry)?;
            let Some(last) = variants.last().copied() else { break };
            let batch = fetch(session, &variants).await?;
            session.place.after = last;
            session.add(batch).await?;
        }
    }
    let from = session.watermark.map_or(today, |mark| mark.date_naive()).min(today);
    let from = session.params.from.unwrap_or_else(|| before(from, settings.look_back)).max(settings.start);
    let last = session.params.to.unwrap_or(today).min(today);
    let mut day = session.place.day.unwrap_or(from);
    while day <= last {
        let variants: Vec<i64> = variants_received(session, day).await?.into_iter().collect();
        for variants in variants.chunks(BATCH) {
            let batch = fetch(session, variants).await?;
            session.add(batch).await?;
        }
        let Some(next) = day.succ_opt() else { break };
        let moves = session.params.mode != Mode::Backfill
            && next <= today
            && session.watermark.is_some_and(|mark| midnight(day) <= mark && midnight(next) > mark);
        day = next;
        session.place.day = Some(day);
        session.add(Batch { watermark: moves.then(|| midnight(next)), ..Batch::default() }).await?;
    }
    Ok(())
}

async fn fetch(session: &Session<'_>, variants: &[i64]) -> Result<Batch, JobError> {
    let (bsale, priority) = (session.bsale, session.priority);
    let asked: Vec<_> = variants
        .iter()
        .map(|variant| {
            let path = format!("variants/{variant}/costs.json");
            async move {
                let found = bsale.client.one(&path, &[], priority).await?;
                Ok::<_, ApiError>((found, Utc::now().timestamp_micros()))
            }
        })
        .collect();
    let mut page = Page::default();
    let mut rows: Vec<Row> = Vec::new();
    for (variant, (found, answered)) in variants.iter().zip(at_once(asked).await?) {
        let Some((raw, version)) = found else {
            let keys = vec![vec![(*variant).into()]];
            page.deleted.push(Gone { table: &COSTS, keys, version: answered });
            continue;
        };
        match Record::read("costs", &raw).and_then(|record| cost(record, *variant, version)) {
            Ok(row) => rows.push(row),
            Err(Bad::Drift(what)) => return Err(session.drift(&what)),
            Err(Bad::Record(rule)) => page.bad.push(Quarantined {
                stream: session.params.stream.clone(),
                clave: variant.to_string(),
                regla: rule,
                registro: raw.get().to_owned(),
                version,
            }),
        }
    }
    page.rows.push((&COSTS, rows));
    Ok(Batch::new(page, variants.len() as u64))
}

/// The variants of all receptions of one day. Bsale takes one exact day, as its first second.
async fn variants_received(session: &mut Session<'_>, day: NaiveDate) -> Result<BTreeSet<i64>, JobError> {
    let client = &session.bsale.client;
    let query =
        [("admissiondate", midnight(day).timestamp().to_string()), ("expand", "[details]".to_owned())];
    let (mut offset, mut variants) = (0, BTreeSet::new());
    loop {
        let page = client.page("stocks/receptions.json", &query, offset, session.priority).await?;
        for raw in &page.items {
            let (id, found) = match Record::read("reception", raw).and_then(received) {
                Ok(received) => received,
                Err(Bad::Drift(what) | Bad::Record(what)) => return Err(session.drift(&what)),
            };
            match found {
                Some(found) => variants.extend(found),
                None => variants.extend(lines_of(session, id).await?),
            }
        }
        offset += page.items.len() as u64;
        if !page.more {
            return Ok(variants);
        }
    }
}

async fn lines_of(session: &Session<'_>, reception: i64) -> Result<Vec<i64>, JobError> {
    let path = format!("stocks/receptions/{reception}/details.json");
    let (mut offset, mut variants) = (0, Vec::new());
    loop {
        let page = session.bsale.client.page(&path, &[], offset, session.priority).await?;
        for raw in &page.items {
            match Record::read("reception detail", raw).and_then(|mut record| record.nested_id("variant")) {
                Ok(variant) => variants.extend(variant),
                Err(Bad::Drift(what) | Bad::Record(what)) => return Err(session.drift(&what)),
            }
        }
        offset += page.items.len() as u64;
        if !page.more {
            return Ok(variants);
        }
    }
}

async fn variants_after(bsale: &Bsale, after: i64) -> Result<Vec<i64>, DbErr> {
    let query = format!(
        "SELECT id_bsale FROM variantes WHERE eliminado_en IS NULL AND id_bsale > ? ORDER BY id_bsale LIMIT {BATCH}"
    );
    let rows = Sql::new(query).bind(after).all(&bsale.target.db).await?;
    rows.iter().map(|row| row.try_get("", "id_bsale")).collect()
}

async fn variants_without_cost(bsale: &Bsale, after: i64) -> Result<Vec<i64>, DbErr> {
    let query = format!(
        "SELECT id_bsale FROM variantes v WHERE eliminado_en IS NULL AND id_bsale > ?
             AND NOT EXISTS (SELECT 1 FROM costos c WHERE c.id_variante = v.id_bsale)
         ORDER BY id_bsale LIMIT {BATCH}"
    );
    let rows = Sql::new(query).bind(after).all(&bsale.target.db).await?;
    rows.iter().map(|row| row.try_get("", "id_bsale")).collect()
}
