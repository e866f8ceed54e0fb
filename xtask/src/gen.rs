//! `cargo xtask gen`: files that are made from the library and committed.

use crate::root;
use anyhow::{Context, bail};
use std::fs;
use std::path::PathBuf;

/// Every generated file: its path from the root of the workspace, and its content.
fn files() -> Vec<(PathBuf, String)> {
    Vec::new()
}

/// Writes the generated files; with `check`, compares them and names those that are stale.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let files = files();
    let mut stale = Vec::new();
    for (path, content) in &files {
        let full = root().join(path);
        if fs::read(&full).is_ok_and(|old| old == content.as_bytes()) {
            continue;
        }
        stale.push(path.display().to_string());
        if !check {
            let folder = full.parent().expect("a file lies in a folder");
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            fs::write(&full, content).with_context(|| format!("cannot write {}", full.display()))?;
        }
    }
    match (check, stale.is_empty()) {
        (_, true) => println!("{} generated files are up to date", files.len()),
        (false, false) => println!("written: {}", stale.join(", ")),
        (true, false) => bail!("stale: {}; `cargo xtask gen` writes them", stale.join(", ")),
    }
    Ok(())
}
