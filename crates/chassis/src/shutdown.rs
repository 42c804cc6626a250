//! The end of a process.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by SIGTERM or SIGINT: take nothing new, finish or release what is under
/// way, leave. A second signal ends the process at once.
///
/// # Errors
/// The system refuses the signal handlers.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn token() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                tracing::info!(signal = name, "shutting down");
                cancel.cancel();
            } else {
                tracing::warn!(signal = name, "second signal, leaving at once");
                std::process::exit(130);
            }
        }
    });
    Ok(token)
}
