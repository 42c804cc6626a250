//! CSV files as people make them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use sea_orm::sqlx;
use sms_dispatch::{cli::import::ImportRequest, domain::source::Mapping};

use crate::world::{World, report, request};

/// Contacts as `phone name address`, in the order of their rows.
async fn contacts(world: &World) -> Result<Vec<String>> {
    let query = "select concat_ws(' / ', source_id, substr(phone_e164, 4), full_name, address) from contacts
                 order by source_id";
    Ok(sqlx::query_scalar(query).fetch_all(&world.pool).await?)
}

fn mapping(pairs: &[(&str, &str)]) -> Mapping {
    let pair = |(field, column): &(&str, &str)| ((*field).to_owned(), (*column).to_owned());
    Mapping(pairs.iter().map(pair).collect::<BTreeMap<_, _>>())
}

#[tokio::test]
async fn separators_marks_quotes_and_columns() -> Result<()> {
    let plain = "numero,nombre,direccion\n6121004701,ANA,CALLE 1\n6121004702,BERTA,CALLE 2\n";
    let quoted = "Nombre,Dirección,Celular\n\"ANA\",\"CALLE 1\",6121004701\n\"BERTA\",CALLE 2,6121004702\n";
    let files: Vec<(&str, Vec<u8>, Mapping)> = vec![
        ("comma", plain.into(), Mapping::default()),
        ("semicolon", plain.replace(',', ";").into(), Mapping::default()),
        ("tab", plain.replace(',', "\t").into(), Mapping::default()),
        ("bar", plain.replace(',', "|").into(), Mapping::default()),
        ("byte order mark", format!("\u{feff}{plain}").into(), Mapping::default()),
        ("windows", plain.replace('\n', "\r\n").into(), Mapping::default()),
        ("no last newline", plain.trim_end().into(), Mapping::default()),
        ("empty lines", plain.replace("\n6121004702", "\n\n\r\n6121004702").into(), Mapping::default()),
        ("capitals", plain.replace("numero", " NUMERO ").into(), Mapping::default()),
        (
            "names with accents",
            "Teléfono;Nombre;DIRECCIÓN\n6121004701;ANA;CALLE 1\n6121004702;BERTA;CALLE 2\n".into(),
            Mapping::default(),
        ),
        ("mapped", quoted.into(), mapping(&[("full_name", "nombre"), ("address", "Dirección")])),
        (
            "mapped over a name of its own",
            "numero,tel,nombre,direccion\n1,6121004701,ANA,CALLE 1\n2,6121004702,BERTA,CALLE 2\n".into(),
            mapping(&[("phone", "TEL")]),
        ),
        (
            "empty fields too many, and fields too few",
            "direccion,numero,nombre\nCALLE 1,6121004701,ANA,, \nCALLE 2,6121004702,BERTA\n".into(),
            Mapping::default(),
        ),
    ];
    for (name, content, mapping) in files {
        let world = World::new("smscsv").await?;
        let file = world.write("contactos.csv", content)?;
        let import = world.import_as(&ImportRequest { mapping, ..request(&file) }).await?;
        let found = contacts(&world).await?;
        let should = ["1 / 6121004701 / ANA / CALLE 1", "2 / 6121004702 / BERTA / CALLE 2"];
        ensure!(found == should, "{name}: {found:?}");
        ensure!(import.source_rows == Some(2), "{name}: {import:?}");
        world.is_sound().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_separator_too_many_gives_nobody_another_phone() -> Result<()> {
    let rows = "nombre,telefono_aval,telefono\n\
                PÉREZ, ANA,5511112222,5533334444\n\
                \"PÉREZ, BERTA\",5511112222,5533334445\n";
    // Some programs end each line with a separator.
    for rows in [rows.to_owned(), rows.replace('\n', ",\n")] {
        let world = World::new("smscsv").await?;
        let file = world.write("contactos.csv", &rows)?;
        world.import(&file).await?;
        let phones: Vec<String> =
            sqlx::query_scalar("select phone_e164 from contacts").fetch_all(&world.pool).await?;
        ensure!(phones == ["+525533334445"], "{rows}: {phones:?}");
        let reasons: Vec<String> =
            sqlx::query_scalar("select reason from contact_rejects").fetch_all(&world.pool).await?;
        ensure!(reasons == ["too_many_values"], "{rows}: {reasons:?}");
        world.is_sound().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_first_line_of_data_is_not_told_to_the_log() -> Result<()> {
    let world = World::new("smscsv").await?;
    let file = world.write("contactos.csv", "5512345678,ANA PÉREZ,CALLE 1\n")?;
    let refused = world.import(&file).await.err().context("no column is one of phones")?;
    let told = format!("{refused:#}");
    ensure!(!told.contains("5512345678") && !told.to_uppercase().contains("ANA"), "{told}");
    ensure!(told.contains("no parece tener nombres"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_quoted_field_may_hold_lines_and_separators() -> Result<()> {
    let world = World::new("smscsv").await?;
    let mut rows = String::from("numero,nombre,direccion\n");
    for row in 0..3_000 {
        rows += &format!("612100{row:04},\"NOMBRE \"\"{row}\"\"\",\"CALLE {row},\nINTERIOR; 2\"\n");
    }
    // Batches end between lines of one row's field, were they counted by lines.
    let file = world.write("lineas.csv", rows)?;
    let (_, report) = world.import(&file).await?;
    // 6121001111 is no junk: 0 is not one digit all through.
    ensure!(report.rows == 3_000, "{report:?}");
    let good = "select count(*) from contacts where full_name = 'NOMBRE \"' || (source_id - 1) || '\"'
                and address = 'CALLE ' || (source_id - 1) || E',\\nINTERIOR; 2'";
    ensure!(world.count(good).await? == report.created && report.created + report.rejected == 3_000);
    world.is_sound().await
}

#[tokio::test]
async fn duplicates_and_rows_without_a_phone_have_an_outcome() -> Result<()> {
    let world = World::new("smscsv").await?;
    let rows = "numero,nombre,direccion\n6121004701,ANA,\n,NADIE,\n6121004701,,CALLE 1\n6121004701\n\
                abc,LETRAS,CALLE\n+52 612 100 4702,BERTA,\n\"\",X,\n";
    let (_, report) = world.import(&world.write("contactos.csv", rows)?).await?;
    let counts = (report.rows, report.created, report.merged, report.rejected);
    ensure!(counts == (7, 2, 2, 3), "{report:?}");
    ensure!(report.rejected_by_reason["phone_empty"] == 2, "{report:?}");
    ensure!(contacts(&world).await? == ["1 / 6121004701 / ANA / CALLE 1", "6 / 6121004702 / BERTA"]);
    world.is_sound().await
}

#[tokio::test]
async fn what_a_csv_file_lacks_is_named() -> Result<()> {
    let world = World::new("smscsv").await?;
    let file = world.write("contactos.csv", "apellido,correo\nx,y\n")?;
    for (pairs, told) in [
        (&[][..], "no tiene una columna de teléfonos entre [\"apellido\", \"correo\"]"),
        (&[("phone", "Celular")][..], "no tiene la columna \"Celular\" para phone"),
        (
            &[("phone", "correo"), ("sexo", "x")][..],
            "El mapping nombra [\"sexo\"]; se espera alguno de [\"phone\"",
        ),
    ] {
        let refused = world.refused(&ImportRequest { mapping: mapping(pairs), ..request(&file) }).await?;
        ensure!(refused.contains(told), "{refused}");
    }
    // The header alone is a file without rows.
    let import = world.import_as(&request(&world.write("nadie.csv", "numero,nombre\n")?)).await?;
    ensure!(report(&import)?.rows == 0);
    let limited = world.write("tres.csv", "numero\n6121004701\n6121004702\n6121004703\n")?;
    let import = world.import_as(&ImportRequest { limit: Some(2), ..request(&limited) }).await?;
    ensure!(import.source_rows == Some(2) && contacts(&world).await?.len() == 2, "{import:?}");
    world.is_sound().await
}

#[tokio::test]
async fn accents_of_windows_are_read_and_what_cannot_be_is_told() -> Result<()> {
    let world = World::new("smscsvwin").await?;
    // Windows-1252: Ó is 0xd3, Ñ 0xd1, ü 0xfc.
    let content =
        b"tel\xe9fono,nombre,direcci\xf3n\n6121004701,JOS\xc9 MU\xd1OZ,G\xfcERO 1\n612\xff1004702,BERTA,x\n\
                    6121004703,JOS\xc3\x89,mixed\n";
    let (import, report) = world.import(&world.write("contactos.csv", content)?).await?;
    let found = contacts(&world).await?;
    ensure!(found == ["1 / 6121004701 / JOSÉ MUÑOZ / GüERO 1", "3 / 6121004703 / JOSÉ / mixed"], "{found:?}");
    ensure!(
        import.rejected == Some(1) && report.rejected_by_reason.contains_key("phone_bad_utf8"),
        "{report:?}"
    );

    let open = format!("numero,nombre\n6121004701,\"ANA\n{}", "6121004702,BERTA\n".repeat(100_000));
    let said = world.refused(&request(&world.write("abierto.csv", open)?)).await?;
    ensure!(said.contains("¿hay comillas sin cerrar?"), "{said}");
    // Nor does one swallow what follows in a short file.
    let open = "numero,nombre\n6121004701,ANA\n6121004702,\"BERTA\n6121004703,CARLA\n6121004704,DIANA\n";
    let said = world.refused(&request(&world.write("corto.csv", open)?)).await?;
    ensure!(said.contains("La fila de la línea 3 tiene comillas sin cerrar"), "{said}");
    let wide: Vec<u8> = "\u{feff}numero\n6121004701\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let said = world.refused(&request(&world.write("ancho.csv", wide)?)).await?;
    ensure!(said.contains("UTF-16"), "{said}");
    world.is_sound().await
}
