//! The streams of all sources.

use crate::{bsale, collections, domain::stream::Stream};

/// Every stream of the service.
const STREAMS: [&[Stream]; 2] = [bsale::STREAMS, collections::STREAMS];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Stream> {
    STREAMS.iter().flat_map(|streams| streams.iter())
}

/// The stream of this name.
pub fn named(name: &str) -> Option<&'static Stream> {
    all().find(|stream| stream.name == name)
}
