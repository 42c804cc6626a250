//! The schema `report`. The tables of outbox, jobs and chassis come first.

mod m0001_campaigns;
mod m0002_runs;
mod m0003_waiting;

use sea_orm_migration::prelude::*;

/// All migrations of the service, in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        chassis::migrations_with(vec![
            Box::new(m0001_campaigns::MIGRATION),
            Box::new(m0002_runs::MIGRATION),
            Box::new(m0003_waiting::Migration),
        ])
    }
}
