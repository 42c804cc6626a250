//! Which clocks recipients live by, for the statement that writes them into the ledger.

use std::sync::LazyLock;

use crate::domain::{State, ladas, windows::Clocks};

/// By state, or by LADA for who has no state, the number of the clocks. Who is in neither lives anywhere.
pub fn zones() -> &'static [(String, i16)] {
    static ZONES: LazyLock<Vec<(String, i16)>> = LazyLock::new(|| {
        let any = ladas::all().next();
        let states = State::all().filter_map(|state| {
            let (lada, _) = any?;
            Some((state.code().to_owned(), Clocks::of(Some(state), lada).code()))
        });
        let ladas = ladas::all().map(|(lada, _)| (lada.as_str().to_owned(), Clocks::of(None, lada).code()));
        states.chain(ladas).collect()
    });
    &ZONES
}
