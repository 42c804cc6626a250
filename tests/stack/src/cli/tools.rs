//! What people run against the stack: services' subcommands, and the servers' own tools, told where all is.

use super::state::Demo;
use anyhow::{Context, Result, bail, ensure};
use stack::services::{self, ALL};
use stack::{aws, process};
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Runs a service's binary, `lote <service> <subcommand> …`, with the environment of its processes and that of
/// the caller.
pub fn service(arguments: &[OsString]) -> Result<()> {
    let Some((name, arguments)) = arguments.split_first() else { bail!("a command is expected") };
    let name = name.to_string_lossy();
    let names = ALL.map(|service| service.name).join(", ");
    let service = services::find(&name)
        .with_context(|| format!("{name} is neither a command nor a service; the services are {names}"))?;
    let mut command = Command::new(process::find_binary(&service.binary())?);
    command.args(arguments).envs(demo()?.wiring.environment(service)?);
    // For a person, who hasn't asked for more.
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "warn");
    }
    run(command)
}

/// psql on a service's schema.
pub fn psql(service: &str, arguments: &[OsString]) -> Result<()> {
    let names = ALL.map(|service| service.name).join(", ");
    let found =
        services::find(service).with_context(|| format!("no service {service}; there are {names}"))?;
    let demo = demo()?;
    let url = demo.wiring.databases.get(found.name).context("each service has a database")?;
    let mut command = Command::new("psql");
    command.arg(url).args(arguments);
    run(command)
}

/// rabbitmqctl on the stack's node.
pub fn rabbitmqctl(arguments: &[OsString]) -> Result<()> {
    let mut command = Command::new(stack::server::RABBITMQCTL);
    command.args(arguments).envs(demo()?.stack.rabbit.environment());
    run(command)
}

/// The AWS command line on the stack's LocalStack.
pub fn aws(arguments: &[OsString]) -> Result<()> {
    let mut command = Command::new("aws");
    let endpoint = demo()?.wiring.servers.aws_endpoint;
    command.args(arguments).env("AWS_ENDPOINT_URL", endpoint).envs(aws::CREDENTIALS);
    run(command).context("install it with: pip install awscli")
}

/// The stack as it was made. One that doesn't run is said by whoever can't reach it.
pub fn demo() -> Result<Demo> {
    ensure!(Demo::exists(), "nothing was started yet: make up");
    Demo::open()
}

/// Becomes the command; returns only where it can't.
fn run(mut command: Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("run {}", command.get_program().to_string_lossy()))
}
