//! `cargo xtask test`: the steps, each named, timed and listed at the end.

use crate::{c_library, r#gen, ptx, python, root, vectors};
use anyhow::{Context, bail, ensure};
use clap::Args;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where one of these is set, a tool that `.ci/run` installs may not be missing.
const CI_VARIABLES: [&str; 2] = ["CI", "SEGFUSE_CI"];
/// The Vulkan driver of Chromium, SwiftShader: subgroups of four, no f16, few limits.
const LESSER_DRIVER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";
/// What of the WGSL backend's tests runs on it: the kernels of devices with less, and what depends on its limits. Two minutes;
/// the other tests of windows alone take as long again.
const LESSER_TESTS: [&str; 6] = [
    "of_every_variant",
    "without_features",
    "windows::of_every_buffer",
    "of_devices_with_too_little",
    "two_calls_in_one_encoder",
    "what_the_workspace_holds",
];
/// Random problems of `segfuse check`.
const CHECK_CASES: &str = "50";
/// Seconds per fuzz target.
const FUZZ_SECONDS: u32 = 10;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only formatting, lints of the workspace, tests and generated files
    #[arg(long)]
    fast: bool,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Make the test vectors anew even when the Python environment has to be downloaded (2.5 GB)
    #[arg(long)]
    regenerate: bool,
}

/// What became of a step that did not fail.
pub(crate) enum Outcome {
    Passed,
    /// Passed, with something left out.
    Noted(String),
    Skipped(String),
}

struct Steps {
    keep_going: bool,
    done: Vec<(String, Duration, anyhow::Result<Outcome>)>,
}

/// Runs every step and prints what became of each.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut steps = Steps { keep_going: options.keep_going, done: Vec::new() };
    let begin = Instant::now();
    // A failure that ends the run is in the list too.
    let _ = all(&mut steps, options);
    let mut failures = 0;
    println!("\n{:>8}  step", "seconds");
    for (name, time, result) in &steps.done {
        let note = match result {
            Ok(Outcome::Passed) => String::new(),
            Ok(Outcome::Noted(note)) => format!(" ({note})"),
            Ok(Outcome::Skipped(why)) => format!("  SKIPPED: {why}"),
            Err(error) => {
                failures += 1;
                format!("  FAILED: {error:#}")
            }
        };
        println!("{:>8.1}  {name}{note}", time.as_secs_f64());
    }
    println!("{:>8.1}  in all", begin.elapsed().as_secs_f64());
    match failures {
        0 => Ok(()),
        _ => bail!("{failures} of {} steps failed", steps.done.len()),
    }
}

fn all(steps: &mut Steps, options: &Options) -> anyhow::Result<()> {
    steps.step("format", || cargo("fmt --all --check"))?;
    steps.step("lints: workspace", || cargo("clippy --workspace --all-targets -- -D warnings"))?;
    if !options.fast {
        for features in ["", "cpu", "serde", "cuda", "wgpu", "cpu,cuda", "cpu,wgpu"] {
            let name = format!("lints: segfuse with {}", if features.is_empty() { "no features" } else { features });
            let line = format!("clippy --package segfuse --all-targets --no-default-features --features={features}");
            steps.step(&name, || cargo(&format!("{line} -- -D warnings")))?;
        }
    }
    steps.step("tests", tests)?;
    steps.step("generated files", || r#gen::run(true).map(|()| Outcome::Passed))?;
    if options.fast {
        return Ok(());
    }
    steps.step("tests: WGSL backend on a device with less", lesser_device)?;
    steps.step("shaders through tint", tint)?;
    steps.step("tests in the documentation", || cargo("test --workspace --doc"))?;
    steps.step("CUDA kernels", cuda_kernels)?;
    steps.step("test vectors", || test_vectors(options.regenerate))?;
    steps.step("Python package", || python_package(options.regenerate))?;
    // The program and the C library have the library's name, so their pages would take the place of its own.
    steps.step("documentation", || {
        succeeds(
            command("cargo", "doc --workspace --exclude segfuse-c --no-deps --lib").env("RUSTDOCFLAGS", "-D warnings"),
        )
    })?;
    steps.step("dependencies", dependencies)?;
    steps.step("C library", c_library::test)?;
    steps.step("command: eval", example)?;
    steps.step("command: check", || cargo(&format!("run --release -- check --cases {CHECK_CASES}")))?;
    steps.step("fuzz targets: lints", fuzz_lints)?;
    steps.step("fuzz targets: run", fuzz)?;
    steps.step("Miri", miri)
}

impl Steps {
    fn step(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<Outcome>) -> anyhow::Result<()> {
        println!("\n=== {name}");
        let begin = Instant::now();
        let result = work();
        let failed = result.is_err();
        if let Err(error) = &result {
            println!("--- {name} failed: {error:#}");
        }
        self.done.push((name.to_string(), begin.elapsed(), result));
        ensure!(!failed || self.keep_going, "{name} failed");
        Ok(())
    }
}

pub(crate) fn command(program: &str, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).current_dir(root());
    // This is set for a program that cargo runs, and would pin `cargo +nightly` to another toolchain.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    command
}

pub(crate) fn succeeds(command: &mut Command) -> anyhow::Result<Outcome> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let shown = format!("{} {}", command.get_program().to_string_lossy(), words.join(" "));
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(Outcome::Passed)
}

fn cargo(arguments: &str) -> anyhow::Result<Outcome> {
    succeeds(&mut command("cargo", arguments))
}

/// Whether this command line succeeds; used to look for tools.
pub(crate) fn has(program: &str, arguments: &str) -> bool {
    command(program, arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

fn in_ci() -> bool {
    CI_VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// A step that has to be left out; an error in CI.
pub(crate) fn missing(tool: &str) -> anyhow::Result<Outcome> {
    ensure!(!in_ci(), "{tool} is not installed; .ci/run installs it");
    Ok(Outcome::Skipped(format!("{tool} is not installed")))
}

/// Every test; those of the WGSL backend run on the first adapter, a software renderer where there is no GPU, and those of CUDA on the
/// workspace's own driver in software.
fn tests() -> anyhow::Result<Outcome> {
    // Without them the tests that need them would print that they were left out, and pass.
    if !has_vulkan() {
        missing("a Vulkan driver (mesa-vulkan-drivers)")?;
    }
    if !has("spirv-val", "--version") {
        missing("spirv-tools")?;
    }
    if has("cargo", "nextest --version") {
        return cargo("nextest run --workspace --no-fail-fast");
    }
    missing("cargo-nextest")?;
    cargo("test --workspace --lib --bins --tests")
        .map(|_| Outcome::Noted("by cargo test; cargo-nextest is not installed".into()))
}

/// Whether a driver of Vulkan is there: any, since software renderers are used where there is no GPU.
fn has_vulkan() -> bool {
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let listed = folders.iter().any(|folder| std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()));
    listed || ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"].iter().any(|name| std::env::var_os(name).is_some())
}

/// Again where subgroups are smaller and features are missing.
fn lesser_device() -> anyhow::Result<Outcome> {
    if !Path::new(LESSER_DRIVER).exists() {
        return missing("SwiftShader (chromium-common)");
    }
    // The features of the workspace, so that nothing is compiled again.
    let mut command = command("cargo", "test --workspace --test wgpu_backend --");
    succeeds(command.args(LESSER_TESTS).env("VK_ICD_FILENAMES", LESSER_DRIVER))
}

/// No package of Debian has tint, so that it is left out even in CI where nobody has built it.
fn tint() -> anyhow::Result<Outcome> {
    // Its help ends with an error.
    let help = command("tint", "--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if help.is_err() {
        return Ok(Outcome::Skipped("tint, of Chromium's Dawn, is not installed; no package has it".into()));
    }
    cargo("test --workspace --lib -- --ignored tint_takes_the_shaders")
}

/// Compiled anew and compared, where the compiler is there or can be had.
fn cuda_kernels() -> anyhow::Result<Outcome> {
    ptx::check_fresh()?;
    if !has("python3", "-m pip --version") {
        missing("pip")?;
        return Ok(Outcome::Noted("only the hashes; without pip there is no compiler".into()));
    }
    ptx::run(true).map(|()| Outcome::Passed)
}

fn test_vectors(regenerate: bool) -> anyhow::Result<Outcome> {
    vectors::check_fresh()?;
    if regenerate || vectors::has_environment() || in_ci() {
        return vectors::run(true, None).map(|()| Outcome::Passed);
    }
    Ok(Outcome::Noted(
        "only the hashes; --regenerate makes them anew, with a download of 2.5 GB and 6 GB of disk".into(),
    ))
}

fn python_package(download: bool) -> anyhow::Result<Outcome> {
    if download || vectors::has_environment() || in_ci() {
        return python::test(&[]).map(|()| Outcome::Passed);
    }
    Ok(Outcome::Skipped("needs the Python environment; --regenerate makes it, with a download of 2.5 GB".into()))
}

fn dependencies() -> anyhow::Result<Outcome> {
    if !has("cargo", "deny --version") {
        return missing("cargo-deny");
    }
    cargo("deny check --hide-inclusion-graph bans licenses sources")?;
    Ok(Outcome::Noted("without advisories, whose list has to be downloaded: cargo deny check advisories".into()))
}

/// The example of the README: exit code 0, and a finite loss in the JSON.
fn example() -> anyhow::Result<Outcome> {
    let line = "run --quiet --release -- eval --pred examples/data/logits.npy --target examples/data/mask.npy";
    let mut command = command("cargo", line);
    command.args(["--ignore-label", "255", "--json", "--loss", "dice + ce"]);
    let out = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&out.stdout);
    println!("{text}");
    ensure!(out.status.success(), "segfuse eval: {}", out.status);
    let json: serde_json::Value = serde_json::from_str(&text).context("segfuse eval --json prints no JSON")?;
    // JSON has no infinity and no NaN.
    ensure!(json["loss"].is_number(), "segfuse eval --json: `loss` is not a finite number");
    Ok(Outcome::Passed)
}

fn fuzz_lints() -> anyhow::Result<Outcome> {
    if !has("c++", "--version") {
        return missing("a C++ compiler");
    }
    cargo("fmt --manifest-path fuzz/Cargo.toml --check")?;
    cargo("clippy --manifest-path fuzz/Cargo.toml -- -D warnings")
}

fn fuzz() -> anyhow::Result<Outcome> {
    if !has("cargo", "+nightly --version") || !has("cargo", "+nightly fuzz --version") {
        return Ok(Outcome::Skipped("needs a nightly toolchain and cargo-fuzz".into()));
    }
    let out = command("cargo", "+nightly fuzz list").output().context("cannot run cargo fuzz")?;
    ensure!(out.status.success(), "cargo fuzz list: {}", out.status);
    for target in String::from_utf8_lossy(&out.stdout).lines() {
        cargo(&format!("+nightly fuzz run {target} -- -max_total_time={FUZZ_SECONDS} -print_final_stats=1"))?;
    }
    Ok(Outcome::Passed)
}

fn miri() -> anyhow::Result<Outcome> {
    if !has("cargo", "+nightly miri --version") {
        return Ok(Outcome::Skipped("needs a nightly toolchain with Miri".into()));
    }
    cargo("+nightly miri test --package segfuse --no-default-features --test spec")
}
