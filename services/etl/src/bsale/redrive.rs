//! Records in quarantine, read once more without asking Bsale: after the reading of them was mended.

use sea_orm::{DbErr, TransactionTrait as _};
use serde_json::value::RawValue;

use super::{
    Bsale, documents, read,
    record::Record,
    scan::{self, Spec},
    tables::{CLIENTS, DETAILS, DOCUMENTS},
};
use crate::{
    domain::{
        run::Redriven,
        table::{Row, Table},
    },
    target::{self, Family, KeptRecord, Sql},
};

/// What a record is to write.
#[derive(Default)]
struct Written {
    rows: Vec<(&'static Table, Vec<Row>)>,
    family: Option<Family>,
}

/// Reads records of a stream again: those of `ids`, or the newest `most` where there are none. Those that can be read now
/// are merged, as of when they were seen, each in a transaction of its own; the others stay. So do documents that name
/// lines or a client which only Bsale knows. Of a stream that is read whole, a record that the last run has not met is not
/// Bsale's any more: it goes, and writes nothing. The table does not tell, as a row that is as it was keeps its version.
///
/// # Errors
/// The database; what was merged before stays so.
pub async fn redrive(bsale: &Bsale, stream: &str, ids: &[String], most: u64) -> Result<Redriven, DbErr> {
    let db = &bsale.target.db;
    let kept = match ids {
        [] => target::quarantined(db, Some(stream), most).await?,
        ids => target::quarantined_named(db, stream, ids).await?,
    };
    let spec = scan::spec(stream, &bsale.settings);
    let lane = if spec.is_some() { target::lane(db, stream).await? } else { None };
    let read_whole = lane.and_then(|lane| lane.watermark).map(|began| began.timestamp_micros());
    let mut redriven = Redriven::default();
    for record in kept {
        redriven.leidos += 1;
        match read_again(bsale, spec.as_ref(), &record).await? {
            Some(written) => {
                let is_outdated = read_whole.is_some_and(|began| record.record.version < began);
                let written = if is_outdated { Written::default() } else { written };
                merge(bsale, &record, written).await?;
                redriven.recuperados += 1;
            }
            None => redriven.en_cuarentena += 1,
        }
    }
    Ok(redriven)
}

async fn read_again(
    bsale: &Bsale,
    spec: Option<&Spec>,
    record: &KeptRecord,
) -> Result<Option<Written>, DbErr> {
    let Ok(raw) = RawValue::from_string(record.record.registro.clone()) else { return Ok(None) };
    let version = record.record.version;
    if let Some(spec) = spec {
        let understood = spec.read(&raw, version).ok();
        return Ok(understood.map(|it| Written { rows: vec![(spec.table(), vec![it.row])], family: None }));
    }
    if record.record.stream != "bsale.documentos" {
        return Ok(None);
    }
    let document = Record::read("document", &raw).and_then(|record| read::document(record, version));
    let Ok(document) = document else { return Ok(None) };
    let known = match document.client {
        Some(client) => !target::present(&bsale.target.db, &CLIENTS, &[client]).await?.is_empty(),
        None => true,
    };
    let Some(details) = document.details.filter(|_| known) else { return Ok(None) };
    let lines: Vec<Row> = details.into_iter().map(|line| line.row).collect();
    let family = Some(documents::family(document.id, &lines, version));
    let rows = vec![(&DOCUMENTS, vec![document.document.row]), (&DETAILS, lines)];
    Ok(Some(Written { rows, family }))
}

/// No epoch guards it: what it writes is as of when it was seen, and an older version never beats a newer one.
async fn merge(bsale: &Bsale, record: &KeptRecord, written: Written) -> Result<(), DbErr> {
    let (transaction, now) = (bsale.target.db.begin().await?, chrono::Utc::now());
    let Written { rows, family } = written;
    let families: Vec<Family> = family.into_iter().collect();
    target::merge_all(&transaction, &rows, &families, &record.corrida, now, false).await?;
    target::delete_strangers(&transaction, &families, &record.corrida, now).await?;
    let forget = Sql::new("DELETE FROM lote_cuarentena WHERE id = ?").bind(record.id.as_str());
    forget.run(&transaction).await?;
    transaction.commit().await
}
