//! BigQuery into the raw tables, against a simulator that knows the truth.

mod quarantine;
mod source;
mod twice;
mod unseen;
mod whole;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use chrono::Utc;
use etl::{
    Resources,
    collections::{
        bigquery::{BigQuerySettings, Client, ServiceAccount},
        refresher::{Checked, Refresher},
        streams::TABLES,
    },
    domain::run::{Mode, RunParams},
    jobs::run_sync::{self, RunSyncs},
    request_run::request_run,
};
use jobs::{Job, Runner, State};
use sea_orm::sqlx;
use serde_json::{Value, json};
use simulators::bigquery::{BigQuery, Fault, Field, Table};
use tokio_util::sync::CancellationToken;

pub use self::source::fill;
use self::source::{row, same, same_of, truth};
use crate::{World, data::Dice};

pub fn client(source: &BigQuery, account: Option<ServiceAccount>) -> Result<Client> {
    let mut env = chassis::config::Env::from_map([
        ("BIGQUERY_URL", source.url()),
        ("BIGQUERY_PROJECT_ID", "proyecto"),
        ("BIGQUERY_DATASET", "cobranzas"),
        ("BIGQUERY_ANONYMOUS", "true"),
        ("BIGQUERY_PAGE_ROWS", "37"),
        ("BIGQUERY_REQUESTS_PER_SECOND", "2000"),
        ("COLLECTIONS_START_DATE", "2026-08-31"),
        ("COLLECTIONS_LAG_SECONDS", "1"),
    ]);
    let settings = BigQuerySettings::read(&mut env).context("the project is given")?;
    env.finish()?;
    Ok(Client::new(BigQuerySettings { account, ..settings }))
}

async fn resources(world: &World, source: &BigQuery) -> Result<Resources> {
    let resources = world.resources()?;
    let client = client(source, None)?.paced(resources.redis.clone(), world.pool.clone());
    Ok(Resources { bigquery: Some(client), ..resources })
}

async fn ask_for(resources: &Resources, params: &RunParams) -> Result<Job> {
    let mut conn = resources.database.pool.acquire().await?;
    Ok(request_run(&mut conn, &resources.settings, params, "test", None).await?.job().clone())
}

/// Works on a run until it ends or `stop` is cancelled.
async fn work(resources: &Resources, job: &Job, stop: &CancellationToken) -> Result<Job> {
    let pool = resources.database.pool.clone();
    let kind = run_sync::kind(&resources.settings);
    let runner = Runner::new(pool.clone()).lease(kind.lease).backoff(kind.backoff);
    let syncs = RunSyncs { resources: resources.clone() };
    // What the runner defers or releases is for its message; the row says what became of it.
    let _outcome = runner.run(job.id, stop, &syncs).await;
    let mut conn = pool.acquire().await?;
    jobs::get(&mut conn, job.id).await?.context("the job's row")
}

/// A run whose worker stops after two pages.
async fn stopped(resources: &Resources, source: &BigQuery, params: &RunParams) -> Result<Job> {
    let job = ask_for(resources, params).await?;
    let (stop, before) = (CancellationToken::new(), source.asked().1);
    // There is time to stop it, on however busy a machine.
    source.slow_down(std::time::Duration::from_millis(50));
    let watch = async {
        while source.asked().1 < before + 2 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    let (job, ()) = tokio::join!(work(resources, &job, &stop), watch);
    let job = job?;
    source.slow_down(std::time::Duration::ZERO);
    assert_eq!(job.state, State::Pending, "it was stopped on the way: {:?}", job.error);
    Ok(job)
}

async fn sync(resources: &Resources, mode: Mode) -> Result<Vec<Job>> {
    let mut ended = Vec::new();
    for table in TABLES {
        let job = ask_for(resources, &RunParams::new(table.stream, mode)).await?;
        ended.push(work(resources, &job, &CancellationToken::new()).await?);
    }
    Ok(ended)
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_tables_are_the_sources_truth_after_faults_and_changes() -> Result<()> {
    let world = World::new("bigquery").await?;
    let source = BigQuery::start()?;
    let mut dice = Dice(1);
    fill(&source, &mut dice);
    let resources = resources(&world, &source).await?;
    source.fail([
        Fault::Forbidden("rateLimitExceeded"),
        Fault::Incomplete(2),
        Fault::Unavailable,
        Fault::Cut,
        Fault::Empty,
        Fault::JobError("backendError"),
        Fault::Expired,
        Fault::Unavailable,
    ]);
    for job in sync(&resources, Mode::Daily).await? {
        assert_eq!(job.state, State::Completed, "{} {:?}", job.params, job.error);
    }
    assert_eq!(source.faults_left(), 0, "all faults have struck");
    same(&world, &source).await?;
    let extra: Value =
        sqlx::query_scalar("select extra from raw_voicebot_gestiones limit 1").fetch_one(&world.pool).await?;
    assert_eq!(extra, json!({ "etiquetas": ["x", "y"], "detalle": { "a": "z", "b": 5 } }));
    let refresher = Refresher::new(world.pool.clone(), resources.dashboards.clone());
    assert!(matches!(refresher.check().await?, Checked::Refreshed(_)));
    assert_eq!(refresher.check().await?, Checked::Nothing);

    // Read again as it is: nothing is written.
    for job in sync(&resources, Mode::Full).await? {
        let result = job.result.as_ref().context("a result")?;
        assert!(result["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "the dry runs are told: {result}");
        let counters = &result["contadores"];
        assert_eq!(
            (&counters["insertados"], &counters["actualizados"], &counters["eliminados"]),
            (&json!(0), &json!(0), &json!(0))
        );
    }
    // Late rows, changed ones, a payment that comes again with a later moment, a new column, and few that go.
    let recent = (Utc::now() - chrono::TimeDelta::days(3)).timestamp_micros();
    source.change("voicebot_gestiones", |table| {
        table.fields.push(Field::new("nueva", "STRING"));
        table.rows.extend((0..40).map(|n| {
            row(json!({ "uid": format!("late{n}"), "date": recent, "document": "1", "nueva": "n" }))
        }));
        table.rows[3]["document"] = json!("otro");
        table.rows.remove(7);
    });
    source.change("pagos", |table| {
        let mut again = table.rows[5].clone();
        again.insert("creado_el".into(), json!(recent));
        again.insert("motivo_rechazo".into(), json!("ANULADO"));
        table.rows.push(again);
        table.rows.remove(20);
    });
    source.change("calendario", |table| {
        table.rows[2].insert("fecha_cierre".into(), json!("2026-10-01"));
    });
    for job in sync(&resources, Mode::Full).await? {
        assert_eq!(job.state, State::Completed, "{} {:?}", job.params, job.error);
        let result = job.result.as_ref().context("a result")?;
        let is_told = result["contadores"]["campos_nuevos"].get("nueva").is_some();
        assert_eq!(is_told, job.params["stream"] == "bigquery.voicebot_gestiones", "{result}");
    }
    same(&world, &source).await?;
    assert!(matches!(refresher.check().await?, Checked::Refreshed(_)));
    // A daily run reads the look-back again.
    source.change("voicebot_gestiones", |table| {
        let last = table.rows.len() - 1;
        table.rows[last]["document"] = json!("7");
        table.rows.remove(last - 1);
    });
    let job = ask_for(&resources, &RunParams::new("bigquery.voicebot_gestiones", Mode::Daily)).await?;
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    let counters = &job.result.as_ref().context("a result")?["contadores"];
    assert_eq!(counters["leidos"], json!(39), "the look-back alone");
    assert_eq!((&counters["actualizados"], &counters["eliminados"]), (&json!(1), &json!(1)));
    same(&world, &source).await
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_changed_unseen_before_the_look_back_are_read_again() -> Result<()> {
    let world = World::new("unseen").await?;
    let source = BigQuery::start()?;
    let day = |ago: i64| Utc::now() - chrono::TimeDelta::days(ago);
    let management = |uid: String, ago: i64| {
        let at = day(ago).timestamp_micros();
        row(json!({ "uid": uid, "date": at, "document": "1", "management": "A" }))
    };
    fill(&source, &mut Dice(6));
    source.change("voicebot_gestiones", |table| {
        table.rows = (0..200).map(|number| management(format!("V{number}"), number % 28 + 1)).collect();
    });
    let resources = resources(&world, &source).await?;
    let params = RunParams::new("bigquery.voicebot_gestiones", Mode::Daily);
    let again = async || -> Result<Value> {
        let job = ask_for(&resources, &params).await?;
        let job = work(&resources, &job, &CancellationToken::new()).await?;
        anyhow::ensure!(job.state == State::Completed, "{:?}", job.error);
        job.result.context("a result")
    };
    again().await?;
    let result = again().await?;
    assert_eq!(result["dias_releidos"], json!([]), "nothing has changed: {result}");
    source.change("voicebot_gestiones", |table| {
        // Late, changed and deleted, each further back than the look-back.
        table.rows.push(management("late".to_owned(), 12));
        let of = |table: &Table, ago: i64| {
            table.rows.iter().position(|row| {
                row["date"].as_i64().is_some_and(|at| {
                    day(ago).timestamp_micros() - at < 3_600_000_000 && at <= day(ago).timestamp_micros()
                })
            })
        };
        let changed = of(table, 16).expect("a row of that day");
        table.rows[changed]["management"] = json!("B");
        let gone = of(table, 20).expect("a row of that day");
        table.rows.remove(gone);
    });
    let result = again().await?;
    assert_eq!(result["dias_releidos"].as_array().map(Vec::len), Some(3), "{result}");
    let counters = &result["contadores"];
    assert_eq!(
        (&counters["insertados"], &counters["actualizados"], &counters["eliminados"]),
        (&json!(1), &json!(1), &json!(1)),
        "{result}"
    );
    let result = again().await?;
    assert_eq!(result["dias_releidos"], json!([]), "{result}");
    same_of(&world, &source, &["voicebot_gestiones"]).await
}

/// Managements of voicebot, so many a day, of the days from 1 to 28 ago.
fn managements_by_day(source: &BigQuery, a_day: i64) {
    source.change("voicebot_gestiones", |table| {
        let ago = |days: i64| (Utc::now() - chrono::TimeDelta::days(days)).timestamp_micros();
        let management = |number: i64| {
            let at = ago(number / a_day + 1);
            row(json!({ "uid": format!("V{number}"), "date": at, "document": "1", "management": "A" }))
        };
        table.rows = (0..28 * a_day).map(management).collect();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_source_stamps_again_are_not_gone() -> Result<()> {
    let world = World::new("stamped").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(9));
    managements_by_day(&source, 50);
    let resources = resources(&world, &source).await?;
    let params = RunParams::new("bigquery.voicebot_gestiones", Mode::Daily);
    let read = async || -> Result<Job> {
        let job = ask_for(&resources, &params).await?;
        work(&resources, &job, &CancellationToken::new()).await
    };
    read().await?;
    // Of a day before the look-back most rows are of yesterday by now: more than the fuse of a slice.
    let yesterday = (Utc::now() - chrono::TimeDelta::days(1)).timestamp_micros();
    source.change("voicebot_gestiones", |table| {
        for row in &mut table.rows[12 * 50..12 * 50 + 40] {
            row.insert("date".to_owned(), json!(yesterday));
        }
    });
    let job = read().await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    let result = job.result.context("a result")?;
    assert_eq!(
        (&result["contadores"]["eliminados"], &result["contadores"]["actualizados"]),
        (&json!(0), &json!(40)),
        "{result}"
    );
    same_of(&world, &source, &["voicebot_gestiones"]).await?;
    // A day may lose most of its rows; the table may not.
    source.change("voicebot_gestiones", |table| drop(table.rows.drain(20 * 50 + 5..21 * 50)));
    let job = read().await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    assert_eq!(job.result.context("a result")?["contadores"]["eliminados"], 45);
    source.change("voicebot_gestiones", |table| drop(table.rows.drain(15 * 50..17 * 50)));
    let job = read().await?;
    assert_eq!(job.state, State::Failed);
    assert!(job.error.unwrap_or_default().contains("5 %"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_asked_for_again_after_their_query_has_failed() -> Result<()> {
    let world = World::new("lookfails").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(10));
    let resources = resources(&world, &source).await?;
    source.fail(std::iter::repeat_n(Fault::JobError("backendError"), 5));
    let job = ask_for(&resources, &RunParams::new("bigquery.pagos", Mode::Daily)).await?;
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    assert_eq!(
        (job.state, source.faults_left()),
        (State::Pending, 0),
        "it is tried again later: {:?}",
        job.error
    );
    sqlx::query("update jobs set next_run_at = now() where id = $1")
        .bind(job.id)
        .execute(&world.pool)
        .await?;
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_it_was_is_not_even_locked() -> Result<()> {
    let world = World::new("unlocked").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(11));
    let resources = resources(&world, &source).await?;
    let params = RunParams::new("bigquery.asignaciones", Mode::Full);
    for _ in 0..2 {
        let job = ask_for(&resources, &params).await?;
        let job = work(&resources, &job, &CancellationToken::new()).await?;
        assert_eq!(job.state, State::Completed, "{:?}", job.error);
    }
    let touched = "select count(*) from raw_asignaciones where xmax <> '0'";
    assert_eq!(sqlx::query_scalar::<_, i64>(touched).fetch_one(&world.pool).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_merges_into_a_table_waits_for_who_does() -> Result<()> {
    let world = World::new("turns").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(12));
    let resources = resources(&world, &source).await?;
    let job = ask_for(&resources, &RunParams::new("bigquery.ejecutivos", Mode::Daily)).await?;
    let mut other = world.pool.begin().await?;
    chassis::lock::hold(&mut other, "merging raw_ejecutivos").await?;
    let meanwhile = async {
        let waits = "select exists (select from pg_locks join pg_stat_activity using (pid)
                                    where locktype = 'advisory' and not granted and usename = current_user)";
        stack::wait::until("the run should wait", std::time::Duration::from_secs(60), async || {
            sqlx::query_scalar::<_, bool>(waits).fetch_one(&world.pool).await.unwrap_or(false)
        })
        .await?;
        let rows = "select count(*) from raw_ejecutivos";
        assert_eq!(sqlx::query_scalar::<_, i64>(rows).fetch_one(&world.pool).await?, 0);
        other.commit().await?;
        anyhow::Ok(())
    };
    let stop = CancellationToken::new();
    let (job, meanwhile) = tokio::join!(work(&resources, &job, &stop), meanwhile);
    meanwhile?;
    let job = job?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_takes_over_reads_on_in_the_same_snapshot() -> Result<()> {
    let world = World::new("takeover").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(2));
    let resources = resources(&world, &source).await?;
    let job = ask_for(&resources, &RunParams::new("bigquery.homologacion_voicebot", Mode::Daily)).await?;
    work(&resources, &job, &CancellationToken::new()).await?;
    // A table that is read in one slice of many pages.
    source.change("ejecutivos", |table| {
        table.rows = (0..1_000)
            .map(|n| row(json!({ "correo_name": format!("{n}@x"), "nombre": format!("N{n}") })))
            .collect();
    });
    let snapshot = truth(&source, "ejecutivos", &["correo_name"], None, "nombre");
    let job = ask_for(&resources, &RunParams::new("bigquery.ejecutivos", Mode::Daily)).await?;
    let stop = CancellationToken::new();
    let before = source.asked();
    // There is time to stop it, on however busy a machine.
    source.slow_down(std::time::Duration::from_millis(50));
    let watch = async {
        while source.asked().1 < before.1 + 5 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    let (job, ()) = tokio::join!(work(&resources, &job, &stop), watch);
    let job = job?;
    source.slow_down(std::time::Duration::ZERO);
    assert_eq!(job.state, State::Pending, "it was stopped on the way");
    let rows: i64 = sqlx::query_scalar("select count(*) from raw_ejecutivos").fetch_one(&world.pool).await?;
    assert!(rows > 0 && rows < 1_000, "{rows}");
    // What changes meanwhile is for the next run.
    source.change("ejecutivos", |table| {
        table.rows.iter_mut().for_each(|row| drop(row.insert("nombre".into(), json!("otro"))))
    });
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    assert_eq!(source.asked().0, before.0 + 1, "no query but the first");
    let found: Vec<(String, String)> =
        sqlx::query_as("select correo_name, ' ' || nombre from raw_ejecutivos where eliminado_en is null")
            .fetch_all(&world.pool)
            .await?;
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), snapshot);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_holds_the_marts_back_and_says_so() -> Result<()> {
    let world = World::new("heldback").await?;
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(3));
    let resources = resources(&world, &source).await?;
    let refresher = Refresher::new(world.pool.clone(), resources.dashboards.clone());
    let mut fields = Vec::new();
    source.change("pagos", |table| {
        fields = table.fields.clone();
        table.fields.retain(|field| field.name != "monto_cancelado");
    });
    let ended = sync(&resources, Mode::Daily).await?;
    let failed: Vec<&Job> = ended.iter().filter(|job| job.state != State::Completed).collect();
    assert_eq!(failed.len(), 1, "one stream's failure stops no other");
    let error = failed[0].error.clone().unwrap_or_default();
    assert!(error.contains("monto_cancelado"), "{error}");
    let Checked::HeldBack(reason) = refresher.check().await? else { anyhow::bail!("not held back") };
    assert!(reason.contains("bigquery.pagos"), "{reason}");
    let version = etl::storage::mart_version::get(&chassis::db::orm(&world.pool)).await?;
    assert_eq!((version.version, version.held_back), (0, Some(reason)));
    // A day that loses most of its rows is not believed either.
    source.change("pagos", |table| table.fields = fields);
    sync(&resources, Mode::Daily).await?;
    assert!(matches!(refresher.check().await?, Checked::Refreshed(_)));
    source.change("mibotair_gestiones", |table| table.rows.truncate(100));
    let params = RunParams::new("bigquery.mibotair_gestiones", Mode::Full);
    let job = ask_for(&resources, &params).await?;
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Failed);
    assert!(job.error.unwrap_or_default().contains("5 %"));
    assert!(
        matches!(refresher.check().await?, Checked::HeldBack(_))
            || matches!(refresher.check().await?, Checked::Nothing)
    );
    let job = ask_for(&resources, &RunParams { force: true, ..params }).await?;
    let job = work(&resources, &job, &CancellationToken::new()).await?;
    assert_eq!(job.state, State::Completed, "{:?}", job.error);
    assert!(matches!(refresher.check().await?, Checked::Refreshed(_)));
    assert_eq!(etl::storage::mart_version::get(&chassis::db::orm(&world.pool)).await?.held_back, None);
    same(&world, &source).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_signs_for_its_tokens_and_gets_a_new_one_when_one_lapses() -> Result<()> {
    let source = BigQuery::start()?;
    fill(&source, &mut Dice(5));
    source.require_tokens();
    let dir = std::env::temp_dir().join(format!("lote-rsa-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let key = dir.join("key.pem");
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-out"])
        .arg(&key)
        .output()?;
    anyhow::ensure!(made.status.success(), "openssl makes a key");
    let file = dir.join("account.json");
    std::fs::write(
        &file,
        json!({ "client_email": "etl@proyecto.iam", "private_key_id": "1",
        "private_key": std::fs::read_to_string(&key)?, "token_uri": format!("{}/token", source.url()) })
        .to_string(),
    )?;
    let account = ServiceAccount::read(file.to_str().context("a path")?)?;
    let client = client(&source, Some(account))?;
    assert!(client.insert("one", "SELECT * FROM `proyecto.cobranzas.ejecutivos`", &[]).await?.new);
    assert!(
        !client.insert("one", "SELECT * FROM `proyecto.cobranzas.ejecutivos`", &[]).await?.new,
        "it is ours already"
    );
    source.expire_tokens();
    assert_eq!(client.page("one", None, None, |_, rows| rows.len()).await?.rows, 1);
    assert_eq!(source.assertions().len(), 2);
    let public =
        std::process::Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).output()?.stdout;
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&[format!("{}/token", source.url())]);
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(&public)?;
    let claims = jsonwebtoken::decode::<Value>(&source.assertions()[0], &key, &validation)?.claims;
    assert_eq!(claims["iss"], "etl@proyecto.iam");
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/bigquery.readonly");
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
