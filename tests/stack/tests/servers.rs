//! Namespaces are apart, and servers come back with what they must have kept.

use anyhow::{Context, Result, ensure};
use sea_orm::sqlx::{self, Connection, PgConnection};
use serde_json::{Value, json};
use stack::server::{Durability, Postgres, Redis};
use stack::{Namespace, Stack, wait};
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn namespaces_see_nothing_of_each_other() -> Result<()> {
    let (one, two) = (Namespace::create("apart").await?, Namespace::create("apart").await?);
    ensure!(one.name != two.name && one.bucket != two.bucket && one.queue_prefix != two.queue_prefix);
    let mut first = PgConnection::connect(&one.database_url).await?;
    let mut second = PgConnection::connect(&two.database_url).await?;
    for (connection, value) in [(&mut first, 1), (&mut second, 2)] {
        sqlx::query("CREATE TABLE thing (value int)").execute(&mut *connection).await?;
        sqlx::query("INSERT INTO thing VALUES ($1)").bind(value).execute(&mut *connection).await?;
    }
    let value: i32 = sqlx::query_scalar("SELECT value FROM thing").fetch_one(&mut second).await?;
    ensure!(value == 2, "unqualified names lead into one's own schema");

    let theirs = sqlx::AssertSqlSafe(format!("SELECT value FROM {}.thing", two.name));
    let refused =
        sqlx::query(theirs).fetch_one(&mut first).await.err().context("one role reads another's")?;
    ensure!(refused.to_string().contains("permission denied"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn cleaning_up_leaves_nothing() -> Result<()> {
    let namespace = Namespace::create("cleanup").await?;
    let servers = namespace.servers().clone();
    let (name, prefix) = (namespace.name.clone(), namespace.queue_prefix.clone());
    // Somebody is still connected, and a second service has a schema.
    let _open = PgConnection::connect(&namespace.database_url).await?;
    namespace.database_for("other").await?;
    let client = stack::http();
    let queues = format!("{}/api/queues/%2F", servers.management_url);
    let queue = format!("{queues}/{prefix}work");
    client.put(&queue).json(&json!({ "durable": true })).send().await?.error_for_status()?;
    let object = format!("{}/{}/a", servers.aws_endpoint, namespace.bucket);
    client.put(&object).body("b").send().await?.error_for_status()?;

    namespace.cleanup().await?;
    let mut admin = PgConnection::connect(&servers.postgres_url).await?;
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_roles WHERE starts_with(rolname, $1))
              + (SELECT count(*) FROM pg_namespace WHERE starts_with(nspname, $1))",
    )
    .bind(&name)
    .fetch_one(&mut admin)
    .await?;
    ensure!(left == 0, "{left} roles and schemas of {name} are left");
    ensure!(client.get(&queue).send().await?.status() == 404, "the queue is left");
    ensure!(client.get(&object).send().await?.status() == 404, "the bucket is left");
    Ok(())
}

#[tokio::test]
async fn a_killed_postgres_keeps_what_was_committed() -> Result<()> {
    stack::install_tls();
    let dir = tempfile::tempdir_in(stack::home())?;
    // As in a private home: the user postgres, whom root runs it as, can't enter here.
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700))?;
    let postgres = Postgres::at(dir.path(), stack::ports::free()?, "secret", Durability::Full)?;
    postgres.start().await?;
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    sqlx::query("CREATE TABLE thing (value int)").execute(&mut connection).await?;
    sqlx::query("INSERT INTO thing VALUES (7)").execute(&mut connection).await?;

    postgres.kill().await?;
    ensure!(!postgres.is_running());
    ensure!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err(), "its connections died with it");

    postgres.start().await?;
    let mut connection = PgConnection::connect(&postgres.url()).await?;
    let value: i32 = sqlx::query_scalar("SELECT value FROM thing").fetch_one(&mut connection).await?;
    ensure!(value == 7);
    postgres.stop().await?;
    let data = std::fs::canonicalize(dir.path().join("data"))?;
    postgres.remove_data()?;
    ensure!(!data.exists(), "{} is left", data.display());
    Ok(())
}

#[tokio::test]
async fn a_killed_redis_comes_back_on_its_port() -> Result<()> {
    let dir = tempfile::tempdir_in(stack::home())?;
    let redis = Redis::at(dir.path(), stack::ports::free()?, "secret")?;
    redis.start().await?;
    redis.kill().await?;
    ensure!(!redis.is_running() && !redis.answers().await);
    redis.start().await?;
    ensure!(redis.answers().await);
    // Another value for the same directory finds the process that runs.
    ensure!(Redis::at(dir.path(), redis.port(), "secret")?.is_running());
    redis.stop().await?;
    ensure!(!redis.is_running());
    Ok(())
}

#[tokio::test]
async fn a_private_stack_comes_back_after_a_power_cut() -> Result<()> {
    let dir = tempfile::tempdir_in(stack::home())?;
    let stack = Stack::start(dir.path()).await?;
    let open = open_to_others(dir.path())?;
    ensure!(open.is_empty(), "other machines could reach {open:?}");
    let (servers, client) = (stack.servers(), stack::http());
    let queue = format!("{}/api/queues/%2F/work", servers.management_url);
    let quorum = json!({ "durable": true, "arguments": { "x-queue-type": "quorum" } });
    client.put(&queue).json(&quorum).send().await?.error_for_status()?;
    // RabbitMQ writes down which quorum queues it has only now and then, or when it stops.
    stack.rabbit.stop().await?;
    stack.rabbit.start().await?;
    let publish = format!("{}/api/exchanges/%2F/amq.default/publish", servers.management_url);
    let message = json!({
        "routing_key": "work", "payload": "kept", "payload_encoding": "string",
        "properties": { "delivery_mode": 2 },
    });
    let routed: Value = client.post(&publish).json(&message).send().await?.error_for_status()?.json().await?;
    ensure!(routed["routed"] == true);
    wait::until("the message should be committed", Duration::from_secs(30), async || {
        let Ok(answer) = client.get(&queue).send().await else { return false };
        answer.json::<Value>().await.is_ok_and(|queue| queue["messages"] == 1)
    })
    .await?;
    let bucket = format!("{}/medisupply-bulk-uploads", servers.aws_endpoint);
    client.put(format!("{bucket}/object")).body("lost").send().await?.error_for_status()?;

    stack.kill_all().await?;
    ensure!(!stack.is_running() && client.get(&queue).send().await.is_err());
    stack.start_all().await?;

    let get = json!({ "count": 1, "ackmode": "ack_requeue_false", "encoding": "auto" });
    let found: Value = client.post(format!("{queue}/get")).json(&get).send().await?.json().await?;
    ensure!(found[0]["payload"] == "kept", "a committed message is gone: {found}");
    // LocalStack keeps nothing; what its init scripts make is there again.
    ensure!(client.get(format!("{bucket}/object")).send().await?.status() == 404);
    client.get(format!("{bucket}?list-type=2")).send().await?.error_for_status()?;
    let queues = stack::aws::sqs_queues(&servers.aws_endpoint, "medisupply-bulk-upload-queue").await?;
    ensure!(queues.len() == 2, "the queue and its dead letters: {queues:?}");
    stack.remove().await
}

/// Where processes that have to do with a directory listen for other machines too: command and address.
fn open_to_others(dir: &Path) -> Result<Vec<(String, String)>> {
    let name = dir.to_str().context("a path")?.as_bytes();
    let (mut found, mut listening) = (Vec::new(), 0);
    for process in std::fs::read_dir("/proc")? {
        let process = process?.path();
        let read = |file: &str| std::fs::read(process.join(file)).unwrap_or_default();
        let told = [read("cmdline"), read("environ")].concat();
        if !told.windows(name.len()).any(|window| window == name) {
            continue;
        }
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let sockets: BTreeSet<String> = files
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .filter_map(|link| {
                Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
            })
            .collect();
        for table in ["net/tcp", "net/tcp6"] {
            for line in String::from_utf8(read(table))?.lines().skip(1) {
                let fields: Vec<_> = line.split_whitespace().collect();
                // 0A is LISTEN.
                if fields.get(3) != Some(&"0A")
                    || !fields.get(9).is_some_and(|inode| sockets.contains(*inode))
                {
                    continue;
                }
                listening += 1;
                // 127.0.0.1 and ::1, in the order of bytes that the kernel has them in.
                let loopback =
                    ["0100007F:", "00000000000000000000000001000000:", "0000000000000000FFFF00000100007F:"];
                let command = String::from_utf8_lossy(&read("comm")).trim().to_owned();
                if !loopback.iter().any(|address| fields[1].starts_with(address)) {
                    found.push((command, fields[1].to_owned()));
                }
            }
        }
    }
    // PostgreSQL, Redis, LocalStack; AMQP, management, metrics and distribution of RabbitMQ. Its port mapper does not say where
    // it belongs.
    ensure!(listening >= 7, "only {listening} ports are listened at");
    Ok(found)
}
