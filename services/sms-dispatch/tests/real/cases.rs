//! Files of people as other systems got them wrong: what each gives.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sea_orm::sqlx;
use sms_dispatch::{
    domain::source::Mapping,
    domain::suppression::Cause,
    suppression_lists::{self, ListError, ListRequest, Outcome},
};

use crate::world::World;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/cases").join(name)
}

/// The ten digits of a table's phones, in their order.
async fn phones(world: &World, table: &str) -> Result<Vec<String>> {
    let query = format!("select substr(phone_e164, 4) from {table} order by phone_e164");
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&world.pool).await?)
}

/// A file of contacts, the ten digits that it brings in, and the rows that are rejected, with the reason.
type Contacts = (&'static str, &'static [&'static str], &'static [(i64, &'static str)]);

const CONTACTS: &[Contacts] = &[
    (
        "numbers-as-decimals.csv",
        &["5500000103", "5500000104", "5500000105", "5500000106", "5500000108"],
        &[(4, "phone_too_short"), (5, "phone_letters"), (6, "phone_letters")],
    ),
    (
        "numbers-as-decimals-of-mexico.csv",
        &["5500000103", "5500000104"],
        &[(2, "phone_too_short"), (3, "phone_too_short")],
    ),
    (
        "numbers-with-fractions.csv",
        &["5500000103", "5500000104", "5500000105"],
        &[(1, "phone_decimals"), (2, "phone_decimals"), (3, "phone_too_short")],
    ),
];

#[tokio::test]
async fn digits_after_the_point_make_nobody_elses_phone() -> Result<()> {
    for (name, should, rejected) in CONTACTS {
        let world = World::new("smscases").await?;
        world.import(&case(name)).await?;
        let found = phones(&world, "contacts").await?;
        ensure!(found == *should, "{name}: {found:?}");
        let query = "select source_id, reason from contact_rejects order by source_id";
        let rejects: Vec<(i64, String)> = sqlx::query_as(query).fetch_all(&world.pool).await?;
        let rejects: Vec<_> = rejects.iter().map(|(row, reason)| (*row, reason.as_str())).collect();
        ensure!(rejects == *rejected, "{name}: {rejects:?}");
        world.is_sound().await?;
    }
    Ok(())
}

async fn suppress(world: &World, name: &str, mapping: &[(&str, &str)]) -> Result<Outcome, ListError> {
    let pair = |(field, column): &(&str, &str)| ((*field).to_owned(), (*column).to_owned());
    let request = ListRequest {
        cause: Cause::OptOut,
        effective_at: None,
        source: name.to_owned(),
        mapping: Mapping(mapping.iter().map(pair).collect()),
    };
    suppression_lists::import(&world.pool, &case(name), &request, "test").await
}

#[tokio::test]
async fn a_list_of_opt_outs_is_read_as_contacts_are() -> Result<()> {
    for (name, mapping, should) in [
        ("optouts-quoted-names.csv", &[][..], &["5500000133", "5500000134", "5500000135"][..]),
        ("optouts-windows-1252.csv", &[], &["5500000133", "5500000134"]),
        ("optouts-quoted-tabs.csv", &[], &["5500000133", "5500000134"]),
        ("optouts-unknown-header.csv", &[("phone", "num_cel")], &["5500000138", "5500000139"]),
    ] {
        let world = World::new("smsoptouts").await?;
        let outcome = suppress(&world, name, mapping).await?;
        ensure!(outcome.added == should.len() as i64 && outcome.rejected == 0, "{name}: {outcome:?}");
        let found = phones(&world, "suppressions").await?;
        ensure!(found == should, "{name}: {found:?}");
        let again = suppress(&world, name, mapping).await?;
        ensure!((again.added, again.known) == (0, outcome.rows), "{name}: {again:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_that_is_none_is_refused_whole() -> Result<()> {
    let world = World::new("smsnolist").await?;
    for (name, told) in [
        ("optouts-unknown-header.csv", "columna de teléfonos entre [\"folio\", \"num_cel\", \"motivo\"]"),
        ("optouts-unknown-names.csv", "columna de teléfonos entre [\"id_cliente\", \"movil\"]"),
        ("optouts-two-phones-a-line.csv", "tiene 2 teléfonos"),
        ("optouts-open-quote.csv", "La fila de la línea 2 tiene comillas sin cerrar"),
        ("optouts-utf-16.csv", "UTF-16"),
        ("optouts-no-good-row.csv", "Ninguna de las 2 filas"),
    ] {
        let error = suppress(&world, name, &[]).await.err().with_context(|| format!("{name} was taken"))?;
        ensure!(error.to_string().contains(told), "{name}: {error}");
        if let ListError::NoGoodRow(outcome) = error {
            let codes: Vec<_> = outcome.refused.iter().map(|refused| (refused.line, refused.code)).collect();
            ensure!(codes == [(2, "phone_letters"), (3, "phone_too_short")], "{codes:?}");
        }
        let held = phones(&world, "suppressions").await?;
        ensure!(held.is_empty(), "{name} left {held:?}");
    }
    Ok(())
}
