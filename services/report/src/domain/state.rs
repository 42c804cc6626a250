//! Where a run and its files stand, and as what their clients know it.

use sea_orm::{DeriveActiveEnum, EnumIter};

/// The state of a run or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum State {
    #[sea_orm(string_value = "pending")]
    Pending,
    #[sea_orm(string_value = "running")]
    Running,
    #[sea_orm(string_value = "completed")]
    Completed,
    #[sea_orm(string_value = "failed")]
    Failed,
    #[sea_orm(string_value = "cancelled")]
    Cancelled,
}

/// The state in the clients' words. A cancelled one ended without its file.
pub fn shown(state: State) -> &'static str {
    match state {
        State::Pending => "PENDIENTE",
        State::Running => "EN PROCESO",
        State::Completed => "COMPLETADO",
        State::Failed | State::Cancelled => "ERROR",
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
        assert_eq!(shown(State::Cancelled), "ERROR");
    }
}
