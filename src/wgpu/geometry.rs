//! How a head is cut into windows, rows and threads: from the shape and the device's limits alone, so that the order of every
//! sum is the same from run to run.

use super::maps;
use crate::error::Error;
use crate::plan::Head;
use crate::problem::{Layout, Problem, Target};
use crate::role::{Role, roles};
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
/// A staging buffer should have this much memory, where it must be.
const STAGING_BYTES: u64 = 16 << 20;
/// Sums that a thread keeps in registers, before a team shares the classes of a voxel.
const SUMS_ALONE: usize = 128;
/// And for each member of a team.
const SUMS_OF_MEMBER: usize = 96;
/// Values that a thread keeps in registers where it holds four voxels at once.
const VALUES_VECTOR: usize = 112;

/// Bytes of a value of a made map.
const MADE_BYTES: u64 = 4;

/// Bytes of a buffer of the caller, up to whole words: a binding has no other size.
pub(super) fn whole_words(role: Role, problem: &Problem) -> u64 {
    role.bytes(problem).next_multiple_of(4)
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

impl Limits {
    /// Bytes of a window: a binding begins up to one alignment early and ends on a whole word.
    fn room(&self) -> u64 {
        self.binding.saturating_sub(self.alignment + 4)
    }
}

/// Bytes of a voxel in the buffer that has most of them.
fn voxel_bytes(problem: &Problem) -> u64 {
    roles(problem).into_iter().map(|role| role.voxel_bytes(problem)).max().expect("there is a prediction")
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
    pub(super) made_base: u32,
    /// Always 0.
    pub(super) zero: u32,
}

impl WindowParams {
    /// The element of a bound range where the window begins.
    fn base_mut(&mut self, role: Role) -> &mut u32 {
        match role {
            Role::Prediction => &mut self.prediction_base,
            Role::Target => &mut self.target_base,
            Role::Mask => &mut self.mask_base,
            Role::Weights => &mut self.weights_base,
            Role::Map => &mut self.map_base,
            Role::Gradient => &mut self.gradient_base,
            Role::Made => &mut self.made_base,
            Role::Workspace | Role::Costs => unreachable!("no buffer of the caller"),
        }
    }
}

/// A range of a buffer of the caller, or of the made maps, from where its own slice begins.
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
    /// Where the planes of a range of voxels are gathered before they are bound.
    pub(super) staging: Option<Staging>,
}

impl Window {
    /// Binds the bytes `range` of a buffer, up to a whole word.
    fn bind(&mut self, limits: &Limits, role: Role, range: std::ops::Range<u64>, element: u64) {
        let offset = range.start / limits.alignment * limits.alignment;
        *self.params.base_mut(role) = ((range.start - offset) / element) as u32;
        self.spans.push(Span { role, offset, size: range.end.next_multiple_of(4) - offset });
    }
}

/// Ranges of the planes of one sample, which lie apart in the buffers of the caller and together in a staging buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Staging {
    /// Element of the caller's buffer at which the range of class 0 begins.
    start: u64,
    /// Elements between the planes of the caller.
    plane: u64,
    classes: u64,
    /// Elements of a range, and between ranges in the staging buffer.
    count: u64,
    stride: u64,
}

impl Staging {
    /// For each class: the byte of the caller's buffer, the byte of the staging buffer, and how many bytes.
    pub(super) fn copies(self, size: u64) -> impl Iterator<Item = [u64; 3]> {
        (0..self.classes)
            .map(move |class| [(self.start + class * self.plane) * size, class * self.stride * size, self.count * size])
    }
    /// Bytes of the staging buffer.
    pub(super) fn bytes(self, size: u64) -> u64 {
        self.classes * self.stride * size
    }
}

/// Places in the workspace, in words of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowPlaces {
    pub(super) rows_at: u32,
    pub(super) coefficients_at: u32,
}

/// Copies are of whole words, so planes that are gathered must begin on one.
fn staged_copies_are_whole_words(problem: &Problem) -> Result<(), Error> {
    let whole = |role: &Role| (problem.shape.voxels() * role.dtype(problem).size()).is_multiple_of(4);
    match roles(problem).into_iter().filter(|role| role.is_per_class(problem)).find(|role| !whole(role)) {
        None => Ok(()),
        Some(role) => Err(Error::Problem(format!(
            "{}: the planes of a sample are beyond one binding of the device, and are gathered only where they are multiples \
             of 4 bytes; the interleaved layout has no such limit",
            role.title()
        ))),
    }
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
        // A row does not reach beyond a binding, however few of them the memory for rows allows.
        let in_binding = (limits.room() / voxel_bytes(problem) / at_once).max(1);
        let rounds = loads.div_ceil(wanted).clamp(ROUNDS_MIN, ROUNDS_MAX).min(loads).min(in_binding);
        let most = (ROW_BYTES / (samples * u64::from(row) * 8)).clamp(1, limits.workgroups);
        let runs = loads.div_ceil(rounds * most).min(in_binding / rounds);
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
    /// All samples at once where the bindings hold them; else some samples at a time; else ranges of voxels of one sample,
    /// whose planes, where there are several, are gathered in a staging buffer first.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] where not even one row fits a binding, [`Error::Problem`] where planes that have to be gathered
    /// do not begin on whole words.
    pub(super) fn windows(&self, head: &Head, limits: &Limits, places: &WindowPlaces) -> Result<Vec<Window>, Error> {
        let problem = &head.problem;
        let (samples, voxels) = (problem.shape.samples() as u64, problem.shape.voxels());
        let roles = roles(problem);
        let made = maps::planes_of_sample(head);
        let (room, bytes) = (limits.room(), voxel_bytes(problem).max(MADE_BYTES * made));
        let elements = roles.iter().map(|role| role.per_voxel(problem)).max().expect("there is a prediction").max(made);
        // Elements are numbered in 32 bits.
        let most = (room / bytes).min(u64::from(u32::MAX) / elements - limits.alignment);
        if voxels <= most {
            let at_once = (most / voxels).min(limits.workgroups).min(samples);
            let starts = (0..samples).step_by(at_once as usize);
            return Ok(starts
                .map(|first| {
                    let count = at_once.min(samples - first);
                    let mut window = self.window(problem, limits, places, first, count, 0..voxels);
                    if made > 0 {
                        let sample = made * voxels * MADE_BYTES;
                        let range = first * sample..(first + count) * sample;
                        window.bind(limits, Role::Made, range, MADE_BYTES);
                    }
                    window
                })
                .collect());
        }
        if made > 0 {
            let what = "bytes of a sample, or of its made maps, in one storage binding";
            return Err(Error::DeviceLimit { what, need: bytes * voxels, got: room });
        }
        let contiguous = self.interleaved || problem.shape.classes() == 1;
        let most = if contiguous { most } else { most.min(STAGING_BYTES / bytes) };
        // Whole rows, at least one; ranges that are copied begin and end on whole words, whatever the type.
        let row = self.voxels_of_row();
        let unit =
            if contiguous || row.is_multiple_of(4) { row } else { row * if row.is_multiple_of(2) { 2 } else { 4 } };
        let at_once = (most / unit).max(1) * unit;
        let need = bytes * at_once + limits.alignment + 4;
        if need > limits.binding {
            return Err(Error::DeviceLimit { what: "bytes of one storage binding", need, got: limits.binding });
        }
        if !contiguous {
            staged_copies_are_whole_words(problem)?;
        }
        let ranges = (0..voxels).step_by(at_once as usize).map(|start| start..(start + at_once).min(voxels));
        let ranges: Vec<_> = ranges.collect();
        Ok((0..samples)
            .flat_map(|sample| ranges.iter().map(move |range| (sample, range.clone())))
            .map(|(sample, range)| {
                let window = self.window(problem, limits, places, sample, 1, range.clone());
                if contiguous { window } else { self.staged(problem, window, sample, range, at_once) }
            })
            .collect())
    }

    /// The window of a range of voxels whose planes are gathered first.
    fn staged(
        &self,
        problem: &Problem,
        mut window: Window,
        sample: u64,
        range: std::ops::Range<u64>,
        stride: u64,
    ) -> Window {
        let (classes, plane) = (problem.shape.classes() as u64, problem.shape.voxels());
        let start = sample * classes * plane + range.start;
        let staging = Staging { start, plane, classes, count: range.end - range.start, stride };
        window.params.plane = stride as u32;
        for span in window.spans.iter_mut().filter(|span| span.role.is_per_class(problem)) {
            let size = span.role.dtype(problem).size();
            *span = Span { role: span.role, offset: 0, size: staging.bytes(size).next_multiple_of(4) };
            *window.params.base_mut(span.role) = 0;
        }
        Window { staging: Some(staging), ..window }
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
        let params = WindowParams {
            voxels: count as u32,
            // A range of voxels has no use for it: its planes are side by side, or gathered.
            plane: voxels as u32,
            first_sample: first_sample as u32,
            rounds: self.rounds as u32,
            runs: self.runs as u32,
            rows: self.rows as u32,
            first_row: (range.start / self.voxels_of_row()) as u32,
            rows_at: places.rows_at,
            coefficients_at: places.coefficients_at,
            ..WindowParams::default()
        };
        let first_voxel = first_sample * voxels + range.start;
        let rows = count.div_ceil(self.voxels_of_row());
        let mut window = Window { params, grid: [rows as u32, samples as u32], spans: Vec::new(), staging: None };
        for role in roles(problem) {
            let per_voxel = role.voxel_bytes(problem);
            let start = first_voxel * per_voxel;
            window.bind(limits, role, start..start + samples * count * per_voxel, role.dtype(problem).size());
        }
        window
    }
}
