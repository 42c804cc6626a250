//! The schema `catalog_upload`. The tables of outbox, jobs and chassis come first.

mod m0001_catalog;
mod m0002_tasks;
mod m0003_derived;
mod m0004_form;
mod m0005_stock_of_products;
mod m0006_updates;
mod m0007_unchanged;
mod m0008_compression;

use sea_orm_migration::prelude::*;

/// All migrations of the service, in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        chassis::migrations_with(vec![
            Box::new(m0001_catalog::MIGRATION),
            Box::new(m0002_tasks::MIGRATION),
            Box::new(m0003_derived::MIGRATION),
            Box::new(m0004_form::MIGRATION),
            Box::new(m0005_stock_of_products::Migration),
            Box::new(m0006_updates::MIGRATION),
            Box::new(m0007_unchanged::MIGRATION),
            Box::new(m0008_compression::MIGRATION),
        ])
    }
}
