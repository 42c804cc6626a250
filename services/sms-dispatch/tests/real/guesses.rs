//! What a LADA suggests fills gaps, and never stands against what anybody knows.

use anyhow::{Result, ensure};
use sea_orm::sqlx;
use sms_dispatch::storage::contacts;

use crate::{
    picture::{self, ALL},
    source::{Row, numeros},
    world::World,
};

/// Contacts as `digits state city`, `-` for what is not there.
async fn places(world: &World) -> Result<Vec<String>> {
    let query = "select concat_ws(' ', right(phone_e164, 2), coalesce(state_code, '-'), coalesce(city, '-'))
                 from contacts order by phone_e164";
    Ok(sqlx::query_scalar(query).fetch_all(&world.pool).await?)
}

fn place(row: Row, estado: &str, ciudad: &str) -> Row {
    let cell = |text: &str| if text.is_empty() { rusqlite::types::Value::Null.into() } else { text.into() };
    Row { estado: cell(estado), ciudad: cell(ciudad), ..row }
}

#[tokio::test]
async fn a_guess_overwrites_nothing_that_is_known() -> Result<()> {
    let world = World::new("smsguess").await?;
    let known = [
        place(Row::new(1, "5512345601"), "MEX", "Ecatepec"),
        place(Row::new(2, "5512345602"), "MEX", ""),
        place(Row::new(3, "5512345603"), "", ""),
        place(Row::new(4, "5512345604"), "CDMX", "Coyoacán"),
    ];
    world.import(&numeros(&world, "known.db", &known)?).await?;
    // A person's correction, and a person's word that the state is not known.
    let mut conn = world.pool.acquire().await?;
    let id = world.count("select id from contacts where phone_e164 like '%04'").await?;
    let mut transaction = sqlx::Connection::begin(&mut *conn).await?;
    let contact = contacts::lock(&mut transaction, id).await?.expect("a contact");
    let values =
        contacts::Values { state_code: None, city: Some("Toluca".to_owned()), ..contact.values.clone() };
    contacts::update(&mut transaction, &contact, &values, "ana").await?;
    transaction.commit().await?;
    drop(conn);
    let should = ["01 MEX Ecatepec", "02 MEX -", "03 CDMX Ciudad de México", "04 - Toluca"];
    ensure!(places(&world).await? == should, "{:?}", places(&world).await?);
    let before = picture::take(&world.pool, ALL).await?;

    // Phones alone, in both kinds of file: nothing that is not known.
    let phones: String = known.iter().map(|row| format!("551234560{}\n", row.id)).collect();
    let csv = world.write("phones.csv", format!("numero\n{phones}"))?;
    let bare: Vec<Row> = (1..=4).map(|id| Row::new(id, format!("+52551234560{id}"))).collect();
    let db = numeros(&world, "phones.db", &bare)?;
    for file in [csv, db] {
        let (_, report) = world.import(&file).await?;
        // The spelling of a phone counts for nothing either.
        ensure!((report.created, report.updated, report.unchanged) == (0, 0, 4), "{report:?}");
        picture::same(&before, &picture::take(&world.pool, ALL).await?)?;
    }

    // What a row knows takes a guess's place, and a rollback gives the guess back.
    let better = [place(Row::new(1, "5512345603"), "HGO", "")];
    let (import, report) = world.import(&numeros(&world, "better.db", &better)?).await?;
    ensure!(report.updated == 1, "{report:?}");
    ensure!(places(&world).await?[2] == "03 HGO Ciudad de México", "{:?}", places(&world).await?);
    let guessed = "select count(*) from contacts where state_guessed";
    ensure!(world.count(guessed).await? == 0, "what a row says is called a guess");
    world.roll_back(&import).await?;
    picture::same(
        &before_but_updated(&before),
        &before_but_updated(&picture::take(&world.pool, ALL).await?),
    )?;
    ensure!(world.count(guessed).await? == 1);
    world.is_sound().await
}

fn before_but_updated(picture: &picture::Picture) -> picture::Picture {
    let mut picture = picture.clone();
    for contact in picture.values_mut() {
        if let Some(contact) = contact.as_object_mut() {
            contact.remove("updated_at");
        }
    }
    picture
}

#[tokio::test]
async fn within_a_file_a_guess_counts_for_nothing_beside_a_value() -> Result<()> {
    let rows = [
        // The most complete row, which is loaded as it is, knows neither; the other one knows both.
        Row::new(1, "5512345601").nombre("ANA").direccion("CALLE 1").colonia("CENTRO"),
        place(Row::new(2, "+525512345601"), "MEX", "Ecatepec"),
        // Both are respelled.
        Row::new(3, "0445512345602").nombre("BERTA"),
        place(Row::new(4, "525512345602"), "MEX", ""),
        // Nobody knows: here a guess is all there is.
        Row::new(5, "5512345603").nombre("CARLA"),
        Row::new(6, "+525512345603"),
        // A guess makes no row more complete than another.
        place(Row::new(7, "5512345604"), "", "Ecatepec"),
        place(Row::new(8, "+525512345604"), "MEX", "Toluca"),
    ];
    let should =
        // No city of another state than a row names.
        ["01 MEX Ecatepec", "02 MEX -", "03 CDMX Ciudad de México", "04 MEX Toluca"];
    for full in [false, true] {
        let world = World::new("smsguess").await?;
        if full {
            world.import(&numeros(&world, "lone.db", &[Row::new(1, "8009998877")])?).await?;
        }
        world.import(&numeros(&world, "a.db", &rows)?).await?;
        let found = places(&world).await?;
        ensure!(found[..4] == should, "full: {full}: {found:?}");
        world.is_sound().await?;
    }
    Ok(())
}
