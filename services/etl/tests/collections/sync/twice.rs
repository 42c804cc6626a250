//! Rows that the source has twice under one key, and what becomes of the one that was beaten.

use std::sync::LazyLock;

use etl::collections::question::today;
use simulators::bigquery::Row;

use super::*;

struct Setting {
    world: World,
    source: BigQuery,
    resources: Resources,
}

/// The same for all of a test, which may run over a midnight.
static NOW: LazyLock<chrono::DateTime<Utc>> = LazyLock::new(Utc::now);

fn ago(days: i64) -> chrono::DateTime<Utc> {
    *NOW - chrono::TimeDelta::days(days)
}

/// A payment of this document that was made known so many days ago.
fn payment(document: &str, days: i64) -> Row {
    row(json!({
        "nro_documento": document, "fecha_pago": "2026-09-10", "monto_cancelado": "7.5",
        "creado_el": ago(days).timestamp_micros(), "motivo_rechazo": format!("{days} days ago"),
    }))
}

impl Setting {
    /// A source whose payments are these, read.
    async fn new(label: &str, seed: u64, payments: &[(&str, i64)]) -> Result<Self> {
        let world = World::new(label).await?;
        let source = BigQuery::start()?;
        fill(&source, &mut Dice(seed));
        source.change("pagos", |table| {
            table.rows = payments.iter().map(|(document, days)| payment(document, *days)).collect();
        });
        let resources = resources(&world, &source).await?;
        let setting = Self { world, source, resources };
        setting.read("bigquery.pagos", Mode::Daily).await?;
        setting.is_the_source().await?;
        Ok(setting)
    }

    async fn read(&self, stream: &str, mode: Mode) -> Result<Value> {
        let job = ask_for(&self.resources, &RunParams::new(stream, mode)).await?;
        let job = work(&self.resources, &job, &CancellationToken::new()).await?;
        anyhow::ensure!(job.state == State::Completed, "{:?}", job.error);
        job.result.context("a result")
    }

    fn remove(&self, document: &str, days: i64) {
        let reason = json!(format!("{days} days ago"));
        self.source.change("pagos", |table| {
            table.rows.retain(|row| row["nro_documento"] != document || row["motivo_rechazo"] != reason);
        });
    }

    async fn is_the_source(&self) -> Result<()> {
        same_of(&self.world, &self.source, &["pagos"]).await
    }

    async fn beaten(&self) -> Result<i64> {
        let beaten = "select count(*) from raw_beaten where stream = 'bigquery.pagos'";
        Ok(sqlx::query_scalar(beaten).fetch_one(&self.world.pool).await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_beaten_comes_back_when_the_winner_goes() -> Result<()> {
    // One before the look-back, which nobody else would read again; one in the slice of its winner; one that nothing beats.
    let payments = [("D1", 20), ("D1", 2), ("D2", 3), ("D2", 2), ("D3", 4)];
    let setting = Setting::new("twice", 16, &payments).await?;
    assert_eq!(setting.beaten().await?, 2);
    setting.remove("D1", 2);
    setting.remove("D2", 2);
    let result = setting.read("bigquery.pagos", Mode::Daily).await?;
    let counters = &result["contadores"];
    assert_eq!(
        (&counters["eliminados"], &counters["actualizados"], &counters["insertados"]),
        (&json!(2), &json!(2), &json!(0)),
        "{result}"
    );
    assert!(
        result["dias_releidos"].as_array().is_some_and(|days| days.contains(&json!(today(ago(20))))),
        "{result}"
    );
    setting.is_the_source().await?;
    assert_eq!(setting.beaten().await?, 0, "nothing beats them");
    // The watermark has not moved past what was read.
    let watermark = "select watermark <= read_at from raw_streams where stream = 'bigquery.pagos'";
    assert!(sqlx::query_scalar::<_, bool>(watermark).fetch_one(&setting.world.pool).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_beaten_comes_back_in_a_backfill_and_a_full_run() -> Result<()> {
    let payments = [("D1", 20), ("D1", 12), ("D2", 14), ("D2", 13)];
    let setting = Setting::new("twicefull", 17, &payments).await?;
    // A backfill of the winner's day.
    setting.remove("D1", 12);
    let day = Some(today(ago(12)));
    let backfill = RunParams { from: day, to: day, ..RunParams::new("bigquery.pagos", Mode::Backfill) };
    let job = ask_for(&setting.resources, &backfill).await?;
    let job = work(&setting.resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    setting.is_the_source().await?;
    setting.remove("D2", 13);
    setting.read("bigquery.pagos", Mode::Full).await?;
    setting.is_the_source().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_stamped_back_is_found() -> Result<()> {
    let setting = Setting::new("stampedback", 18, &[("D1", 2), ("D2", 2)]).await?;
    setting.source.change("pagos", |table| table.rows[0] = payment("D1", 3));
    setting.read("bigquery.pagos", Mode::Daily).await?;
    setting.is_the_source().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_has_no_version_the_other_row_comes_back() -> Result<()> {
    let setting = Setting::new("twiceuid", 19, &[("D1", 2)]).await?;
    let management = |document: &str, days: i64| {
        row(
            json!({ "uid": "twice", "date": ago(days).timestamp_micros(), "document": document, "management": "A" }),
        )
    };
    setting.source.change("voicebot_gestiones", |table| {
        table.rows = vec![management("old", 20), management("new", 12)];
    });
    setting.read("bigquery.voicebot_gestiones", Mode::Daily).await?;
    let kept = async || -> Result<Vec<String>> {
        let kept = "select document from raw_voicebot_gestiones where eliminado_en is null";
        Ok(sqlx::query_scalar(kept).fetch_all(&setting.world.pool).await?)
    };
    // Either of them: nothing says which is the newer.
    let winner = kept().await?.pop().context("one of them")?;
    setting
        .source
        .change("voicebot_gestiones", |table| table.rows.retain(|row| row["document"] != winner.as_str()));
    setting.read("bigquery.voicebot_gestiones", Mode::Daily).await?;
    let other = if winner == "old" { "new" } else { "old" };
    assert_eq!(kept().await?, [other]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_lose_what_was_beaten_are_forgotten() -> Result<()> {
    let setting = Setting::new("twicegone", 20, &[("D1", 20), ("D1", 2), ("D2", 20)]).await?;
    assert_eq!(setting.beaten().await?, 1);
    setting.remove("D1", 20);
    setting.read("bigquery.pagos", Mode::Daily).await?;
    assert_eq!(setting.beaten().await?, 0);
    // Its day is not read for its sake when the winner goes.
    setting.remove("D1", 2);
    let result = setting.read("bigquery.pagos", Mode::Daily).await?;
    assert_eq!(result["dias_releidos"], json!([]), "{result}");
    setting.is_the_source().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beaten_by_an_older_snapshot_while_its_day_is_read_is_kept_in_mind() -> Result<()> {
    let others: Vec<String> = (0..300).map(|number| format!("D{number}")).collect();
    // The first one of many pages of its day.
    let mut payments = vec![("beaten", 20)];
    payments.extend(others.iter().map(|document| (document.as_str(), 20)));
    let setting = Setting::new("twicewithin", 21, &payments).await?;
    let Setting { resources, source, .. } = &setting;
    // On the last one of many pages of another day's.
    source.change("pagos", |table| {
        table.rows.extend((0..300).map(|number| payment(&format!("E{number}"), 2)));
        table.rows.push(payment("beaten", 2));
    });
    let daily = stopped(resources, source, &RunParams::new("bigquery.pagos", Mode::Daily)).await?;
    let day = Some(today(ago(20)));
    let backfill = RunParams { from: day, to: day, ..RunParams::new("bigquery.pagos", Mode::Backfill) };
    let backfill = stopped(resources, source, &backfill).await?;
    let place = |job: &Job, name: &str| job.checkpoint.as_ref().map(|place| place[name].clone());
    assert!(place(&daily, "snapshot").is_some_and(|at| at.is_string()), "{daily:?}");
    assert!(place(&backfill, "rows").is_some_and(|rows| rows.as_u64() > Some(0)), "{backfill:?}");
    for job in [daily, backfill] {
        let job = work(resources, &job, &CancellationToken::new()).await?;
        assert_eq!(job.state, State::Completed, "{:?}", job.error);
    }
    assert_eq!(setting.beaten().await?, 1);
    setting.remove("beaten", 2);
    setting.read("bigquery.pagos", Mode::Daily).await?;
    setting.is_the_source().await
}
