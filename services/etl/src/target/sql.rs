//! Statements that both databases run: written once, with `?` for values.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

/// A statement and its values. `?` stands for a value; there is none in texts.
pub struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// The value of the next `?`.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// The values of the next ones.
    #[must_use]
    pub fn bind_all(mut self, values: impl IntoIterator<Item = Value>) -> Self {
        self.values.extend(values);
        self
    }

    fn statement(self, backend: DbBackend) -> Statement {
        let text = if backend == DbBackend::Postgres { numbered(&self.text) } else { self.text };
        Statement::from_sql_and_values(backend, text, self.values)
    }

    /// Runs it. Gives how many rows it changed: of MySQL, how many it met.
    ///
    /// # Errors
    /// The database.
    pub async fn run(self, conn: &impl ConnectionTrait) -> Result<u64, DbErr> {
        let statement = self.statement(conn.get_database_backend());
        Ok(conn.execute_raw(statement).await?.rows_affected())
    }

    /// The rows that it gives.
    ///
    /// # Errors
    /// The database.
    pub async fn all(self, conn: &impl ConnectionTrait) -> Result<Vec<QueryResult>, DbErr> {
        let statement = self.statement(conn.get_database_backend());
        conn.query_all_raw(statement).await
    }

    /// The first row, if any.
    ///
    /// # Errors
    /// The database.
    pub async fn one(self, conn: &impl ConnectionTrait) -> Result<Option<QueryResult>, DbErr> {
        let statement = self.statement(conn.get_database_backend());
        conn.query_one_raw(statement).await
    }
}

/// `$1`, `$2`, … for `?`, as PostgreSQL has them.
fn numbered(text: &str) -> String {
    let mut numbered = String::with_capacity(text.len() + 16);
    for (index, part) in text.split('?').enumerate() {
        if index > 0 {
            numbered.push('$');
            numbered.push_str(&index.to_string());
        }
        numbered.push_str(part);
    }
    numbered
}
