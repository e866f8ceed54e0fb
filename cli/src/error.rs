//! What can go wrong in the command. Every message is one line.

use std::io;
use std::path::{Path, PathBuf};

/// An error that ends the command with exit code 2.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Whatever the library says.
    #[error(transparent)]
    Library(#[from] segfuse::Error),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{}: {what}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Arguments that do not fit each other.
    #[error("{0}")]
    Arguments(String),
}

impl CliError {
    /// A file that does not hold what it should.
    pub(crate) fn file(path: &Path, what: impl Into<String>) -> CliError {
        CliError::File { path: path.into(), what: what.into() }
    }

    /// For `map_err` on what the system says about a file.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> CliError {
        move |source| CliError::Io { path: path.into(), source }
    }

    /// The message on one line.
    pub(crate) fn line(&self) -> String {
        self.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// What a command gives: whether everything was as it should be.
pub(crate) type CommandResult = Result<Verdict, CliError>;

/// How a command that ran to its end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Exit code 0.
    Good,
    /// Exit code 1: a check found something.
    Bad,
}
