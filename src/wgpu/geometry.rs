//! How a head is cut into windows, rows and threads: from the shape and the device's limits alone, so that the order of every
//! sum is the same from run to run.

use crate::dtype::DType;
use crate::error::Error;
use crate::plan::Head;
use crate::problem::{Layout, Map, Problem, Target};
use bytemuck::{Pod, Zeroable};

/// Threads of a workgroup: as many as every device has.
pub(super) const WORKGROUP: u32 = 256;
/// Rows that a pass should have at least, so that a large device is busy.
const ROWS_WANTED: u64 = 2048;
/// Rounds of a run: bounds how many values a lane adds in single precision.
const ROUNDS_MAX: u64 = 64;
/// Fewer rounds than this are not worth the tree that ends a run.
const ROUNDS_MIN: u64 = 8;
/// Partial sums of all rows may take this much memory.
const ROW_BYTES: u64 = 2 << 20;
/// Sums that a thread keeps in registers, before a team shares the classes of a voxel.
const SUMS_ALONE: usize = 128;
/// And for each member of a team.
const SUMS_OF_MEMBER: usize = 48;
/// Values that a thread keeps in registers where it holds four voxels at once.
const VALUES_VECTOR: usize = 112;

/// What a buffer of a kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Prediction,
    Target,
    Mask,
    Weights,
    Map,
    Gradient,
    Workspace,
    Costs,
}

impl Role {
    /// Its name in the kernels.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Prediction => "prediction",
            Role::Target => "truths",
            Role::Mask => "keep",
            Role::Weights => "weights",
            Role::Map => "distances",
            Role::Gradient => "gradient",
            Role::Workspace => "workspace",
            Role::Costs => "costs",
        }
    }
    /// Its name in messages.
    pub(super) fn title(self) -> &'static str {
        match self {
            Role::Prediction => "the prediction",
            Role::Target => "the target",
            Role::Mask => "the mask",
            Role::Weights => "the voxel weights",
            Role::Map => "the map",
            Role::Gradient => "the gradient",
            Role::Workspace => "the workspace",
            Role::Costs => "the cost matrix",
        }
    }
    /// The element type of a buffer of the caller.
    pub(super) fn dtype(self, problem: &Problem) -> DType {
        match self {
            Role::Prediction => problem.prediction,
            Role::Target => match problem.target {
                Target::Labels(dtype) | Target::Dense(dtype) => dtype,
            },
            Role::Mask => DType::U8,
            Role::Gradient => problem.gradient_dtype(),
            Role::Weights | Role::Map | Role::Workspace | Role::Costs => DType::F32,
        }
    }
    /// Elements per voxel: 1, or one per class.
    fn per_voxel(self, problem: &Problem) -> u64 {
        let each_class = match self {
            Role::Prediction | Role::Gradient => true,
            Role::Target => matches!(problem.target, Target::Dense(_)),
            Role::Map => problem.map == Some(Map::PerClass),
            Role::Mask | Role::Weights | Role::Workspace | Role::Costs => false,
        };
        if each_class { problem.shape.classes() as u64 } else { 1 }
    }
    /// Bytes per voxel.
    fn voxel_bytes(self, problem: &Problem) -> u64 {
        self.per_voxel(problem) * self.dtype(problem).size()
    }
    /// Bytes of the whole buffer, up to whole words.
    pub(super) fn bytes(self, problem: &Problem) -> u64 {
        (self.voxel_bytes(problem) * problem.shape.all_voxels()).next_multiple_of(4)
    }
}

/// The buffers of the caller that a problem needs, the gradient last.
pub(super) fn roles(problem: &Problem) -> Vec<Role> {
    let mut roles = vec![Role::Prediction, Role::Target];
    roles.extend(problem.mask.then_some(Role::Mask));
    roles.extend(problem.weights.then_some(Role::Weights));
    roles.extend(problem.map.map(|_| Role::Map));
    roles.push(Role::Gradient);
    roles
}

/// The limits of a device that shape the work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of one storage binding.
    pub(super) binding: u64,
    /// What the offset of a storage binding must be a multiple of.
    pub(super) alignment: u64,
    /// Workgroups per dimension.
    pub(super) workgroups: u64,
}

/// The uniform `Window` of `kernels/wgsl/voxel.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct WindowParams {
    pub(super) voxels: u32,
    pub(super) plane: u32,
    pub(super) first_sample: u32,
    pub(super) rounds: u32,
    pub(super) runs: u32,
    pub(super) rows: u32,
    pub(super) first_row: u32,
    pub(super) rows_at: u32,
    pub(super) coefficients_at: u32,
    pub(super) prediction_base: u32,
    pub(super) target_base: u32,
    pub(super) mask_base: u32,
    pub(super) weights_base: u32,
    pub(super) map_base: u32,
    pub(super) gradient_base: u32,
    pub(super) padding: u32,
}

/// A range of a buffer of the caller, from where its own slice begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) role: Role,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What one dispatch covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) params: WindowParams,
    /// Workgroups in x: rows of a sample; in y: samples.
    pub(super) grid: [u32; 2],
    pub(super) spans: Vec<Span>,
}

/// Places in the workspace, in words of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowPlaces {
    pub(super) rows_at: u32,
    pub(super) coefficients_at: u32,
}

/// How a head is laid over the device.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    /// Whether a thread takes four voxels at once.
    pub(super) vector: bool,
    /// Whether the classes of a voxel lie side by side; with one class either layout is planar.
    pub(super) interleaved: bool,
    /// Threads that share a voxel, and classes of each.
    pub(super) team: u32,
    pub(super) slots: u32,
    /// Sums of a sample: moments and hard counts per class, and two counts of voxels.
    pub(super) row: u32,
    /// Loads per team in a run, and runs of a workgroup.
    rounds: u64,
    runs: u64,
    /// Workgroups, and so rows of partial sums, of a sample.
    pub(super) rows: u64,
}

impl Geometry {
    pub(super) fn new(head: &Head, limits: &Limits) -> Geometry {
        let problem = &head.problem;
        let (samples, classes) = (problem.shape.samples() as u64, problem.shape.classes());
        let voxels = problem.shape.voxels();
        let interleaved = problem.layout == Layout::Interleaved && classes > 1;
        let hard = if problem.hard_counts { 3 } else { 0 };
        let sums = head.moments.len() + hard;
        let cost = head.cost_matrix.is_some();
        // What a slot takes beside its sums: z, p, e.
        let registers = |slots: usize| slots * (sums + 2);
        let vector = !interleaved && !cost && voxels.is_multiple_of(4) && 4 * registers(classes) <= VALUES_VECTOR;
        let dense_costs = cost && matches!(problem.target, Target::Dense(_));
        let team = if registers(classes) <= SUMS_ALONE || dense_costs {
            1
        } else {
            let fits = |team: &u32| registers(classes.div_ceil(*team as usize)) <= SUMS_OF_MEMBER;
            (1..=WORKGROUP.ilog2()).map(|k| 1 << k).find(fits).unwrap_or(WORKGROUP)
        };
        let row = (classes * sums + 2) as u32;
        let at_once = u64::from(WORKGROUP / team) * if vector { 4 } else { 1 };
        let loads = voxels.div_ceil(at_once);
        let wanted = (ROWS_WANTED / samples).max(1);
        let rounds = loads.div_ceil(wanted).clamp(ROUNDS_MIN, ROUNDS_MAX).min(loads);
        let most = (ROW_BYTES / (samples * u64::from(row) * 8)).clamp(1, limits.workgroups);
        let runs = loads.div_ceil(rounds * most);
        let rows = loads.div_ceil(rounds * runs);
        let slots = classes.div_ceil(team as usize) as u32;
        Geometry { vector, interleaved, team, slots, row, rounds, runs, rows }
    }

    /// Voxels of a workgroup.
    fn voxels_of_row(&self) -> u64 {
        let at_once = u64::from(WORKGROUP / self.team) * if self.vector { 4 } else { 1 };
        self.rounds * self.runs * at_once
    }

    /// The dispatches that cover a head.
    ///
    /// All samples at once where the bindings hold them; else some samples at a time; else, where the classes of a voxel lie
    /// side by side, ranges of voxels of one sample.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] where the planes of one sample are beyond a binding.
    pub(super) fn windows(&self, head: &Head, limits: &Limits, places: &WindowPlaces) -> Result<Vec<Window>, Error> {
        let problem = &head.problem;
        let (samples, voxels) = (problem.shape.samples() as u64, problem.shape.voxels());
        let roles = roles(problem);
        // A binding begins up to one alignment early and ends on a whole word; elements are numbered in 32 bits.
        let room = limits.binding.saturating_sub(limits.alignment + 4);
        let bytes = roles.iter().map(|role| role.voxel_bytes(problem)).max().expect("there is a prediction");
        let elements = roles.iter().map(|role| role.per_voxel(problem)).max().expect("there is a prediction");
        let most = (room / bytes).min(u64::from(u32::MAX) / elements - limits.alignment);
        if voxels <= most {
            let at_once = (most / voxels).min(limits.workgroups).min(samples);
            let starts = (0..samples).step_by(at_once as usize);
            return Ok(starts
                .map(|first| {
                    let count = at_once.min(samples - first);
                    self.window(problem, limits, places, first, count, 0..voxels)
                })
                .collect());
        }
        let contiguous = self.interleaved || problem.shape.classes() == 1;
        let at_once = most / self.voxels_of_row() * self.voxels_of_row();
        if !contiguous || at_once == 0 {
            let need = bytes * voxels + limits.alignment + 4;
            return Err(Error::DeviceLimit { what: "bytes of one storage binding", need, got: limits.binding });
        }
        let ranges = (0..voxels).step_by(at_once as usize).map(|start| start..(start + at_once).min(voxels));
        let ranges: Vec<_> = ranges.collect();
        Ok((0..samples)
            .flat_map(|sample| ranges.iter().map(move |range| (sample, range.clone())))
            .map(|(sample, range)| self.window(problem, limits, places, sample, 1, range))
            .collect())
    }

    fn window(
        &self,
        problem: &Problem,
        limits: &Limits,
        places: &WindowPlaces,
        first_sample: u64,
        samples: u64,
        range: std::ops::Range<u64>,
    ) -> Window {
        let voxels = problem.shape.voxels();
        let count = range.end - range.start;
        let mut params = WindowParams {
            voxels: count as u32,
            plane: if samples == 1 { count.max(1) as u32 } else { voxels as u32 },
            first_sample: first_sample as u32,
            rounds: self.rounds as u32,
            runs: self.runs as u32,
            rows: self.rows as u32,
            first_row: (range.start / self.voxels_of_row()) as u32,
            rows_at: places.rows_at,
            coefficients_at: places.coefficients_at,
            ..WindowParams::default()
        };
        // A window is a range of samples, whose planes are whole, or a range of voxels where planes do not matter.
        if count == voxels {
            params.plane = voxels as u32;
        }
        let first_voxel = first_sample * voxels + range.start;
        let mut spans = Vec::new();
        for role in roles(problem) {
            let per_voxel = role.voxel_bytes(problem);
            let start = first_voxel * per_voxel;
            let end = (start + samples * count * per_voxel).next_multiple_of(4);
            let offset = start / limits.alignment * limits.alignment;
            let base = ((start - offset) / role.dtype(problem).size()) as u32;
            match role {
                Role::Prediction => params.prediction_base = base,
                Role::Target => params.target_base = base,
                Role::Mask => params.mask_base = base,
                Role::Weights => params.weights_base = base,
                Role::Map => params.map_base = base,
                Role::Gradient => params.gradient_base = base,
                Role::Workspace | Role::Costs => unreachable!("no buffer of the caller"),
            }
            spans.push(Span { role, offset, size: end - offset });
        }
        let rows = count.div_ceil(self.voxels_of_row());
        Window { params, grid: [rows as u32, samples as u32], spans }
    }
}
