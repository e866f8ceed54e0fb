//! Tasks of the workspace: `cargo xtask test`, `gen`, `gpu`, `vectors`, `c-library`, `python`, `ptx`.

mod c_library;
mod r#gen;
mod gpu;
mod ptx;
mod python;
mod steps;
mod vectors;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tasks of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that must hold before a change goes in
    Test(steps::Options),
    /// Write the generated files
    Gen {
        /// Compare instead; fails when a file is stale
        #[arg(long)]
        check: bool,
    },
    /// Build the C library and install it with its header, for pkg-config and CMake
    CLibrary {
        /// Where to
        #[arg(value_name = "PREFIX")]
        prefix: PathBuf,
    },
    /// Build the Python package and run its tests, in the environment of the test vectors
    Python {
        /// Arguments of pytest
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        pytest: Vec<String>,
    },
    /// Make a folder that checks, tests and measures on a machine with a GPU and without cargo
    Gpu(gpu::Options),
    /// Compile the CUDA kernels to PTX, with a compiler from PyPI
    Ptx {
        /// Compile and compare instead; fails when a module is stale, does not assemble or spills
        #[arg(long)]
        check: bool,
    },
    /// Write the test vectors, with Python
    Vectors {
        /// Compare instead; fails when a number differs
        #[arg(long)]
        check: bool,
        /// The Python that makes the environment [default: python3.11, or python3]
        #[arg(long, value_name = "PATH")]
        python: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Test(options) => steps::run(&options),
        Task::Gen { check } => r#gen::run(check),
        Task::CLibrary { prefix } => c_library::install(&prefix),
        Task::Python { pytest } => python::test(&pytest),
        Task::Gpu(options) => gpu::run(&options),
        Task::Ptx { check } => ptx::run(check),
        Task::Vectors { check, python } => vectors::run(check, python.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}
