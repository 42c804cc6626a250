//! The schema `etl`. The tables of outbox, jobs, schedules and chassis come first.

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
        let mut all = outbox::migrations();
        all.extend(jobs::migrations());
        all.extend(schedules::migrations());
        all.extend(chassis::migrations());
        all.push(Box::new(m0001_runs::MIGRATION));
        all.push(Box::new(m0002_collections::MIGRATION));
        all.push(Box::new(m0003_refresh::MIGRATION));
        all.push(Box::new(m0004_wholeness::MIGRATION));
        all.push(Box::new(m0005_refresh::Migration));
        all.push(Box::new(m0006_met::MIGRATION));
        all.push(Box::new(m0007_beaten::MIGRATION));
        all
    }
}
