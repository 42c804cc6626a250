//! The collections dashboards against the real servers, and against a computation that shares nothing with them.

mod comparison;
mod data;
mod http;
mod oracle;
mod sdk;
mod sync;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use std::time::Duration;

use anyhow::{Context as _, Result};
use chassis::{
    config::{DatabaseSettings, Env, RedisSettings, Secret},
    db,
    redis::Redis,
};
use chrono::{NaiveDate, TimeDelta, Utc};
use comparison::{compare, same};
use data::{Dice, Raw, START, day, lima};
use etl::{
    Resources, SERVICE,
    collections::{
        CollectionsSettings, answers,
        cache::Dashboards,
        question::{self, Filters},
        refresh,
    },
    config::EtlSettings,
    storage::migrations::Migrator,
};
use sea_orm::sqlx::PgPool;
use serde_json::Value;
use stack::Namespace;
use tokio_util::sync::CancellationToken;

const TODAY: &str = "2025-07-20";

/// The service's tables and Redis, and nobody at work on them.
struct World {
    pool: PgPool,
    database: db::Database,
    redis: RedisSettings,
    settings: CollectionsSettings,
    etl: EtlSettings,
    /// Goes last.
    _namespace: Namespace,
}

impl World {
    async fn new(label: &str) -> Result<Self> {
        stack::install_tls();
        let namespace = Namespace::create(label).await?;
        let servers = namespace.servers();
        let mut env = Env::from_map([
            ("DATABASE_URL", namespace.database_url.as_str()),
            ("REDIS_URL", &servers.redis_url),
            ("REDIS_PREFIX", &namespace.redis_prefix),
            ("COLLECTIONS_HOLIDAYS", "2025-05-01,2025-06-06"),
            ("ETL_BSALE", "false"),
        ]);
        let (database, redis) = (DatabaseSettings::read(&mut env), RedisSettings::read(&mut env));
        let etl = EtlSettings::read(&mut env);
        env.finish()?;
        let shutdown = CancellationToken::new();
        db::migrate::<Migrator>(&database, SERVICE, &shutdown).await?;
        let database = db::connect(&database, SERVICE, &shutdown).await?;
        let (pool, settings) = (database.pool.clone(), etl.collections.clone());
        Ok(Self { pool, database, redis, settings, etl, _namespace: namespace })
    }

    fn resources(&self) -> Result<Resources> {
        Ok(Resources {
            database: self.database.clone(),
            redis: Redis::new(&self.redis)?,
            settings: Arc::new(self.etl.clone()),
            bsale: None,
            bigquery: None,
            dashboards: self.dashboards()?,
        })
    }

    fn dashboards(&self) -> Result<Dashboards> {
        Ok(Dashboards::new(self.pool.clone(), Redis::new(&self.redis)?, self.settings.clone()))
    }

    async fn answer(&self, question: &question::Question) -> Result<Value> {
        let (_, body) = answers::answer(&self.pool, &self.settings, question).await?;
        Ok(serde_json::from_slice(&body)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_are_what_a_slow_computation_from_raw_rows_says() -> Result<()> {
    let world = World::new("kpis").await?;
    let raw = Raw::generate(7, 2_500, 12_000);
    raw.write(&world.pool).await?;
    let refreshed = refresh(&world.pool, Utc::now()).await?;
    assert!(refreshed.changed && refreshed.version == 1);
    compare(&world, &raw, &mut Dice(70), 160).await?;
    assert_eq!(etl::collections::doctor(&world.pool).await?, Vec::<String>::new());
    // Nothing new: no new version, and nothing is computed.
    let again = refresh(&world.pool, Utc::now()).await?;
    assert_eq!((again.version, again.changed, again.campaigns), (1, false, 0));
    // Nor is anybody told of one.
    let told = "select body::jsonb -> 'data' ->> 'dataVersion' from outbox where kind = 'lote.etl.v1.DashboardRefreshed'";
    let told: Vec<String> = sea_orm::sqlx::query_scalar(told).fetch_all(&world.pool).await?;
    assert_eq!(told, ["1"]);
    Ok(())
}

/// The users have 165,000 accounts and 3,200,000 managements. The slow computation takes minutes, so that it is done when
/// somebody asks for it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes many minutes; `ACCOUNTS=165000 MANAGEMENTS=3200000 QUESTIONS=40` is the users' size"]
async fn dashboards_of_many_accounts_are_what_the_slow_computation_says() -> Result<()> {
    let size = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse::<u64>().with_context(|| format!("{name} is {text:?}, expected a number")),
        Err(_) => Ok(default),
    };
    let world = World::new("kpismany").await?;
    let raw = Raw::generate(7, size("ACCOUNTS", 50_000)?, size("MANAGEMENTS", 500_000)?);
    raw.write(&world.pool).await?;
    refresh(&world.pool, Utc::now()).await?;
    compare(&world, &raw, &mut Dice(70), size("QUESTIONS", 500)?).await?;
    assert_eq!(etl::collections::doctor(&world.pool).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_alone_is_computed_again_and_comes_to_the_same() -> Result<()> {
    changes(Raw::generate(8, ACCOUNTS, 2_500)).await
}

/// Payments hide what a snapshot bears on: they make campaigns affected by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_alone_make_campaigns_affected() -> Result<()> {
    let mut raw = Raw::generate(9, ACCOUNTS, 500);
    raw.pagos.clear();
    changes(raw).await
}

const ACCOUNTS: u64 = 400;

async fn changes(mut raw: Raw) -> Result<()> {
    let world = World::new("changes").await?;
    let (accounts, with_payments) = (ACCOUNTS, !raw.pagos.is_empty());
    raw.write(&world.pool).await?;
    refresh(&world.pool, Utc::now()).await?;
    let mut dice = Dice(80);
    for round in 0..14 {
        match round % 7 {
            0 => (0..20).for_each(|_| raw.add_management(&mut dice, accounts * 6 / 10)),
            1 if with_payments => (0..20).for_each(|_| raw.add_payment(&mut dice, accounts)),
            // A snapshot that comes late, one that changes, rows that go.
            1 | 2 => raw.add_snapshot(&mut dice, day("2025-07-13") + TimeDelta::days(round), accounts),
            3 => {
                let late = raw.trandeuda[raw.trandeuda.len() / 2].fecha_proceso;
                for row in raw.trandeuda.iter_mut().filter(|row| row.fecha_proceso == late) {
                    row.monto_exigible += 7;
                    row.eliminado_en = row.cod_cuenta.ends_with('3').then(|| lima(day(TODAY), 0));
                }
            }
            4 => {
                // A campaign closes, one begins earlier, one is taken back and one comes again.
                let last = raw.calendario.len() - 2;
                raw.calendario[0].fecha_cierre =
                    Some(raw.calendario[0].fecha_apertura + TimeDelta::days(9 + round));
                raw.calendario[1].fecha_apertura -= TimeDelta::days(3);
                for index in [5, last] {
                    let row = &mut raw.calendario[index];
                    row.eliminado_en = row.eliminado_en.is_none().then(|| lima(day(TODAY), 0));
                }
            }
            5 => {
                for index in 0..10 {
                    let row = &mut raw.asignaciones[index * 7];
                    row.negocio = Some("FIJA".to_owned());
                    row.eliminado_en = row.eliminado_en.is_none().then(|| lima(day(TODAY), 0));
                }
                for index in 0..10 {
                    // A management moves to another day, and another client.
                    let row = &mut raw.gestiones[index * 11];
                    row.date += TimeDelta::days(2);
                    row.document = Some(format!("L{index}"));
                }
            }
            _ => {
                for row in raw.rules.iter_mut().step_by(3) {
                    row.contactabilidad = Some("Contacto No Efectivo".to_owned());
                    row.pdp = if round > 7 { None } else { Some("SI".to_owned()) };
                }
            }
        }
        raw.write(&world.pool).await?;
        let refreshed = refresh(&world.pool, Utc::now()).await?;
        assert!(refreshed.changed, "round {round}");
        assert!(refreshed.campaigns > 0, "round {round}");
        compare(&world, &raw, &mut dice, 24).await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_during_refreshes_never_sees_two_versions_in_one_answer() -> Result<()> {
    let world = World::new("readers").await?;
    let accounts = 300;
    let mut raw = Raw::generate(9, accounts, 1_500);
    raw.write(&world.pool).await?;
    refresh(&world.pool, Utc::now()).await?;
    let corte = day("2025-06-10");
    let questions = [
        question::dashboard(Filters::default(), Some(corte), &[], day(TODAY))?,
        question::evolution(Filters::default(), Some(day("2025-05-20")), Some(corte), None, &[], day(TODAY))?,
        question::operation(Some(corte), day(TODAY))?,
    ];
    let done = Arc::new(AtomicBool::new(false));
    // How many versions each reader has seen.
    let counts: Arc<[AtomicUsize; 4]> = Arc::default();
    let readers: Vec<_> = (0..4)
        .map(|reader| {
            let (pool, settings, done) = (world.pool.clone(), world.settings.clone(), done.clone());
            let counts = counts.clone();
            let question = questions[reader % questions.len()].clone();
            tokio::spawn(async move {
                let mut seen: BTreeMap<i64, BTreeSet<Vec<u8>>> = BTreeMap::new();
                while !done.load(Ordering::Relaxed) {
                    let (version, body) = answers::answer(&pool, &settings, &question).await?;
                    seen.entry(version.version).or_default().insert(body);
                    counts[reader].store(seen.len(), Ordering::Relaxed);
                }
                anyhow::Ok((question, seen))
            })
        })
        .collect();
    let mut dice = Dice(90);
    let mut rounds = 0;
    // And until each was read while versions came.
    while rounds < 50 || counts.iter().any(|count| count.load(Ordering::Relaxed) <= 3) {
        rounds += 1;
        let gone = readers.iter().any(tokio::task::JoinHandle::is_finished);
        assert!(rounds < 1_000 && !gone, "nobody reads any more: {counts:?}");
        for row in raw.asignaciones.iter_mut().skip(dice.below(7) as usize).step_by(7) {
            row.eliminado_en = row.eliminado_en.is_none().then(|| lima(day(TODAY), 0));
        }
        raw.add_management(&mut dice, accounts * 6 / 10);
        raw.write(&world.pool).await?;
        refresh(&world.pool, Utc::now()).await?;
    }
    done.store(true, Ordering::Relaxed);
    let mut all: HashMap<String, BTreeMap<i64, BTreeSet<Vec<u8>>>> = HashMap::new();
    for reader in readers {
        let (question, seen) = reader.await??;
        for (version, bodies) in seen {
            all.entry(format!("{question:?}")).or_default().entry(version).or_default().extend(bodies);
        }
    }
    for (question, versions) in all {
        for (version, bodies) in &versions {
            assert_eq!(bodies.len(), 1, "version {version} of {question} has one answer");
        }
        let distinct: BTreeSet<_> = versions.values().flatten().collect();
        assert!(distinct.len() > 1 || question.contains("Operation"), "versions differ: {question}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_cold_callers_at_two_replicas_one_computes() -> Result<()> {
    let world = World::new("callers").await?;
    let raw = Raw::generate(10, 300, 1_500);
    raw.write(&world.pool).await?;
    refresh(&world.pool, Utc::now()).await?;
    let replicas = [world.dashboards()?, world.dashboards()?];
    let ask = async |now: NaiveDate, replicas: &[Dashboards]| -> Result<BTreeSet<Vec<u8>>> {
        let callers: Vec<_> = (0..200)
            .map(|caller| {
                let replica = replicas[caller % replicas.len()].clone();
                // However they say it, it is one question.
                let cartera = match caller % 3 {
                    0 => vec!["OTRAS".to_owned(), "TEMPRANA".to_owned()],
                    1 => vec!["TEMPRANA".to_owned(), "OTRAS".to_owned()],
                    _ => vec!["temprana".to_owned(), "OTRAS".to_owned(), "TEMPRANA".to_owned()],
                };
                let before = if caller % 2 == 0 { None } else { Some(now - TimeDelta::days(30)) };
                let question = question::assignment(Some(now), before, Some(cartera), day(TODAY));
                tokio::spawn(async move { anyhow::Ok(replica.ask(question?).await?.body.to_vec()) })
            })
            .collect();
        let mut bodies = BTreeSet::new();
        for caller in callers {
            bodies.insert(caller.await??);
        }
        Ok(bodies)
    };
    // An answer says when it was computed, so as many differ as were.
    let first = ask(day("2025-06-10"), &replicas).await?;
    assert_eq!(first.len(), 1, "one computation");
    let again = ask(day("2025-06-10"), &replicas).await?;
    assert_eq!(again, first, "and it is kept");
    // New data is another key.
    let mut changed = raw.clone();
    changed.asignaciones[0].eliminado_en = Some(Utc::now());
    changed.asignaciones[1].tramo_gestion = Some("99".to_owned());
    changed.write(&world.pool).await?;
    assert!(refresh(&world.pool, Utc::now()).await?.changed);
    // Until it is computed, all get the answer of before, whole, and nobody waits.
    let stale = ask(day("2025-06-10"), &replicas).await?;
    assert!(stale.is_superset(&first) && stale.len() <= 2, "{} answers", stale.len());
    let newer = stack::wait::until("the new answer", Duration::from_secs(60), async || {
        ask(day("2025-06-10"), &replicas).await.is_ok_and(|newer| newer.len() == 1 && newer != first)
    });
    newer.await?;
    // Without Redis, one a process.
    let nowhere = RedisSettings { url: Secret::new("redis://127.0.0.1:1".to_owned()), ..world.redis.clone() };
    let alone = Dashboards::new(world.pool.clone(), Redis::new(&nowhere)?, world.settings.clone());
    assert_eq!(ask(day("2025-06-11"), &[alone]).await?.len(), 1, "one computation without Redis too");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_data_is_empty_and_has_its_shape() -> Result<()> {
    let world = World::new("empty").await?;
    let question = question::dashboard(Filters::default(), None, &[], day(TODAY))?;
    let found = world.answer(&question).await?;
    same(&found, &serde_json::json!({ "segmentoData": [], "negocioData": [], "integralChartData": [] }))?;
    refresh(&world.pool, Utc::now()).await?;
    let question = question::productivity(None, None, day(TODAY))?;
    let found = world.answer(&question).await?;
    assert_eq!(found["agentRanking"], serde_json::json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_agents_are_of_the_version() -> Result<()> {
    let world = World::new("agentnames").await?;
    Raw::generate(11, 200, 800).write(&world.pool).await?;
    refresh(&world.pool, Utc::now()).await?;
    let question = question::productivity(Some(day("2025-05-05")), Some(day(TODAY)), day(TODAY))?;
    let before = world.answer(&question).await?;
    // A run has read other names, and the marts are held back.
    let names = "update raw_ejecutivos set nombre = 'Otra ' || correo_name";
    sea_orm::sqlx::query(names).execute(&world.pool).await?;
    assert_eq!(world.answer(&question).await?, before, "one version, one answer");
    let refreshed = refresh(&world.pool, Utc::now()).await?;
    assert_eq!(
        (refreshed.changed, refreshed.campaigns),
        (true, 0),
        "a name is no reason to compute anything"
    );
    let after = world.answer(&question).await?.to_string();
    assert!(after.contains("Otra Agente"), "{after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_a_mistyped_year_is_one_day_more_not_all_until_then() -> Result<()> {
    let world = World::new("mistyped").await?;
    let mut raw = Raw::generate(12, 100, 400);
    raw.pagos[0].fecha_pago = day("9999-12-31");
    raw.write(&world.pool).await?;
    let refreshed = refresh(&world.pool, Utc::now()).await?;
    // Campaigns without an end last until today, and the payment's own day.
    let most = (Utc::now().date_naive() - day(START)).num_days() + 3;
    assert!(refreshed.days <= most, "{refreshed:?}");
    compare(&world, &raw, &mut Dice(120), 24).await?;
    // So it is when the year is mended.
    raw.pagos[0].eliminado_en = Some(lima(day(TODAY), 0));
    raw.write(&world.pool).await?;
    assert!(refresh(&world.pool, Utc::now()).await?.days <= most);
    compare(&world, &raw, &mut Dice(121), 24).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_noted_all_is_computed_again() -> Result<()> {
    let world = World::new("all").await?;
    let raw = Raw::generate(13, 200, 800);
    raw.write(&world.pool).await?;
    refresh(&world.pool, Utc::now()).await?;
    // Nothing that was derived is right any more.
    sea_orm::sqlx::raw_sql(
        "update aux_debt set deuda = deuda + 1;
         insert into aux_debt (cuenta, dia, deuda) values ('C1', '2025-06-02', 77), ('C2', '2025-12-31', 77)
             on conflict do nothing;
         delete from aux_snapshots where dia < '2025-06-01'; delete from aux_member_days; delete from aux_contacts;
         delete from aux_attempts; delete from aux_promises; delete from aux_payments; delete from mart_calls;
         update aux_accounts set deuda_asig = 5; update mart_days set cuentas = 9; update mart_agents set calls = 3;
         insert into raw_changes (source) values ('all')",
    )
    .execute(&world.pool)
    .await?;
    refresh(&world.pool, Utc::now()).await?;
    compare(&world, &raw, &mut Dice(130), 48).await?;
    assert_eq!(etl::collections::doctor(&world.pool).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_answer_is_as_of_the_last_refresh_that_found_nothing_new() -> Result<()> {
    let world = World::new("asof").await?;
    Raw::generate(14, 50, 200).write(&world.pool).await?;
    let (first, second) = (lima(day(TODAY), 0), lima(day(TODAY), 3_600));
    refresh(&world.pool, first).await?;
    let dashboards = world.dashboards()?;
    let question = question::assignment(None, None, None, day(TODAY))?;
    assert_eq!(dashboards.ask(question.clone()).await?.as_of, Some(first));
    assert!(!refresh(&world.pool, second).await?.changed);
    let again = dashboards.ask(question).await?;
    assert_eq!((again.as_of, again.version), (Some(second), 1));
    Ok(())
}
