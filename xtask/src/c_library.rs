//! `cargo xtask c-library`: the C library as other programs find it, and its tests.

use crate::root;
use crate::steps::{Outcome, command, has, missing, succeeds};
use anyhow::{Context, bail, ensure};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names and needs of the libraries on one system.
struct System {
    /// The shared library as cargo names it.
    built: String,
    /// With the whole version, the file.
    shared: String,
    /// With the major version, under which programs find it: `build.rs` of the crate writes it into the library.
    soname: String,
    /// What a program that links the static library links too.
    libraries: &'static str,
}

impl System {
    fn this() -> anyhow::Result<System> {
        let major = VERSION.split('.').next().expect("a version has a first part");
        match std::env::consts::OS {
            "macos" => Ok(System {
                built: "libsegfuse.dylib".into(),
                shared: format!("libsegfuse.{VERSION}.dylib"),
                soname: format!("libsegfuse.{major}.dylib"),
                libraries: "-lm",
            }),
            "linux" | "freebsd" => Ok(System {
                built: "libsegfuse.so".into(),
                shared: format!("libsegfuse.so.{VERSION}"),
                soname: format!("libsegfuse.so.{major}"),
                libraries: "-lpthread -ldl -lm",
            }),
            other => bail!(
                "no layout is known for {other}: `cargo build --release --package segfuse-c` leaves the libraries in \
                 target/release, the header is bindings/c/include/segfuse.h"
            ),
        }
    }
}

/// Builds the libraries and puts them below `prefix`: `include`, `lib`, `lib/pkgconfig`, `lib/cmake/segfuse`.
pub(crate) fn install(prefix: &Path) -> anyhow::Result<()> {
    succeeds(&mut command("cargo", "build --release --package segfuse-c"))?;
    copy(prefix)?;
    println!("installed below {}", prefix.display());
    Ok(())
}

fn copy(prefix: &Path) -> anyhow::Result<()> {
    let system = System::this()?;
    let (source, built) = (root().join("bindings/c"), target().join("release"));
    let library = prefix.join("lib");
    let put = |from: PathBuf, to: PathBuf| {
        let folder = to.parent().expect("a file lies in a folder");
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
    };
    put(source.join("include/segfuse.h"), prefix.join("include/segfuse.h"))?;
    put(built.join(&system.built), library.join(&system.shared))?;
    put(built.join("libsegfuse.a"), library.join("libsegfuse.a"))?;
    for (name, to) in [(&system.soname, &system.shared), (&system.built, &system.soname)] {
        link(to, &library.join(name))?;
    }
    for (template, folder) in [
        ("segfuse.pc", "pkgconfig"),
        ("segfuse-config.cmake", "cmake/segfuse"),
        ("segfuse-config-version.cmake", "cmake/segfuse"),
    ] {
        let from = source.join(format!("install/{template}.in"));
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let text = text
            .replace("@VERSION@", VERSION)
            .replace("@SHARED@", &system.shared)
            .replace("@SONAME@", &system.soname)
            .replace("@LIBRARIES@", system.libraries)
            .replace("@LIBRARY_LIST@", &system.libraries.replace(' ', ";"));
        let to = library.join(folder).join(template);
        fs::create_dir_all(to.parent().expect("a file lies in a folder"))?;
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// The file of the software driver of CUDA, built with `--release`.
pub(crate) fn software_driver() -> PathBuf {
    target().join("release").join(format!("{DLL_PREFIX}softcuda{DLL_SUFFIX}"))
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[cfg(unix)]
fn link(to: &str, at: &Path) -> anyhow::Result<()> {
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(to, at).with_context(|| format!("cannot link {}", at.display()))
}

#[cfg(not(unix))]
fn link(_: &str, at: &Path) -> anyhow::Result<()> {
    bail!("{} would be a link, which this system does not have", at.display())
}

/// The programs of `bindings/c/tests` and the example, built by CMake against an installed library, under valgrind; and one of
/// them built as pkg-config says.
pub(crate) fn test() -> anyhow::Result<Outcome> {
    for (tool, package) in [("cmake", "cmake"), ("cc", "gcc"), ("c++", "g++"), ("valgrind", "valgrind")] {
        if !has(tool, "--version") {
            return missing(package);
        }
    }
    // With the command, so that the library of both is compiled once.
    succeeds(&mut command("cargo", "build --release --package segfuse-c --package segfuse-cli --package softcuda"))?;
    let folder = target().join("c-library");
    let (prefix, build) = (folder.join("prefix"), folder.join("build"));
    // A file that is installed no more must not be found either.
    let _ = fs::remove_dir_all(&prefix);
    copy(&prefix)?;
    let mut configure = command("cmake", "-S bindings/c/tests -B");
    configure.arg(&build).arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    succeeds(&mut configure)?;
    succeeds(command("cmake", "--build").arg(&build))?;
    for program in ["api", "api_static", "threads", "train"] {
        let mut valgrind = command("valgrind", "--quiet --error-exitcode=1 --leak-check=full");
        // What is still reachable at the end is the pool of threads.
        valgrind.args(["--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]).arg(build.join(program));
        // This build finds GPUs through wgpu as well; what a Vulkan driver does with its memory is not looked at here.
        succeeds(valgrind.envs(["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].map(|name| (name, "/dev/null"))))?;
    }
    // Under valgrind, the driver in software would take minutes; it looks at every access of a kernel itself.
    succeeds(command(&build.join("cuda").display().to_string(), "").arg(software_driver()))?;
    if !has("pkg-config", "--version") {
        return missing("pkg-config");
    }
    by_pkg_config(&prefix, &folder.join("train"))
}

fn by_pkg_config(prefix: &Path, program: &Path) -> anyhow::Result<Outcome> {
    let mut config = command("pkg-config", "--cflags --libs segfuse");
    let out = config.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).output().context("cannot run pkg-config")?;
    ensure!(out.status.success(), "pkg-config: {}", String::from_utf8_lossy(&out.stderr));
    let flags = String::from_utf8(out.stdout).context("pkg-config prints no UTF-8")?;
    let mut compile = command("cc", "-std=c11 -Wall -Wextra -Werror -pedantic bindings/c/examples/train.c -o");
    succeeds(compile.arg(program).args(flags.split_whitespace()))?;
    succeeds(command(&program.display().to_string(), "").env("LD_LIBRARY_PATH", prefix.join("lib")))
}
