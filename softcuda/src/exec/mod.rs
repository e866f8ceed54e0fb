//! The interpreter: a kernel is decoded once ([`decode`]) to a flat array of instructions, each of which is applied to the 32 lanes of
//! a warp at a time.

mod alu;
mod atomic;
mod block;
mod convert;
mod decode;
mod grid;
mod number;
mod program;
mod races;
mod registers;
mod request;
mod shared;
mod transfer;
mod uses;
mod warp;

pub(crate) use decode::decode;
pub(crate) use grid::{Job, run};
pub(crate) use program::Program;

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;
/// The mask of a whole warp.
pub(crate) const FULL: u32 = u32::MAX;

/// The lanes of a mask, lowest first.
fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}
