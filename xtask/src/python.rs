//! `cargo xtask python`: the Python package, installed as its users install it, and its tests.

use crate::{root, vectors};
use anyhow::{Context, ensure};
use std::path::PathBuf;
use std::process::Command;

/// Installs the package into the environment of the test vectors and runs pytest with these arguments.
pub(crate) fn test(arguments: &[String]) -> anyhow::Result<()> {
    let python = vectors::environment(None)?;
    vectors::install(&python, &folder().join("requirements.txt"), "package-requirements.sha256")?;
    // The build backend is there already; a build environment of its own would download it each time.
    let package = folder().display().to_string();
    vectors::pip(&python, &["--no-deps", "--no-build-isolation", "--force-reinstall", &package])?;
    let mut command = Command::new(&python);
    // Elsewhere than the package, so that what is tested is what was installed.
    command.current_dir(root().join("target")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir"]).arg(folder());
    command.arg(folder().join("tests")).args(arguments);
    let status = command.status().with_context(|| format!("cannot run {}", python.display()))?;
    ensure!(status.success(), "pytest: {status}");
    Ok(())
}

fn folder() -> PathBuf {
    root().join("bindings/python")
}
