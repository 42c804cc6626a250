use std::io::{Cursor, Read as _};

use anyhow::{Context as _, Result};
use zip::ZipArchive;

use super::{FileKind, guide, template::Template, testing::*};
use crate::domain::{Column, HeaderName, validate};

fn part(bytes: &[u8], name: &str) -> Result<String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut text = String::new();
    archive.by_name(name)?.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn the_example_is_accepted_as_it_is() -> Result<()> {
    let example = Template::named("ejemplo", "PROV001").context("there is an example")?;
    let read = read(&example.xlsx()?, FileKind::Xlsx)?;
    assert_eq!((read.sheet.as_deref(), read.total), (Some("Sheet1"), Some(10)));
    assert_eq!(read.ignored, [""; 0]);
    let mut categories = Vec::new();
    let mut keys = std::collections::HashSet::new();
    for row in read.rows {
        let checked = validate(row).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        assert_eq!(checked.warnings, []);
        assert!(keys.insert(checked.row.id) && keys.insert(checked.row.codigo));
        categories.push(checked.row.categoria);
    }
    for category in guide::CATEGORIES {
        assert!(categories.iter().any(|used| used == category), "{category}");
    }
    Ok(())
}

#[test]
fn the_empty_one_has_the_header_only() -> Result<()> {
    let bytes = Template::Vacia.xlsx()?;
    assert_eq!(failure(&bytes, FileKind::Xlsx)?.code(), "header_only");
    let strings = part(&bytes, "xl/sharedStrings.xml")?;
    for column in Column::ALL {
        assert!(strings.contains(&format!("<t>{}</t>", column.name())), "{column:?}");
    }
    Ok(())
}

#[test]
fn excel_is_told_what_to_check() -> Result<()> {
    let sheet = part(&Template::Vacia.xlsx()?, "xl/worksheets/sheet1.xml")?;
    assert_eq!(sheet.matches("<dataValidation ").count(), Column::COUNT);
    for part in [
        r#"sqref="A2:A1048576""#,
        r#"<formula1>AND(ISNUMBER(F2),F2&gt;=0,F2&lt;10000000000,ROUND(F2,2)=F2)</formula1>"#,
        r#"<formula1>"ANTIBIOTICS,ANALGESICS,"#,
        r#"errorStyle="warning""#,
        r#"<formula1>"sí,no"</formula1>"#,
        r#"state="frozen""#,
    ] {
        assert!(sheet.contains(part), "{part}\n{sheet}");
    }
    assert_eq!(sheet.matches("errorStyle=").count(), 1, "other categories are taken, all else is refused");
    Ok(())
}

#[test]
fn the_instructions_are_no_catalog() -> Result<()> {
    let bytes = Template::Vacia.xlsx()?;
    let strings = part(&bytes, "xl/sharedStrings.xml")?;
    for text in ["la fila se rechaza", "Productos duplicados", "Qué pasa con las filas que tienen errores"] {
        assert!(strings.contains(text), "{text}");
    }
    let comments = part(&bytes, "xl/comments1.xml").context("notes of the header")?;
    assert_eq!(comments.matches("OBLIGATORIA.").count(), 8);
    assert_eq!(comments.matches("<comment ").count(), Column::COUNT);
    for (name, rules) in guide::RULES {
        assert!(rules.iter().chain(&[name]).all(|text| HeaderName::of(text).any().is_none()));
    }
    Ok(())
}

#[test]
fn templates_have_names() {
    assert_eq!(Template::named("vacia", "PROV001"), Some(Template::Vacia));
    assert_eq!(Template::named("ejemplo", "PROV001"), Some(Template::Ejemplo("PROV001".into())));
    assert_eq!(Template::named("Vacia", "PROV001"), None);
    // An id has 64 characters at most; what tells owners apart is at their end.
    let long = Template::named("ejemplo", &format!("{}7", "Ñ".repeat(63)));
    assert_eq!(long, Some(Template::Ejemplo(format!("{}7", "Ñ".repeat(31)))));
}
