//! Files as people really send them, and as somebody might who means harm: what becomes of each is known to
//! the row. All go through the real API and the real worker, one after another and all at once; the worker
//! survives them in the memory that its limits promise.

// `made` names `crate::domain`, as it does in the service.
use catalog_upload::domain;

mod archives;
mod case;
mod forms;
#[path = "../../src/files/made.rs"]
#[expect(dead_code, reason = "the service's own tests use the rest")]
mod made;
mod names;
mod platform;
mod reader;
mod samples;
mod sheets;
mod texts;
mod workbooks;

use anyhow::Result;
use case::{Case, Cases};

/// All files. Two calls with different tags make files whose products don't meet.
fn all(tag: &str) -> Result<Vec<Case>> {
    let mut cases = Cases::new(tag);
    workbooks::add(&mut cases)?;
    sheets::add(&mut cases)?;
    archives::add(&mut cases)?;
    texts::add(&mut cases)?;
    names::add(&mut cases)?;
    Ok(cases.done())
}
