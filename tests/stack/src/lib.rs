//! The real thing on this machine: PostgreSQL, RabbitMQ, Redis and LocalStack as private instances, the
//! services as processes, and faults between them.
//!
//! - [`servers`]: one set for all tests, started by the first that asks; each test takes a
//!   [`Namespace`] of its own in it.
//! - [`Stack`]: a set of one's own, to kill and restart at will.
//! - [`proxy::Proxy`]: cuts, stalls or slows a TCP connection, or holds back what the server answers.
//! - [`process::Service`]: a built binary as a process.
//! - [`services`]: Lote's services, a row each.
//! - [`platform`]: the gateway and any of the services on such servers, with clients.
//! - [`contacts`]: generated databases of contacts, with what importing them must come to.
//! - [`workbook`]: generated supplier workbooks, with the result that an import must have.

pub mod aws;
pub mod contacts;
pub mod daemon;
pub mod namespace;
pub mod platform;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod server;
pub mod servers;
pub mod services;
pub mod sets;
pub mod wait;
pub mod workbook;

pub use namespace::Namespace;
pub use servers::{Servers, servers};
pub use sets::Stack;

use std::path::{Path, PathBuf};

/// The repository this was built in.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where everything that runs keeps its data: `.stack` in the repository, or `LOTE_HOME`, for a second stack
/// beside the first.
pub fn home() -> PathBuf {
    std::env::var_os("LOTE_HOME").map_or_else(|| root().join(".stack"), PathBuf::from)
}

/// LocalStack's Python environment, which `make install` fills.
pub(crate) fn python() -> PathBuf {
    root().join(".stack/venv/bin/python")
}

/// `bytes` random bytes as hexadecimal digits, for names and passwords.
pub fn random_hex(bytes: usize) -> String {
    (0..bytes).map(|_| format!("{:02x}", rand::random::<u8>())).collect()
}

/// Makes ring the process's TLS provider, as every client here expects. Safe to repeat.
pub fn install_tls() {
    // An error only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for the servers and services of this machine; a request may take 30 s.
///
/// # Panics
/// Where ring can't be its TLS provider, which [`install_tls`] sees to.
pub fn http() -> reqwest::Client {
    install_tls();
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(30)).build();
    client.expect("a client with plain options and an installed TLS provider")
}
