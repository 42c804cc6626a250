//! Where a run and its files stand, and as what their clients know it.

use jobs::State;
use serde::Serialize;
use utoipa::ToSchema;

/// El estado, con las palabras de los clientes.
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
pub fn shown(state: State) -> Estado {
    match state {
        State::Pending => Estado::Pendiente,
        State::Running => Estado::EnProceso,
        State::Completed => Estado::Completado,
        State::Failed | State::Cancelled => Estado::Error,
    }
}

/// What a run is when all its files have ended.
pub fn ended(failed: i32, cancel_requested: bool) -> State {
    match (failed, cancel_requested) {
        (0, _) => State::Completed,
        (_, true) => State::Cancelled,
        (_, false) => State::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_complete_only_with_all_its_files() {
        assert_eq!(ended(0, false), State::Completed);
        assert_eq!(ended(0, true), State::Completed, "the request came too late");
        assert_eq!(ended(1, true), State::Cancelled);
        assert_eq!(ended(1, false), State::Failed);
        assert_eq!(shown(State::Cancelled), Estado::Error);
    }
}
