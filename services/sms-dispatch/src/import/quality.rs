//! The quality report of an import, as JSON and as a page of Markdown.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::sample::Sample;

/// What came of an import, in figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub source: String,
    /// `rows = created + updated + unchanged + merged + rejected`, checked by counts in the tables.
    pub rows: i64,
    /// Contacts that this import brought in, and that exist.
    pub created: i64,
    pub updated: i64,
    pub unchanged: i64,
    /// Rows that went into another row's contact.
    pub merged: i64,
    pub rejected: i64,
    /// Values that lost what PostgreSQL refuses, or times that made no sense.
    pub repaired: i64,
    /// Of the contacts that this import brought in.
    pub valid_percent: f64,
    pub e164_percent: f64,
    /// Rows that became a contact or went into one, of all rows.
    pub kept_percent: f64,
    pub rejected_by_reason: BTreeMap<String, i64>,
    /// Contacts by state; those without one under an empty code.
    pub by_state: BTreeMap<String, i64>,
    /// The twenty LADAs with most contacts.
    pub top_ladas: Vec<(String, i64)>,
    /// LADAs of contacts of which no state is known.
    pub missing_ladas: Vec<(String, i64)>,
    /// Contacts without a city.
    pub without_city: i64,
    pub sample: Sample,
    /// Seconds a step.
    pub seconds: BTreeMap<String, f64>,
    /// Rows a second, from the first read to the last merged.
    pub rows_per_second: f64,
}

impl Report {
    /// One page.
    pub fn to_markdown(&self) -> String {
        let mut page = String::new();
        // Writing to a string can't fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "# Calidad de la importación de {}\n", self.source.replace(['\n', '|'], " "))?;
        writeln!(page, "| | filas |\n|---|---:|")?;
        for (name, rows) in [
            ("leídas", self.rows),
            ("contactos nuevos", self.created),
            ("contactos actualizados", self.updated),
            ("sin cambios", self.unchanged),
            ("duplicados fusionados", self.merged),
            ("rechazadas", self.rejected),
            ("valores reparados", self.repaired),
        ] {
            writeln!(page, "| {name} | {rows} |")?;
        }
        writeln!(
            page,
            "\nVálidos {:.2} %, E.164 {:.2} %, conservadas {:.2} %, sin ciudad {}.",
            self.valid_percent, self.e164_percent, self.kept_percent, self.without_city
        )?;
        let seconds: f64 = self.seconds.values().sum();
        writeln!(
            page,
            "Duración {seconds:.1} s; {:.0} filas/s hasta la última fusionada.",
            self.rows_per_second
        )?;
        let sample = &self.sample;
        writeln!(
            page,
            "Muestra de {} filas releídas del origen: {} iguales, {} distintas.",
            sample.rows,
            sample.rows - sample.different.len() as i64,
            sample.different.len()
        )?;
        for difference in &sample.different {
            writeln!(page, "- {}", difference.replace('\n', " "))?;
        }
        let by_state: Vec<_> = self.by_state.iter().map(|(state, rows)| (state.clone(), *rows)).collect();
        let rejected: Vec<_> =
            self.rejected_by_reason.iter().map(|(reason, rows)| (reason.clone(), *rows)).collect();
        for (title, column, rows) in [
            ("Rechazos por motivo", "motivo", &rejected),
            ("Por estado", "estado", &by_state),
            ("LADAs con más contactos", "LADA", &self.top_ladas),
            ("LADAs sin estado conocido", "LADA", &self.missing_ladas),
        ] {
            writeln!(page, "\n## {title}\n\n| {column} | filas |\n|---|---:|")?;
            for (name, count) in rows {
                let name =
                    if name.is_empty() { "(ninguno)".to_owned() } else { name.replace(['\n', '|'], " ") };
                writeln!(page, "| {name} | {count} |")?;
            }
        }
        Ok(())
    }
}
