//! Generated databases of contacts say in advance what normalising them comes to; it must come to that.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OpenFlags};
use sms_dispatch::domain::{Phone, State, ladas, normalise};
use stack::contacts::{self, Dirt, Spec};
use tempfile::TempDir;

#[test]
fn normalising_a_generated_database_gives_its_truth() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("numeros.db");
    let spec = Spec { rows: 100_000, seed: 5, dirt: Dirt { rejects: 0.01, ..Dirt::default() } };
    let truth = contacts::generate(&path, &spec, |_| ()).expect("a database");

    let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database");
    let mut query = database.prepare("SELECT numero, lada, estado_cof FROM numeros").expect("the table");
    let mut rows = query.query([]).expect("rows");
    // Of each number: rows, and those of them that were written as it is.
    let mut seen: HashMap<Phone, (u64, u64)> = HashMap::new();
    let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
    let mut changed = 0;
    while let Some(row) = rows.next().expect("a row") {
        let raw = row.get_ref(0).expect("a number").as_bytes().expect("text").to_vec();
        match normalise(&raw) {
            Ok(good) => {
                let (all, unchanged) = seen.entry(good.phone).or_default();
                *all += 1;
                *unchanged += u64::from(!good.changed);
                changed += u64::from(good.changed);
                let lada: String = row.get(1).expect("a LADA");
                assert_eq!(lada, good.phone.lada().as_str());
                let state: Option<String> = row.get(2).expect("a state");
                if let Some(state) = state {
                    assert_eq!(State::parse(&state).map(State::code), Some(state.as_str()));
                    let known = ladas::of(good.phone.lada()).and_then(|info| info.state).map(State::code);
                    assert!(known.is_none_or(|known| known == state), "{lada}: {state}, not {known:?}");
                }
            }
            Err(reason) => *rejected.entry(reason.code().to_owned()).or_default() += 1,
        }
    }
    assert_eq!(rejected, truth.rejected);
    assert_eq!(seen.len() as u64, truth.contacts);
    assert_eq!(seen.values().map(|(all, _)| all - 1).sum::<u64>(), truth.merged);
    assert_eq!(changed, truth.changed);
    // Unique texts that normalising leaves as they are never meet.
    assert!(seen.values().all(|(_, unchanged)| *unchanged <= 1));
    assert!(seen.values().any(|(all, unchanged)| *all == 2 && *unchanged == 0));
}
