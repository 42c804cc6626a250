//! What the programs of all services have in common: how they start, and the subcommands that each of them has.

use std::process::ExitCode;

use sea_orm::sqlx::PgPool;
use sea_orm_migration::MigratorTrait;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, DatabaseSettings, Env, Role},
    db, doctor, metrics, shutdown,
    telemetry::{self, Telemetry},
    tls,
};

/// The subcommands of a service that runs jobs.
#[derive(Clone, Copy, Debug, clap::Subcommand)]
pub enum Command {
    /// Serve HTTP.
    Api,
    /// Run jobs in the background.
    Worker,
    /// Bring the database schema to this version.
    Migrate,
    /// Check the invariants in the database; exits with 1 where one is broken.
    Doctor,
    /// Check the environment of a role; exits with 1 where a variable is missing or wrong. Connects to nothing.
    CheckConfig(CheckConfig),
}

impl Command {
    /// What a process runs as, in its metrics and traces.
    pub const fn role(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Migrate => "migrate",
            Self::Doctor => "doctor",
            Self::CheckConfig(_) => "check-config",
        }
    }
}

/// What the environment is checked for.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CheckConfig {
    /// Who is to run in it.
    role: Program,
    /// Refuse variables that it doesn't read, too.
    #[arg(long)]
    strict: bool,
}

/// What runs in an environment of its own.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Program {
    Api,
    Worker,
    Migrate,
}

impl CheckConfig {
    /// Prints what is wrong with this process's environment for those who `read` it: a role, or (none) the migration.
    pub fn run(self, service: &str, read: impl FnOnce(&mut Env, Option<Role>)) -> ExitCode {
        let role = match self.role {
            Program::Api => Some(Role::Api),
            Program::Worker => Some(Role::Worker),
            Program::Migrate => None,
        };
        match config::check(Env::from_process(), self.strict, |env| read(env, role)) {
            Ok(()) => {
                println!("{service}: the configuration is complete");
                ExitCode::SUCCESS
            }
            Err(error) => {
                println!("{service}: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// A process from its start to its end.
pub struct Process {
    /// Cancelled when the process is asked to end.
    pub shutdown: CancellationToken,
    /// Exports what is left when the process ends.
    _telemetry: Telemetry,
}

impl Process {
    /// Starts what every process has: TLS, telemetry, and an ear for signals. `role` is what it runs as, such as
    /// [`Command::role`].
    ///
    /// # Errors
    /// Telemetry that can't be configured so; signals that can't be listened to.
    pub fn start(service: &'static str, role: &'static str) -> anyhow::Result<Self> {
        tls::install();
        let telemetry = telemetry::init(service, role)?;
        metrics::build_info(service, role);
        Ok(Self { shutdown: shutdown::token()?, _telemetry: telemetry })
    }

    /// Brings a service's schema to this version.
    ///
    /// # Errors
    /// Configuration that does not hold; as [`db::migrate`].
    pub async fn migrate<M: MigratorTrait>(&self, service: &str) -> anyhow::Result<()> {
        db::migrate::<M>(&DatabaseSettings::from_process()?, service, &self.shutdown).await
    }

    /// Prints what must not be: in a service's outbox, in its jobs, and what `own` finds.
    ///
    /// # Errors
    /// Configuration that does not hold; a database that can't be asked.
    pub async fn doctor<E: Into<anyhow::Error>>(
        &self,
        service: &str,
        own: impl AsyncFnOnce(&PgPool) -> Result<Vec<String>, E>,
    ) -> anyhow::Result<ExitCode> {
        let settings = DatabaseSettings::from_process()?;
        let findings = doctor::check(service, &settings, &self.shutdown, own).await?;
        Ok(doctor::report(service, &findings))
    }
}
