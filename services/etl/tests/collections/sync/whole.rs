//! What is no whole slice, and what is not gone.

use std::time::Duration;

use actix_web::{App, http::StatusCode, test, web::Data};
use chassis::auth::{Role, testing::Keys};
use chrono::NaiveDate;
use deadpool_redis::redis::cmd;
use etl::collections::{
    cache::Cache,
    question::{self, Filters},
    refresh,
};
use sea_orm::sqlx::AssertSqlSafe;
use simulators::bigquery::Row;
use stack::wait;

use super::{source::micros, *};

struct Setting {
    world: World,
    source: BigQuery,
    resources: Resources,
    refresher: Refresher,
}

/// All streams read, and the marts refreshed.
async fn read(label: &str) -> Result<Setting> {
    let world = World::new(label).await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(6));
    let resources = resources(&world, &source).await?;
    for job in sync(&resources, Mode::Daily).await? {
        assert_eq!(job.state, State::Completed, "{} {:?}", job.params, job.error);
    }
    let refresher = Refresher::new(world.pool.clone(), resources.dashboards.clone());
    assert!(matches!(refresher.check().await?, Checked::Refreshed(_)));
    Ok(Setting { world, source, resources, refresher })
}

impl Setting {
    async fn run(&self, params: &RunParams) -> Result<Job> {
        let job = ask_for(&self.resources, params).await?;
        work(&self.resources, &job, &CancellationToken::new()).await
    }

    async fn full(&self, stream: &str) -> Result<Job> {
        let job = self.run(&RunParams::new(stream, Mode::Full)).await?;
        assert_eq!(job.state, State::Completed, "{stream} {:?}", job.error);
        Ok(job)
    }

    async fn live(&self, table: &str) -> Result<i64> {
        let sql = format!("select count(*) from {table} where eliminado_en is null");
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.world.pool).await?)
    }

    /// A snapshot of debts of one day, of many pages.
    fn add_snapshot(&self) {
        self.source.change("trandeuda", |table| {
            table.rows.extend((0..600).map(|n| {
                row(json!({ "cod_cuenta": format!("C{n}"), "nro_documento": format!("D{n}"), "archivo": "TRAN",
                    "fecha_proceso": SNAPSHOT, "creado_el": micros(SNAPSHOT, 40_000 + n), "monto_exigible": "7.5" }))
            }));
        });
    }
}

const SNAPSHOT: &str = "2026-10-06";

fn backfill() -> RunParams {
    let day: NaiveDate = SNAPSHOT.parse().expect("a day");
    RunParams { from: Some(day), to: Some(day), ..RunParams::new("bigquery.trandeuda", Mode::Backfill) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_within_a_day_holds_the_marts_back() -> Result<()> {
    let setting = read("halfday").await?;
    setting.add_snapshot();
    let job = stopped(&setting.resources, &setting.source, &backfill()).await?;
    assert_eq!(setting.refresher.check().await?, Checked::Nothing, "it is being read");
    assert!(!refresh(&setting.world.pool, Utc::now()).await?.changed, "whoever asks");
    // It ends there: the day stays half-read.
    let mut conn = setting.world.pool.acquire().await?;
    jobs::request_cancel(&mut conn, job.id).await?;
    drop(conn);
    let job = work(&setting.resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Cancelled);
    let Checked::HeldBack(reason) = setting.refresher.check().await? else {
        anyhow::bail!("a half-read day is a version")
    };
    assert!(reason.contains("bigquery.trandeuda#backfill"), "{reason}");
    // A backfill of other days mends nothing, one of this day does.
    let early: NaiveDate = "2026-09-02".parse()?;
    let job = setting.run(&RunParams { from: Some(early), to: Some(early), ..backfill() }).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    assert!(matches!(setting.refresher.check().await?, Checked::HeldBack(_)));
    let job = setting.run(&backfill()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    assert!(matches!(setting.refresher.check().await?, Checked::Refreshed(_)));
    Ok(())
}

#[actix_web::test]
async fn a_backfill_that_was_paused_goes_on_with_its_day() -> Result<()> {
    let setting = read("paused").await?;
    setting.add_snapshot();
    let first: NaiveDate = "2026-10-03".parse()?;
    let params = RunParams { from: Some(first), ..backfill() };
    let job = stopped(&setting.resources, &setting.source, &params).await?;
    let keys = Keys::generate();
    let app = App::new()
        .app_data(Data::new(keys.verifier()))
        .app_data(Data::new(setting.resources.clone()))
        .configure(|config| (etl::http::API.routes)().configure(config));
    let app = test::init_service(app).await;
    let operator = format!("Bearer {}", keys.token_for(Role::Operator));
    let call = async |request: test::TestRequest| {
        let request = request.insert_header(("authorization", operator.as_str())).to_request();
        let answer = test::call_service(&app, request).await;
        let status = answer.status();
        (status, test::read_body_json::<Value, _>(answer).await)
    };
    let path = format!("/api/v1/etl/runs/{}", job.id);
    let resume = async || call(test::TestRequest::post().uri(&format!("{path}/resume"))).await;
    let cancel = async |job: &Job| -> Result<()> {
        let mut conn = setting.world.pool.acquire().await?;
        jobs::request_cancel(&mut conn, job.id).await?;
        drop(conn);
        let job = work(&setting.resources, job, &CancellationToken::new()).await?;
        assert_eq!(job.state, State::Cancelled);
        Ok(())
    };
    let (status, body) = resume().await;
    assert_eq!(
        (status, &body["code"]),
        (StatusCode::CONFLICT, &json!("not_resumable")),
        "it goes on: {body}"
    );
    cancel(&job).await?;
    let (_, told) = call(test::TestRequest::get().uri(&path)).await;
    assert!(told["contadores"]["leidos"].as_u64() > Some(0), "what it has read is told: {told}");
    // What an ended run has met is forgotten after a while.
    etl::collections::purge(&setting.world.pool, Utc::now() - chrono::TimeDelta::days(1)).await?;
    let other = ask_for(&setting.resources, &backfill()).await?;
    let (status, body) = resume().await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("run_active")), "{body}");
    cancel(&other).await?;
    let (status, body) = resume().await;
    assert_eq!((status, &body["estado"]), (StatusCode::ACCEPTED, &json!("pending")), "{body}");
    let job = work(&setting.resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    let result = job.result.context("a result")?;
    assert_eq!(result["contadores"]["eliminados"], 0, "what it met before the pause is not gone: {result}");
    assert!(matches!(setting.refresher.check().await?, Checked::Refreshed(_)));
    same_of(&setting.world, &setting.source, &["trandeuda"]).await?;
    // A live run goes by the watermark.
    let live = setting.full("bigquery.trandeuda").await?;
    let live = test::TestRequest::post().uri(&format!("/api/v1/etl/runs/{}/resume", live.id));
    let (status, body) = call(live).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("not_resumable")), "{body}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_between_two_days_holds_nothing_back() -> Result<()> {
    let setting = read("betweendays").await?;
    setting.add_snapshot();
    let first: NaiveDate = "2026-10-03".parse()?;
    let params = RunParams { from: Some(first), ..backfill() };
    let job = ask_for(&setting.resources, &params).await?;
    // It waits for its first day.
    setting.full("bigquery.trandeuda").await?;
    assert!(matches!(setting.refresher.check().await?, Checked::Refreshed(_)));
    // So does one that has read some of its days and waits for the next; one that has begun a day holds them back.
    for (snapshot, holds) in [(Value::Null, false), (json!(Utc::now()), true)] {
        let place = json!({ "slice": 1, "beginning": 0, "snapshot": snapshot });
        let there = "update jobs set checkpoint = $2 where id = $1";
        sqlx::query(there).bind(job.id).bind(place).execute(&setting.world.pool).await?;
        setting.source.change("trandeuda", |table| {
            table.rows[700].insert("motivo_rechazo".to_owned(), json!(format!("{holds}")));
        });
        setting.full("bigquery.trandeuda").await?;
        let checked = setting.refresher.check().await?;
        assert_eq!(matches!(checked, Checked::Refreshed(_)), !holds, "{checked:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_begins_while_a_refresh_waits_for_its_turn_holds_it_back() -> Result<()> {
    let setting = read("waiting").await?;
    setting.add_snapshot();
    setting.full("bigquery.trandeuda").await?;
    let pool = &setting.world.pool;
    let mut other = pool.begin().await?;
    sqlx::raw_sql("lock table mart_version in exclusive mode").execute(&mut *other).await?;
    let meanwhile = async {
        wait::until("the refresh should wait for the lock", Duration::from_secs(20), async || {
            let waits = "select exists (select from pg_locks where relation = 'mart_version'::regclass and not granted)";
            sqlx::query_scalar::<_, bool>(waits).fetch_one(pool).await.unwrap_or(false)
        })
        .await?;
        ask_for(&setting.resources, &RunParams::new("bigquery.pagos", Mode::Daily)).await?;
        other.commit().await?;
        Ok::<_, anyhow::Error>(())
    };
    let (checked, meanwhile) = tokio::join!(setting.refresher.check(), meanwhile);
    meanwhile?;
    assert_eq!(checked?, Checked::Nothing);
    setting.run(&RunParams::new("bigquery.pagos", Mode::Daily)).await?;
    assert!(matches!(setting.refresher.check().await?, Checked::Refreshed(_)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_first_is_computed_with_the_refresh() -> Result<()> {
    let setting = read("ahead").await?;
    setting.add_snapshot();
    setting.full("bigquery.trandeuda").await?;
    let Setting { world, source: _source, resources, refresher } = setting;
    let stop = CancellationToken::new();
    let refreshing = tokio::spawn(refresher.run(stop.clone()));
    let redis = &resources.redis;
    wait::until("five answers of the new version should be kept", Duration::from_secs(60), async || {
        let keys = redis.query::<Vec<String>>(cmd("KEYS").arg(redis.key("collections:*:2:*"))).await;
        keys.is_ok_and(|keys| keys.iter().filter(|key| !key.ends_with(":computing")).count() == 5)
    })
    .await?;
    stop.cancel();
    refreshing.await?;
    // Another replica, which nobody has asked before.
    let (dashboards, today) = (world.dashboards()?, question::today(Utc::now()));
    for question in [
        question::dashboard(Filters::default(), None, &[], today),
        question::evolution(Filters::default(), None, None, None, &[], today),
        question::assignment(None, None, None, today),
        question::operation(None, today),
        question::productivity(None, None, today),
    ] {
        let answer = dashboards.ask(question?).await?;
        assert_eq!((answer.cache, answer.version), (Cache::Hit, 2));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_whose_record_goes_bad_stays_as_it_was() -> Result<()> {
    let setting = read("goesbad").await?;
    setting.source.change("calendario", |table| table.rows[2]["fecha_apertura"] = Value::Null);
    setting.source.change("asignaciones", |table| {
        table.rows[4].insert("min_vto".to_owned(), json!("mucho"));
    });
    for (stream, table, rows) in
        [("bigquery.calendario", "raw_calendario", 5), ("bigquery.asignaciones", "raw_asignaciones", 150)]
    {
        let job = setting.full(stream).await?;
        let counters = &job.result.as_ref().context("a result")?["contadores"];
        assert_eq!((&counters["en_cuarentena"], &counters["eliminados"]), (&json!(1), &json!(0)), "{stream}");
        assert_eq!(setting.live(table).await?, rows, "{table}");
    }
    // Which row a record without its key is, nobody knows.
    setting.source.change("voicebot_gestiones", |table| table.rows[3]["uid"] = Value::Null);
    let before = setting.live("raw_voicebot_gestiones").await?;
    setting.full("bigquery.voicebot_gestiones").await?;
    assert_eq!(setting.live("raw_voicebot_gestiones").await?, before);
    // What is really gone goes.
    setting.source.change("asignaciones", |table| drop(table.rows.remove(7)));
    setting.full("bigquery.asignaciones").await?;
    assert_eq!(setting.live("raw_asignaciones").await?, 149);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn days_beside_a_record_without_its_key_are_read_again_by_themselves() -> Result<()> {
    let world = World::new("keyless").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(8));
    let ago = |days: i64| Utc::now() - chrono::TimeDelta::days(days);
    let management = |uid: Value, days: i64| {
        row(json!({ "uid": uid, "date": ago(days).timestamp_micros(), "document": "1", "management": "A" }))
    };
    source.change("voicebot_gestiones", |table| {
        table.rows = (0..28).map(|n| management(json!(format!("V{n}")), n + 1)).collect();
    });
    // The days from 40 to 10 ago are one slice.
    let settings = client(&source, None)?.settings().clone();
    let settings = BigQuerySettings { start: ago(40).date_naive(), ..settings };
    let resources = Resources { bigquery: Some(Client::new(settings)), ..world.resources()? };
    let read = async |mode: Mode| -> Result<Value> {
        let job = ask_for(&resources, &RunParams::new("bigquery.voicebot_gestiones", mode)).await?;
        let job = work(&resources, &job, &CancellationToken::new()).await?;
        anyhow::ensure!(job.state == State::Completed, "{:?}", job.error);
        job.result.context("a result")
    };
    read(Mode::Full).await?;
    source.change("voicebot_gestiones", |table| {
        table.rows.remove(19);
        table.rows.push(management(Value::Null, 15));
    });
    let result = read(Mode::Full).await?;
    assert_eq!(result["contadores"]["eliminados"], 0, "it may be the record without a key: {result}");
    let result = read(Mode::Daily).await?;
    assert_eq!(result["contadores"]["eliminados"], 1, "it is of another day: {result}");
    assert_eq!(result["dias_releidos"].as_array().map(Vec::len), Some(2), "{result}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_would_read_more_than_it_may_is_not_run() -> Result<()> {
    let world = World::new("billed").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(4));
    let resources = resources(&world, &source).await?;
    let settings = resources.bigquery.as_ref().context("a client")?.settings().clone();
    let settings = BigQuerySettings { maximum_bytes_billed: Some(10_000), ..settings };
    let resources = Resources { bigquery: Some(Client::new(settings)), ..resources };
    let run = async |stream: &str| {
        let job = ask_for(&resources, &RunParams::new(stream, Mode::Full)).await?;
        work(&resources, &job, &CancellationToken::new()).await
    };
    // A row has a hundred bytes there.
    let job = run("bigquery.homologacion_voicebot").await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    assert_eq!(job.result.context("a result")?["bytes"], 100);
    let job = run("bigquery.asignaciones").await?;
    assert_eq!(job.state, State::Failed);
    assert!(job.error.as_ref().is_some_and(|error| error.contains("bytes billed")), "{:?}", job.error);
    let rows = "select count(*) from raw_asignaciones";
    assert_eq!(sqlx::query_scalar::<_, i64>(rows).fetch_one(&world.pool).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_byte_stops_no_stream() -> Result<()> {
    let setting = read("nul").await?;
    setting.source.change("voicebot_gestiones", |table| {
        table.rows[0]["etiquetas"] = json!(["a\0b"]);
        table.rows[0]["detalle"] = json!({ "a": "z\0", "b": 5 });
    });
    setting.source.change("mibotair_gestiones", |table| {
        table.rows[1].insert("monto_compromiso".to_owned(), json!("mu\0cho"));
        table.rows[1]["uid"] = json!("M\0one");
    });
    setting.full("bigquery.voicebot_gestiones").await?;
    setting.full("bigquery.mibotair_gestiones").await?;
    let pool = &setting.world.pool;
    let extra: Value = sqlx::query_scalar("select extra from raw_voicebot_gestiones where uid = 'V0'")
        .fetch_one(pool)
        .await?;
    assert_eq!(extra, json!({ "etiquetas": ["ab"], "detalle": { "a": "z", "b": 5 } }));
    let (key, record): (String, Value) =
        sqlx::query_as("select clave, registro from raw_quarantine").fetch_one(pool).await?;
    assert_eq!((key.as_str(), &record["monto_compromiso"]), ("Mone", &json!("mucho")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_asked_for_where_the_query_runs() -> Result<()> {
    let world = World::new("elsewhere").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(7));
    source.locate("southamerica-east1");
    let resources = resources(&world, &source).await?;
    let job = ask_for(&resources, &RunParams::new("bigquery.asignaciones", Mode::Daily)).await?;
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    let start: NaiveDate = "2026-08-31".parse()?;
    let slices = u64::try_from((Utc::now().date_naive() - start).num_days() + 1)?.div_ceil(31);
    let asked = source.asked().0;
    assert!(asked <= slices + 1, "a query a slice, and one that looks at the days: {asked}");
    // One that is ours already does not say where it is: the slice is begun again.
    let job = ask_for(&resources, &RunParams::new("bigquery.ejecutivos", Mode::Daily)).await?;
    let client = resources.bigquery.as_ref().context("a client")?;
    client.insert(&format!("lote_{}_0_0", job.id.simple()), "SELECT * FROM `x.ejecutivos`", &[]).await?;
    let before = source.asked().0;
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    assert_eq!(source.asked().0, before + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_snapshot_does_not_bring_back_what_a_later_one_did_not_have() -> Result<()> {
    let setting = read("snapshots").await?;
    setting.add_snapshot();
    setting.full("bigquery.trandeuda").await?;
    assert_eq!(setting.live("raw_trandeuda").await?, 750);
    let job = stopped(&setting.resources, &setting.source, &backfill()).await?;
    let mut gone = Row::new();
    setting.source.change("trandeuda", |table| gone = table.rows.remove(745));
    let full = setting.full("bigquery.trandeuda").await?;
    assert_eq!(full.result.context("a result")?["contadores"]["eliminados"], 1);
    // Its pages are of before.
    let job = work(&setting.resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    assert_eq!(setting.live("raw_trandeuda").await?, 749);
    // A later one does, where it is there again.
    setting.source.change("trandeuda", |table| table.rows.push(gone));
    setting.full("bigquery.trandeuda").await?;
    assert_eq!(setting.live("raw_trandeuda").await?, 750);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_page_that_leaves_rows_out_ends_no_slice() -> Result<()> {
    let setting = read("norows").await?;
    let before = setting.source.asked().0;
    setting.source.fail([Fault::NoRows]);
    let job = setting.full("bigquery.ejecutivos").await?;
    assert_eq!(setting.source.asked().0, before + 2, "it was begun again");
    assert_eq!(setting.live("raw_ejecutivos").await?, 1);
    assert_eq!(job.result.context("a result")?["contadores"]["eliminados"], 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_all_time_reads_what_the_source_can_have() -> Result<()> {
    let setting = read("alltime").await?;
    let before = setting.source.asked().0;
    let all = RunParams {
        from: Some(NaiveDate::MIN),
        to: Some(NaiveDate::MAX),
        ..RunParams::new("bigquery.pagos", Mode::Backfill)
    };
    let job = setting.run(&all).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    let start: NaiveDate = "2026-08-31".parse()?;
    let days = (Utc::now().date_naive() - start).num_days() + 1;
    let asked = i64::try_from(setting.source.asked().0 - before)?;
    assert!((days - 1..=days).contains(&asked), "a query a day: {asked} of {days}");
    same(&setting.world, &setting.source).await
}
