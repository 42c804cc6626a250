//! A message on its way, from its row to its request.

use crate::{
    domain::{Phone, campaign::FrozenSender},
    providers::messaging::Encoding,
    storage::ledger::Row,
};

/// A message that is going to be sent.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub row: Row,
    pub phone: Phone,
    pub sender: FrozenSender,
    pub text: String,
    pub encoding: Encoding,
    pub parts: u16,
}

/// A message whose request may be made.
pub(super) struct Claimed {
    pub letter: Letter,
    /// Its place among the letters, and so its start.
    pub place: usize,
}
