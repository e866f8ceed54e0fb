//! The little language of losses.
//!
//! A loss is a Rust function, generic over the number type [`Real`]. The number type picks the use:
//!
//! | number | what the function becomes |
//! |---|---|
//! | `f64` | the value itself |
//! | [`Dual`] | value and one directional derivative, the oracle of the tests |
//! | [`Node`] | a recorded [`Graph`], from which the adjoint, the [`Program`] and the shader text are made |
//!
//! Nothing here knows a backend, a file or a thread.

mod dual;
mod formula;
mod graph;
mod lower;
#[cfg(feature = "cuda")]
mod lower_ptx;
mod program;
mod real;

pub use dual::Dual;
pub use formula::{
    Context, Erosions, Formula, Moment, Moments, PIXEL_TERMS_MAX, Scope, Slots, TERMS_MAX, Voxel, VoxelInput,
};
pub use graph::{Graph, Id, Node, Op, Recorder};
pub use lower::lower;
#[cfg(feature = "cuda")]
pub(crate) use lower_ptx::{Ptx, literal as ptx_literal, lower_ptx};
pub use program::{Instruction, Opcode, Operand, Program, ProgramError, limits};
pub use real::Real;
