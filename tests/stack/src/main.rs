//! `stack`: Lote's servers and services on this machine, for people (as `bin/lote`) and for the Makefile.

mod cli;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::{ffi::OsString, process::ExitCode};

#[derive(Parser)]
#[command(
    name = "lote",
    bin_name = "lote",
    about = "Lote's servers and services on this machine",
    after_help = "Any service's command runs with the stack's settings: lote <service> <command>, \
                  say `lote catalog-upload doctor` or `lote sms-dispatch import clientes.csv`."
)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start what doesn't run: servers and services; restart services that were rebuilt
    Up,
    /// Stop everything; the data stays
    Down,
    /// Stop everything, the servers of tests too, and remove all data
    Clean,
    /// Say what runs
    Status,
    /// Show a log and follow it
    Logs {
        /// Which; without it, say which there are
        service: Option<String>,
    },
    /// Start everything, then import a supplier's workbook as a user would
    Demo,
    /// Print the settings of the running stack, to source
    Env,
    /// Generate a database of contacts to import, and print what importing it must come to
    Contacts(cli::contacts::Arguments),
    /// Upload a workbook of products
    Upload(cli::upload::Arguments),
    /// Print an access token, for curl: -H "authorization: bearer $(lote login)"
    Login(cli::upload::User),
    /// psql on a service's schema
    Psql {
        /// Whose
        service: String,
        /// psql's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// rabbitmqctl on the stack's node
    Rabbitmqctl {
        /// Its own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// The AWS command line on the stack's LocalStack
    Aws {
        /// Its own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    #[command(external_subcommand)]
    Service(Vec<OsString>),
    /// Start the servers that tests share
    TestUp,
    /// Stop the servers that tests share and remove their data
    TestDown,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lote: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(verb: Verb) -> Result<()> {
    stack::install_tls();
    match verb {
        Verb::Up => cli::up::up().await.map(|demo| cli::demo::print_where(&demo)),
        Verb::Down => cli::down::down().await,
        Verb::Clean => cli::down::clean().await,
        Verb::Status => cli::status::status().await,
        Verb::Logs { service } => cli::status::logs(service.as_deref()),
        Verb::Demo => cli::demo::demo().await,
        Verb::Env => cli::env::print(),
        Verb::Contacts(arguments) => cli::contacts::generate(&arguments),
        Verb::Upload(arguments) => cli::upload::upload(&arguments).await,
        Verb::Login(user) => cli::upload::login(&user).await,
        Verb::Psql { service, arguments } => cli::tools::psql(&service, &arguments),
        Verb::Rabbitmqctl { arguments } => cli::tools::rabbitmqctl(&arguments),
        Verb::Aws { arguments } => cli::tools::aws(&arguments),
        Verb::Service(arguments) => cli::tools::service(&arguments),
        Verb::TestUp => stack::servers::start_shared().await.map(drop),
        Verb::TestDown => stack::servers::remove_shared().await,
    }
}
