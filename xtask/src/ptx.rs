//! `cargo xtask ptx`: the CUDA kernels compiled to PTX, which is committed, and looked at through `ptxas`.
//!
//! The compiler comes from PyPI into a folder below `target`. It is NVRTC 12.0, whose PTX every driver of CUDA 12.0 and later
//! takes; a newer one would write a newer version, which older drivers refuse.

use crate::root;
use anyhow::{Context, bail, ensure};
use flate2::{Compression, GzBuilder, read::GzDecoder};
use segfuse::cuda::inspect;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// A package of PyPI, and the file in it that is used.
struct Tool {
    package: &'static str,
    version: &'static str,
    file: &'static str,
}
const NVRTC: Tool =
    Tool { package: "nvidia-cuda-nvrtc-cu12", version: "12.0.140", file: "nvidia/cuda_nvrtc/lib/libnvrtc.so.12" };
const PTXAS: Tool = Tool { package: "nvidia-cuda-nvcc-cu12", version: "12.9.86", file: "nvidia/cuda_nvcc/bin/ptxas" };

/// Every device of compute capability 7.0 or more compiles this.
const OPTIONS: [&str; 3] = ["--gpu-architecture=compute_70", "-std=c++17", "-default-device"];
/// What the completed kernels are compiled for, to see that they can be and that nothing spills.
const ARCHITECTURES: [&str; 7] = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"];
/// Whose registers the launch table shows.
const SHOWN: [&str; 2] = ["sm_80", "sm_90"];
/// Kernels that know nothing of a plan.
const PLAIN: [&str; 14] = [
    "combine",
    "finish",
    "distance_sides",
    "distance_rows",
    "distance_rows_any",
    "distance_lines",
    "distance_contours",
    "distance_extremes",
    "distance_maps",
    "distance_objects",
    "distance_nearest",
    "erosion_errors",
    "erosion_forward",
    "erosion_backward",
];
/// Kernels that are compiled in every shape of `kernels/variants.rs`, and the one of some of them.
const VOXEL: [&str; 3] = ["reduce", "gradient", "one_pass"];
const ONE_BLOCK: &str = "one_block";
/// It is the code of `reduce`, `gradient` and `finish`, which are assembled for every plan; so of each of its shapes the first kernel is,
/// and every so many-th.
const ONE_BLOCK_EVERY: usize = 8;
/// Calls the compiler, whose text is the same wherever it runs.
const NVRTC_CALLER: &str = "xtask/src/nvrtc.c";
/// Where the tool writes in `kernels/README.md`.
const TABLE: [&str; 2] = ["<!-- registers: written by `cargo xtask ptx` -->", "<!-- end of registers -->"];

struct Shape {
    suffix: &'static str,
    slots: u32,
    width: u32,
    interleaved: bool,
    teamed: bool,
    one_block: Option<&'static str>,
}

macro_rules! one_block {
    () => {
        None
    };
    (one_block) => {
        Some(ONE_BLOCK)
    };
}
macro_rules! skeletons {
    ($($suffix:literal: $slots:literal x $width:literal, $interleaved:literal, $teamed:literal $(, $one_block:ident)?;)*) => {
        const SHAPES: &[Shape] = &[$(Shape {
            suffix: $suffix,
            slots: $slots,
            width: $width,
            interleaved: $interleaved,
            teamed: $teamed,
            one_block: one_block!($($one_block)?),
        }),*];
    };
}
include!("../../kernels/variants.rs");

/// A module: the file it is compiled from, and what is appended to that.
struct Module {
    name: String,
    source: &'static str,
    entry: String,
}

fn modules() -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for shape in SHAPES {
        let Shape { suffix, slots, width, interleaved, teamed, one_block } = shape;
        for source in VOXEL.into_iter().chain(*one_block) {
            let name = format!("{source}_{suffix}");
            let params = if source == ONE_BLOCK { "OneBlock" } else { "Params" };
            let entry = format!(
                "extern \"C\" __global__ void __launch_bounds__(THREADS) {name}(const {params} params) {{\n    \
                 {source}<{slots}, {width}, {interleaved}, {teamed}>(params);\n}}\n"
            );
            modules.push(Module { name, source, entry });
        }
    }
    modules.extend(PLAIN.map(|source| Module { name: source.into(), source, entry: String::new() }));
    modules
}

/// Writes `kernels/ptx`, the manifest and the table of registers; with `check`, compiles all anew and compares.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    if modules_written(check)? {
        println!("run it again: the table of registers is of the kernels that xtask was built with");
        return Ok(());
    }
    registers(check)
}

/// Whether a module was stale and has been written.
fn modules_written(check: bool) -> anyhow::Result<bool> {
    let texts = compiled(&NVRTC.install()?)?;
    let mut stale = Vec::new();
    let folder = root().join("kernels/ptx");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in &texts {
        let path = folder.join(format!("{name}.ptx.gz"));
        if decompressed(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        stale.push(format!("kernels/ptx/{name}.ptx.gz"));
        if !check {
            fs::write(&path, compressed(text)?).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    for file in fs::read_dir(&folder)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".ptx.gz"));
        if name.is_none_or(|name| !texts.contains_key(name)) {
            stale.push(format!("{} (no kernel)", path.display()));
            if !check {
                fs::remove_file(&path)?;
            }
        }
    }
    replace("kernels/MANIFEST", &manifest(&texts)?, check, &mut stale)?;
    match (check, stale.is_empty()) {
        (_, true) => println!("{} modules are up to date", texts.len()),
        (false, false) => println!("written: {}", stale.join(", ")),
        (true, false) => bail!("stale: {}; `cargo xtask ptx` writes them", stale.join(", ")),
    }
    Ok(!stale.is_empty())
}

/// Writes the table of registers, or compares it.
pub(crate) fn registers(check: bool) -> anyhow::Result<()> {
    let table = assembled(&PTXAS.install()?)?;
    let readme = fs::read_to_string(root().join("kernels/README.md"))?;
    let (before, rest) = readme.split_once(TABLE[0]).context("kernels/README.md has no place for the registers")?;
    let (_, after) = rest.split_once(TABLE[1]).context("kernels/README.md has no end of the registers")?;
    let mut stale = Vec::new();
    let whole = format!("{before}{}\n{table}{}{after}", TABLE[0], TABLE[1]);
    replace("kernels/README.md", &whole, check, &mut stale)?;
    ensure!(!check || stale.is_empty(), "stale: {}; `cargo xtask ptx` writes it", stale.join(", "));
    Ok(())
}

/// Whether the committed modules are of the sources that lie beside them, by the hashes of the manifest.
pub(crate) fn check_fresh() -> anyhow::Result<()> {
    let mut texts = BTreeMap::new();
    for module in modules() {
        let path = root().join(format!("kernels/ptx/{}.ptx.gz", module.name));
        texts.insert(module.name, decompressed(&path)?);
    }
    let manifest = manifest(&texts)?;
    let old = fs::read_to_string(root().join("kernels/MANIFEST")).context("cannot read kernels/MANIFEST")?;
    let differing = old.lines().zip(manifest.lines()).find(|(a, b)| a != b);
    match differing {
        None if old == manifest => Ok(()),
        _ => bail!("kernels/MANIFEST: stale ({:?}); `cargo xtask ptx` compiles the kernels", differing.map(|d| d.0)),
    }
}

fn replace(path: &str, content: &str, check: bool, stale: &mut Vec<String>) -> anyhow::Result<()> {
    let full = root().join(path);
    if fs::read(&full).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(());
    }
    stale.push(path.into());
    if !check {
        fs::write(&full, content).with_context(|| format!("cannot write {}", full.display()))?;
    }
    Ok(())
}

impl Tool {
    /// Its path, installed where it is not there yet.
    fn install(&self) -> anyhow::Result<PathBuf> {
        let folder = root().join(format!("target/cuda/{}-{}", self.package, self.version));
        let file = folder.join(self.file);
        if !file.exists() {
            let status = Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"])
                .arg(&folder)
                .arg(format!("{}=={}", self.package, self.version))
                .status()
                .context("cannot run python3 -m pip")?;
            ensure!(status.success() && file.exists(), "{} {} cannot be installed", self.package, self.version);
        }
        Ok(file)
    }
}

/// Works through a list with as many threads as there are cores; the first error ends it.
fn in_parallel<T: Send, R: Send>(list: Vec<T>, work: impl Fn(T) -> anyhow::Result<R> + Sync) -> anyhow::Result<Vec<R>> {
    let queue = Mutex::new(list.into_iter());
    let done = Mutex::new(Vec::new());
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while failure.lock().expect("nothing panics").is_none() {
                    let Some(next) = queue.lock().expect("nothing panics").next() else { break };
                    match work(next) {
                        Ok(result) => done.lock().expect("nothing panics").push(result),
                        Err(error) => *failure.lock().expect("nothing panics") = Some(error),
                    }
                }
            });
        }
    });
    match failure.into_inner().expect("nothing panics") {
        Some(error) => Err(error),
        None => Ok(done.into_inner().expect("nothing panics")),
    }
}

/// The text of every module, by name.
fn compiled(nvrtc: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let caller = root().join("target/cuda/nvrtc");
    let built = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&caller)
        .arg(root().join(NVRTC_CALLER))
        .args(["-ldl", "-lpthread"])
        .status();
    ensure!(built.context("cannot run cc")?.success(), "{NVRTC_CALLER} does not compile");
    let texts = in_parallel(modules(), |module| Ok((compiled_module(&caller, nvrtc, &module)?, module.name)))?;
    Ok(texts.into_iter().map(|(text, name)| (name, text)).collect())
}

fn compiled_module(caller: &Path, nvrtc: &Path, module: &Module) -> anyhow::Result<String> {
    // Paths are relative: what the compiler allocates for them follows from their length.
    let kernels = root().join("kernels");
    let file = format!("{}.cu", module.source);
    let mut source = fs::read_to_string(kernels.join("cuda").join(&file))?;
    source += &module.entry;
    let mut child = Command::new(caller)
        .arg(nvrtc)
        .arg(file)
        .args(OPTIONS)
        .args(["--include-path=cuda", "--include-path=."])
        .current_dir(kernels)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the caller of the compiler")?;
    child.stdin.take().context("a pipe")?.write_all(source.as_bytes())?;
    let out = child.wait_with_output()?;
    ensure!(out.status.success(), "{} does not compile", module.name);
    Ok(stripped(&String::from_utf8(out.stdout)?))
}

/// The text without comments but those that are completed, without blanks at the beginning of a line and without the constants
/// that the compiler writes out and nothing reads.
fn stripped(text: &str) -> String {
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split(|c| !is_part(c))).for_each(|word| *words.entry(word).or_default() += 1);
    let mut stripped = String::with_capacity(text.len());
    for line in text.lines().map(str::trim) {
        let unread_constant = line.starts_with(".global")
            && line
                .split(['=', ';', '['])
                .next()
                .and_then(|start| start.split_whitespace().last())
                .map(|name| words[name])
                == Some(1);
        if line.is_empty() || unread_constant || (line.starts_with("//") && !line.starts_with("// SEGFUSE_")) {
            continue;
        }
        stripped += &line.replace(" \t", " ");
        stripped.push('\n');
    }
    stripped
}

fn compressed(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

fn decompressed(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    GzDecoder::new(file).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

/// Tools, hashes of the sources and of the texts.
fn manifest(texts: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let mut text = String::from("Written by `cargo xtask ptx`; not to be edited.\n\n");
    writeln!(text, "compiler {} {}", NVRTC.package, NVRTC.version)?;
    writeln!(text, "options {}\n", OPTIONS.join(" "))?;
    let mut sources = vec![PathBuf::from("kernels/variants.rs")];
    for folder in ["kernels/cuda", "kernels/gen"] {
        for file in fs::read_dir(root().join(folder))? {
            let name = file?.file_name();
            let path = Path::new(folder).join(name);
            if path.extension().is_some_and(|e| e == "cu" || e == "cuh") {
                sources.push(path);
            }
        }
    }
    sources.sort();
    for path in sources {
        writeln!(text, "{}  {}", hash(&fs::read(root().join(&path))?), path.display())?;
    }
    text.push('\n');
    for (name, ptx) in texts {
        writeln!(text, "{}  {name}.ptx", hash(ptx.as_bytes()))?;
    }
    Ok(text)
}

/// What `ptxas` says of a kernel.
#[derive(Clone, Copy)]
struct Use {
    registers: u32,
    shared: u32,
}

/// Assembles the kernels of many plans for every architecture; the table of what they use. Fails on a spill.
fn assembled(ptxas: &Path) -> anyhow::Result<String> {
    let scratch = root().join("target/cuda/completed");
    fs::create_dir_all(&scratch)?;
    let mut jobs = Vec::new();
    let mut seen = BTreeSet::new();
    let mut of_one_block: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, plan) in inspect::plans() {
        for kernel in inspect::kernels(&plan, false)? {
            let digest = hash(kernel.text.as_bytes());
            if !seen.insert(digest.clone()) {
                continue;
            }
            if kernel.kernel == ONE_BLOCK {
                let number = of_one_block.entry(kernel.entry).or_default();
                *number += 1;
                if *number % ONE_BLOCK_EVERY != 1 {
                    continue;
                }
            }
            let path = scratch.join(format!("{digest}.ptx"));
            fs::write(&path, &kernel.text)?;
            jobs.extend(ARCHITECTURES.map(|architecture| (name.clone(), kernel.clone(), path.clone(), architecture)));
        }
    }
    let shapes = SHAPES.iter().filter(|shape| shape.one_block.is_some()).count();
    ensure!(of_one_block.len() == shapes, "of {shapes} shapes of {ONE_BLOCK} there are plans for {of_one_block:?}");
    for name in PLAIN {
        let path = scratch.join(format!("{name}.ptx"));
        let text = decompressed(&root().join(format!("kernels/ptx/{name}.ptx.gz")))?;
        fs::write(&path, &text)?;
        let kernel = inspect::Completed { kernel: name, entry: name, text, shared_bytes: 0, elements: 1 };
        jobs.extend(ARCHITECTURES.map(|architecture| (name.into(), kernel.clone(), path.clone(), architecture)));
    }
    println!("assembling {} kernels for {}", seen.len() + PLAIN.len(), ARCHITECTURES.join(", "));
    let used = in_parallel(jobs, |(plan, kernel, path, architecture)| {
        let out = Command::new(ptxas).args(["-v", "-arch", architecture, "-o", "/dev/null"]).arg(&path).output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "{plan}: {} for {architecture}: {said}", kernel.entry);
        ensure!(
            said.contains(" 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"),
            "{plan}: {} for {architecture} spills: {said}",
            kernel.entry
        );
        let registers = number_before(&said, " registers").context("ptxas tells no registers")?;
        // What a kernel declares, beside what it is launched with.
        let declared = number_before(&said, " bytes smem").unwrap_or(0);
        Ok((kernel.entry, architecture, Use { registers, shared: kernel.shared_bytes + declared }))
    })?;
    let mut most: BTreeMap<(&str, &str), Use> = BTreeMap::new();
    for (entry, architecture, used) in used {
        let known = most.entry((entry, architecture)).or_insert(used);
        known.registers = known.registers.max(used.registers);
        known.shared = known.shared.max(used.shared);
    }
    let mut table = format!("| kernel | {} | shared memory, bytes |\n|---|---|---|---|\n", SHOWN.join(" | "));
    let entries: BTreeSet<&str> = most.keys().map(|(entry, _)| *entry).collect();
    for entry in entries {
        let [a, b] = SHOWN.map(|architecture| most[&(entry, architecture)]);
        writeln!(table, "| `{entry}` | {} | {} | {} |", a.registers, b.registers, a.shared)?;
    }
    Ok(table)
}

fn number_before(text: &str, what: &str) -> Option<u32> {
    let (before, _) = text.split_once(what)?;
    before.rsplit(' ').next()?.parse().ok()
}
