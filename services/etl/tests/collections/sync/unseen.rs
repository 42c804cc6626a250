//! Days that change at the source and become again what they were, while nobody looks.

use std::time::Duration;

use etl::collections::question::today;
use simulators::bigquery::Row;

use super::*;

/// Rows a day of so many days, and how many days ago is the day that changes: before the look-back.
const A_DAY: usize = 4;
const DAYS: usize = 24;
const AGO: usize = 15;

struct Setting {
    world: World,
    source: BigQuery,
    resources: Resources,
}

fn daily() -> RunParams {
    RunParams::new("bigquery.voicebot_gestiones", Mode::Daily)
}

impl Setting {
    /// Managements of the last days, read. Of all of them a run looks at the days first, and a full run has one slice.
    async fn new(label: &str, seed: u64) -> Result<Self> {
        let world = World::new(label).await?;
        let source = BigQuery::start()?;
        fill(&source, &mut Dice(seed));
        let ago = |days: usize| Utc::now() - chrono::TimeDelta::days(i64::try_from(days).unwrap_or_default());
        source.change("voicebot_gestiones", |table| {
            let management = |number: usize| {
                let at = ago(number / A_DAY + 1).timestamp_micros();
                row(json!({ "uid": format!("V{number}"), "date": at, "document": "1", "management": "A" }))
            };
            table.rows = (0..DAYS * A_DAY).map(management).collect();
        });
        let settings = client(&source, None)?.settings().clone();
        let settings = BigQuerySettings { start: ago(DAYS + 1).date_naive(), ..settings };
        let resources = Resources { bigquery: Some(Client::new(settings)), ..world.resources()? };
        let setting = Self { world, source, resources };
        setting.read(&daily()).await?;
        Ok(setting)
    }

    async fn read(&self, params: &RunParams) -> Result<Value> {
        let job = ask_for(&self.resources, params).await?;
        let job = work(&self.resources, &job, &CancellationToken::new()).await?;
        anyhow::ensure!(job.state == State::Completed, "{:?}", job.error);
        job.result.context("a result")
    }

    /// The first row of the day that changes.
    fn first(&self) -> Row {
        let mut first = Row::new();
        self.source.change("voicebot_gestiones", |table| first = table.rows[(AGO - 1) * A_DAY].clone());
        first
    }

    /// All rows of that day are out, to be loaded again.
    fn take_out(&self) -> Vec<Row> {
        let (at, mut out) = (self.first()["date"].clone(), Vec::new());
        let near = |row: &Row| {
            let micros = |value: &Value| value.as_i64().unwrap_or_default();
            (micros(&row["date"]) - micros(&at)).abs() < 3_600_000_000
        };
        self.source.change("voicebot_gestiones", |table| {
            let (gone, kept) = std::mem::take(&mut table.rows).into_iter().partition(near);
            (out, table.rows) = (gone, kept);
        });
        out
    }

    fn put_back(&self, rows: Vec<Row>) {
        self.source.change("voicebot_gestiones", |table| table.rows.extend(rows));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_a_backfill_read_while_its_rows_were_out_is_read_again() -> Result<()> {
    let setting = Setting::new("outbackfill", 14).await?;
    let at = setting.first()["date"].as_i64().and_then(chrono::DateTime::from_timestamp_micros);
    let day = Some(today(at.context("a moment")?));
    let out = setting.take_out();
    assert_eq!(out.len(), A_DAY);
    let params =
        RunParams { from: day, to: day, ..RunParams::new("bigquery.voicebot_gestiones", Mode::Backfill) };
    let result = setting.read(&params).await?;
    assert_eq!(result["contadores"]["eliminados"], A_DAY, "{result}");
    // As they were: the day's fingerprint is the one that was noted when it was read last.
    setting.put_back(out);
    setting.read(&daily()).await?;
    same_of(&setting.world, &setting.source, &["voicebot_gestiones"]).await?;
    // A backfill that finds a day as it is in the table has nothing read again.
    let result = setting.read(&params).await?;
    assert_eq!(result["contadores"]["leidos"], A_DAY, "{result}");
    let result = setting.read(&daily()).await?;
    assert_eq!(result["dias_releidos"], json!([]), "{result}");
    Ok(())
}

async fn changes_after_the_look(label: &str, mode: Mode) -> Result<()> {
    let setting = Setting::new(label, 15).await?;
    let mut late = setting.first();
    late.insert("uid".to_owned(), json!("late"));
    setting.put_back(vec![late]);
    // Its worker stops when it has looked: what BigQuery says of the days takes longer than the word to stop.
    setting.source.slow_down(Duration::from_millis(500));
    let job = ask_for(&setting.resources, &RunParams { mode, ..daily() }).await?;
    let (stop, before) = (CancellationToken::new(), setting.source.asked().0);
    let watch = async {
        while setting.source.asked().0 == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    let (job, ()) = tokio::join!(work(&setting.resources, &job, &stop), watch);
    let job = job?;
    assert_eq!(job.state, State::Pending, "it was stopped on the way: {:?}", job.error);
    let looked = job.checkpoint.as_ref().context("it has looked")?;
    // A full run reads the day with all others.
    assert_eq!(looked["last"].as_array().map(Vec::len), Some(usize::from(mode == Mode::Daily)), "{looked}");
    setting.source.slow_down(Duration::ZERO);
    let out = setting.take_out();
    assert_eq!(out.len(), A_DAY + 1);
    let job = work(&setting.resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    // As they were at the look.
    setting.put_back(out);
    setting.read(&daily()).await?;
    same_of(&setting.world, &setting.source, &["voicebot_gestiones"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_changes_between_the_look_and_its_reading_is_read_again() -> Result<()> {
    changes_after_the_look("outlook", Mode::Daily).await?;
    changes_after_the_look("outlookfull", Mode::Full).await
}
