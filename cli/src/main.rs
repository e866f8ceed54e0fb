//! The `segfuse` command.
fn main() {}
