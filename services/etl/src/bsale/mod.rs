//! Bsale, the point of sale: its API (<https://docs.bsale.dev>), the sales tables, and how the one is read into the
//! others.

mod batch;
mod calendar;
mod client;
mod costs;
mod days;
mod days_walk;
mod documents;
mod fields;
mod read;
mod reconcile;
mod record;
pub mod redrive;
mod rules;
mod run;
mod scan;
mod session;
pub mod tables;
pub mod views;
pub mod webhook;

use anyhow::Context as _;
use chassis::{db::Database, redis::Redis};
use sea_orm::DbErr;

pub use crate::bucket::Priority;
pub use client::{ApiError, Client};
pub use run::work;

use crate::{
    config::BsaleSettings,
    domain::stream::{Source, Stream, Walk},
    target::{Sql, Target},
};

const fn scan(name: &'static str, table: &'static str) -> Stream {
    Stream { name, source: Source::Bsale, table, walk: Walk::Scan, daily: true, after: None }
}

const fn days(name: &'static str, table: &'static str) -> Stream {
    Stream { name, source: Source::Bsale, table, walk: Walk::Days, daily: true, after: None }
}

/// What is read from Bsale, in the order in which a sync of all begins.
pub const STREAMS: &[Stream] = &[
    scan("bsale.tipos_documento", "tipos_documento"),
    scan("bsale.tipos_producto", "tipos_producto"),
    scan("bsale.productos", "productos"),
    scan("bsale.variantes", "variantes"),
    scan("bsale.clientes", "clientes"),
    days("bsale.documentos", "documentos_venta"),
    scan("bsale.stock", "stock"),
    scan("bsale.listas_precio", "listas_precio"),
    // One request a variant that there is.
    Stream { after: Some("bsale.variantes"), ..days("bsale.costos", "costos") },
];

/// Bsale and the sales database, as this installation has them.
#[derive(Debug)]
pub struct Bsale {
    pub client: Client,
    pub target: Target,
    pub settings: BsaleSettings,
}

impl Bsale {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// A database URL that can't be understood.
    pub fn new(settings: BsaleSettings, database: &Database, redis: &Redis) -> anyhow::Result<Self> {
        let target = Target::connect(&settings.database)?;
        let client =
            Client::new(&settings, database.pool.clone(), redis.clone()).context("the client of Bsale")?;
        Ok(Self { client, target, settings })
    }
}

/// What must not be in the sales database, a sentence each.
///
/// # Errors
/// The database.
pub async fn doctor(target: &Target) -> Result<Vec<String>, DbErr> {
    let mut findings = Vec::new();
    for (query, what) in [
        (
            "SELECT d.id_bsale AS id FROM detalles_documento d LEFT JOIN documentos_venta v ON v.id_bsale = d.id_documento
             WHERE v.id_bsale IS NULL ORDER BY d.id_bsale LIMIT 20",
            "a line of a document that is not there: detail",
        ),
        (
            "SELECT d.id_bsale AS id FROM detalles_documento d JOIN documentos_venta v ON v.id_bsale = d.id_documento
             WHERE d.eliminado_en IS NULL AND v.eliminado_en IS NOT NULL ORDER BY d.id_bsale LIMIT 20",
            "a line that outlives its document: detail",
        ),
        (
            "SELECT v.id_bsale AS id FROM documentos_venta v LEFT JOIN clientes c ON c.id_bsale = v.id_cliente
             WHERE v.id_cliente IS NOT NULL AND c.id_bsale IS NULL ORDER BY v.id_bsale LIMIT 20",
            "a document whose client is not there: document",
        ),
    ] {
        for row in Sql::new(query).all(&target.db).await? {
            findings.push(format!("{what} {}", row.try_get::<i64>("", "id")?));
        }
    }
    Ok(findings)
}
