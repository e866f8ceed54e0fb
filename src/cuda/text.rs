//! The text of a voxel kernel for one head: a skeleton of `kernels/ptx`, completed with the numbers of the plan, the types of its
//! buffers, its sums and its pixel terms, and with what that leaves dead taken out.
//!
//! Completed by text because the driver has a compiler of PTX and of nothing else: so each plan gets a kernel of its own, a loss
//! of the caller too, and no other compiler is needed where it runs.

use super::complete;
use super::geometry::{BATCH, Geometry};
use super::params::MADE;
use super::skeleton::{self, Skeleton};
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::{Head, PlannedMap};
use crate::problem::{Activation, Map, Target};
use crate::spec::{Graph, Id, Moment, Ptx, VoxelInput, lower_ptx};
use std::collections::BTreeMap;

/// A kernel that reads voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kernel {
    /// The sums over the target alone.
    Census,
    Reduce,
    Gradient,
    OnePass,
    /// All of a small head: sums, finish step and gradient.
    OneBlock,
}

impl Kernel {
    /// The file of `kernels/cuda`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kernel::Census | Kernel::Reduce => "reduce",
            Kernel::Gradient => "gradient",
            Kernel::OnePass => "one_pass",
            Kernel::OneBlock => "one_block",
        }
    }
    pub(super) fn sums(self) -> bool {
        self != Kernel::Gradient
    }
    pub(super) fn writes_gradient(self) -> bool {
        matches!(self, Kernel::Gradient | Kernel::OnePass | Kernel::OneBlock)
    }
}

/// A kernel before it is put together: equal sources have equal texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    pub(super) skeleton: &'static Skeleton,
    /// What each word `SEGFUSE_…` stands for.
    pub(super) numbers: BTreeMap<&'static str, i64>,
    pub(super) types: Types,
    /// The sums of a class, in their order in a row; those of a census are the first of them.
    pub(super) sums: Vec<Sum>,
    /// For each pixel term its coefficient among the slopes of a class.
    pub(super) pixel_coefficients: Vec<Option<u32>>,
    /// The pixel terms of a voxel, and their slopes.
    pub(super) values: Ptx,
    pub(super) slopes: Ptx,
}

/// The types of the buffers of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Types {
    pub(super) prediction: DType,
    /// Of labels or of a dense target.
    pub(super) target: DType,
    pub(super) gradient: DType,
    /// Labels that mean a class are below this.
    pub(super) labels: u32,
    pub(super) ignore_label: Option<i64>,
    /// The prediction is overwritten, so that it may not be read as if it were constant.
    pub(super) in_place: bool,
    /// The same of the coefficients, which the kernel itself has written.
    pub(super) made_here: bool,
}

/// What a register of a thread adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sum {
    Moment(Moment),
    TruePositives,
    FalsePositives,
    FalseNegatives,
}

impl Source {
    /// The name of the kernel in its module.
    pub(super) fn entry(&self) -> &'static str {
        self.skeleton.entry
    }
    /// The whole text of the module.
    pub(super) fn text(&self) -> String {
        complete::complete(self)
    }
    /// Blocks of a multiprocessor that the driver's compiler must leave registers for: where pixel terms of every class read made maps,
    /// each takes a register for every value.
    pub(super) fn resident(&self) -> u32 {
        let reads_made = self.number("OWN_CLASS") == 0 && MADE_NAMES.iter().any(|[name, _]| self.number(name) != 0);
        if reads_made { 1 } else { self.skeleton.resident() }
    }
    /// The number that a word of the skeletons stands for.
    pub(super) fn number(&self, name: &str) -> i64 {
        *self.numbers.get(name).unwrap_or_else(|| panic!("a skeleton asks for {name}, which is no number of a plan"))
    }
}

/// The text of a kernel that knows nothing of a plan.
pub(super) fn plain(name: &str) -> &'static str {
    skeleton::plain(name)
}

/// Words of each map that plans may make, by its number: whether the kernel reads it, and the first class that it is made for.
const MADE_NAMES: [[&str; 2]; MADE] = [
    ["MADE_0", "MADE_FIRST_0"],
    ["MADE_1", "MADE_FIRST_1"],
    ["MADE_2", "MADE_FIRST_2"],
    ["MADE_3", "MADE_FIRST_3"],
    ["MADE_4", "MADE_FIRST_4"],
];

/// The kernel of a head: what its text is made of.
///
/// # Errors
/// [`Error::Program`] when a pixel term has a constant that single precision cannot hold.
pub(super) fn voxels(head: &Head, geometry: &Geometry, kernel: Kernel, in_place: bool) -> Result<Source, Error> {
    let problem = &head.problem;
    let census = kernel == Kernel::Census;
    let (labels, target) = match problem.target {
        Target::Labels(dtype) => (true, dtype),
        Target::Dense(dtype) => (false, dtype),
    };
    let classes = problem.shape.classes();
    let types = Types {
        prediction: problem.prediction,
        target,
        gradient: problem.gradient_dtype(),
        labels: classes.max(2) as u32,
        ignore_label: problem.ignore_label,
        in_place: in_place && kernel.writes_gradient(),
        made_here: kernel == Kernel::OneBlock,
    };

    let moments = if census { &head.moments[..head.target_moments] } else { &head.moments[..] };
    let mut sums: Vec<Sum> = moments.iter().copied().map(Sum::Moment).collect();
    let hard = problem.hard_counts && !census;
    if hard {
        sums.extend([Sum::TruePositives, Sum::FalsePositives, Sum::FalseNegatives]);
    }
    let slopes = &head.moments[head.target_moments..];
    let by = |moment: Moment| slopes.iter().position(|&m| m == moment);

    let recorded = &head.pixels.recorded;
    let value_ids = if census { &recorded.target_values } else { &recorded.values };
    let values = if kernel.sums() { lowered(head, &recorded.graph, value_ids)? } else { Ptx::default() };
    let differentiates = kernel.writes_gradient() && !value_ids.is_empty();
    let pixel_slopes =
        if differentiates { lowered(head, &recorded.slope_graph, &recorded.slopes)? } else { Ptx::default() };
    let pixel_coefficients =
        (0..value_ids.len()).map(|k| by(Moment::Pixel(k as u8)).map(|at| at as u32)).collect::<Vec<_>>();

    let summed = |moment| kernel.sums() && moments.contains(&moment);
    let sloped = |moment| kernel.writes_gradient() && by(moment).is_some();
    let place = |moment| by(moment).unwrap_or(0) as i64;
    let pixels = !value_ids.is_empty();
    let of_thread = geometry.slots as usize * sums.len() + 2;
    let flag = i64::from;
    let mut numbers = BTreeMap::from([
        ("CLASSES", classes as i64),
        ("TEAM", i64::from(geometry.team)),
        ("TEAM_SHIFT", i64::from(geometry.team.ilog2())),
        ("MEMBER_SHIFT", i64::from(geometry.member_shift())),
        ("SLOTS", i64::from(geometry.slots)),
        ("FULL_SLOTS", flag(classes.is_multiple_of(geometry.team as usize))),
        ("STAGED", flag(geometry.staged)),
        ("STAGE_WIDTH", i64::from(geometry.stage_width)),
        ("STAGE_OWN", i64::from(geometry.stage_own)),
        ("STAGE_PAD", i64::from(geometry.stage_pad)),
        ("STAGE_PERIOD_SHIFT", i64::from(geometry.stage_period.ilog2())),
        ("STAGE_NUMBERS", i64::from(geometry.stage_numbers())),
        ("TILE", i64::from(geometry.tile())),
        // i/period is (i·reciprocal) >> 20 for every i of a tile, which has at most 512 elements.
        ("STAGE_PERIOD_RECIPROCAL", (1i64 << 20) / (i64::from(geometry.stage_period) * classes as i64) + 1),
        ("SHARES_MEMORY", flag(geometry.staged)),
        ("CENSUS", flag(census)),
        ("SOFTMAX", flag(problem.activation == Activation::Softmax)),
        ("SIGMOID", flag(problem.activation == Activation::Sigmoid)),
        ("LN_Q", flag(head.softmax_reads_ln_q())),
        ("OWN_CLASS", flag(head.own_class)),
        ("LABELS_TARGET", flag(labels)),
        ("KEEP", flag(problem.mask)),
        ("WEIGHTS", flag(problem.weights)),
        // Of the caller, or made.
        ("MAP_SHARED", flag(problem.map == Some(Map::Shared) || head.maps.iter().any(PlannedMap::is_shared))),
        ("MAP_PER_CLASS", flag(problem.map == Some(Map::PerClass))),
        ("PIXELS", flag(pixels)),
        ("OWN_PIXELS", flag(pixels && head.own_class)),
        ("COST", flag(summed(Moment::Cost) || sloped(Moment::Cost))),
        // Something beside P, PG and PP gives a slope to the classes of a voxel one by one.
        ("BASE", flag((pixels && !head.own_class) || sloped(Moment::Cost))),
        ("SUM_P", flag(summed(Moment::P))),
        ("HARD", flag(hard)),
        ("HARD_ARGMAX", flag(problem.hard_is_argmax())),
        ("MOMENTS", head.moments.len() as i64),
        ("MOMENTS_HERE", moments.len() as i64),
        ("SUMS", sums.len() as i64),
        ("ROW", geometry.row() as i64),
        ("BATCHES", of_thread.div_ceil(BATCH as usize) as i64),
        ("BATCHES_AT_ONCE", i64::from(geometry.batches_at_once())),
        ("SLOPES", slopes.len() as i64),
        ("SLOPE_P", flag(sloped(Moment::P))),
        ("SLOPE_PG", flag(sloped(Moment::PG))),
        ("SLOPE_PP", flag(sloped(Moment::PP))),
        ("BY_P", place(Moment::P)),
        ("BY_PG", place(Moment::PG)),
        ("BY_PP", place(Moment::PP)),
        ("BY_COST", place(Moment::Cost)),
    ]);
    // Slopes are made for calls with a gradient alone.
    for (number, names) in MADE_NAMES.into_iter().enumerate() {
        let reads = |map: &&PlannedMap| map.input != VoxelInput::ErodedErrorSlope || kernel.writes_gradient();
        let map = head.maps.get(number).filter(|map| !map.is_shared()).filter(reads);
        let first = map.map_or(0, |map| map.first_class);
        numbers.extend(names.into_iter().zip([flag(map.is_some()), first as i64]));
    }
    Ok(Source {
        skeleton: skeleton::of(kernel, geometry),
        numbers,
        types,
        sums,
        pixel_coefficients,
        values,
        slopes: pixel_slopes,
    })
}

/// The pixel terms with inputs `$p`, `$ln_p`, …, made maps `$made0`, `$made1`, … by number, and coefficients `$c0`, `$c1`, …
fn lowered(head: &Head, graph: &Graph, outputs: &[Id]) -> Result<Ptx, Error> {
    let made = |input: VoxelInput| head.maps.iter().position(|map| map.input == input);
    let input = |slot: u8| match VoxelInput::ALL.get(slot as usize) {
        Some(&input) => match made(input) {
            // The kernels have one map that the classes share.
            Some(_) if input.is_shared() => format!("${}", complete::input_name(VoxelInput::Map)),
            Some(number) => format!("$made{number}"),
            None => format!("${}", complete::input_name(input)),
        },
        None => format!("$c{}", slot as usize - VoxelInput::ALL.len()),
    };
    Ok(lower_ptx(graph, outputs, &input)?)
}
