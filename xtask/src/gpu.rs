//! `cargo xtask gpu`: a folder that a machine with a GPU and without cargo can run.

use crate::root;
use anyhow::{Context, bail, ensure};
use clap::Args;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is in the folder beside programs.
const FILES: [(&str, &str); 3] = [
    ("run.sh", include_str!("../gpu/run.sh")),
    ("peers.py", include_str!("../gpu/peers.py")),
    ("report.py", include_str!("../gpu/report.py")),
];
/// Tests that run on a device.
const TESTS: [&str; 7] = ["vectors", "distance", "properties", "custom", "determinism", "cuda_backend", "wgpu_backend"];

/// What of the repository is in it too.
const COPIED: [(&str, &str); 4] = [
    ("test_vectors/vectors.json", "test_vectors/vectors.json"),
    ("test_vectors/distances.json", "test_vectors/distances.json"),
    ("examples/data/logits.npy", "logits.npy"),
    ("examples/data/mask.npy", "mask.npy"),
];
/// What the script is told where it rehearses.
const REHEARSAL: [(&str, &str); 5] =
    [("REHEARSAL", "1"), ("LIMIT", "2900"), ("CASES", "20"), ("STEPS", "1"), ("BENCH_SECONDS", "0.01")];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the folder is made [default: target/gpu-bundle]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// With the software driver, and run at once on this machine: the script and the tests, not the device
    #[arg(long)]
    rehearse: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let folder = options.out.clone().unwrap_or_else(|| root().join("target/gpu-bundle"));
    let programs = folder.join("bin");
    if folder.exists() {
        // Nothing but what an earlier call made is removed.
        ensure!(folder.join("run.sh").exists(), "{} is there and is no bundle", folder.display());
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
    // First, so that a call after one that was interrupted knows the folder.
    for (name, text) in FILES {
        write(&folder.join(name), text)?;
    }

    // All of each profile at once, so that the library is compiled once; the tests are those of `cargo xtask test`.
    let mut arguments = vec!["test", "--no-run", "--workspace"];
    TESTS.iter().for_each(|test| arguments.extend(["--test", test]));
    let tests = built(&arguments)?;
    place(&tests, &programs, |name| TESTS.contains(&name))?;
    let others = ["--bin", "segfuse", "--bench", "losses", "--example", "cuda_raw"];
    let others =
        built(&[&["build", "--release", "--package", "segfuse", "--package", "segfuse-cli"], &others[..]].concat())?;
    place(&others, &programs, |name| ["segfuse", "losses", "cuda_raw"].contains(&name))?;
    if options.rehearse {
        let driver = tests.iter().find(|(_, path)| path.file_name().is_some_and(|name| name == "libsoftcuda.so"));
        let Some((_, driver)) = driver else { bail!("cargo did not say where libsoftcuda.so is") };
        fs::copy(driver, programs.join("libsoftcuda.so")).context("cannot copy the software driver")?;
    }

    fs::set_permissions(folder.join("run.sh"), fs::Permissions::from_mode(0o755)).context("cannot change run.sh")?;
    write(&folder.join("definitions.toml"), &definitions(options.rehearse)?)?;
    fs::create_dir_all(folder.join("test_vectors")).context("cannot make a folder")?;
    for (from, to) in COPIED {
        fs::copy(root().join(from), folder.join(to)).with_context(|| format!("cannot copy {from}"))?;
    }
    println!("{}: copy it to a machine with a GPU and start ./run.sh there", folder.display());
    if options.rehearse {
        let mut command = Command::new(folder.join("run.sh"));
        for (name, value) in REHEARSAL {
            command.env(name, value);
        }
        let status = command.status().context("cannot run run.sh")?;
        ensure!(status.success(), "run.sh: {status}");
    }
    Ok(())
}

/// The definitions of the benches, and the sizes that tell something of a GPU; to rehearse, with extents that a sixteenth is left of.
fn definitions(rehearse: bool) -> anyhow::Result<String> {
    let common = fs::read_to_string(root().join("benches/definitions.toml")).context("cannot read the definitions")?;
    let all = common + "\n" + include_str!("../gpu/definitions.toml");
    if !rehearse {
        return Ok(all);
    }
    let mut file: toml::Table = all.parse().context("the definitions are no TOML")?;
    // Samples and classes stay as they are.
    for (table, key, kept) in [("definition", "shape", 2), ("distance", "extents", 0)] {
        for definition in file.get_mut(table).and_then(toml::Value::as_array_mut).into_iter().flatten() {
            let extents = definition.get_mut(key).and_then(toml::Value::as_array_mut);
            for extent in extents.with_context(|| format!("a {table} has no {key}"))?.iter_mut().skip(kept) {
                *extent = toml::Value::Integer((extent.as_integer().context("an extent is a number")? / 16).max(1));
            }
        }
    }
    Ok(file.to_string())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What a command of cargo built: the names of targets, and their files.
fn built(arguments: &[&str]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    println!("$ cargo {}", arguments.join(" "));
    let mut command = Command::new("cargo");
    command.args(arguments).arg("--message-format=json-render-diagnostics").current_dir(root());
    let out = command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").stderr(Stdio::inherit()).output();
    let out = out.context("cannot run cargo")?;
    ensure!(out.status.success(), "cargo {}: {}", arguments.join(" "), out.status);
    let mut files = Vec::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let all = message["filenames"].as_array().into_iter().flatten().filter_map(|file| file.as_str());
        files.extend(all.chain(message["executable"].as_str()).map(|file| (name.to_string(), PathBuf::from(file))));
    }
    Ok(files)
}

/// Copies the programs of these targets, without their symbols.
fn place(built: &[(String, PathBuf)], to: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let mut any = false;
    for (name, file) in built.iter().filter(|(name, file)| wanted(name) && file.extension().is_none()) {
        let copy = to.join(name);
        fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
        // Without `strip` the programs are larger, and work as well.
        let _ = Command::new("strip").arg(&copy).stderr(Stdio::null()).status();
        any = true;
    }
    ensure!(any, "cargo did not say where the programs are");
    Ok(())
}
