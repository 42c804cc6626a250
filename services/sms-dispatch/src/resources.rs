use chassis::db::Database;

/// What requests share.
#[derive(Clone)]
pub struct Resources {
    pub database: Database,
}
