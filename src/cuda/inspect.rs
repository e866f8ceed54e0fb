//! The kernels of a plan as text, for tools that look at them. No driver is needed.

use super::executor::places;
use super::finish::Interpreter;
use super::geometry::Geometry;
use super::text::{self, Kernel};
use crate::dtype::DType;
use crate::error::Error;
use crate::loss::{ENTRIES, Objective};
use crate::plan::{Plan, Schedule};
use crate::problem::{Activation, Layout, Map, Problem, Target};
use crate::recipe;
use crate::shape::Shape;

/// A kernel of a plan, as the driver gets it.
#[derive(Clone, Debug)]
pub struct Completed {
    /// The kernel of `kernels/cuda`.
    pub kernel: &'static str,
    /// The name in the module.
    pub entry: &'static str,
    /// The module: PTX.
    pub text: String,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// Elements, voxel times class, of a thread in a round.
    pub elements: u32,
}

/// The voxel kernels that a plan launches, head by head, the gradient in place of the prediction or not: stage by stage and, where it
/// can be, in one block.
///
/// # Errors
/// As preparing it for a device.
pub fn kernels(plan: &Plan, in_place: bool) -> Result<Vec<Completed>, Error> {
    let mut all = Vec::new();
    let geometries: Vec<Geometry> =
        plan.heads().iter().map(|head| Geometry::new(head, head.problem.shape.samples() as u64)).collect();
    let (_, places) = places(plan, &geometries, 0)?;
    for (k, (head, geometry)) in plan.heads().iter().zip(&geometries).enumerate() {
        let kernels: &[Kernel] = match head.schedule() {
            Schedule::OnePass { census: true } => &[Kernel::Census, Kernel::Reduce, Kernel::OnePass],
            Schedule::OnePass { census: false } => &[Kernel::Reduce, Kernel::OnePass],
            Schedule::TwoPass | Schedule::Chunked { .. } => &[Kernel::Reduce, Kernel::Gradient],
        };
        let one_block = geometry.is_one_block().then_some(Kernel::OneBlock);
        for kernel in kernels.iter().copied().chain(one_block) {
            let source = text::voxels(head, geometry, kernel, in_place)?;
            // It is launched with the most of its stages.
            let interpreter = match kernel {
                Kernel::OneBlock => {
                    Interpreter::new(plan, head, recipe::recipe(plan, k, &places[k]).len()).shared_bytes
                }
                _ => 0,
            };
            all.push(Completed {
                kernel: kernel.name(),
                entry: source.entry(),
                text: source.text(),
                shared_bytes: geometry.shared_bytes(kernel).max(interpreter),
                elements: geometry.slots * geometry.width,
            });
        }
    }
    Ok(all)
}

/// Whether a call is one launch of one block for each head, as [`Preparation::one_block`] has it, where no head is taken in chunks.
///
/// [`Preparation::one_block`]: super::Preparation::one_block
pub fn is_one_block(plan: &Plan) -> bool {
    plan.heads().iter().all(|head| Geometry::new(head, head.problem.shape.samples() as u64).is_one_block())
}

/// Plans whose kernels together use every skeleton, and every loss, layout, activation and type: a name for messages, and the
/// plan.
pub fn plans() -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    let mut push = |spec: &str, problem: Problem| {
        let objective: Objective = spec.parse().expect("the list holds spec strings");
        // Some losses are not for every problem: ce of channels, Wasserstein Dice of one class.
        if let Ok(plan) = Plan::new(&objective, &problem) {
            plans.push((format!("{spec}, {problem:?}"), plan));
        }
    };
    let problem = |classes: usize, voxels: usize| Problem::new(Shape::new(2, classes, [voxels]).expect("a shape"));
    // Every loss on few classes, by threads of four voxels and of one.
    for entry in ENTRIES {
        let spec = if entry.name == "topk_ce" { "topk_ce(threshold=0.7)" } else { entry.name };
        for (activation, dense) in
            [(Activation::Softmax, false), (Activation::Softmax, true), (Activation::Sigmoid, false)]
        {
            let problem = problem(3, 64).prediction(DType::F32, activation).map(Map::Shared);
            push(spec, if dense { problem.dense(DType::F32) } else { problem.labels(DType::U8) });
        }
        push(spec, problem(1, 64).map(Map::Shared));
        push(spec, problem(4, 64));
        push(spec, problem(3, 63).prediction(DType::F32, Activation::None).map(Map::PerClass));
    }
    // Every skeleton: few classes and many, side by side and in planes.
    for spec in ["dice + ce", "dice + bce", "focal", "ce"] {
        for classes in [1, 2, 4, 5, 14, 20, 33, 160, 1000] {
            for (voxels, layout) in [(64, Layout::Planar), (63, Layout::Planar), (63, Layout::Interleaved)] {
                let dtypes: &[DType] = if spec == "dice + ce" { &[DType::F32, DType::F16] } else { &[DType::F32] };
                for dtype in dtypes {
                    let activation =
                        if classes == 1 || spec.contains("bce") { Activation::Sigmoid } else { Activation::Softmax };
                    push(
                        spec,
                        problem(classes, voxels).layout(layout).prediction(*dtype, activation).ignore_label(255),
                    );
                }
            }
        }
    }
    // Maps that are made, one and several.
    for spec in ["dice + boundary", "hausdorff_dt", "boundary + distance_ce + shape_aware_ce + hausdorff_dt"] {
        for classes in [1, 2, 4, 5, 8, 14, 33] {
            for (voxels, layout) in [(64, Layout::Planar), (63, Layout::Planar), (63, Layout::Interleaved)] {
                push(spec, problem(classes, voxels).layout(layout));
                push(spec, problem(classes, voxels).layout(layout).dense(DType::F32));
            }
        }
    }
    // Every type, with every buffer there is.
    let labels = [DType::U8, DType::I16, DType::I32, DType::I64].map(Target::Labels);
    let dense = [DType::U8, DType::F32, DType::F16, DType::BF16].map(Target::Dense);
    for prediction in [DType::F32, DType::F16, DType::BF16] {
        for target in labels.into_iter().chain(dense) {
            for (voxels, layout) in [(64, Layout::Planar), (63, Layout::Interleaved)] {
                let problem = problem(5, voxels).prediction(prediction, Activation::Softmax).layout(layout);
                let problem = problem.mask().weights().hard_counts().map(Map::PerClass);
                push(
                    "dice + focal",
                    match target {
                        Target::Labels(dtype) => problem.labels(dtype).ignore_label(-1),
                        Target::Dense(dtype) => problem.dense(dtype),
                    },
                );
            }
        }
    }
    plans
}
