//! One TLS provider for every client of the process.

/// Makes ring the process's TLS provider. Idempotent: call it first in `main`, and in a test before it
/// makes a client. [`crate::http_client`] and the connections of this crate call it themselves.
pub fn install() {
    // An Err means that a provider is there already, which is what was asked for.
    let _already = rustls::crypto::ring::default_provider().install_default();
}
