//! Webhooks: Bsale says that something changed, and it is fetched again. They are unsigned, come more than once, in any
//! order, or not at all (the nightly run heals that), so that nothing of what they say is stored: only which resource
//! they name counts, and that only where it has one of the few forms there are.

use std::time::Duration;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use messaging::JobError;
use sea_orm::{DbErr, TransactionTrait as _};
use serde::Deserialize;

use super::{
    Bsale, Priority, documents, read,
    record::{Bad, Record},
    scan,
    tables::{CLIENTS, DETAILS, DOCUMENTS, PRICES, STOCK},
};
use crate::{
    domain::table::{Row, Table, key_text},
    target::{self, Family, Merged},
};

/// What a webhook says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    pub cpn_id: i64,
    pub resource: String,
    #[serde(default)]
    pub topic: String,
    #[serde(default)]
    pub action: String,
}

/// A resource that can be fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Product(i64),
    Variant(i64),
    Price { list: i64, variant: i64 },
    Stock { variant: i64, office: i64 },
    Document(i64),
}

impl Resource {
    /// Reads a path, of the few forms that Bsale sends and of no other: `/v2/products/{id}.json`,
    /// `/v2/variants/{id}.json`, `/v2/price_lists/{id}/details.json?variant=`, `/v2/stocks.json?variant=&office=`,
    /// `/documents/{id}.json`.
    pub fn parse(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/v2").or_else(|| path.strip_prefix("/v1")).unwrap_or(path);
        let id = |text: &str| -> Option<i64> {
            let digits =
                !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        let single = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix(".json").and_then(id);
        if let Some(id) = single("/products/") {
            return Some(Self::Product(id));
        }
        if let Some(id) = single("/variants/") {
            return Some(Self::Variant(id));
        }
        if let Some(id) = single("/documents/") {
            return Some(Self::Document(id));
        }
        if let Some(query) = path.strip_prefix("/stocks.json?") {
            let (variant, office) = query.strip_prefix("variant=")?.split_once("&office=")?;
            return Some(Self::Stock { variant: id(variant)?, office: id(office)? });
        }
        let (list, variant) = path.strip_prefix("/price_lists/")?.split_once("/details.json?variant=")?;
        Some(Self::Price { list: id(list)?, variant: id(variant)? })
    }

    /// One spelling of it: webhooks about one resource are one.
    pub fn path(&self) -> String {
        match self {
            Self::Product(id) => format!("/products/{id}.json"),
            Self::Variant(id) => format!("/variants/{id}.json"),
            Self::Price { list, variant } => format!("/price_lists/{list}/details.json?variant={variant}"),
            Self::Stock { variant, office } => format!("/stocks.json?variant={variant}&office={office}"),
            Self::Document(id) => format!("/documents/{id}.json"),
        }
    }
}

/// An answer that is written later than this after it was asked for may be older than what a run has found meanwhile: a row
/// that is found as it was keeps its version, so that the table does not tell.
pub const SOON: Duration = Duration::from_secs(5);
/// How often a resource is asked for whose answers are written late.
const ASKED: u32 = 3;

/// What came of an answer.
#[derive(Default)]
struct Written {
    rows: u64,
    /// Something was written, and not soon: whether it still holds has to be asked.
    late: bool,
}

/// Fetches a resource and merges it; once more where that took long. Gives how many rows were written.
///
/// # Errors
/// What the work must return at once.
pub async fn refetch(bsale: &Bsale, resource: &Resource, run: &str) -> Result<u64, JobError> {
    let mut rows = 0;
    for _ in 0..ASKED {
        let written = fetch(bsale, resource, run).await?;
        rows += written.rows;
        if !written.late {
            break;
        }
    }
    Ok(rows)
}

async fn fetch(bsale: &Bsale, resource: &Resource, run: &str) -> Result<Written, JobError> {
    match *resource {
        Resource::Product(id) => single(bsale, "bsale.productos", id, run).await,
        Resource::Variant(id) => single(bsale, "bsale.variantes", id, run).await,
        Resource::Price { list, variant } => {
            if list != bsale.settings.price_list {
                return Ok(Written::default());
            }
            // The webhook's `variant` is the name of v2; v1 ignores it, and answers with the whole list.
            let query = [("variantid", variant.to_string())];
            let path = format!("price_lists/{list}/details.json");
            let page = bsale.client.page(&path, &query, 0, Priority::Webhook).await?;
            let rows = page.items.iter().map(|raw| {
                Record::read("price", raw).and_then(|record| read::price(record, list, page.version))
            });
            let rows = rows.map(|row| row.map(|understood| understood.row)).collect::<Result<Vec<_>, _>>();
            let rows = only(&PRICES, rows.map_err(job_error)?, &[list, variant])?;
            write(bsale, vec![(&PRICES, rows)], &[], run).await
        }
        Resource::Stock { variant, office } => {
            let query = [("variantid", variant.to_string()), ("officeid", office.to_string())];
            let page = bsale.client.page("stocks.json", &query, 0, Priority::Webhook).await?;
            let rows = page
                .items
                .iter()
                .map(|raw| Record::read("stock", raw).and_then(|record| read::stock(record, page.version)));
            let rows = rows.map(|row| row.map(|understood| understood.row)).collect::<Result<Vec<_>, _>>();
            let rows = only(&STOCK, rows.map_err(job_error)?, &[variant, office])?;
            write(bsale, vec![(&STOCK, rows)], &[], run).await
        }
        Resource::Document(id) => document(bsale, id, run).await,
    }
}

/// The rows, where all of them have the key that was asked for: a filter that Bsale does not know, it ignores.
fn only(table: &Table, rows: Vec<Row>, key: &[i64]) -> Result<Vec<Row>, JobError> {
    let asked = key_text(&key.iter().map(|id| (*id).into()).collect::<Vec<_>>());
    match rows.iter().map(|row| row.key(table)).find(|key| *key != asked) {
        None => Ok(rows),
        Some(other) => Err(JobError::fail(anyhow!("{}: {asked} was asked for, {other} came", table.name))),
    }
}

async fn single(bsale: &Bsale, stream: &str, id: i64, run: &str) -> Result<Written, JobError> {
    let Some(spec) = scan::spec(stream, &bsale.settings) else { return Ok(Written::default()) };
    match scan::one(&bsale.client, &spec, id).await? {
        // It is gone: the nightly scan asks again, and marks it.
        None => Ok(Written::default()),
        Some(understood) => {
            let row = understood.map_err(job_error)?.row;
            write(bsale, vec![(spec.table(), vec![row])], &[], run).await
        }
    }
}

async fn document(bsale: &Bsale, id: i64, run: &str) -> Result<Written, JobError> {
    let query = [("expand", "[details]".to_owned())];
    let found = bsale.client.one(&format!("documents/{id}.json"), &query, Priority::Webhook).await?;
    // It is gone: the nightly run asks again, and marks it.
    let Some((raw, version)) = found else { return Ok(Written::default()) };
    let record = Record::read("document", &raw).map_err(job_error)?;
    let document = read::document(record, version).map_err(job_error)?;
    let lines = documents::lines(&bsale.client, &document, version, Priority::Webhook).await?;
    let mut clients = Vec::new();
    if let Some(client) = document.client
        && target::present(&bsale.target.db, &CLIENTS, &[client]).await.map_err(JobError::retry)?.is_empty()
        && let Some((raw, version)) =
            bsale.client.one(&format!("clients/{client}.json"), &[], Priority::Webhook).await?
    {
        let record = Record::read("client", &raw).map_err(job_error)?;
        clients.push(read::client(record, version).map_err(job_error)?.row);
    }
    let (lines, version) = lines.unwrap_or_else(|| (document.details.unwrap_or_default(), version));
    let lines: Vec<Row> = lines.into_iter().map(|line| line.row).collect();
    let families = [documents::family(id, &lines, version)];
    let rows = vec![(&CLIENTS, clients), (&DOCUMENTS, vec![document.document.row]), (&DETAILS, lines)];
    write(bsale, rows, &families, run).await
}

/// One transaction. No epoch guards it: what it writes is as of when it was fetched, and an older version never beats a
/// newer one.
async fn write(
    bsale: &Bsale,
    rows: Vec<(&'static Table, Vec<Row>)>,
    families: &[Family],
    run: &str,
) -> Result<Written, JobError> {
    let written: Result<u64, DbErr> = async {
        let transaction = bsale.target.db.begin().await?;
        let now = Utc::now();
        let merged = target::merge_all(&transaction, &rows, families, run, now, false).await?;
        let mut written: u64 =
            merged.values().map(|Merged { inserted, updated, .. }| inserted + updated).sum();
        written += target::delete_strangers(&transaction, families, run, now).await?;
        transaction.commit().await?;
        Ok(written)
    }
    .await;
    let written = written.map_err(JobError::retry)?;
    let asked =
        rows.iter().flat_map(|(_, rows)| rows).filter_map(|row| DateTime::from_timestamp_micros(row.version));
    let passed = asked.min().and_then(|asked| (Utc::now() - asked).to_std().ok());
    Ok(Written { rows: written, late: written > 0 && passed.is_some_and(|passed| passed > SOON) })
}

fn job_error(bad: Bad) -> JobError {
    JobError::fail(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_the_forms_that_bsale_sends() {
        for (path, resource) in [
            ("/v2/products/12.json", Resource::Product(12)),
            ("/v2/variants/13.json", Resource::Variant(13)),
            ("/v2/price_lists/2/details.json?variant=14", Resource::Price { list: 2, variant: 14 }),
            ("/v2/stocks.json?variant=15&office=1", Resource::Stock { variant: 15, office: 1 }),
            ("/documents/16.json", Resource::Document(16)),
        ] {
            assert_eq!(Resource::parse(path), Some(resource), "{path}");
            assert_eq!(Resource::parse(&resource.path()), Some(resource), "{path}");
        }
    }

    #[test]
    fn nothing_else_is_a_resource() {
        for path in [
            "",
            "https://evil.example/v2/products/1.json",
            "//evil.example/v2/products/1.json",
            "/v2/products/1.json/../../clients/1.json",
            "/v2/products/../clients.json",
            "/v2/products/1.json?x=1",
            "/v2/products/-1.json",
            "/v2/products/1e3.json",
            "/v2/products/.json",
            "/v2/products/99999999999999999999.json",
            "/v2/stocks.json?variant=1&office=2&x=3",
            "/v2/stocks.json?office=2",
            "/v2/price_lists/2/details.json?variant=",
            "/v2/clients/1.json",
            "/documents/1.json#x",
            "/documents/１.json",
        ] {
            assert_eq!(Resource::parse(path), None, "{path}");
        }
    }
}
