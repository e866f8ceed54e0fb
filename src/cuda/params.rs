//! What the voxel kernels are launched with; `Params` of `kernels/cuda/common.cuh`.

use super::finish::FinishParams;
use bytemuck::{Pod, Zeroable};

/// How many made maps the voxel kernels can read, by their numbers in the head; `MADE` of `kernels/cuda/common.cuh`.
pub(super) const MADE: usize = 5;

/// The one parameter of `reduce`, `gradient` and `one_pass`, passed by value. Addresses are those of sample 0, and 0 where the
/// problem has no such buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct VoxelParams {
    pub(super) prediction: u64,
    pub(super) target: u64,
    pub(super) mask: u64,
    pub(super) weights: u64,
    /// The caller's map; or the one made map that the classes share, f32 `[N, V]`.
    pub(super) map: u64,
    pub(super) gradient: u64,
    /// Partial sums, f64 `[N][rows][row]`.
    pub(super) rows: u64,
    /// ∂L/∂sum, f32 `[N][C][slopes]`.
    pub(super) coefficients: u64,
    /// f32 `[C][C]`.
    pub(super) costs: u64,
    /// A u32 that `finish` counts its blocks by, which `reduce` and `one_pass` clear.
    pub(super) ticket: u64,
    /// The maps that the plan makes, by their numbers: f32 `[N, C − first class, V]`.
    pub(super) made: [u64; MADE],
    /// V
    pub(super) voxels: u64,
    /// Samples of this launch, and the first of them.
    pub(super) samples: u32,
    pub(super) first_sample: u32,
    /// Rows of partial sums of a sample: blocks.
    pub(super) rows_of_sample: u32,
    /// Runs of a block, and rounds of one load per thread in a run.
    pub(super) runs: u32,
    pub(super) rounds: u32,
    pub(super) unused: u32,
}

/// `OneBlock` of `kernels/cuda/one_block.cu`, the one parameter of that.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct OneBlockParams {
    pub(super) voxels: VoxelParams,
    pub(super) finish: FinishParams,
}
