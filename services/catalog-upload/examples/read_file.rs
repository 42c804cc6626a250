//! What reading a file costs, one JSON line a run: seconds, rows, and the peak of memory of this process.
//!
//! `read_file generate <path> <rows> <unique>` writes a template (xlsx, or csv by its name) whose first
//! `unique` text columns differ in each row; `read_file read <path>` reads it as the worker does, `rules` also
//! checks each row; `floor` is calamine streaming the same workbook with nothing else.

use std::{
    fs,
    io::{BufReader, BufWriter, Write as _},
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use calamine::{Reader as _, Xlsx};
use lote_catalog_upload::{
    domain::{Column, validate},
    files::{FileKind, Limits, open},
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["generate", path, rows, unique] => generate(path.as_ref(), rows.parse()?, unique.parse()?),
        [mode @ ("read" | "rules" | "floor"), path] => {
            let start = Instant::now();
            let rows = match mode {
                "floor" => floor(path.as_ref())?,
                _ => read(path.as_ref(), mode == "rules")?,
            };
            let seconds = start.elapsed().as_secs_f64();
            println!(
                r#"{{"mode":"{mode}","rows":{rows},"seconds":{seconds:.3},"peak_mb":{:.1}}}"#,
                peak_mb()?
            );
            Ok(())
        }
        _ => bail!("usage: read_file generate <path> <rows> <unique> | read|rules|floor <path>"),
    }
}

/// The cells of a row; the first `unique` texts have its number in them.
fn cells(row: u32, unique: usize) -> [String; Column::COUNT] {
    let mut cells = [
        "PROD",
        "Amoxicilina 500 mg",
        "AMX",
        "ANTIBIOTICS",
        "Caja x 21",
        "12500.50",
        "INVIMA 2024M-0001",
        "Entre 15 y 30 C",
        "3",
        "20",
        "8",
        "si",
        "no",
    ]
    .map(str::to_owned);
    for cell in [0, 2, 1, 6, 7].into_iter().take(unique) {
        cells[cell].push_str(&format!("-{row:07}"));
    }
    cells
}

fn generate(path: &Path, rows: u32, unique: usize) -> Result<()> {
    if FileKind::of(&path.to_string_lossy())? == FileKind::Csv {
        let mut file = BufWriter::new(fs::File::create(path)?);
        writeln!(file, "{}", Column::ALL.map(Column::name).join(";"))?;
        for row in 1..=rows {
            writeln!(file, "{}", cells(row, unique).join(";"))?;
        }
        return Ok(file.flush()?);
    }
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet_with_low_memory()?;
    for (position, column) in Column::ALL.into_iter().enumerate() {
        sheet.write_string(0, position as u16, column.name())?;
    }
    for row in 1..=rows {
        for (position, cell) in cells(row, unique).into_iter().enumerate() {
            match cell.parse::<f64>() {
                Ok(number) => sheet.write_number(row, position as u16, number)?,
                Err(_) => sheet.write_string(row, position as u16, cell)?,
            };
        }
    }
    workbook.save(path)?;
    Ok(())
}

fn read(path: &Path, rules: bool) -> Result<usize> {
    let kind = FileKind::of(&path.to_string_lossy())?;
    let mut reader = open(path, kind, &Limits::default())?;
    let mut rows = 0;
    while let Some(batch) = reader.next_batch(1000)? {
        for row in batch {
            rows += 1;
            if rules {
                validate(row).map_err(|error| anyhow::anyhow!(error.message))?;
            }
        }
    }
    Ok(rows)
}

fn floor(path: &Path) -> Result<usize> {
    let mut workbook: Xlsx<_> = Xlsx::new(BufReader::new(fs::File::open(path)?))?;
    let sheet = workbook.sheet_names().first().cloned().context("no sheet")?;
    let mut cells = workbook.worksheet_cells_reader(&sheet)?;
    let mut rows = 0;
    while let Some(cell) = cells.next_cell()? {
        rows = rows.max(cell.get_position().0 as usize);
        std::hint::black_box(cell);
    }
    Ok(rows)
}

/// The most memory this process has had, MB.
fn peak_mb() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}
