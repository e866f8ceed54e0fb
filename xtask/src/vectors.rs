//! `cargo xtask vectors`: the test vectors, made by Python in an environment of their own.

use crate::root;
use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a folder for the Python environment.
const VENV_VARIABLE: &str = "SEGFUSE_VENV";
/// The packages take 4.3 GB, and their archives are unpacked beside them.
const DISK_GB: f64 = 6.0;

/// Writes the vectors and `FRESH`; with `check`, compares them.
pub(crate) fn run(check: bool, python: Option<&Path>) -> anyhow::Result<()> {
    let python = environment(python)?;
    for generator in ["generate.py", "distances.py"] {
        let mut command = Command::new(&python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(folder().join(generator)).args(check.then_some("--check"));
        let status = command.status().with_context(|| format!("cannot run {}", python.display()))?;
        ensure!(status.success(), "{generator}: {status}");
    }
    if check {
        return check_fresh();
    }
    fs::write(folder().join("FRESH"), hashes()?).context("cannot write test_vectors/FRESH")
}

/// Whether the vectors are those that `cargo xtask vectors` last wrote, with the generator as it is; needs no Python.
pub(crate) fn check_fresh() -> anyhow::Result<()> {
    let recorded = fs::read_to_string(folder().join("FRESH")).context("cannot read test_vectors/FRESH")?;
    let now = hashes()?;
    let changed: Vec<&str> = now
        .lines()
        .filter(|line| !recorded.lines().any(|old| old == *line))
        .chain(recorded.lines().filter(|old| !now.lines().any(|line| file_of(line) == file_of(old))))
        .map(file_of)
        .collect();
    if !changed.is_empty() {
        bail!("test_vectors/FRESH does not match {}; `cargo xtask vectors` makes both anew", changed.join(", "));
    }
    Ok(())
}

/// Whether the Python environment is there, so that no download is needed.
pub(crate) fn has_environment() -> bool {
    python_of(&venv()).exists()
}

fn folder() -> PathBuf {
    root().join("test_vectors")
}

fn file_of(line: &str) -> &str {
    line.split_whitespace().next_back().unwrap_or_default()
}

/// One line per file, as `sha256sum` prints it: the generators, their requirements and what they wrote.
fn hashes() -> anyhow::Result<String> {
    let entries = fs::read_dir(folder())?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<String> = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".py") || name.ends_with(".json") || name == "requirements.txt");
    names.sort();
    names.iter().map(|name| Ok(format!("{}  {name}\n", sha256(&folder().join(name))?))).collect()
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn venv() -> PathBuf {
    match std::env::var_os(VENV_VARIABLE) {
        Some(path) if !path.is_empty() => std::path::absolute(&path).unwrap_or(path.into()),
        _ => root().join("target/vectors-venv"),
    }
}

fn python_of(venv: &Path) -> PathBuf {
    venv.join("bin/python")
}

/// The Python of an environment that holds what requirements.txt pins, made where it is not there yet.
pub(crate) fn environment(python: Option<&Path>) -> anyhow::Result<PathBuf> {
    let (venv, inside) = (venv(), python_of(&venv()));
    if !inside.exists() {
        let python = python.map_or_else(default_python, Path::to_path_buf);
        fs::create_dir_all(&venv).with_context(|| format!("cannot make {}", venv.display()))?;
        check_disk(&venv)?;
        println!("making {}: 2.5 GB to download", venv.display());
        checked(Command::new(python).args(["-m", "venv"]).arg(&venv))?;
    }
    install(&inside, &folder().join("requirements.txt"), "requirements.sha256")?;
    Ok(inside)
}

/// Installs what a file pins into the environment, unless `stamp` says that it is there.
pub(crate) fn install(python: &Path, requirements: &Path, stamp: &str) -> anyhow::Result<()> {
    let (stamp, wanted) = (venv().join(stamp), sha256(requirements)?);
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    pip(python, &["--no-deps", "-r", &requirements.display().to_string()])?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// `pip install` in the environment, whose programs build backends call by name.
pub(crate) fn pip(python: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let others = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::iter::once(venv().join("bin")).chain(std::env::split_paths(&others));
    let path = std::env::join_paths(programs).context("the folder of the environment cannot be in PATH")?;
    checked(Command::new(python).env("PATH", path).args(install).args(arguments))
}

/// The version that the pins were chosen for, where it is installed.
fn default_python() -> PathBuf {
    let found = Command::new("python3.11").arg("--version").output().is_ok_and(|out| out.status.success());
    if found { "python3.11".into() } else { "python3".into() }
}

fn check_disk(folder: &Path) -> anyhow::Result<()> {
    let out = Command::new("df").arg("-Pk").arg(folder).output().context("cannot run df")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let free =
        text.lines().last().and_then(|line| line.split_whitespace().nth(3)).and_then(|kb| kb.parse::<u64>().ok());
    let free = free.with_context(|| format!("cannot read the free space from df: {text}"))?;
    let gb = free as f64 * 1024.0 / 1e9;
    ensure!(
        gb >= DISK_GB,
        "the Python environment needs {DISK_GB} GB at {}, {gb:.1} GB are free; {VENV_VARIABLE} names another folder",
        folder.display()
    );
    Ok(())
}

fn checked(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let file = std::env::temp_dir().join(format!("segfuse-xtask-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        let hash = sha256(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
