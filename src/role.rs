//! The buffers of a call on a GPU: what each is, and what the problem says of it.

use crate::dtype::DType;
use crate::problem::{Map, Problem, Target};

/// What a buffer of a kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Prediction,
    Target,
    Mask,
    Weights,
    Map,
    Gradient,
    #[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "only wgpu binds it; CUDA has its address"))]
    Workspace,
    #[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "only wgpu binds it; CUDA has its address"))]
    Costs,
    #[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "only wgpu binds it; CUDA has its address"))]
    Made,
}

impl Role {
    /// Its name in the kernels.
    #[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "WGSL is written with the names of its bindings"))]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Prediction => "prediction",
            Role::Target => "truths",
            Role::Mask => "keep",
            Role::Weights => "weights",
            Role::Map => "distances",
            Role::Gradient => "gradient",
            Role::Workspace => "workspace",
            Role::Costs => "costs",
            Role::Made => "made_maps",
        }
    }
    /// Its name in messages.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Role::Prediction => "the prediction",
            Role::Target => "the target",
            Role::Mask => "the mask",
            Role::Weights => "the voxel weights",
            Role::Map => "the map",
            Role::Gradient => "the gradient",
            Role::Workspace => "the workspace",
            Role::Costs => "the cost matrix",
            Role::Made => "the made maps",
        }
    }
    /// The element type of a buffer of the caller.
    pub(crate) fn dtype(self, problem: &Problem) -> DType {
        match self {
            Role::Prediction => problem.prediction,
            Role::Target => match problem.target {
                Target::Labels(dtype) | Target::Dense(dtype) => dtype,
            },
            Role::Mask => DType::U8,
            Role::Gradient => problem.gradient_dtype(),
            Role::Weights | Role::Map | Role::Workspace | Role::Costs | Role::Made => DType::F32,
        }
    }
    /// Whether it has one element per voxel and class, not one per voxel.
    pub(crate) fn is_per_class(self, problem: &Problem) -> bool {
        match self {
            Role::Prediction | Role::Gradient => true,
            Role::Target => matches!(problem.target, Target::Dense(_)),
            Role::Map => problem.map == Some(Map::PerClass),
            Role::Mask | Role::Weights | Role::Workspace | Role::Costs | Role::Made => false,
        }
    }
    pub(crate) fn per_voxel(self, problem: &Problem) -> u64 {
        if self.is_per_class(problem) { problem.shape.classes() as u64 } else { 1 }
    }
    /// Bytes per voxel.
    pub(crate) fn voxel_bytes(self, problem: &Problem) -> u64 {
        self.per_voxel(problem) * self.dtype(problem).size()
    }
    /// Bytes of the whole buffer.
    pub(crate) fn bytes(self, problem: &Problem) -> u64 {
        self.voxel_bytes(problem) * problem.shape.all_voxels()
    }
}

/// The buffers of the caller that a problem needs, the gradient last.
#[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "only wgpu binds them"))]
pub(crate) fn roles(problem: &Problem) -> Vec<Role> {
    let mut roles = vec![Role::Prediction, Role::Target];
    roles.extend(problem.mask.then_some(Role::Mask));
    roles.extend(problem.weights.then_some(Role::Weights));
    roles.extend(problem.map.map(|_| Role::Map));
    roles.push(Role::Gradient);
    roles
}
