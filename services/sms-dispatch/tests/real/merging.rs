//! Which row's values a contact has, case by case.

use anyhow::{Context as _, Result, ensure};
use rusqlite::types::Value;
use sea_orm::sqlx;
use serde_json::json;
use sms_dispatch::{cli::import::ImportRequest, storage::contacts};

use crate::{
    picture::{self, ALL},
    source::{Row, numeros},
    world::{World, request},
};

type Columns = (i64, Option<String>, Option<String>, Option<String>, Option<String>, bool, String);

/// A contact as `row|spelling|name|address|neighbourhood|status`, `-` for what is not there.
async fn contact(world: &World, national: &str) -> Result<String> {
    let columns: Columns = sqlx::query_as(
        "select source_id, phone_original, full_name, address, neighborhood, is_valid, status from contacts
         where phone_e164 = '+52' || $1",
    )
    .bind(national)
    .fetch_one(&world.pool)
    .await
    .with_context(|| national.to_owned())?;
    let (source_id, original, name, address, neighborhood, is_valid, status) = columns;
    ensure!(is_valid == (status == "ACTIVE"), "{national} is {is_valid} and {status}");
    let texts = [original, name, address, neighborhood].map(|text| text.unwrap_or_else(|| "-".to_owned()));
    Ok(format!("{source_id}|{}|{status}", texts.join("|")))
}

/// Which rows went into which, as `row>row`.
async fn merges(world: &World, national: &str) -> Result<String> {
    let query =
        "select string_agg(source_id || '>' || into_source_id, ' ' order by source_id) from contact_merges
                 where phone_e164 = '+52' || $1";
    let merges: Option<String> = sqlx::query_scalar(query).bind(national).fetch_one(&world.pool).await?;
    Ok(merges.unwrap_or_default())
}

/// The rows of one phone, what its contact is, and which rows merged.
type Case = (&'static str, Vec<Row>, &'static str, &'static str);

fn cases() -> Vec<Case> {
    let mut cases = by_completeness();
    cases.extend(by_value());
    cases
}

/// Which row wins.
fn by_completeness() -> Vec<Case> {
    vec![
        ("6121004701", vec![Row::new(11, "6121004701").nombre("ANA")], "11|6121004701|ANA|-|-|ACTIVE", ""),
        (
            "6121004702",
            // As complete as each other: the lowest id wins, the other fills its gaps.
            vec![
                Row::new(21, "6121004702").nombre("ANA"),
                Row::new(22, "0446121004702").direccion("CALLE 2"),
            ],
            "21|6121004702|ANA|CALLE 2|-|ACTIVE",
            "22>21",
        ),
        (
            "6121004703",
            // The other way round: that a row is clean counts for nothing.
            vec![
                Row::new(31, "0446121004703").direccion("CALLE 3"),
                Row::new(32, "6121004703").nombre("ANA"),
            ],
            "31|0446121004703|ANA|CALLE 3|-|ACTIVE",
            "32>31",
        ),
        (
            "6121004704",
            // More complete wins over a lower id, also field by field.
            vec![
                Row::new(41, "6121004704").nombre("ANA"),
                Row::new(42, "+526121004704").nombre("BERTA").direccion("CALLE 4"),
            ],
            "42|+526121004704|BERTA|CALLE 4|-|ACTIVE",
            "41>42",
        ),
        (
            "6121004705",
            // No clean one.
            vec![
                Row::new(51, "016121004705").nombre("ANA"),
                Row::new(52, "5216121004705").nombre("BERTA").colonia("CENTRO"),
            ],
            "52|5216121004705|BERTA|-|CENTRO|ACTIVE",
            "51>52",
        ),
        (
            "6121004706",
            // Three: gaps are filled by the second, then by the third.
            vec![
                Row::new(61, "612 100 4706").colonia("NORTE"),
                Row::new(62, "6121004706").nombre("ANA").direccion("CALLE 6"),
                Row::new(63, "(612) 100-4706").nombre("CARLA").colonia("SUR"),
            ],
            "62|6121004706|ANA|CALLE 6|SUR|ACTIVE",
            "61>62 63>62",
        ),
        (
            "6121004707",
            // Three without a clean one, all equal.
            vec![
                Row::new(71, "+526121004707").nombre("ANA"),
                Row::new(72, "526121004707").nombre("BERTA"),
                Row::new(73, "0456121004707").nombre("CARLA"),
            ],
            "71|+526121004707|ANA|-|-|ACTIVE",
            "72>71 73>71",
        ),
    ]
}

/// What counts as a value.
fn by_value() -> Vec<Case> {
    let blob = |text: &str| Value::Blob(text.as_bytes().to_vec());
    vec![
        (
            "6121004708",
            // SQLite's UNIQUE lets a blob stand beside the text of its bytes.
            vec![
                Row::new(81, "6121004708").nombre("ANA"),
                Row::new(82, blob("6121004708")).nombre("BERTA").direccion("CALLE 8"),
            ],
            "82|6121004708|BERTA|CALLE 8|-|ACTIVE",
            "81>82",
        ),
        ("6121004709", vec![Row::new(91, blob("6121004709"))], "91|6121004709|-|-|-|ACTIVE", ""),
        (
            "6121004710",
            // Blanks are no value, and blanks around one are none of it.
            vec![
                Row::new(101, "6121004710").nombre("  ").direccion("\t").colonia(""),
                Row::new(102, "6121004710.0").nombre(" ANA  "),
            ],
            "102|6121004710.0|ANA|-|-|ACTIVE",
            "101>102",
        ),
        (
            "6121004711",
            // One row that says it is valid is enough.
            vec![
                Row::new(111, "6121004711").nombre("ANA").direccion("CALLE 11").valido(0),
                Row::new(112, "0446121004711"),
            ],
            "111|6121004711|ANA|CALLE 11|-|ACTIVE",
            "112>111",
        ),
        (
            "6121004712",
            vec![Row::new(121, "6121004712").valido(0), Row::new(122, "0446121004712").valido("0")],
            "121|6121004712|-|-|-|INVALID",
            "122>121",
        ),
    ]
}

#[tokio::test]
async fn rows_of_one_phone_merge_by_the_rules_on_both_ways() -> Result<()> {
    for full in [false, true] {
        let world = World::new("smsmerge").await?;
        if full {
            let lone = numeros(&world, "lone.db", &[Row::new(1, "8009998877")])?;
            world.import(&lone).await?;
        }
        let rows: Vec<Row> = cases().into_iter().flat_map(|(_, rows, _, _)| rows).collect();
        let (_, report) = world.import(&numeros(&world, "numeros.db", &rows)?).await?;
        let contacts = i64::try_from(cases().len())?;
        let merged = i64::try_from(rows.len())? - contacts;
        ensure!((report.created, report.merged, report.rejected) == (contacts, merged, 0), "{report:?}");
        for (national, _, should, went) in cases() {
            let found = (contact(&world, national).await?, merges(&world, national).await?);
            ensure!(found == (should.to_owned(), went.to_owned()), "full: {full}, {national}: {found:?}");
        }
        world.is_sound().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_contact_of_an_earlier_import_takes_what_is_known_and_keeps_the_rest() -> Result<()> {
    let world = World::new("smsearlier").await?;
    let fecha = "2022-03-01 10:00:00";
    let first = [
        Row::new(1, "6121004701").nombre("ANA").direccion("CALLE 1").fecha(fecha),
        Row::new(2, "6121004702").nombre("BERTA").colonia("CENTRO"),
        Row::new(3, "6121004703").nombre("CARLA"),
        Row::new(4, "6121004704").nombre("DIANA").valido(0),
        Row::new(5, "6121004705").nombre("ELSA"),
        Row::new(6, "6121004706").nombre("FLOR"),
    ];
    let (earlier, _) = world.import(&numeros(&world, "first.db", &first)?).await?;
    let before = picture::take(&world.pool, ALL).await?;
    let second = [
        // Another name, and no address.
        Row::new(50, "6121004701").nombre("ANA MARÍA").fecha("2023-01-01 00:00:00"),
        // Two rows of one phone: they merge with each other first.
        Row::new(60, "+526121004702").direccion("CALLE 2"),
        Row::new(61, "0446121004702").nombre("BERTHA").direccion("CALLE 22"),
        // Nothing that was not known.
        Row::new(70, "6121004703").nombre(" CARLA "),
        // That it is valid now is the word of the file; that it was not is what we know.
        Row::new(80, "6121004704").valido(1),
        Row::new(90, "6121004705").valido(0),
        Row::new(100, "6121004707").nombre("GUADALUPE"),
    ];
    let (later, report) = world.import(&numeros(&world, "second.db", &second)?).await?;
    let counts = (report.created, report.updated, report.unchanged, report.merged, report.rejected);
    ensure!(counts == (1, 3, 2, 1, 0), "{report:?}");
    for (national, should) in [
        ("6121004701", "1|6121004701|ANA MARÍA|CALLE 1|-|ACTIVE"),
        ("6121004702", "2|6121004702|BERTHA|CALLE 22|CENTRO|ACTIVE"),
        ("6121004703", "3|6121004703|CARLA|-|-|ACTIVE"),
        ("6121004704", "4|6121004704|DIANA|-|-|INVALID"),
        ("6121004705", "5|6121004705|ELSA|-|-|INVALID"),
        ("6121004706", "6|6121004706|FLOR|-|-|ACTIVE"),
        ("6121004707", "100|6121004707|GUADALUPE|-|-|ACTIVE"),
    ] {
        let found = contact(&world, national).await?;
        ensure!(found == should, "{national}: {found}");
    }
    let after = picture::take(&world.pool, ALL).await?;
    for national in ["6121004703", "6121004704", "6121004706"] {
        let phone = format!("+52{national}");
        ensure!(before.get(&phone) == after.get(&phone), "{phone} was written to");
    }
    let numbers = "select string_agg(import::text, '' order by phone_e164) from contacts";
    let numbers: String = sqlx::query_scalar(numbers).fetch_one(&world.pool).await?;
    ensure!(numbers == format!("{0}{0}{0}{0}{0}{0}{1}", earlier.number, later.number), "{numbers}");
    let changed: Vec<(i32, serde_json::Value, serde_json::Value)> = sqlx::query_as(
        "select h.import, h.before -> 'full_name', h.after -> 'full_name' from contact_changes h
         join contacts c on c.id = h.contact_id order by c.phone_e164",
    )
    .fetch_all(&world.pool)
    .await?;
    ensure!(changed.len() == 3 && changed.iter().all(|change| change.0 == later.number), "{changed:?}");
    ensure!(changed[0].1 == json!("ANA") && changed[0].2 == json!("ANA MARÍA"), "{changed:?}");
    let migrated = "select count(*) from contacts where migrated_at = '2023-01-01T00:00:00Z'";
    ensure!(world.count(migrated).await? == 1);
    world.is_sound().await
}

#[tokio::test]
async fn a_basis_of_consent_is_never_lost_and_never_replaced() -> Result<()> {
    let world = World::new("smsconsent").await?;
    let with = |file: &str, consent: Option<&str>| -> ImportRequest {
        ImportRequest { consent: consent.map(str::to_owned), ..request(&world.path(file)) }
    };
    let one = [Row::new(1, "6121004701").nombre("ANA")];
    let two = [Row::new(1, "6121004701").nombre("ANA"), Row::new(2, "0446121004702")];
    numeros(&world, "one.db", &one)?;
    numeros(&world, "two.db", &two)?;
    for (file, consent, should) in [
        ("one.db", None, "unknown"),
        ("two.db", Some("contrato"), "contrato,contrato"),
        // Neither nothing nor another basis says that the first one was wrong.
        ("two.db", None, "contrato,contrato"),
        ("one.db", Some("evento"), "contrato,contrato"),
    ] {
        let import = world.import_as(&with(file, consent)).await?;
        ensure!(import.consent == consent.unwrap_or("unknown"), "{import:?}");
        let found: String =
            sqlx::query_scalar("select string_agg(consent, ',' order by phone_e164) from contacts")
                .fetch_one(&world.pool)
                .await?;
        ensure!(found == should, "after {file} with {consent:?}: {found}");
        world.is_sound().await?;
    }
    // Who, what, on what grounds: one row when it began, one when it ended.
    let audit: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', actor, action, details ->> 'consent', details ->> 'state') from contact_audit order by id",
    )
    .fetch_all(&world.pool)
    .await?;
    ensure!(audit.len() == 8, "{audit:?}");
    ensure!(audit[2..4] == ["test import_started contrato", "test import_ended completed"], "{audit:?}");
    Ok(())
}

#[tokio::test]
async fn a_consent_that_was_taken_back_is_not_returned_by_a_file() -> Result<()> {
    let world = World::new("smswithdrawn").await?;
    let rows = [Row::new(1, "6121004701").nombre("ANA"), Row::new(2, "6121004702")];
    let file = numeros(&world, "a.db", &rows)?;
    let with = |consent: &str| ImportRequest { consent: Some(consent.to_owned()), ..request(&file) };
    let first = world.import_as(&with("contrato")).await?;
    let say = async |consent: &str| -> Result<()> {
        let mut transaction = world.pool.begin().await?;
        let id = sqlx::query_scalar("select id from contacts where phone_e164 = '+526121004701'")
            .fetch_one(&mut *transaction)
            .await?;
        let contact = contacts::lock(&mut transaction, id).await?.context("a contact")?;
        let values = contacts::Values { consent: consent.to_owned(), ..contact.values.clone() };
        contacts::update(&mut transaction, &contact, &values, "ana").await?;
        Ok(transaction.commit().await?)
    };
    let consents = async || -> Result<String> {
        let query = "select string_agg(consent, ',' order by phone_e164) from contacts";
        Ok(sqlx::query_scalar(query).fetch_one(&world.pool).await?)
    };
    let dump = world.path("sms.dump").display().to_string();
    let (status, _, said) = world.run(&["contacts", "backup", &dump]).await?;
    ensure!(status.success(), "{said}");
    say("unknown").await?;
    ensure!(consents().await? == "unknown,contrato");
    // Not into a table that has the contact.
    let again = world.import_as(&with("evento")).await?;
    ensure!(consents().await? == "unknown,contrato", "an import returned it: {}", consents().await?);
    // Nor into one from which it went: loaded as it is, and merged.
    world.roll_back(&again).await?;
    world.roll_back(&first).await?;
    let first = world.import_as(&with("contrato")).await?;
    ensure!(consents().await? == "unknown,contrato", "a load returned it: {}", consents().await?);
    world.roll_back(&first).await?;
    world.import(&numeros(&world, "lone.db", &[Row::new(1, "8009998877")])?).await?;
    world.import_as(&with("contrato")).await?;
    ensure!(consents().await? == "unknown,contrato,unknown", "a merge returned it: {}", consents().await?);
    // Nor does a backup of before.
    let (status, _, said) = world.run(&["contacts", "restore", &dump]).await?;
    ensure!(status.success(), "{said}");
    ensure!(consents().await? == "unknown,contrato", "a restore returned it: {}", consents().await?);
    world.is_sound().await?;
    // A person's word does.
    say("llamada").await?;
    world.import_as(&with("contrato")).await?;
    ensure!(consents().await? == "llamada,contrato");
    world.is_sound().await
}
