//! The contracts between services: every command and event (generated from `proto/`), and the one
//! typed place that says by which exchange, queue and routing key each of them travels.

pub mod live;
mod message;
mod topology;

pub use message::{Message, Routed};
pub use topology::{EVENTS_EXCHANGE, QUEUES, Queue, Route, Transport, queues, subscribers};

/// Supplier catalogs.
pub mod catalog {
    /// `lote.catalog.v1`
    pub mod v1 {
        #![allow(clippy::all, clippy::unwrap_used)]
        include!(concat!(env!("OUT_DIR"), "/lote.catalog.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/lote.catalog.v1.serde.rs"));
    }
}

/// SMS campaigns.
pub mod sms {
    /// `lote.sms.v1`
    pub mod v1 {
        #![allow(clippy::all, clippy::unwrap_used)]
        include!(concat!(env!("OUT_DIR"), "/lote.sms.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/lote.sms.v1.serde.rs"));
    }
}

/// Jobs of every service.
pub mod jobs {
    /// `lote.jobs.v1`
    pub mod v1 {
        #![allow(clippy::all, clippy::unwrap_used)]
        include!(concat!(env!("OUT_DIR"), "/lote.jobs.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/lote.jobs.v1.serde.rs"));
    }
}

/// Campaign reports.
pub mod report {
    /// `lote.report.v1`
    pub mod v1 {
        #![allow(clippy::all, clippy::unwrap_used)]
        include!(concat!(env!("OUT_DIR"), "/lote.report.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/lote.report.v1.serde.rs"));
    }
}

/// Syncs of sources.
pub mod etl {
    /// `lote.etl.v1`
    pub mod v1 {
        #![allow(clippy::all, clippy::unwrap_used)]
        include!(concat!(env!("OUT_DIR"), "/lote.etl.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/lote.etl.v1.serde.rs"));
    }
}

/// The compiled descriptors of all contracts, as an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
