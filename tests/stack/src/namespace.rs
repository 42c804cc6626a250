//! A corner of the shared servers for one test, so that tests run in parallel.

use crate::server::{create_database, drop_database};
use crate::{Servers, aws, servers};
use anyhow::{Context, Result};
use reqwest::Method;
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use serde_json::Value;
use std::time::Duration;

/// A role with a schema, prefixes for queues and keys, and a bucket, used by nobody else. Dropping it
/// removes them, unless `LOTE_KEEP` is set (to look at what a failed test left).
#[derive(Debug)]
pub struct Namespace {
    /// Unique; letters, digits and underscores. The role's and the schema's name.
    pub name: String,
    /// As the namespace's role, whose search path is its schema.
    pub database_url: String,
    /// Before every RabbitMQ queue and exchange.
    pub queue_prefix: String,
    /// Before every Redis key.
    pub redis_prefix: String,
    /// A bucket that exists.
    pub bucket: String,
    /// Before every SQS queue (letters, digits, hyphens).
    pub sqs_prefix: String,
    servers: Servers,
    gone: bool,
}

impl Namespace {
    /// A new namespace of the shared test servers, which it starts where they don't run. `label` helps a
    /// reader of logs: lower-case letters, digits and underscores.
    ///
    /// # Errors
    /// Where a server refuses.
    pub async fn create(label: &str) -> Result<Self> {
        Self::create_on(servers().await, label).await
    }

    /// A new namespace of other servers, say a private [`crate::Stack`]'s.
    ///
    /// # Errors
    /// Where a server refuses.
    pub async fn create_on(servers: &Servers, label: &str) -> Result<Self> {
        let name = format!("{}_{}", label.replace('-', "_"), crate::random_hex(5));
        let dashed = name.replace('_', "-");
        let password = crate::random_hex(12);
        create_role(&servers.postgres_url, &name, &password).await?;
        aws::create_bucket(&servers.aws_endpoint, &dashed).await?;
        Ok(Self {
            database_url: role_url(&servers.postgres_url, &name, &password)?,
            queue_prefix: format!("{name}."),
            redis_prefix: format!("{name}:"),
            bucket: dashed.clone(),
            sqs_prefix: format!("{dashed}-"),
            name,
            servers: servers.clone(),
            gone: false,
        })
    }

    /// The servers it is on.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// A second role and schema in this namespace, for a test of two services: their database URL.
    ///
    /// # Errors
    /// Where PostgreSQL refuses.
    pub async fn database_for(&self, service: &str) -> Result<String> {
        let (role, password) = (format!("{}_{service}", self.name), crate::random_hex(12));
        create_role(&self.servers.postgres_url, &role, &password).await?;
        role_url(&self.servers.postgres_url, &role, &password)
    }

    /// A database of MariaDB's in this namespace: its user's `mysql://…`.
    ///
    /// # Errors
    /// Where MariaDB refuses.
    pub async fn mysql_database(&self) -> Result<String> {
        create_database(&self.servers.mysql_url, &self.name, &crate::random_hex(12)).await
    }

    /// Removes it all. Dropping does the same and reports nothing.
    ///
    /// # Errors
    /// Where a server refuses.
    pub async fn cleanup(mut self) -> Result<()> {
        self.gone = true;
        remove(&self.servers, &self.name, &self.queue_prefix, &self.bucket, &self.sqs_prefix).await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.gone || std::env::var_os("LOTE_KEEP").is_some() {
            return;
        }
        let (servers, name, prefix) = (self.servers.clone(), self.name.clone(), self.queue_prefix.clone());
        let (bucket, sqs_prefix) = (self.bucket.clone(), self.sqs_prefix.clone());
        // A drop can't await, and the test's runtime may be on its way out: a thread with one of its own.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let work = remove(&servers, &name, &prefix, &bucket, &sqs_prefix);
                tokio::time::timeout(Duration::from_secs(10), work).await?
            })
        });
        if let Ok(Err(error)) = thread.join() {
            eprintln!("namespace {} is not cleaned up: {error:#}", self.name);
        }
    }
}

/// Makes a role that owns the schema of its name and sees nothing else by default. One that exists gets
/// the password.
///
/// # Errors
/// Where PostgreSQL refuses.
pub async fn create_role(admin_url: &str, role: &str, password: &str) -> Result<()> {
    anyhow::ensure!(is_identifier(role), "{role:?} is not a role's name: lower-case letters, digits and _");
    anyhow::ensure!(is_identifier(password), "passwords are lower-case letters and digits here");
    let mut connection = PgConnection::connect(admin_url).await.context("connect as superuser")?;
    let exists: bool = sea_orm::sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(role)
        .fetch_one(&mut connection)
        .await?;
    let verb = if exists { "ALTER" } else { "CREATE" };
    // Names can't be parameters; both are checked above.
    let sql = format!(
        "{verb} ROLE {role} LOGIN PASSWORD '{password}';
         CREATE SCHEMA IF NOT EXISTS {role} AUTHORIZATION {role};
         ALTER ROLE {role} SET search_path = {role}"
    );
    connection.execute(AssertSqlSafe(sql)).await.with_context(|| format!("create role {role}"))?;
    connection.close().await?;
    Ok(())
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The superuser's URL turned into a role's.
pub(crate) fn role_url(admin_url: &str, role: &str, password: &str) -> Result<String> {
    let mut url = reqwest::Url::parse(admin_url)?;
    let set = url.set_username(role).and_then(|()| url.set_password(Some(password)));
    anyhow::ensure!(set.is_ok(), "the servers' PostgreSQL URL takes no user");
    Ok(url.into())
}

async fn remove(servers: &Servers, name: &str, prefix: &str, bucket: &str, sqs_prefix: &str) -> Result<()> {
    let database = drop_roles(&servers.postgres_url, name).await;
    let rabbit = delete_from_rabbit(&servers.management_url, prefix).await;
    let aws = async {
        for url in aws::sqs_queues(&servers.aws_endpoint, sqs_prefix).await? {
            aws::delete_queue(&servers.aws_endpoint, &url).await?;
        }
        aws::delete_bucket(&servers.aws_endpoint, bucket).await
    };
    let aws = aws.await;
    let mysql = drop_database(&servers.mysql_url, name).await;
    database.and(rabbit).and(aws).and(mysql)
}

/// Drops the namespace's roles with all they own, even while somebody is still connected as one of them.
async fn drop_roles(admin_url: &str, name: &str) -> Result<()> {
    let mut connection = PgConnection::connect(admin_url).await?;
    let roles: Vec<String> = sea_orm::sqlx::query_scalar(
        "SELECT rolname::text FROM pg_roles WHERE rolname = $1 OR starts_with(rolname, $1 || '_')",
    )
    .bind(name)
    .fetch_all(&mut connection)
    .await?;
    for role in roles {
        let sql = format!(
            "ALTER ROLE {role} NOLOGIN;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}';
             DROP OWNED BY {role} CASCADE; DROP ROLE {role}"
        );
        connection.execute(AssertSqlSafe(sql)).await.with_context(|| format!("drop role {role}"))?;
    }
    connection.close().await?;
    Ok(())
}

async fn delete_from_rabbit(management_url: &str, prefix: &str) -> Result<()> {
    let client = crate::http();
    for kind in ["queues", "exchanges"] {
        let url = format!("{management_url}/api/{kind}/%2F");
        let listed: Vec<Value> =
            client.get(&url).query(&[("columns", "name")]).send().await?.error_for_status()?.json().await?;
        let names = listed.iter().filter_map(|item| item["name"].as_str());
        let names: Vec<&str> = names.filter(|name| name.starts_with(prefix)).collect();
        if kind == "queues" && !names.is_empty() {
            // On RabbitMQ 3.10, deleting a queue with at-least-once dead-lettering right after its declaration
            // ends dead-lettering on the whole node: let what was declared last settle.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        for name in names {
            let answer = client.request(Method::DELETE, format!("{url}/{name}")).send().await?;
            if answer.status() != reqwest::StatusCode::NOT_FOUND {
                answer.error_for_status()?;
            }
        }
    }
    Ok(())
}
