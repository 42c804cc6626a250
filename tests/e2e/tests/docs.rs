//! What the docs tell people to type works: each `sh` block of README and `docs/`, from the repository's root, with a
//! stack of its own that shows the demo's data.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Stops the stack, whatever becomes of the test.
struct Stack(PathBuf);

impl Stack {
    fn lote(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(stack::root().join("bin/lote"));
        let output = command.args(arguments).env("LOTE_HOME", &self.0).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "lote {}: {}\n{said}", arguments.join(" "), output.status);
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.lote(&["down"]) {
            eprintln!("the docs' stack is not stopped: {error:#}");
        }
    }
}

#[test]
fn every_command_of_the_docs_works() -> Result<()> {
    let home = stack::servers::shared_dir().join("docs");
    fs::create_dir_all(&home)?;
    let stack = Stack(home);
    stack.lote(&["demo"])?;
    let mut blocks = 0;
    for page in pages()? {
        let text = fs::read_to_string(&page)?;
        // A later block of a page may use what an earlier one has set.
        let found = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
        let found: Vec<_> = found.collect();
        blocks += found.len();
        run(&found.concat(), &stack.0).with_context(|| page.display().to_string())?;
    }
    ensure!(blocks >= 3, "only {blocks} blocks of commands were found");
    Ok(())
}

/// README and all pages under `docs/`.
fn pages() -> Result<Vec<PathBuf>> {
    let root = stack::root();
    let (mut pages, mut folders) = (vec![root.join("README.md")], vec![root.join("docs")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension() == Some(OsStr::new("md")) {
                pages.push(path);
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// Runs a page's commands, but for what starts and ends the stack: of that, the targets must exist.
fn run(commands: &str, home: &Path) -> Result<()> {
    let makefile = fs::read_to_string(stack::root().join("Makefile"))?;
    let mut script = String::from("set -euo pipefail\n");
    for line in commands.lines() {
        match line.strip_prefix("make ") {
            None => script.push_str(line),
            Some(rest) => {
                let target = rest.split_whitespace().next().unwrap_or_default();
                ensure!(makefile.contains(&format!("\n{target}:")), "make has no target {target}");
            }
        }
        script.push('\n');
    }
    // The docs speak of the one stack that a person has.
    let script = script.replace(".stack/", &format!("{}/", home.display()));
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(stack::root())
        .env("LOTE_HOME", home)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{commands}\n{said}", output.status);
    Ok(())
}
