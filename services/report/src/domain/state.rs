//! Where a run and its files stand, as their clients know it.

use serde::Serialize;
use utoipa::ToSchema;

/// The state in the clients' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub enum Estado {
    #[serde(rename = "PENDIENTE")]
    Pendiente,
    #[serde(rename = "EN PROCESO")]
    EnProceso,
    #[serde(rename = "COMPLETADO")]
    Completado,
    /// Terminó sin su archivo; también si se canceló.
    #[serde(rename = "ERROR")]
    Error,
}

/// What clients are shown for a state.
pub fn shown(state: &str) -> Estado {
    match state {
        "pending" => Estado::Pendiente,
        "running" => Estado::EnProceso,
        "completed" => Estado::Completado,
        _ => Estado::Error,
    }
}

/// What a run is when all its files have ended.
pub fn ended(failed: i32, cancel_requested: bool) -> &'static str {
    match (failed, cancel_requested) {
        (0, _) => "completed",
        (_, true) => "cancelled",
        (_, false) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_complete_only_with_all_its_files() {
        assert_eq!(ended(0, false), "completed");
        assert_eq!(ended(0, true), "completed", "the wish came too late");
        assert_eq!(ended(1, true), "cancelled");
        assert_eq!(ended(1, false), "failed");
        assert_eq!(shown("cancelled"), "ERROR");
    }
}
