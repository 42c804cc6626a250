//! Generated supplier workbooks, and what importing them must come to.
//!
//! The same [`Spec`] gives the same file and the same [`Truth`], row by row, so that a test can compare what
//! the system says with what must be, after whatever was killed in between.

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, index};
use rand::{RngExt, SeedableRng};
use rust_xlsxwriter::{Workbook, Worksheet};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The template's columns, in its order.
pub const COLUMNS: [&str; 13] = [
    "id",
    "nombre",
    "codigo",
    "categoria",
    "presentacion",
    "precio_unitario",
    "certificado_sanitario",
    "condiciones_almacenamiento",
    "tiempo_entrega_dias",
    "stock_minimo",
    "stock_critico",
    "requiere_lote",
    "requiere_vencimiento",
];

/// The places of the required columns in [`COLUMNS`].
const REQUIRED: [usize; 8] = [0, 1, 2, 3, 5, 6, 7, 8];

const CATEGORIES: [&str; 8] = [
    "ANTIBIOTICS",
    "ANALGESICS",
    "ANTIINFLAMATORIOS",
    "CARDIOVASCULARES",
    "DIABETES",
    "GASTROINTESTINAL",
    "ANTIHISTAMINICOS",
    "VITAMINAS",
];

/// A product that the import will meet.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its codigo.
    pub codigo: String,
    /// Whether it belongs to the supplier who uploads.
    pub own: bool,
}

/// What to generate.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The same seed gives the same file.
    pub seed: u64,
    /// Before each id and codigo; two workbooks with different prefixes don't meet.
    pub prefix: String,
    /// Rows below the header.
    pub rows: usize,
    /// How many of them break a rule: required fields, types, ranges, lengths.
    pub bad: usize,
    /// How many repeat an earlier good row's id, codigo or both.
    pub duplicates: usize,
    /// How many meet a product of `known`, each another one.
    pub collisions: usize,
    /// Products that exist before the import.
    pub known: Vec<Known>,
    /// Whether it will be uploaded with `reemplazar_duplicados=true`.
    pub replace: bool,
}

impl Spec {
    /// `rows` good rows.
    pub fn new(seed: u64, prefix: &str, rows: usize) -> Self {
        Self {
            seed,
            prefix: prefix.to_owned(),
            rows,
            bad: 0,
            duplicates: 0,
            collisions: 0,
            known: Vec::new(),
            replace: false,
        }
    }

    /// Writes the workbook as .xlsx, sheet `Sheet1`, with a shared string table as Excel does.
    ///
    /// # Errors
    /// Where the counts contradict each other, or the file can't be written.
    pub fn write_xlsx(&self, path: &Path) -> Result<Truth> {
        let mut workbook = Workbook::new();
        let sheet = workbook.add_worksheet_with_low_memory()?;
        sheet.set_name("Sheet1")?;
        for (column, name) in (0..).zip(COLUMNS) {
            sheet.write_string(0, column, name)?;
        }
        let truth = self.generate(|line, cells| write_row(sheet, line, cells))?;
        workbook.save(path)?;
        Ok(truth)
    }

    /// Writes the workbook as .csv: UTF-8, commas.
    ///
    /// # Errors
    /// As [`Spec::write_xlsx`].
    pub fn write_csv(&self, path: &Path) -> Result<Truth> {
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(out, "{}", COLUMNS.join(","))?;
        let truth = self.generate(|_, cells| {
            let fields: Vec<_> = cells.iter().map(Cell::csv).collect();
            Ok(writeln!(out, "{}", fields.join(","))?)
        })?;
        out.flush()?;
        Ok(truth)
    }

    /// What importing the workbook must come to; writes nothing.
    ///
    /// # Errors
    /// Where the counts contradict each other.
    pub fn truth(&self) -> Result<Truth> {
        self.generate(|_, _| Ok(()))
    }

    /// Gives each row, with its line in the sheet counted from 0, to `write`.
    fn generate(&self, mut write: impl FnMut(u32, &[Cell]) -> Result<()>) -> Result<Truth> {
        let special = self.bad + self.duplicates + self.collisions;
        // The first row is always good: the first duplicate has something to repeat.
        ensure!(special < self.rows || special == 0, "{} rows can't hold {special} special ones", self.rows);
        ensure!(self.collisions <= self.known.len(), "more collisions than known products");

        let mut random = StdRng::seed_from_u64(self.seed);
        let mut kinds = vec![Kind::Good; self.rows];
        if special > 0 {
            let places = index::sample(&mut random, self.rows - 1, special).into_vec();
            for (order, place) in places.into_iter().enumerate() {
                kinds[place + 1] = match order {
                    order if order < self.bad => Kind::Bad,
                    order if order < self.bad + self.duplicates => Kind::Duplicate,
                    _ => Kind::Collision,
                };
            }
        }

        let mut truth = Truth::default();
        let mut good: Vec<usize> = Vec::with_capacity(self.rows);
        let mut known = self.known.iter();
        for (number, kind) in kinds.into_iter().enumerate() {
            let mut row = Row::new(&mut random, self.id(number), self.codigo(number));
            let (outcome, duplicate) = match kind {
                Kind::Good => {
                    good.push(number);
                    (Outcome::Created, false)
                }
                Kind::Bad => (row.spoil(&mut random), false),
                Kind::Duplicate => {
                    let earlier = good.choose(&mut random).copied().unwrap_or_default();
                    row.meet(&mut random, &self.id(earlier), &self.codigo(earlier));
                    (row.rejected_as_duplicate(), true)
                }
                Kind::Collision => {
                    let Some(met) = known.next() else { continue };
                    row.meet(&mut random, &met.id, &met.codigo);
                    let outcome = match (met.own, self.replace) {
                        (false, _) => Outcome::Rejected { message: None },
                        (true, false) => row.rejected_as_duplicate(),
                        (true, true) => Outcome::Updated { id: met.id.clone() },
                    };
                    (outcome, true)
                }
            };
            let line = u32::try_from(number + 1)?;
            write(line, &row.cells)?;
            truth.add(RowTruth {
                fila: line + 1,
                id: row.cells[0].text(),
                codigo: row.cells[2].text(),
                nombre: row.cells[1].text(),
                precio_cents: row.price_cents,
                duplicate,
                outcome,
            });
        }
        Ok(truth)
    }

    fn id(&self, number: usize) -> String {
        format!("{}-{number:07}", self.prefix)
    }

    fn codigo(&self, number: usize) -> String {
        format!("COD-{}-{number:07}", self.prefix)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Good,
    Bad,
    Duplicate,
    Collision,
}

enum Cell {
    Text(String),
    Number(f64),
    Empty,
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Empty => String::new(),
        }
    }

    fn csv(&self) -> String {
        let text = self.text();
        if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    }
}

fn write_row(sheet: &mut Worksheet, line: u32, cells: &[Cell]) -> Result<()> {
    for (column, cell) in (0..).zip(cells) {
        match cell {
            Cell::Text(text) => sheet.write_string(line, column, text)?,
            Cell::Number(number) => sheet.write_number(line, column, *number)?,
            Cell::Empty => continue,
        };
    }
    Ok(())
}

struct Row {
    cells: Vec<Cell>,
    price_cents: i64,
}

impl Row {
    fn new(random: &mut StdRng, id: String, codigo: String) -> Self {
        let pick = |random: &mut StdRng, from: &[&str]| {
            Cell::Text(from.choose(random).copied().unwrap_or_default().to_owned())
        };
        let price_cents = random.random_range(100..10_000_000_i64);
        // Optional cells are left out now and then, so that defaults are used too.
        let presentation = match random.random_range(0..4) {
            0 => Cell::Empty,
            _ => pick(random, &["Caja x 30 tabletas", "Frasco 120 ml", "Ampolla, 5 ml", "Tubo 40 g"]),
        };
        let minimum = match random.random_range(0..4) {
            0 => Cell::Empty,
            _ => Cell::Number(f64::from(random.random_range(10..200_u32))),
        };
        let nombre = Cell::Text(format!("Producto ñandú {id}"));
        let cells = vec![
            Cell::Text(id),
            nombre,
            Cell::Text(codigo),
            pick(random, &CATEGORIES),
            presentation,
            Cell::Number(price_cents as f64 / 100.0),
            Cell::Text(format!("INVIMA {}", random.random_range(1000..10_000))),
            pick(random, &["Temperatura ambiente", "Refrigerado 2-8 °C", "Lugar seco, sin luz"]),
            Cell::Number(f64::from(random.random_range(1..45_u32))),
            minimum,
            Cell::Number(f64::from(random.random_range(0..10_u32))),
            pick(random, &["true", "si", "sí", "x", "no", "false", "0"]),
            pick(random, &["verdadero", "1", "yes", "no"]),
        ];
        Self { cells, price_cents }
    }

    /// Breaks one rule.
    fn spoil(&mut self, random: &mut StdRng) -> Outcome {
        let message = match random.random_range(0..9) {
            0..3 => Some(self.empty_required(random)),
            3 => self.put(5, Cell::Text("a convenir".to_owned())),
            4 => self.put(5, Cell::Number(-1.5)),
            // Twelve digits, two of them decimals: ten before the point.
            5 => self.put(5, Cell::Number(99_999_999_999.0)),
            6 => self.put(8, Cell::Number(0.0)),
            7 => self.put(9, Cell::Number(-3.0)),
            _ => self.put(1, Cell::Text("n".repeat(256))),
        };
        Outcome::Rejected { message }
    }

    fn put(&mut self, column: usize, cell: Cell) -> Option<String> {
        self.cells[column] = cell;
        None
    }

    /// Empties one to three required cells.
    fn empty_required(&mut self, random: &mut StdRng) -> String {
        let count = random.random_range(1..4);
        let mut places = index::sample(random, REQUIRED.len(), count).into_vec();
        places.sort_unstable();
        let columns: Vec<_> = places.into_iter().map(|place| REQUIRED[place]).collect();
        for column in &columns {
            self.cells[*column] = Cell::Empty;
        }
        let names: Vec<_> = columns.iter().map(|column| COLUMNS[*column]).collect();
        format!("Campos obligatorios vacíos: {}", names.join(", "))
    }

    /// Takes the id, the codigo or both of another product.
    fn meet(&mut self, random: &mut StdRng, id: &str, codigo: &str) {
        let which = random.random_range(0..3);
        if which != 1 {
            self.cells[0] = Cell::Text(id.to_owned());
        }
        if which != 0 {
            self.cells[2] = Cell::Text(codigo.to_owned());
        }
    }

    fn rejected_as_duplicate(&self) -> Outcome {
        let (id, codigo) = (self.cells[0].text(), self.cells[2].text());
        Outcome::Rejected { message: Some(format!("Producto duplicado (ID: {id} o Código: {codigo})")) }
    }
}

/// What an import must come to.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// The sums.
    pub summary: Summary,
    /// Every row, in the file's order.
    pub rows: Vec<RowTruth>,
}

/// The sums, named on the wire as in `result.resumen`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows.
    pub total: u64,
    /// Created and updated.
    #[serde(rename = "exitosos")]
    pub successful: u64,
    /// The others.
    #[serde(rename = "rechazados")]
    pub rejected: u64,
    /// Rows that met a product or an earlier row.
    #[serde(rename = "duplicados")]
    pub duplicates: u64,
    /// New products.
    #[serde(rename = "productos_creados")]
    pub created: u64,
    /// Changed products.
    #[serde(rename = "productos_actualizados")]
    pub updated: u64,
}

/// What must become of a row.
#[derive(Clone, Debug)]
pub struct RowTruth {
    /// Its number in the sheet, the header being 1.
    pub fila: u32,
    /// What its cell says; maybe nothing.
    pub id: String,
    /// What its cell says; maybe nothing.
    pub codigo: String,
    /// What its cell says; maybe nothing.
    pub nombre: String,
    /// The price of a row that isn't bad, in hundredths.
    pub precio_cents: i64,
    /// Whether it met a product or an earlier row.
    pub duplicate: bool,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new product.
    Created,
    /// A known product takes its values.
    Updated {
        /// The product, which may have another id than the row.
        id: String,
    },
    /// Nothing is written.
    Rejected {
        /// The message, where its wording is part of the contract.
        message: Option<String>,
    },
}

impl Truth {
    fn add(&mut self, row: RowTruth) {
        let summary = &mut self.summary;
        summary.total += 1;
        summary.duplicates += u64::from(row.duplicate);
        match row.outcome {
            Outcome::Created => summary.created += 1,
            Outcome::Updated { .. } => summary.updated += 1,
            Outcome::Rejected { .. } => summary.rejected += 1,
        }
        summary.successful = summary.created + summary.updated;
        self.rows.push(row);
    }

    /// The ids of the products that are new, in the file's order.
    pub fn created_ids(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter(|row| row.outcome == Outcome::Created).map(|row| row.id.as_str())
    }

    /// The ids of the products that change, in the file's order.
    pub fn updated_ids(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Updated { id } => Some(id.as_str()),
            _ => None,
        })
    }

    /// The rows that are rejected, in the file's order.
    pub fn rejected(&self) -> impl Iterator<Item = &RowTruth> {
        self.rows.iter().filter(|row| matches!(row.outcome, Outcome::Rejected { .. }))
    }

    /// What must come of the rows up to number `fila` of the sheet, where an import ends there.
    #[must_use]
    pub fn until(&self, fila: u32) -> Self {
        let mut until = Self::default();
        self.rows.iter().filter(|row| row.fila <= fila).for_each(|row| until.add(row.clone()));
        until
    }

    /// The created products, as what a later workbook of the same supplier can meet.
    pub fn as_known(&self) -> Vec<Known> {
        let created = self.rows.iter().filter(|row| row.outcome == Outcome::Created);
        created.map(|row| Known { id: row.id.clone(), codigo: row.codigo.clone(), own: true }).collect()
    }
}
