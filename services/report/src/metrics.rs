//! The service's figures.

use std::sync::LazyLock;

use jobs::{Job, State};
use prometheus::{IntCounter, IntCounterVec, register_int_counter, register_int_counter_vec};

static FILES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("report_files_total", "Files of reports that ended, by outcome.", &["outcome"])
        .expect("registered once, with a valid name")
});

static ROWS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("report_rows_total", "Rows of the files that were made.")
        .expect("registered once, with a valid name")
});

/// Makes them known before anything happens.
pub fn init() {
    for state in [State::Completed, State::Failed, State::Cancelled] {
        FILES.with_label_values(&[state.name()]);
    }
    LazyLock::force(&ROWS);
}

/// The job of a file has ended: call it when that is committed.
pub fn count_file(job: &Job) {
    FILES.with_label_values(&[job.state.name()]).inc();
    let rows = job.result.as_ref().and_then(|result| result["rows"].as_u64());
    ROWS.inc_by(rows.filter(|_| job.state == State::Completed).unwrap_or(0));
}
