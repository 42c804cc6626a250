use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chassis::{config::DatabaseSettings, db, http::Health, http_client};
use sea_orm::sqlx;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use stack::{Namespace, proxy::Proxy};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{process, support::start};

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        // Theirs make an index concurrently.
        outbox::migrations().into_iter().chain(chassis::migrations()).collect()
    }
}

/// Stands before a server that is still starting: hangs up on the first `refusals` callers, then forwards.
/// Returns its port, and counts callers.
async fn starting_server(upstream: String, refusals: usize) -> anyhow::Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let callers = Arc::new(AtomicUsize::new(0));
    let count = callers.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            if count.fetch_add(1, Ordering::SeqCst) < refusals {
                continue;
            }
            let upstream = upstream.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(upstream).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok((port, callers))
}

#[tokio::test]
async fn connecting_waits_for_a_server_that_comes_later() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_db_wait").await?;
    let mut url: reqwest::Url = namespace.database_url.parse()?;
    let upstream = format!("{}:{}", url.host_str().expect("a host"), url.port().unwrap_or(5432));
    let (port, callers) = starting_server(upstream, 3).await?;
    url.set_port(Some(port)).map_err(|()| anyhow::anyhow!("a URL without a host"))?;
    let settings = DatabaseSettings::at(url);
    let database = db::connect(&settings, "chassis-test", &CancellationToken::new()).await?;
    assert!(callers.load(Ordering::SeqCst) > 3, "three refusals, then an answer");
    let name: String =
        sqlx::query_scalar("SELECT current_setting('application_name')").fetch_one(&database.pool).await?;
    assert_eq!(name, "chassis-test");
    Ok(())
}

#[tokio::test]
async fn whoever_is_done_with_a_connection_is_counted() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_db_done").await?;
    let settings = DatabaseSettings { max_connections: 1, ..DatabaseSettings::at(&namespace.database_url) };
    let database = db::connect(&settings, "chassis-test", &CancellationToken::new()).await?;
    for _ in 0..3 {
        let before = database.given_back();
        let held = database.pool.acquire().await?;
        drop(held);
        // The pool's only one.
        drop(database.pool.acquire().await?);
        assert!(database.given_back() > before);
    }
    Ok(())
}

#[tokio::test]
async fn the_pool_is_shown_as_it_is_when_somebody_asks() -> anyhow::Result<()> {
    let output = process::run("database::a_process_with_a_pool", &[])?.wait_with_output().await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[tokio::test]
#[ignore = "run by another test, in a process of its own, which has one pool"]
async fn a_process_with_a_pool() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_db_pool").await?;
    let settings =
        DatabaseSettings { max_connections: 3, ..DatabaseSettings::at(namespace.database_url.as_str()) };
    let database = db::connect(&settings, "chassis-test", &CancellationToken::new()).await?;
    let server = start(Health::new("test"), |_| {})?;
    let shows = async |series: &str| -> anyhow::Result<bool> {
        let text = http_client().get(server.at("/metrics")).send().await?.text().await?;
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        Ok(text.lines().any(|line| line == series))
    };
    let first = database.pool.acquire().await?;
    let second = database.pool.acquire().await?;
    assert!(shows(r#"lote_pool_connections_max{pool="postgresql"} 3"#).await?);
    assert!(shows(r#"lote_pool_connections{pool="postgresql",state="in_use"} 2"#).await?);
    drop((first, second));
    // A connection that is given back is tested first, in a task of its own.
    let end = Instant::now() + Duration::from_secs(20);
    while !shows(r#"lote_pool_connections{pool="postgresql",state="in_use"} 0"#).await? {
        assert!(Instant::now() < end, "they stay in use");
    }
    assert!(shows(r#"lote_pool_connections{pool="postgresql",state="idle"} 2"#).await?);
    Ok(())
}

#[tokio::test]
async fn waiting_ends_with_the_process_and_a_refusal_ends_it_at_once() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_db_end").await?;
    let (proxy, url) = Proxy::before(&namespace.database_url).await?;
    proxy.cut().await;
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let ended = db::connect(&DatabaseSettings::at(url), "chassis-test", &shutdown).await;
    assert!(ended.expect_err("nothing listens").to_string().contains("shut down"));

    let wrong = DatabaseSettings::at(url_with_password(&namespace.database_url, "not-it")?);
    let started = Instant::now();
    let refused = db::connect(&wrong, "chassis-test", &CancellationToken::new()).await;
    let message = format!("{:#}", refused.expect_err("a wrong password"));
    assert!(message.contains("password authentication failed") && !message.contains("not-it"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(5));
    Ok(())
}

fn url_with_password(url: &str, password: &str) -> anyhow::Result<String> {
    let mut url: reqwest::Url = url.parse()?;
    url.set_password(Some(password)).map_err(|()| anyhow::anyhow!("a URL without a host"))?;
    Ok(url.into())
}

#[tokio::test]
async fn processes_that_migrate_together_take_turns() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_migrate").await?;
    let settings = DatabaseSettings::at(&namespace.database_url);
    let shutdown = CancellationToken::new();
    let all = futures::future::join_all(
        (0..4).map(|_| db::migrate::<Migrator>(&settings, "chassis-test", &shutdown)),
    );
    for outcome in all.await {
        outcome?;
    }
    let database = db::connect(&settings, "chassis-test", &shutdown).await?;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM jwks_cache").fetch_one(&database.pool).await?;
    assert_eq!(rows, 0);
    Ok(())
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_an_outage_and_not_our_bug() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_db_slow").await?;
    let settings = DatabaseSettings {
        statement_timeout: Duration::from_millis(50),
        ..DatabaseSettings::at(&namespace.database_url)
    };
    let database = db::connect(&settings, "chassis-test", &CancellationToken::new()).await?;
    let slow = sqlx::query("SELECT pg_sleep(10)").execute(&database.pool).await.expect_err("cancelled");
    assert!(db::unavailable(&slow), "{slow}");
    let bug = sqlx::query("SELECT nonsense").execute(&database.pool).await.expect_err("no such column");
    assert!(!db::unavailable(&bug), "{bug}");
    assert_eq!(chassis::Problem::from(bug).status().as_u16(), 500);
    Ok(())
}

/// However far a COPY came before it was dropped, whoever has its connection next gets the answers to their own questions.
#[tokio::test]
async fn a_connection_whose_copy_was_dropped_is_not_used_again() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_db_copy").await?;
    let settings = DatabaseSettings::at(namespace.database_url.clone());
    let settings = DatabaseSettings { max_connections: 1, ..settings };
    let database = db::connect(&settings, "chassis-test", &CancellationToken::new()).await?;
    let pool = &database.pool;
    sqlx::query("CREATE TABLE copied (n integer)").execute(pool).await?;
    for sent in [0, 1, 50_000] {
        let mut transaction = pool.begin().await?;
        let mut copy = transaction.copy_in_raw("COPY copied (n) FROM stdin").await?;
        for _ in 0..sent {
            copy.send(&b"1\n"[..]).await?;
        }
        drop(copy);
        drop(transaction);
        for n in 0..20_i32 {
            let own: i32 = sqlx::query_scalar("SELECT $1::integer").bind(n).fetch_one(pool).await?;
            assert_eq!(own, n, "after {sent} lines, the answer is another's");
        }
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM copied").fetch_one(pool).await?;
        assert_eq!(left, 0, "what was copied by half is rolled back");
    }
    Ok(())
}
