//! The schema `sms`, and no other.

pub mod audience_files;
pub mod audience_windows;
pub mod audiences;
pub mod audit;
pub mod batches;
pub mod campaigns;
pub mod consent_withdrawals;
pub mod contacts;
pub mod doctor;
pub mod earlier_attempts;
pub mod expected;
pub mod help_answers;
pub mod imports;
pub mod index_builds;
pub mod indexes;
pub mod ledger;
pub mod lookups;
pub mod merge;
pub mod migrations;
pub mod missing_ladas;
pub mod numbering_plan;
pub mod outcomes;
pub mod phone_sends;
pub mod preview;
pub mod prices;
pub mod providers;
pub mod quality;
pub mod rejects;
pub mod reports;
pub mod rollback;
pub mod search;
pub mod segment_sql;
pub mod segments;
pub mod senders;
pub mod singles;
pub mod slices;
pub mod statistics;
pub mod stats;
pub mod suppressions;
pub mod totals;
pub mod unheard;
pub mod validations;
pub mod views;

use chassis::db::newest_first;
use sea_orm::{EntityTrait, QueryFilter as _, Select, sea_query::Expr};
use uuid::Uuid;

/// All rows of a table by their creation, the newest first; only those that come after the row `last`, where a page ended. The table's
/// columns are `created_at` and `id`.
fn newest_after<E: EntityTrait>(columns: (E::Column, E::Column), last: Option<Uuid>) -> Select<E> {
    let query = newest_first(E::find(), columns, None);
    let Some(last) = last else { return query };
    let table = E::default().table_name();
    let place = format!("(created_at, id) < (select created_at, id from {table} where id = $1)");
    query.filter(Expr::cust_with_values(place, [last]))
}
