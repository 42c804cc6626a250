//! PostgreSQL: one pool a process, for SeaORM and for SQL.

mod orm;

use std::{
    io,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use sea_orm::{
    DatabaseConnection, DbErr, RuntimeErr,
    sqlx::{
        self, ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres,
        pool::PoolConnection,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};
use sea_orm_migration::MigratorTrait;
use tokio::time::error::Elapsed;
use tokio_util::sync::CancellationToken;

use crate::{config::DatabaseSettings, metrics};

pub use orm::{NoRelation, Orm, columns, decode, newest_first, orm, sql};

/// A service's own schema. Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct Database {
    /// For entities.
    pub orm: DatabaseConnection,
    /// The same pool, for SQL and for transactions that the crates outbox and jobs join.
    pub pool: PgPool,
    given_back: Arc<AtomicU64>,
}

impl Database {
    /// How often somebody was done with a connection of the pool.
    pub fn given_back(&self) -> u64 {
        self.given_back.load(Ordering::Relaxed)
    }
}

/// Connects, and waits for a server that is not there yet: it logs each try and gives up only when
/// `shutdown` is cancelled. `application` is the name that PostgreSQL shows in `pg_stat_activity`.
///
/// # Errors
/// A URL that can't be understood, a refused role or database (which waiting doesn't cure), or shutdown.
pub async fn connect(
    settings: &DatabaseSettings,
    application: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<Database> {
    // sqlx's TLS needs the provider too.
    crate::tls::install();
    wait_for_server(&options(settings, application)?, shutdown).await?;
    let database = lazy(settings, application)?;
    let pool = database.pool.clone();
    metrics::show_pool("postgresql", move || metrics::Connections {
        open: pool.size() as usize,
        idle: pool.num_idle(),
        max: pool.options().get_max_connections() as usize,
    });
    Ok(database)
}

/// The same without waiting: it connects when it is first used. For a database that a process can do without.
///
/// # Errors
/// A URL that can't be understood.
pub fn lazy(settings: &DatabaseSettings, application: &str) -> anyhow::Result<Database> {
    crate::tls::install();
    let options = options(settings, application)?;
    let given_back = Arc::<AtomicU64>::default();
    let count = given_back.clone();
    let pool = PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .min_connections(1)
        .acquire_timeout(settings.acquire_timeout)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(1800))
        // In place of sqlx's own test, which takes any answer for its own.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(answers_in_step(connection)))
        .after_release(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(true) })
        })
        .connect_lazy_with(options);
    let orm = orm::orm(&pool);
    Ok(Database { orm, pool, given_back })
}

/// How long an idle connection may take to answer. Shorter than anybody waits for one.
const UNANSWERED: Duration = Duration::from_secs(2);

/// Whether the connection answers what it is asked now. sqlx 0.9 doesn't count the reply to a COPY that was dropped
/// before its end: such a connection answers each question with the reply to the one before, and is not to be used
/// again. Nor is one whose host is gone, which answers nothing. Takes the round trip that a ping takes.
async fn answers_in_step(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let asked: i64 = rand::random();
    let question = sqlx::query_scalar("SELECT $1::bigint").bind(asked).fetch_one(connection);
    let answered: i64 = match tokio::time::timeout(UNANSWERED, question).await {
        Ok(answered) => answered?,
        // An error, and not `false`: it is then closed without a word.
        Err(_) => return Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())),
    };
    Ok(answered == asked)
}

fn options(settings: &DatabaseSettings, application: &str) -> anyhow::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(settings.url.expose())
        // The parser's message may quote the URL, and with it the password.
        .map_err(|_| anyhow::anyhow!("DATABASE_URL is not a valid PostgreSQL URL"))?;
    Ok(options
        .application_name(application)
        .options([
            ("statement_timeout", settings.statement_timeout.as_millis().to_string()),
            // A transaction whose process hangs must not hold its row locks for ever.
            ("idle_in_transaction_session_timeout", "60000".to_owned()),
            ("lock_timeout", "30000".to_owned()),
            // What fits into memory or lies on flash is not much dearer out of order. With the default, 4, a look-up
            // of a few thousand keys reads the whole table instead.
            ("random_page_cost", "1.1".to_owned()),
            // Compiling a plan takes longer than what a request asks for, however costly the planner thinks it is.
            ("jit", "off".to_owned()),
        ])
        .disable_statement_logging())
}

async fn wait_for_server(options: &PgConnectOptions, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(100);
    let started = tokio::time::Instant::now();
    loop {
        let attempt = tokio::time::timeout(Duration::from_secs(5), options.connect());
        let error = match attempt.await {
            Ok(Ok(connection)) => {
                if let Err(error) = connection.close().await {
                    tracing::debug!(%error, "the probing connection did not close in good order");
                }
                return Ok(());
            }
            Ok(Err(error)) if unavailable(&error) => error.to_string(),
            Ok(Err(error)) => return Err(error).context("the database refuses us"),
            Err(_) => "no answer within 5 s".to_owned(),
        };
        tracing::warn!(
            host = options.get_host(),
            port = options.get_port(),
            waited_s = started.elapsed().as_secs(),
            retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            error,
            "waiting for the database"
        );
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(3)),
            () = shutdown.cancelled() => anyhow::bail!("shut down while waiting for the database: {error}"),
        }
    }
}

/// Brings the schema to this version. Processes that start together take turns.
///
/// # Errors
/// As [`connect`], or a migration that fails; PostgreSQL then keeps none of it.
pub async fn migrate<M: MigratorTrait>(
    settings: &DatabaseSettings,
    application: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    // Building an index on a grown table takes as long as it takes.
    let patient =
        DatabaseSettings { statement_timeout: Duration::ZERO, max_connections: 2, ..settings.clone() };
    let database = connect(&patient, application, shutdown).await?;
    // The lock belongs to this transaction's connection: it ends with the process, however that ends.
    let mut turn = database.pool.begin().await?;
    allow_idle(&mut turn).await?;
    // A statement that waits for a lock keeps its snapshot, and whoever has the turn and makes an index concurrently
    // waits for all older snapshots: for ours, which waits for its turn. So this asks again and again.
    let ask = "SELECT pg_try_advisory_xact_lock(hashtext('lote migrations ' || current_schema()))";
    while !sqlx::query_scalar::<_, bool>(ask)
        .fetch_one(&mut *turn)
        .await
        .context("waiting for our turn to migrate")?
    {
        let pause = tokio::time::sleep(Duration::from_millis(100));
        if shutdown.run_until_cancelled(pause).await.is_none() {
            anyhow::bail!("shut down while waiting for our turn to migrate");
        }
    }
    M::up(&database.orm, None).await.context("migrating the schema")?;
    turn.commit().await?;
    database.pool.close().await;
    Ok(())
}

/// What work on a connection came to that was given a time ([`tokio::time::timeout`]), by `done`. A connection that has not answered by
/// then is closed: given back to its pool it would be asked whether it is there, without an end, and keep its place for so long.
///
/// # Errors
/// Those of the work; [`sqlx::Error::PoolTimedOut`] where it was not done in time, so that what it did is not known.
pub fn in_time<T, E: From<sqlx::Error>>(
    conn: &mut PoolConnection<Postgres>,
    done: Result<Result<T, E>, Elapsed>,
) -> Result<T, E> {
    done.unwrap_or_else(|_| {
        conn.close_on_drop();
        Err(sqlx::Error::PoolTimedOut.into())
    })
}

/// Lets the transaction that `conn` is in be idle for as long as it takes, for one that waits for something other than the
/// database.
///
/// # Errors
/// The database.
pub async fn allow_idle(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0").execute(conn).await.map(drop)
}

/// Whether an error says that the database can't answer now, so that trying later makes sense:
/// the network, the pool, a server that starts, stops or is full, a statement that took too long.
/// SQLSTATE classes from PostgreSQL's appendix A.
pub fn unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // 08 connection, 53 out of resources, 57 operator's intervention (includes cancelled
            // statements), 55P03 a lock not had in time, 40 rolled back for a conflict or a deadlock.
            ["08", "53", "57", "40", "55P03"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// The same for an error of SeaORM.
pub fn orm_unavailable(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) => true,
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => unavailable(error),
        _ => false,
    }
}

/// The same for an error that has one of them among its causes.
pub fn any_unavailable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<sqlx::Error>().is_some_and(unavailable)
            || cause.downcast_ref::<DbErr>().is_some_and(orm_unavailable)
    })
}
