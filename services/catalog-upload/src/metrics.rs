//! The service's figures.

use std::sync::LazyLock;

use jobs::State;
use prometheus::{IntCounterVec, register_int_counter_vec};

use crate::{domain::Summary, storage::imports::Kind};

static IMPORTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "catalog_imports_total",
        "Imports that ended, by kind and outcome.",
        &["kind", "outcome"]
    )
    .expect("registered once, with a valid name")
});

static ROWS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "catalog_rows_total",
        "Rows of imports whose outcome is committed; those of dry runs have none.",
        &["outcome"]
    )
    .expect("registered once, with a valid name")
});

/// Makes them known before anything happens.
pub fn init() {
    for kind in [Kind::Import, Kind::DryRun] {
        for state in [State::Completed, State::Failed, State::Cancelled] {
            IMPORTS.with_label_values(&[name(kind), state.name()]);
        }
    }
    count_rows(&Summary::default());
}

/// An import has ended: call it when that is committed.
pub fn count_import(kind: Kind, state: State) {
    IMPORTS.with_label_values(&[name(kind), state.name()]).inc();
}

/// Rows have got their outcome: call it when that is committed.
pub fn count_rows(summary: &Summary) {
    let updated = summary.updated.saturating_sub(summary.unchanged);
    for (outcome, rows) in [
        ("created", summary.created),
        ("updated", updated),
        ("unchanged", summary.unchanged),
        ("rejected", summary.rejected),
    ] {
        ROWS.with_label_values(&[outcome]).inc_by(rows);
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Import => "import",
        Kind::DryRun => "dry_run",
        Kind::Undo => "undo",
    }
}
