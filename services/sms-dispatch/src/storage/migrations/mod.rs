//! The schema `sms`. The tables of outbox, jobs and chassis come first.

mod briefly;
mod m0001_contacts;
mod m0002_segments;
mod m0003_validations;
mod m0004_places;
mod m0005_guesses;
mod m0006_import_turns;
mod m0007_words;
mod m0008_consent_withdrawals;
mod m0009_campaigns;
mod m0010_prices;
mod m0011_single_messages;
mod m0012_sending;
mod m0013_sent_again;
mod m0014_audience_files;
mod m0015_own_hour;
mod m0016_holds;

use sea_orm_migration::prelude::*;

/// All migrations of the service, in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        chassis::migrations_with(vec![
            Box::new(m0001_contacts::Migration),
            Box::new(m0002_segments::MIGRATION),
            Box::new(m0003_validations::MIGRATION),
            Box::new(m0004_places::Migration),
            Box::new(m0005_guesses::MIGRATION),
            Box::new(m0006_import_turns::MIGRATION),
            Box::new(m0007_words::Migration),
            Box::new(m0008_consent_withdrawals::MIGRATION),
            Box::new(m0009_campaigns::MIGRATION),
            Box::new(m0010_prices::MIGRATION),
            Box::new(m0011_single_messages::MIGRATION),
            Box::new(m0012_sending::MIGRATION),
            Box::new(m0013_sent_again::MIGRATION),
            Box::new(m0014_audience_files::MIGRATION),
            Box::new(m0015_own_hour::MIGRATION),
            Box::new(m0016_holds::MIGRATION),
        ])
    }
}
