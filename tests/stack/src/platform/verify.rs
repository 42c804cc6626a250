use super::Events;
use crate::workbook::{Outcome, Summary, Truth};
use anyhow::{Context, Result};
use sea_orm::sqlx::{self, PgPool, Row as _};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How what came of an import differs from what had to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What should be there and is not, or is something else.
    pub lost: Vec<String>,
    /// What is there twice, or should not be.
    pub duplicated: Vec<String>,
}

impl Verdict {
    /// Whether there is no difference.
    pub fn is_exact(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty()
    }

    fn expect<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, is: &T, should: &T) {
        if is != should {
            self.lost.push(format!("{what} is {is:?} and should be {should:?}"));
        }
    }

    /// Compares a table with what should stand in it.
    fn table<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        is: &BTreeMap<K, V>,
        should: &BTreeMap<K, V>,
    ) {
        for (key, value) in should {
            match is.get(key) {
                Some(found) if found == value => {}
                Some(found) => self.lost.push(format!("{what} {key:?} is {found:?} and should be {value:?}")),
                None => self.lost.push(format!("{what} {key:?} is missing")),
            }
        }
        let surplus = is.keys().filter(|key| !should.contains_key(key));
        self.duplicated.extend(surplus.map(|key| format!("{what} {key:?} should not be there")));
    }
}

/// Compares a completed import with the generator's truth: its status, the products, its ledger of rows, and
/// its events. `prefix` is the workbook's own.
///
/// # Errors
/// Where the database or RabbitMQ can't be asked.
pub async fn compare(
    pool: &PgPool,
    events: Option<&Events>,
    status: &Value,
    truth: &Truth,
    prefix: &str,
) -> Result<Verdict> {
    let task_id = status["task_id"].as_str().context("a status names its task")?;
    let mut verdict = Verdict::default();
    document(&mut verdict, status, truth);
    products(&mut verdict, pool, truth, prefix).await?;
    ledger(&mut verdict, pool, task_id, truth).await?;
    if let Some(events) = events {
        let mut kinds: Vec<_> = events.of(task_id).await?;
        kinds.sort_by(|one, other| one.0.cmp(&other.0));
        match kinds.as_slice() {
            [] => verdict.lost.push("the event ImportCompleted is missing".to_owned()),
            [(kind, event)] if kind == "lote.catalog.v1.ImportCompleted" => {
                let summary = &event["data"]["summary"];
                let count = |name: &str| summary[name].as_u64().unwrap_or_default();
                let said = Summary {
                    total: count("total"),
                    successful: count("accepted"),
                    rejected: count("rejected"),
                    duplicates: count("duplicates"),
                    created: count("created"),
                    updated: count("updated"),
                };
                verdict.expect("the event's summary", &said, &truth.summary);
            }
            [(kind, _)] => verdict.lost.push(format!("the event is a {kind}, not ImportCompleted")),
            many => verdict.duplicated.push(format!("there are {} different events", many.len())),
        }
        changes(&mut verdict, events, task_id, truth).await?;
    }
    Ok(verdict)
}

/// Each product that changed was told of once, and no other.
async fn changes(verdict: &mut Verdict, events: &Events, task_id: &str, truth: &Truth) -> Result<()> {
    let created = truth.created_ids().map(|id| (id, "created"));
    let updated = truth.updated_ids().map(|id| (id, "updated"));
    let should = created.chain(updated).map(|(id, action)| (id.to_owned(), vec![action.to_owned()]));
    verdict.table("the event of product", &events.changes(task_id).await?, &should.collect());
    Ok(())
}

/// Part of the reason of an import whose file is no longer in S3.
pub const OBJECT_GONE: &str = "ya no está";

/// What must have come of an import that failed midway: the truth of the rows up to the last one recorded. Batches
/// are written whole and in the order of the file, so none before it may be missing.
///
/// # Errors
/// Where the database can't be asked.
pub async fn reached(pool: &PgPool, status: &Value, truth: &Truth) -> Result<Truth> {
    let task_id = status["task_id"].as_str().context("a status names its task")?;
    let last: Option<i32> = sqlx::query_scalar(
        "SELECT max(row_number) FROM (
             SELECT row_number FROM import_rejections WHERE import_id = $1::uuid
             UNION ALL SELECT row_number FROM import_ledger WHERE import_id = $1::uuid) AS ledger",
    )
    .bind(task_id)
    .fetch_one(pool)
    .await?;
    Ok(truth.until(u32::try_from(last.unwrap_or_default())?))
}

/// Compares an import that failed midway with the truth of what it [`reached`]: that must stand, and nothing else,
/// and there is one event, `ImportFailed`.
///
/// # Errors
/// Where the database or RabbitMQ can't be asked.
pub async fn compare_failed(
    pool: &PgPool,
    events: &Events,
    status: &Value,
    reached: &Truth,
    prefix: &str,
) -> Result<Verdict> {
    let task_id = status["task_id"].as_str().context("a status names its task")?;
    let mut verdict = Verdict::default();
    let processed = status["progress"]["processed"].as_u64();
    verdict.expect("progress.processed", &processed, &Some(reached.summary.total));
    products(&mut verdict, pool, reached, prefix).await?;
    ledger(&mut verdict, pool, task_id, reached).await?;
    match events.of(task_id).await?.as_slice() {
        [] => verdict.lost.push("the event ImportFailed is missing".to_owned()),
        [(kind, _)] if kind == "lote.catalog.v1.ImportFailed" => {}
        [(kind, _)] => verdict.lost.push(format!("the event is a {kind}, not ImportFailed")),
        many => verdict.duplicated.push(format!("there are {} different events", many.len())),
    }
    Ok(verdict)
}

fn document(verdict: &mut Verdict, status: &Value, truth: &Truth) {
    let summary = &truth.summary;
    verdict.expect("status", &status["status"], &Value::from("completed"));
    let resumen: Option<Summary> = serde_json::from_value(status["result"]["resumen"].clone()).ok();
    verdict.expect("resumen", &resumen.as_ref(), &Some(summary));
    let progress = &status["progress"];
    for (name, should) in [
        ("total", summary.total),
        ("processed", summary.total),
        ("successful", summary.successful),
        ("failed", summary.rejected),
    ] {
        verdict.expect(&format!("progress.{name}"), &progress[name].as_u64(), &Some(should));
    }
}

async fn products(verdict: &mut Verdict, pool: &PgPool, truth: &Truth, prefix: &str) -> Result<()> {
    let mut should = BTreeMap::new();
    for row in &truth.rows {
        let id = match &row.outcome {
            Outcome::Created => row.id.as_str(),
            Outcome::Updated { id } => id.as_str(),
            Outcome::Rejected { .. } => continue,
        };
        should.insert(id.to_owned(), (row.codigo.clone(), row.nombre.clone(), row.precio_cents));
    }
    let ids: Vec<&str> = should.keys().map(String::as_str).collect();
    let rows = sqlx::query(
        "SELECT id, codigo, nombre, (precio_unitario * 100)::bigint AS cents FROM products
         WHERE id = ANY($1) OR starts_with(id, $2)",
    )
    .bind(&ids)
    .bind(format!("{prefix}-"))
    .fetch_all(pool)
    .await?;
    let mut is = BTreeMap::new();
    for row in rows {
        let values: (String, String, i64) =
            (row.try_get("codigo")?, row.try_get("nombre")?, row.try_get("cents")?);
        is.insert(row.try_get::<String, _>("id")?, values);
    }
    verdict.table("product", &is, &should);
    Ok(())
}

async fn ledger(verdict: &mut Verdict, pool: &PgPool, task_id: &str, truth: &Truth) -> Result<()> {
    let rows = sqlx::query(
        "SELECT row_number, 'rejected' AS what, message AS text FROM import_rejections WHERE import_id = $1::uuid
         UNION ALL
         SELECT row_number, action, product_id FROM import_ledger WHERE import_id = $1::uuid",
    )
    .bind(task_id)
    .fetch_all(pool)
    .await?;
    let mut is = BTreeMap::new();
    let mut twice = BTreeSet::new();
    for row in rows {
        let fila = u32::try_from(row.try_get::<i32, _>("row_number")?)?;
        let what: String = row.try_get("what")?;
        let text: String = row.try_get("text")?;
        if is.insert(fila, (what, text)).is_some() {
            twice.insert(fila);
        }
    }
    verdict.duplicated.extend(twice.iter().map(|fila| format!("fila {fila} has two outcomes")));
    let mut should = BTreeMap::new();
    for row in &truth.rows {
        let outcome = match &row.outcome {
            Outcome::Created => ("created", row.id.clone()),
            Outcome::Updated { id } => ("updated", id.clone()),
            // Where the wording is no contract, any will do.
            Outcome::Rejected { message } => {
                let said = is.get(&row.fila).map(|(_, text)| text.clone()).unwrap_or_default();
                ("rejected", message.clone().unwrap_or(said))
            }
        };
        should.insert(row.fila, (outcome.0.to_owned(), outcome.1));
    }
    verdict.table("fila", &is, &should);
    Ok(())
}
