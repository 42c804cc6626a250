use super::{Arena, SUPPLIER};
use crate::figure::Figure;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use stack::platform::{Upload, task_id};
use stack::services::CATALOG_UPLOAD;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const ROWS: usize = 1_000_000;
/// id, nombre and codigo of every row.
const UNIQUE: usize = 3 * ROWS;

/// `worker_peak_1m`: the most memory that a fresh worker ever had resident (VmHWM) over a workbook of a million
/// rows and three million different strings.
pub async fn measure(arena: &mut Arena) -> Result<()> {
    let file = arena.dir.join("million.xlsx");
    write(&file)?;
    let bytes = file.metadata()?.len();
    eprintln!("workbook of {bytes} bytes");
    let worker = arena.platform.service_mut(&CATALOG_UPLOAD).workers.first_mut().context("a worker")?;
    worker.restart().await?;
    let idle = worker.daemon().peak_memory().context("VmHWM")?;

    let client = arena.platform.admin().await?;
    let upload = Upload::new(&file, SUPPLIER);
    let task = task_id(&client.upload(&upload).await?)?;
    let status = client.finished(&task, Duration::from_secs(900)).await?;
    ensure!(status["result"]["resumen"]["exitosos"] == ROWS, "the import is wrong: {}", status["error"]);
    let worker = arena.platform.service(&CATALOG_UPLOAD).workers.first().context("a worker")?;
    let peak = worker.daemon().peak_memory().context("VmHWM")?;
    Figure::new("catalog", "worker_peak_1m", peak as f64 / 1e6, "MB")
        .n(ROWS)
        .with("unique_strings", json!(UNIQUE))
        .number("file_mb", bytes as f64 / 1e6)
        .number("idle_mb", idle as f64 / 1e6)
        .with(
            "bound",
            json!(
                "the workbook's shared strings, which calamine holds; the guard refuses more than \
                   max_shared_strings_bytes of them. Rows are streamed, two batches at a time."
            ),
        )
        .print();
    Ok(())
}

const HEADER: [&str; 9] = [
    "id",
    "nombre",
    "codigo",
    "categoria",
    "precio_unitario",
    "certificado_sanitario",
    "condiciones_almacenamiento",
    "tiempo_entrega_dias",
    "stock_minimo",
];
/// What stands in every row: categoria, certificado_sanitario, condiciones_almacenamiento.
const COMMON: [&str; 3] = ["VITAMINAS", "INVIMA 2024", "Temperatura ambiente"];
const MAIN: &str = "xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"";
const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const PACKAGE: &str = "http://schemas.openxmlformats.org/package/2006";
const KIND: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml";
const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>";

/// The parts of a workbook beside its sheet and its strings.
fn frame() -> [(&'static str, String); 4] {
    [
        (
            "[Content_Types].xml",
            format!(
                "{XML}<Types xmlns=\"{PACKAGE}/content-types\">\
                 <Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
                 <Override PartName=\"/xl/workbook.xml\" ContentType=\"{KIND}.sheet.main+xml\"/>\
                 <Override PartName=\"/xl/worksheets/sheet1.xml\" ContentType=\"{KIND}.worksheet+xml\"/>\
                 <Override PartName=\"/xl/sharedStrings.xml\" ContentType=\"{KIND}.sharedStrings+xml\"/></Types>"
            ),
        ),
        (
            "_rels/.rels",
            format!(
                "{XML}<Relationships xmlns=\"{PACKAGE}/relationships\"><Relationship Id=\"r1\" \
                 Type=\"{OFFICE}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
            ),
        ),
        (
            "xl/workbook.xml",
            format!(
                "{XML}<workbook {MAIN} xmlns:r=\"{OFFICE}\"><sheets><sheet name=\"Sheet1\" sheetId=\"1\" r:id=\"r1\"/>\
                 </sheets></workbook>"
            ),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            format!(
                "{XML}<Relationships xmlns=\"{PACKAGE}/relationships\">\
                 <Relationship Id=\"r1\" Type=\"{OFFICE}/worksheet\" Target=\"worksheets/sheet1.xml\"/>\
                 <Relationship Id=\"r2\" Type=\"{OFFICE}/sharedStrings\" Target=\"sharedStrings.xml\"/></Relationships>"
            ),
        ),
    ]
}

/// Writes the workbook with a shared string table, holding nothing of it.
fn write(path: &Path) -> Result<()> {
    let mut zip = ZipWriter::new(BufWriter::new(File::create(path)?));
    let options = SimpleFileOptions::default().large_file(true);
    for (name, text) in frame() {
        zip.start_file(name, options)?;
        zip.write_all(text.as_bytes())?;
    }

    // Places in the string table: the header, the common strings, then three of each row.
    let (common, unique) = (HEADER.len(), HEADER.len() + COMMON.len());
    zip.start_file("xl/worksheets/sheet1.xml", options)?;
    let last = ROWS + 1;
    write!(zip, "{XML}<worksheet {MAIN}><dimension ref=\"A1:I{last}\"/><sheetData><row r=\"1\">")?;
    for (place, column) in ('A'..='I').enumerate() {
        write!(zip, "<c r=\"{column}1\" t=\"s\"><v>{place}</v></c>")?;
    }
    write!(zip, "</row>")?;
    for number in 0..ROWS {
        let (r, first) = (number + 2, unique + 3 * number);
        write!(
            zip,
            "<row r=\"{r}\"><c r=\"A{r}\" t=\"s\"><v>{first}</v></c><c r=\"B{r}\" t=\"s\"><v>{}</v></c>\
             <c r=\"C{r}\" t=\"s\"><v>{}</v></c><c r=\"D{r}\" t=\"s\"><v>{common}</v></c>\
             <c r=\"E{r}\"><v>{}.5</v></c><c r=\"F{r}\" t=\"s\"><v>{}</v></c><c r=\"G{r}\" t=\"s\"><v>{}</v></c>\
             <c r=\"H{r}\"><v>{}</v></c><c r=\"I{r}\"><v>12</v></c></row>",
            first + 1,
            first + 2,
            number % 9_973,
            common + 1,
            common + 2,
            1 + number % 30,
        )?;
    }
    write!(zip, "</sheetData></worksheet>")?;

    zip.start_file("xl/sharedStrings.xml", options)?;
    let (total, distinct) = (HEADER.len() + 6 * ROWS, unique + UNIQUE);
    write!(zip, "{XML}<sst {MAIN} count=\"{total}\" uniqueCount=\"{distinct}\">")?;
    for text in HEADER.iter().chain(&COMMON) {
        write!(zip, "<si><t>{text}</t></si>")?;
    }
    for number in 0..ROWS {
        write!(
            zip,
            "<si><t>M-{number:07}</t></si><si><t>Producto número {number:07}</t></si><si><t>COD-{number:07}</t></si>"
        )?;
    }
    write!(zip, "</sst>")?;
    zip.finish()?.flush()?;
    Ok(())
}
