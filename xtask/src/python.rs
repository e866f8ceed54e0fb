//! `cargo xtask python`: the Python package, installed as its users install it, and its tests.

use crate::steps::{command, succeeds};
use crate::{c_library, root, vectors};
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
    succeeds(&mut command("cargo", "build --release --package softcuda"))?;
    let mut tests = Command::new(&python);
    // Elsewhere than the package, so that what is tested is what was installed.
    tests.current_dir(root().join("target")).env("PYTHONDONTWRITEBYTECODE", "1");
    // The tests of CUDA load it themselves; the package knows nothing of it.
    tests.env("SEGFUSE_TEST_CUDA_DRIVER", c_library::software_driver());
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir"]).arg(folder());
    tests.arg(folder().join("tests")).args(arguments);
    let status = tests.status().with_context(|| format!("cannot run {}", python.display()))?;
    ensure!(status.success(), "pytest: {status}");
    Ok(())
}

fn folder() -> PathBuf {
    root().join("bindings/python")
}
