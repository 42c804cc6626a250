//! TCP ports for servers that may be killed and must come back on the same port.

use anyhow::{Result, bail};
use rand::RngExt;
use std::net::{Ipv4Addr, TcpListener};

/// Below Linux's ephemeral ports (32768 and up), so that no outgoing connection takes a server's port while
/// the server is down; and below the demo's own (26xxx).
const RANGE: std::ops::Range<u16> = 15_000..26_000;

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Errors
/// Where hundreds of tries found none.
pub fn free() -> Result<u16> {
    for _ in 0..500 {
        let port = rand::rng().random_range(RANGE);
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 between {} and {}", RANGE.start, RANGE.end)
}

/// Whether one could listen on this port of 127.0.0.1 now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// `port` if it is free, else another.
///
/// # Errors
/// As [`free`].
pub fn free_or(port: u16) -> Result<u16> {
    if is_free(port) { Ok(port) } else { free() }
}
