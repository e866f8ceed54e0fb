//! The `segfuse` command.

mod args;
mod bench;
mod check;
mod devices;
mod distance;
mod error;
mod eval;
mod explain;
mod files;
mod inputs;
mod list;
mod metrics;
mod report;

use args::{Arguments, Command};
use clap::Parser;
use error::Verdict;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Eval(args) => eval::run(&args),
        Command::Distance(args) => distance::run(&args),
        Command::List(args) => list::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {}", error.line());
            ExitCode::from(2)
        }
    }
}
