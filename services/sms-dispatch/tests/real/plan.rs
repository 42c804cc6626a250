//! What the regulator's numbering plan says, before an import and after it.

use std::time::Duration;

use anyhow::{Result, ensure};
use sea_orm::sqlx;
use stack::wait::until;

use crate::{
    picture::{self, ALL},
    source::{Row, numeros},
    world::World,
};

const HEADER: &str =
    "ZONA,NUMERACION_INICIAL,NUMERACION_FINAL,OCUPACION,MODALIDAD,RAZON_SOCIAL,FECHA_ASIGNACION\n";

/// Contacts as their last two digits, `m`, `f` or `?`, and operator.
async fn kinds(world: &World) -> Result<Vec<String>> {
    let query =
        "select right(phone_e164, 2) || case is_mobile when true then 'm' when false then 'f' else '?' end
                        || coalesce(' ' || operator, '') from contacts order by phone_e164";
    Ok(sqlx::query_scalar(query).fetch_all(&world.pool).await?)
}

async fn plan(world: &World, name: &str, ranges: &str) -> Result<String> {
    let file = world.write(name, format!("{HEADER}{ranges}"))?;
    let (status, out, said) = world.run(&["numbering-plan", "import", &file.display().to_string()]).await?;
    ensure!(status.success(), "{said}");
    Ok(out)
}

#[tokio::test]
async fn mobile_and_operator_before_and_after() -> Result<()> {
    let world = World::new("smsplan").await?;
    let rows: Vec<Row> = [10, 20, 30, 40].map(|id| Row::new(id, format!("61210047{id}"))).into();
    // A respelled one takes the other way into the table.
    let dirty = Row::new(50, "044 612 100 4750");
    let file = numeros(&world, "a.db", &[rows, vec![dirty]].concat())?;
    world.import(&file).await?;
    ensure!(kinds(&world).await? == ["10?", "20?", "30?", "40?", "50?"], "types are guessed");

    let first = "612,6121004710,6121004729,20,CPP,TELCEL,\n612,6121004730,6121004739,10,FIJO,TELMEX,\n\
                 612,6121004750,6121004750,1,MPP,AT&T,\n";
    let told = plan(&world, "pnn.csv", first).await?;
    ensure!(told == "3 ranges; 4 contacts brought up to date\n", "{told}");
    let should = ["10m TELCEL", "20m TELCEL", "30f TELMEX", "40?", "50m AT&T"];
    ensure!(kinds(&world).await? == should, "{:?}", kinds(&world).await?);
    let views = "select sum(mobile_contacts) from contacts_by_lada";
    ensure!(world.count(views).await? == 3);

    // The same plan again writes to no contact.
    let before = picture::take(&world.pool, ALL).await?;
    let told = plan(&world, "pnn.csv", first).await?;
    ensure!(told == "3 ranges; 0 contacts brought up to date\n", "{told}");
    picture::same(&before, &picture::take(&world.pool, ALL).await?)?;
    // Nor does the file: its rows know no more than the contacts.
    let (_, report) = world.import(&file).await?;
    ensure!(report.updated == 0, "{report:?}");

    // Contacts that come with a plan in place, on both ways.
    for base in [false, true] {
        let world = World::new("smsplan").await?;
        plan(&world, "pnn.csv", first).await?;
        if base {
            world.import(&numeros(&world, "lone.db", &[Row::new(1, "6121004799")])?).await?;
        }
        world.import(&file).await?;
        let found = kinds(&world).await?;
        ensure!(found[..5] == should, "{found:?}");
        world.is_sound().await?;
    }

    // A new plan: numbers change hands, one range is new.
    let second = "612,6121004710,6121004719,10,CPP,TELCEL,\n612,6121004720,6121004749,30,FIJO,TELMEX,\n\
                  612,6121004750,6121004750,1,MPP,AT&T,\n";
    let told = plan(&world, "pnn2.csv", second).await?;
    ensure!(told == "3 ranges; 2 contacts brought up to date\n", "{told}");
    ensure!(kinds(&world).await? == ["10m TELCEL", "20f TELMEX", "30f TELMEX", "40f TELMEX", "50m AT&T"]);
    let refused = world.write("malo.csv", format!("{HEADER}612,6121004710,x,1,CPP,TELCEL,\n"))?;
    let (status, _, said) = world.run(&["numbering-plan", "import", &refused.display().to_string()]).await?;
    ensure!(!status.success() && said.contains("línea 2: NUMERACION_FINAL es \"x\""), "{said}");
    ensure!(world.count("select count(*) from numbering_plan").await? == 3, "the plan in place is gone");
    world.is_sound().await
}

#[tokio::test]
async fn nothing_is_known_of_numbers_that_a_new_plan_withdraws() -> Result<()> {
    let world = World::new("smsplan").await?;
    let rows: Vec<Row> = [5, 15, 25, 35].map(|id| Row::new(id, format!("61210047{id:02}"))).into();
    world.import(&numeros(&world, "a.db", &rows)?).await?;
    plan(&world, "pnn.csv", "612,6121004700,6121004739,40,CPP,TELCEL,\n").await?;
    ensure!(kinds(&world).await? == ["05m TELCEL", "15m TELCEL", "25m TELCEL", "35m TELCEL"]);
    // A provider knows of one, whose operator alone.
    world
        .execute(
            "insert into phone_lookups (phone_e164, provider, operator, validation)
                 values ('+526121004725', 'telnyx', 'AT&T', gen_random_uuid());
             update contacts set operator = 'AT&T' where phone_e164 = '+526121004725'",
        )
        .await?;
    // Before, between and after what is left.
    let told = plan(&world, "pnn2.csv", "612,6121004710,6121004719,10,FIJO,TELMEX,\n").await?;
    ensure!(told == "1 ranges; 4 contacts brought up to date\n", "{told}");
    let found = kinds(&world).await?;
    ensure!(found == ["05?", "15f TELMEX", "25? AT&T", "35?"], "{found:?}");
    world.is_sound().await
}

#[tokio::test]
async fn what_a_provider_answers_while_a_plan_is_applied_stands_above_it() -> Result<()> {
    let world = World::new("smsplan").await?;
    world.import(&numeros(&world, "a.db", &[Row::new(1, "6121004705")])?).await?;
    // As a validation writes it, and has not committed yet.
    let mut answer = world.pool.begin().await?;
    sqlx::raw_sql(
        "insert into phone_lookups (phone_e164, provider, operator, is_mobile, validation)
             values ('+526121004705', 'telnyx', 'AT&T', true, gen_random_uuid());
         update contacts set operator = 'AT&T', is_mobile = true where phone_e164 = '+526121004705'",
    )
    .execute(&mut *answer)
    .await?;
    let answered = async {
        let waits = "select count(*) from pg_stat_activity
                     where application_name = 'sms-dispatch numbering-plan' and usename = current_user
                         and wait_event_type = 'Lock'";
        until("the plan waits for the contact", Duration::from_secs(30), async || {
            world.count(waits).await.is_ok_and(|waiting| waiting > 0)
        })
        .await?;
        answer.commit().await?;
        anyhow::Ok(())
    };
    let applied = plan(&world, "pnn.csv", "612,6121004700,6121004739,40,FIJO,TELMEX,\n");
    tokio::try_join!(applied, answered)?;
    ensure!(kinds(&world).await? == ["05m AT&T"], "{:?}", kinds(&world).await?);
    world.is_sound().await
}

#[tokio::test]
async fn a_plan_waits_for_its_turn_and_reaches_what_is_staged() -> Result<()> {
    let world = World::new("smsplan").await?;
    plan(&world, "pnn.csv", "612,6121004700,6121004799,40,CPP,TELCEL,\n").await?;
    world.import(&numeros(&world, "lone.db", &[Row::new(1, "8009998877")])?).await?;
    let rows: Vec<Row> = (0..50).map(|id| Row::new(id + 1, format!("61210047{id:02}"))).collect();
    let file = numeros(&world, "a.db", &rows)?.display().to_string();
    // It dies with its rows staged, as the old plan has them.
    let command = world.command(&["import", &file])?;
    let (status, _) = command.env("FAILPOINTS", "batch-committed=1*return").run().await?;
    ensure!(!status.success() && world.count("select count(*) from import_staged").await? == 50);

    let mut turn = world.pool.acquire().await?;
    let lock = "select pg_advisory_lock(hashtext(current_schema() || '.contact imports'))";
    sqlx::query(lock).execute(&mut *turn).await?;
    let new = world.write("pnn2.csv", format!("{HEADER}612,6121004700,6121004724,25,FIJO,TELMEX,\n"))?;
    let new = new.display().to_string();
    let (status, _, said) = world.run(&["numbering-plan", "import", &new]).await?;
    ensure!(!status.success() && said.contains("an import or a rollback runs"), "{said}");
    turn.close().await?;
    let (status, _, said) = world.run(&["numbering-plan", "import", &new]).await?;
    ensure!(status.success(), "{said}");

    let (status, _, said) = world.run(&["import", &file]).await?;
    ensure!(status.success(), "{said}");
    let old = "select count(*) from contacts where operator = 'TELCEL'";
    ensure!(world.count(old).await? == 0, "contacts have the old plan's operator");
    ensure!(
        world.count("select count(*) from contacts where operator = 'TELMEX' and not is_mobile").await? == 25
    );
    world.is_sound().await
}
