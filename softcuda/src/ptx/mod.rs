//! PTX text, as far as its syntax goes: [`lexer`] makes tokens, [`parser`] makes the tree of [`syntax`]. What instructions mean is
//! decided when a kernel is decoded for the interpreter (`exec::decode`).

mod lexer;
mod parser;
pub(crate) mod syntax;

pub(crate) use parser::parse;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Counted from one; 0 where no line is to blame.
    pub(crate) line: u32,
    pub(crate) message: String,
}

impl Problem {
    /// A problem with a line.
    pub(crate) fn new(line: u32, message: impl Into<String>) -> Problem {
        Problem { line, message: message.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ptx line {}: {}", self.line, self.message)
    }
}
