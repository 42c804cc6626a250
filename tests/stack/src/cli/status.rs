use super::state::{self, Demo};
use anyhow::{Context, Result, bail};
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Prints what runs, and whether it is ready.
///
/// # Errors
/// Where something is down: scripts can wait for it.
pub async fn status() -> Result<()> {
    if !Demo::exists() {
        println!("Nothing was started yet: make demo");
        return Ok(());
    }
    let demo = Demo::open()?;
    let mut down = 0;
    println!("{:<24} {:<10} {:<9} ADDRESS", "NAME", "STATE", "PID");
    for (name, port, runs, _) in demo.servers() {
        down += usize::from(!runs);
        println!("{name:<24} {:<10} {:<9} 127.0.0.1:{port}", if runs { "running" } else { "down" }, "");
    }
    let client = stack::http();
    let mut processes = 0;
    for name in state::process_names() {
        processes += 1;
        let url = demo.wiring.url(&name);
        let Some(daemon) = state::running(&name) else {
            down += 1;
            println!("{name:<24} {:<10} {:<9} {url}", "down", "");
            continue;
        };
        let state = match client.get(format!("{url}/health/ready")).send().await {
            Ok(answer) if answer.status().is_success() => "ready".to_owned(),
            Ok(answer) => format!("not ready: {}", answer.text().await?),
            Err(_) => "starting".to_owned(),
        };
        println!("{name:<24} {state:<10} {:<9} {url}", daemon.pid());
    }
    if down > 0 {
        bail!("{down} of {} are down: make up", demo.servers().len() + processes);
    }
    Ok(())
}

/// Shows the end of a log; on a terminal, follows it.
pub fn logs(service: Option<&str>) -> Result<()> {
    let mut logs: Vec<(String, PathBuf)> =
        state::process_names().map(|name| (name.clone(), state::log_file(&name))).collect();
    if Demo::exists() {
        logs.extend(Demo::open()?.servers().map(|(name, _, _, log)| (name.to_owned(), log)));
    }
    let names: Vec<_> = logs.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(", ");
    let Some(service) = service else {
        println!("make logs SERVICE=…, one of {names}");
        return Ok(());
    };
    let found = logs.iter().find(|(name, _)| name == service);
    let (_, log) = found.with_context(|| format!("no log of {service:?}: there are {names}"))?;
    let mut command = Command::new("tail");
    command.args(["-n", "100"]);
    if std::io::stdout().is_terminal() {
        command.arg("-F");
    }
    Err(command.arg(log).exec()).context("run tail")
}
