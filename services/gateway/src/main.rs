//! `api` serves everything (and is what runs without an argument), `migrate` brings the schema to this
//! version, `doctor` looks for what must not be.

use std::process::ExitCode;

use anyhow::Context as _;
use chassis::{
    cli::{CheckConfig, Process},
    config::{self, DatabaseSettings, Env},
    db,
};
use clap::{Parser, Subcommand};
use gateway::{
    Gateway, SERVICE,
    config::Config,
    storage::{Migrator, doctor},
};

/// The gateway of Lote.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, Subcommand)]
enum Role {
    /// Serve HTTP, consume the queue of events, archive dead letters.
    Api,
    /// Bring the database schema to this version.
    Migrate,
    /// Check the invariants in the database; exits with 1 where one is broken.
    Doctor,
    /// Check the environment of a role; exits with 1 where a variable is missing or wrong. Connects to nothing.
    CheckConfig(CheckConfig),
}

impl Role {
    /// What a process runs as, in its metrics and traces.
    const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Migrate => "migrate",
            Self::Doctor => "doctor",
            Self::CheckConfig(_) => "check-config",
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let _failpoints = failpoints::arm();
    let arguments = Arguments::parse();
    let role = arguments.role.unwrap_or(Role::Api);
    let process = Process::start(SERVICE, role.name())?;
    let shutdown = process.shutdown.clone();
    let mut env = Env::from_process();
    match role {
        Role::Api => {
            let config = Config::read(&mut env);
            env.finish()?;
            Gateway::open(config, &shutdown).await?.run(shutdown).await?;
        }
        Role::Migrate => {
            let settings = DatabaseSettings::read(&mut env);
            env.finish()?;
            db::migrate::<Migrator>(&settings, "gateway", &shutdown).await?;
        }
        Role::CheckConfig(check) => {
            return Ok(check.run("gateway", |env, role| match role {
                Some(config::Role::Worker) => {
                    env.reject("the role", "is worker, of which the gateway has none")
                }
                Some(config::Role::Api) => drop(Config::read(env)),
                None => drop(DatabaseSettings::read(env)),
            }));
        }
        Role::Doctor => {
            let settings = DatabaseSettings::read(&mut env);
            env.finish()?;
            let database = db::connect(&settings, "gateway doctor", &shutdown).await?;
            let mut findings =
                outbox::doctor(&database.pool).await.context("could not look into the outbox")?;
            findings.extend(doctor(&database.pool).await.context("could not look into users and keys")?);
            for finding in &findings {
                println!("{finding}");
            }
            if !findings.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            println!("gateway: nothing wrong");
        }
    }
    Ok(ExitCode::SUCCESS)
}
