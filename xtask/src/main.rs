//! Tasks of the workspace: `cargo xtask test`, `gen`, `vectors`.
fn main() {}
