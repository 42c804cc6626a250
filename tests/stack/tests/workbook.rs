//! The generator's truth is true of its files.

use anyhow::{Context, Result, ensure};
use calamine::{Data, Reader, Xlsx, open_workbook};
use stack::workbook::{COLUMNS, Outcome, Spec};
use std::collections::HashSet;

#[test]
fn the_sums_hold_and_the_counts_are_as_asked() -> Result<()> {
    let first = Spec::new(1, "A", 50).truth()?;
    for replace in [false, true] {
        let mut known = first.as_known();
        known[0].own = false;
        let spec = Spec { bad: 10, duplicates: 5, collisions: 20, known, replace, ..Spec::new(2, "B", 300) };
        let truth = spec.truth()?;
        let summary = &truth.summary;
        ensure!(summary.total == 300 && truth.rows.len() == 300);
        ensure!(summary.total == summary.successful + summary.rejected);
        ensure!(summary.successful == summary.created + summary.updated);
        ensure!(summary.duplicates == 25 && summary.created == 265);
        // One of the twenty belongs to another supplier, whose products are never touched.
        ensure!(summary.updated == if replace { 19 } else { 0 });
        ensure!(summary.rejected == if replace { 16 } else { 35 });
        ensure!(truth.created_ids().collect::<HashSet<_>>().len() == 265, "created ids are unique");
        ensure!(truth.updated_ids().all(|id| id.starts_with("A-")), "what is updated was known");
        ensure!(truth.rejected().count() as u64 == summary.rejected);
    }
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_truth() -> Result<()> {
    let spec = |seed| Spec { bad: 10, duplicates: 10, ..Spec::new(seed, "S", 100) };
    let lines = |seed| anyhow::Ok(format!("{:?}", spec(seed).truth()?.rows));
    ensure!(lines(1)? == lines(1)?);
    ensure!(lines(1)? != lines(2)?);
    Ok(())
}

#[test]
fn more_special_rows_than_rows_are_refused() {
    assert!(Spec { bad: 5, duplicates: 5, ..Spec::new(1, "X", 10) }.truth().is_err());
    assert!(Spec { collisions: 1, ..Spec::new(1, "X", 10) }.truth().is_err());
}

#[test]
fn the_files_say_what_the_truth_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let spec = Spec { bad: 30, duplicates: 20, ..Spec::new(3, "F", 200) };
    let path = dir.path().join("f.xlsx");
    let truth = spec.write_xlsx(&path)?;
    let mut workbook: Xlsx<_> = open_workbook(&path)?;
    let sheet = workbook.worksheet_range("Sheet1")?;
    let header: Vec<_> = sheet.rows().next().context("a header")?.iter().map(Data::to_string).collect();
    ensure!(header == COLUMNS);
    ensure!(sheet.rows().count() == 201);
    let mut seen = HashSet::new();
    for (cells, row) in sheet.rows().skip(1).zip(&truth.rows) {
        ensure!(cells[0].to_string() == row.id && cells[2].to_string() == row.codigo);
        let fresh = seen.insert(row.id.clone()) & seen.insert(row.codigo.clone());
        match &row.outcome {
            Outcome::Created => ensure!(fresh, "row {} repeats another", row.fila),
            Outcome::Rejected { message } if row.duplicate => {
                ensure!(!fresh && message.as_ref().is_some_and(|text| text.contains(&row.codigo)));
            }
            Outcome::Rejected { message: Some(message) } => {
                let empty = COLUMNS.iter().zip(cells).filter(|(name, cell)| {
                    **cell == Data::Empty && !["presentacion", "stock_minimo"].contains(name)
                });
                let names: Vec<_> = empty.map(|(name, _)| *name).collect();
                ensure!(*message == format!("Campos obligatorios vacíos: {}", names.join(", ")));
            }
            Outcome::Rejected { message: None } => {}
            Outcome::Updated { .. } => anyhow::bail!("nothing was known"),
        }
    }

    let path = dir.path().join("f.csv");
    ensure!(spec.write_csv(&path)?.summary == truth.summary);
    ensure!(std::fs::read_to_string(&path)?.lines().count() == 201);
    Ok(())
}
