//! The tables and views of a database that is written to. MySQL commits each DDL statement by itself, so every step
//! can be repeated: what is there already stays.

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};

use super::Target;
use crate::domain::table::{Column, Kind, OWN, Table};

/// The tables of every target: where each stream is, what it met, what could not be read.
const BOOKS: &[Table] = &[
    Table {
        name: "lote_streams",
        columns: &[
            Column::new("stream", Kind::Text(100)),
            // Of the claim that may write: a commit under another one fails.
            Column::new("epoca", Kind::Int),
            Column::nullable("corrida", Kind::Text(36)),
            // Everything before it is in the tables.
            Column::nullable("marca", Kind::Time),
            // Where the run goes on, and what it has counted.
            Column::nullable("estado", Kind::LongText),
            Column::new("actualizado_en", Kind::Time),
        ],
        key: 1,
        indexes: &[],
    },
    Table {
        name: "lote_vistos",
        columns: &[
            Column::new("stream", Kind::Text(100)),
            Column::new("corrida", Kind::Text(36)),
            Column::new("clave", Kind::Text(100)),
        ],
        key: 3,
        indexes: &[],
    },
    Table {
        name: "lote_cuarentena",
        columns: &[
            // A hash of stream and raw record: the same bad record is one row, however often it comes.
            Column::new("id", Kind::Text(32)),
            Column::new("stream", Kind::Text(100)),
            Column::new("clave", Kind::Text(100)),
            Column::new("regla", Kind::Text(500)),
            Column::new("registro", Kind::LongText),
            Column::new("corrida", Kind::Text(36)),
            Column::new("visto_en", Kind::Time),
        ],
        key: 1,
        indexes: &[&["stream", "visto_en"]],
    },
];

impl Target {
    /// Makes the tables that are missing, with their indexes, and brings the views up to date. Views that others have on them stay.
    ///
    /// # Errors
    /// The database.
    pub async fn migrate(&self, tables: &[&Table], views: &[(&str, String)]) -> Result<(), DbErr> {
        let backend = self.backend();
        for table in BOOKS {
            self.make(table, &[]).await?;
        }
        for table in tables {
            self.make(table, &OWN).await?;
        }
        for (name, query) in views {
            let replaced =
                self.db.execute_unprepared(&format!("CREATE OR REPLACE VIEW {name} AS {query}")).await;
            if let Err(error) = replaced {
                if backend != DbBackend::Postgres {
                    return Err(error);
                }
                // PostgreSQL can't change a view's columns in place. Where people have views of their own on it, this
                // fails and names them: they are not ours to drop.
                let statement = format!("DROP VIEW {name}; CREATE VIEW {name} AS {query}");
                self.db.execute_unprepared(&statement).await?;
            }
        }
        Ok(())
    }

    async fn make(&self, table: &Table, own: &[Column]) -> Result<(), DbErr> {
        let backend = self.backend();
        let mut parts: Vec<String> =
            table.columns.iter().chain(own).map(|column| definition(column, backend)).collect();
        let key: Vec<_> = table.key_columns().iter().map(|column| column.name).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        if backend == DbBackend::MySql {
            for (number, columns) in table.indexes.iter().enumerate() {
                parts.push(format!("KEY {}_{number} ({})", table.name, columns.join(", ")));
            }
        }
        let options = if backend == DbBackend::MySql {
            // Binary: two keys that differ in case or accents are two.
            " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
        } else {
            ""
        };
        let statement = format!("CREATE TABLE IF NOT EXISTS {} ({}){options}", table.name, parts.join(", "));
        self.db.execute_unprepared(&statement).await?;
        if backend == DbBackend::Postgres {
            for (number, columns) in table.indexes.iter().enumerate() {
                let name = table.name;
                let statement =
                    format!("CREATE INDEX IF NOT EXISTS {name}_{number} ON {name} ({})", columns.join(", "));
                self.db.execute_unprepared(&statement).await?;
            }
        }
        Ok(())
    }
}

fn definition(column: &Column, backend: DbBackend) -> String {
    let postgres = backend == DbBackend::Postgres;
    let kind = match column.kind {
        Kind::Int => "BIGINT".to_owned(),
        Kind::Text(length) => format!("VARCHAR({length})"),
        Kind::LongText if postgres => "TEXT".to_owned(),
        Kind::LongText => "LONGTEXT".to_owned(),
        Kind::Amount => "DECIMAL(18,4)".to_owned(),
        Kind::Date => "DATE".to_owned(),
        Kind::Time if postgres => "TIMESTAMPTZ".to_owned(),
        Kind::Time => "DATETIME(6)".to_owned(),
        Kind::Flag => "BOOLEAN".to_owned(),
        Kind::Json if postgres => "JSONB".to_owned(),
        Kind::Json => "JSON".to_owned(),
    };
    format!("{} {kind}{}", column.name, if column.nullable { " NULL" } else { " NOT NULL" })
}
