//! The schema `etl`. The tables of outbox, jobs, chassis and schedules come first.

mod m0001_runs;
mod m0002_collections;
mod m0003_refresh;
mod m0004_wholeness;
mod m0005_refresh;
mod m0006_met;
mod m0007_beaten;

use sea_orm_migration::prelude::*;

/// All migrations of the service, in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut own = schedules::migrations();
        own.push(Box::new(m0001_runs::MIGRATION));
        own.push(Box::new(m0002_collections::MIGRATION));
        own.push(Box::new(m0003_refresh::MIGRATION));
        own.push(Box::new(m0004_wholeness::MIGRATION));
        own.push(Box::new(m0005_refresh::Migration));
        own.push(Box::new(m0006_met::MIGRATION));
        own.push(Box::new(m0007_beaten::MIGRATION));
        chassis::migrations_with(own)
    }
}
