//! Records that can't be read, and what becomes of them once they can.

use etl::collections::redrive::redrive;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_go_to_quarantine_as_they_came() -> Result<()> {
    let world = World::new("quarantine").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(4));
    let resources = resources(&world, &source).await?;
    source.change("trandeuda", |table| table.rows[3]["monto_exigible"] = json!("mucho"));
    source.change("voicebot_gestiones", |table| table.rows[3]["uid"] = Value::Null);
    for job in sync(&resources, Mode::Daily).await? {
        assert_eq!(job.state, State::Completed, "{:?}", job.error);
    }
    let kept: Vec<(String, String)> =
        sqlx::query_as("select stream, regla from raw_quarantine order by stream")
            .fetch_all(&world.pool)
            .await?;
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept[0].1.contains("monto_exigible"), "{kept:?}");
    assert!(kept[1].1.contains("uid is null"), "{kept:?}");
    let listed = etl::storage::raw_quarantine::list(&resources.database.orm, None, 10).await?;
    assert_eq!(listed.len(), 2, "{listed:?}");
    // Read again as they are, they stay; what can be read by now is a row, and BigQuery is not asked.
    let of = |name: &str| TABLES.iter().find(|table| table.name == name).context("a table");
    let asked = source.asked();
    let again = redrive(&world.pool, of("raw_trandeuda")?, &[], 100).await?;
    assert_eq!((again.leidos, again.recuperados, again.en_cuarentena), (1, 0, 1));
    sqlx::query("update raw_quarantine set registro = jsonb_set(registro, '{monto_exigible}', '\"77.25\"')")
        .execute(&world.pool)
        .await?;
    let again = redrive(&world.pool, of("raw_trandeuda")?, &[], 100).await?;
    assert_eq!((again.leidos, again.recuperados, again.en_cuarentena), (1, 1, 0));
    assert_eq!(source.asked(), asked);
    let amount: rust_decimal::Decimal =
        sqlx::query_scalar("select monto_exigible from raw_trandeuda where cod_cuenta = 'C3'")
            .fetch_one(&world.pool)
            .await?;
    assert_eq!(amount, rust_decimal::Decimal::new(7_725, 2));
    // Where it is not one in a hundred, the run fails.
    source.change("trandeuda", |table| {
        table.rows.iter_mut().take(20).for_each(|row| row["monto_exigible"] = json!("mucho"))
    });
    let job = ask_for(&resources, &RunParams::new("bigquery.trandeuda", Mode::Full)).await?;
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Failed);
    assert!(job.error.unwrap_or_default().contains("quarantine"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_from_quarantine_goes_where_the_source_has_it_no_more() -> Result<()> {
    let world = World::new("ghost").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(13));
    managements_by_day(&source, 4);
    source.change("voicebot_gestiones", |table| {
        table.fields.push(Field::new("fecha_compromiso", "STRING"));
        for number in [60, 61] {
            table.rows[number].insert("fecha_compromiso".to_owned(), json!("mucho"));
        }
    });
    let resources = resources(&world, &source).await?;
    let read = async || -> Result<Value> {
        let job = ask_for(&resources, &RunParams::new("bigquery.voicebot_gestiones", Mode::Daily)).await?;
        let job = work(&resources, &job, &CancellationToken::new()).await?;
        anyhow::ensure!(job.state == State::Completed, "{:?}", job.error);
        job.result.context("a result")
    };
    read().await?;
    // One goes at the source, of a day before the look-back; then both can be read.
    source.change("voicebot_gestiones", |table| drop(table.rows.remove(61)));
    read().await?;
    let table = TABLES.iter().find(|table| table.name == "raw_voicebot_gestiones").context("a table")?;
    // Who stays bad has its turn again after the others.
    let again = redrive(&world.pool, table, &[], 1).await?;
    assert_eq!((again.leidos, again.recuperados), (1, 0));
    let tried = "select count(*) from raw_quarantine where intentado_en is not null";
    assert_eq!(sqlx::query_scalar::<_, i64>(tried).fetch_one(&world.pool).await?, 1);
    redrive(&world.pool, table, &[], 1).await?;
    assert_eq!(sqlx::query_scalar::<_, i64>(tried).fetch_one(&world.pool).await?, 2);
    let mended = "update raw_quarantine set registro = jsonb_set(registro, '{fecha_compromiso}', 'null')";
    sqlx::query(mended).execute(&world.pool).await?;
    assert_eq!(redrive(&world.pool, table, &[], 10).await?.recuperados, 2);
    let result = read().await?;
    assert_eq!(result["contadores"]["eliminados"], 1, "{result}");
    same_of(&world, &source, &["voicebot_gestiones"]).await
}
