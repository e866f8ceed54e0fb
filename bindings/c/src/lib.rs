//! The C library. `include/segfuse.h` is made from this crate by `cargo xtask gen`, comments included; `docs/c.md` is its page.
//!
//! Objects are numbers that are looked up (`handle.rs`), so that a handle that was destroyed, or never made, is a status and
//! not a use of freed memory. No panic crosses the border (`status.rs`).

#![expect(non_camel_case_types, reason = "the names are those of the header")]

pub mod call;
pub mod cuda;
pub mod device;
pub mod evaluation;
mod handle;
mod memory;
pub mod plan;
pub mod problem;
mod slices;
pub mod stages;
pub mod status;
pub mod text;
