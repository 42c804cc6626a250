//! The files of reports: what PostgreSQL copies out in, CSV or TXT out, piece by piece.

pub mod copied;
pub mod encode;
pub mod gzip;
pub mod produce;
pub mod write;
