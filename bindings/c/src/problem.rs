//! The description of a problem.

use crate::memory::{Growing, array};
use crate::status::Failure;
use segfuse::loss::Absent;
use segfuse::{Activation, DType, Layout, Map, Problem, Reduction, SPATIAL_MAX, Shape};
use std::mem::offset_of;

/// The element type of a buffer; 0 stands for the default of the field.
pub type segfuse_dtype = u32;
/// What the field says.
pub const SEGFUSE_DTYPE_DEFAULT: segfuse_dtype = 0;
/// IEEE single precision.
pub const SEGFUSE_F32: segfuse_dtype = 1;
/// IEEE half precision.
pub const SEGFUSE_F16: segfuse_dtype = 2;
/// The upper half of an f32.
pub const SEGFUSE_BF16: segfuse_dtype = 3;
/// uint8_t.
pub const SEGFUSE_U8: segfuse_dtype = 4;
/// int16_t.
pub const SEGFUSE_I16: segfuse_dtype = 5;
/// int32_t.
pub const SEGFUSE_I32: segfuse_dtype = 6;
/// int64_t.
pub const SEGFUSE_I64: segfuse_dtype = 7;

/// What turns the prediction into probabilities.
pub type segfuse_activation = u32;
/// Softmax for several classes, sigmoid for one.
pub const SEGFUSE_ACTIVATION_DEFAULT: segfuse_activation = 0;
/// The prediction is a probability already.
pub const SEGFUSE_NO_ACTIVATION: segfuse_activation = 1;
/// Each channel on its own.
pub const SEGFUSE_SIGMOID: segfuse_activation = 2;
/// Over the classes of a voxel.
pub const SEGFUSE_SOFTMAX: segfuse_activation = 3;

/// How prediction, gradient, a dense target and a map per class lie in memory.
pub type segfuse_layout = u32;
/// `[N, C, V]`, each class a plane.
pub const SEGFUSE_PLANAR: segfuse_layout = 0;
/// `[N, V, C]`, the classes of a voxel side by side.
pub const SEGFUSE_INTERLEAVED: segfuse_layout = 1;

/// What the target is.
pub type segfuse_target = u32;
/// Class labels `[N, V]`: u8, i16, i32 or i64. With C = 1 they are 0 and 1.
pub const SEGFUSE_LABELS: segfuse_target = 0;
/// One value per voxel and class, hard or soft, in the prediction's layout: u8, f32, f16 or bf16.
pub const SEGFUSE_DENSE: segfuse_target = 1;

/// The map (distance or weight) that some losses read.
pub type segfuse_map = u32;
/// None.
pub const SEGFUSE_NO_MAP: segfuse_map = 0;
/// f32 `[N, V]`, shared by the classes.
pub const SEGFUSE_SHARED_MAP: segfuse_map = 1;
/// f32, one per voxel and class, in the prediction's layout.
pub const SEGFUSE_CLASS_MAP: segfuse_map = 2;

/// What becomes of the values of groups.
pub type segfuse_reduction = u32;
/// The weighted mean: one number.
pub const SEGFUSE_MEAN: segfuse_reduction = 0;
/// The weighted sum: one number.
pub const SEGFUSE_SUM: segfuse_reduction = 1;
/// One number per sample.
pub const SEGFUSE_PER_SAMPLE: segfuse_reduction = 2;

/// What a class without a target voxel does in a region loss.
pub type segfuse_absent = u32;
/// It counts like any other.
pub const SEGFUSE_ABSENT_COUNTS: segfuse_absent = 0;
/// It leaves the mean.
pub const SEGFUSE_ABSENT_SKIPPED: segfuse_absent = 1;
/// Its value is 0.
pub const SEGFUSE_ABSENT_ZERO: segfuse_absent = 2;

/// There is a keep-mask, u8 `[N, V]`: voxels with 0 do not count.
pub const SEGFUSE_HAS_MASK: u32 = 1;
/// There are voxel weights, f32 `[N, V]`, at least 0.
pub const SEGFUSE_HAS_WEIGHTS: u32 = 2;
/// Voxels whose label is `ignore_label` do not count.
pub const SEGFUSE_HAS_IGNORE_LABEL: u32 = 4;
/// Losses sum over the samples before any ratio; a loss of the spec string may say otherwise.
pub const SEGFUSE_BATCH: u32 = 8;
/// Class 0 does not count; a loss may say otherwise. No effect with one class.
pub const SEGFUSE_EXCLUDE_BACKGROUND: u32 = 16;
/// Also count true positives, false positives and false negatives of the hard prediction.
pub const SEGFUSE_HARD_COUNTS: u32 = 32;

const FLAGS: u32 = SEGFUSE_HAS_MASK
    | SEGFUSE_HAS_WEIGHTS
    | SEGFUSE_HAS_IGNORE_LABEL
    | SEGFUSE_BATCH
    | SEGFUSE_EXCLUDE_BACKGROUND
    | SEGFUSE_HARD_COUNTS;

/// What a loss is computed on. Fill it with zeros, set `size` to sizeof(segfuse_problem), then what differs from the default:
/// every field means its default when it is 0, but for the first three.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_problem {
    /// sizeof(segfuse_problem): which fields the caller knows.
    pub size: usize,
    /// N, from 1.
    pub samples: usize,
    /// C, from 1.
    pub classes: usize,
    /// One to five extents, slowest first; those that are not used are 0. V is their product.
    pub spatial: [usize; 5],
    /// f32 (default), f16 or bf16.
    pub prediction: segfuse_dtype,
    /// Softmax for several classes and sigmoid for one (default), or as it says.
    pub activation: segfuse_activation,
    /// Planar (default) or interleaved.
    pub layout: segfuse_layout,
    /// Labels (default) or dense.
    pub target: segfuse_target,
    /// u8 by default, for labels and for dense targets.
    pub target_dtype: segfuse_dtype,
    /// f32, or the prediction's type (default).
    pub gradient: segfuse_dtype,
    /// None (default), shared or per class.
    pub map: segfuse_map,
    /// Mean (default), sum or one per sample.
    pub reduction: segfuse_reduction,
    /// Count (default), skip or zero; a loss of the spec string may say otherwise.
    pub absent: segfuse_absent,
    /// SEGFUSE_HAS_MASK and the like, added up.
    pub flags: u32,
    /// Read with SEGFUSE_HAS_IGNORE_LABEL; it may lie outside of 0 to C − 1.
    pub ignore_label: i64,
    /// One weight per class, at least 0, read while the plan is made; null for none.
    pub class_weights: *const f64,
    /// How many: C, or 0.
    pub class_weight_count: usize,
    /// Between voxels that follow each other along each axis, above 0, for losses that make distance maps; read while the plan is
    /// made, null for 1. From version 2 of the interface on.
    pub spacing: *const f64,
    /// How many: as many as extents, or 0.
    pub spacing_count: usize,
}

// SAFETY: integers and pointers, of which the first is the size.
unsafe impl Growing for segfuse_problem {
    const NAME: &'static str = "segfuse_problem";
    const FIRST: usize = offset_of!(segfuse_problem, spacing);
}

const _: () = assert!(SPATIAL_MAX == 5);

impl segfuse_problem {
    /// # Safety
    /// `class_weights` and `spacing` are null or point to as many numbers as they say.
    pub(crate) unsafe fn read(&self) -> Result<Problem, Failure> {
        let spatial = self.spatial.iter().position(|&extent| extent == 0).unwrap_or(self.spatial.len());
        if self.spatial[spatial..].iter().any(|&extent| extent != 0) {
            return Err(Failure::argument(format!("spatial[{spatial}] is 0, and a later extent is not")));
        }
        let mut problem = Problem::new(Shape::new(self.samples, self.classes, &self.spatial[..spatial])?);
        let activation = match self.activation {
            SEGFUSE_ACTIVATION_DEFAULT => problem.activation(),
            SEGFUSE_NO_ACTIVATION => Activation::None,
            SEGFUSE_SIGMOID => Activation::Sigmoid,
            SEGFUSE_SOFTMAX => Activation::Softmax,
            other => return Err(unknown("activation", other)),
        };
        problem = problem
            .prediction(dtype("prediction", self.prediction)?.unwrap_or(DType::F32), activation)
            .layout(match self.layout {
                SEGFUSE_PLANAR => Layout::Planar,
                SEGFUSE_INTERLEAVED => Layout::Interleaved,
                other => return Err(unknown("layout", other)),
            })
            .reduction(match self.reduction {
                SEGFUSE_MEAN => Reduction::Mean,
                SEGFUSE_SUM => Reduction::Sum,
                SEGFUSE_PER_SAMPLE => Reduction::None,
                other => return Err(unknown("reduction", other)),
            })
            .absent(match self.absent {
                SEGFUSE_ABSENT_COUNTS => Absent::Count,
                SEGFUSE_ABSENT_SKIPPED => Absent::Skip,
                SEGFUSE_ABSENT_ZERO => Absent::Zero,
                other => return Err(unknown("absent", other)),
            })
            .batch(self.has(SEGFUSE_BATCH))
            .background(!self.has(SEGFUSE_EXCLUDE_BACKGROUND));
        let target_dtype = dtype("target_dtype", self.target_dtype)?.unwrap_or(DType::U8);
        problem = match self.target {
            SEGFUSE_LABELS => problem.labels(target_dtype),
            SEGFUSE_DENSE => problem.dense(target_dtype),
            other => return Err(unknown("target", other)),
        };
        if let Some(gradient) = dtype("gradient", self.gradient)? {
            problem = problem.gradient(gradient);
        }
        problem = match self.map {
            SEGFUSE_NO_MAP => problem,
            SEGFUSE_SHARED_MAP => problem.map(Map::Shared),
            SEGFUSE_CLASS_MAP => problem.map(Map::PerClass),
            other => return Err(unknown("map", other)),
        };
        if self.flags & !FLAGS != 0 {
            return Err(Failure::argument(format!("flags has unknown bits: {:#x}", self.flags & !FLAGS)));
        }
        if self.has(SEGFUSE_HAS_MASK) {
            problem = problem.mask();
        }
        if self.has(SEGFUSE_HAS_WEIGHTS) {
            problem = problem.weights();
        }
        if self.has(SEGFUSE_HARD_COUNTS) {
            problem = problem.hard_counts();
        }
        if self.has(SEGFUSE_HAS_IGNORE_LABEL) {
            problem = problem.ignore_label(self.ignore_label);
        }
        // SAFETY: the caller's promise.
        let weights = unsafe { array(self.class_weights, self.class_weight_count, "class_weights")? };
        if !weights.is_empty() {
            problem = problem.class_weights(weights);
        }
        // SAFETY: the caller's promise.
        let spacing = unsafe { array(self.spacing, self.spacing_count, "spacing")? };
        Ok(if spacing.is_empty() { problem } else { problem.spacing(spacing) })
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

fn dtype(field: &str, value: segfuse_dtype) -> Result<Option<DType>, Failure> {
    Ok(Some(match value {
        SEGFUSE_DTYPE_DEFAULT => return Ok(None),
        SEGFUSE_F32 => DType::F32,
        SEGFUSE_F16 => DType::F16,
        SEGFUSE_BF16 => DType::BF16,
        SEGFUSE_U8 => DType::U8,
        SEGFUSE_I16 => DType::I16,
        SEGFUSE_I32 => DType::I32,
        SEGFUSE_I64 => DType::I64,
        other => return Err(unknown(field, other)),
    }))
}

fn unknown(field: &str, value: u32) -> Failure {
    Failure::argument(format!("{field} has an unknown value, {value}"))
}
