//! Rows in the text format of `COPY … FROM STDIN` (PostgreSQL manual, COPY, "Text Format").

use std::fmt::{Display, Write as _};

use sea_orm::sqlx::{self, PgConnection};

/// Rows being collected for one COPY.
#[derive(Default)]
pub struct CopyRows {
    buffer: String,
    in_row: bool,
}

impl CopyRows {
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.separate();
        let mut rest = value;
        while let Some(at) = rest.find(['\\', '\t', '\n', '\r']) {
            self.buffer.push_str(&rest[..at]);
            self.buffer.push_str(match rest.as_bytes()[at] {
                b'\\' => "\\\\",
                b'\t' => "\\t",
                b'\n' => "\\n",
                _ => "\\r",
            });
            rest = &rest[at + 1..];
        }
        self.buffer.push_str(rest);
        self
    }

    pub fn optional(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.raw("\\N"),
        }
    }

    /// A value whose text needs no escaping: a number, a boolean, a UUID.
    pub fn raw(&mut self, value: impl Display) -> &mut Self {
        self.separate();
        // Writing to a String can't fail.
        let _ = write!(self.buffer, "{value}");
        self
    }

    pub fn end_row(&mut self) {
        self.buffer.push('\n');
        self.in_row = false;
    }

    pub const fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Sends the rows to `target`, `table (column, …)`, in the caller's transaction.
    pub async fn send(self, conn: &mut PgConnection, target: &'static str) -> sqlx::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let statement = format!("COPY {target} FROM STDIN");
        let mut copy = conn.copy_in_raw(&statement).await?;
        if let Err(error) = copy.send(self.buffer.into_bytes()).await {
            copy.abort("the rows could not be sent").await?;
            return Err(error);
        }
        copy.finish().await.map(drop)
    }

    fn separate(&mut self) {
        if self.in_row {
            self.buffer.push('\t');
        }
        self.in_row = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_the_format_reserves() {
        let mut rows = CopyRows::default();
        rows.text("a\tb\\c\nd\re").optional(None).optional(Some("")).raw(7).end_row();
        rows.text("ñ").end_row();
        assert_eq!(rows.buffer, "a\\tb\\\\c\\nd\\re\t\\N\t\t7\nñ\n");
    }
}
