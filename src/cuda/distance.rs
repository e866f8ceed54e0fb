//! Distance maps on a device: how a transform is cut into launches, and the executor that makes maps alone.

use super::device::{Device, Text};
use super::driver::{Entered, Function, Memory, Stream};
use super::executor::{Span, WORKSPACE_ALIGNMENT, Workspace, apart, check};
use crate::distance::transform::{Chosen, Form, Rule, Squeezed, in_place, per_step, slack};
use crate::distance::{Distances, Kind};
use crate::dtype::{DType, Slice, SliceMut};
use crate::error::Error;
use crate::problem::Layout;
use bytemuck::{Pod, Zeroable};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Four sums, each off by half a unit, and four squares of steps, each off by that of the step's square and its own.
const ROUNDINGS: f64 = 12.0;
/// Places of an axis but the last: the kernels count them, and some beyond, in 32 bits.
const EXTENT_MAX: usize = 1 << 28;
/// Voxels of a row: from there on a step back of one chunk is lost in f32.
const WIDTH_MAX: usize = 1 << 31;

/// Threads of a block of every kernel of the stage, warps of a block, and lines of a tile: one per lane.
pub(super) const THREADS: u32 = 256;
const WARPS: u64 = 8;
const WARP: u64 = 32;
/// Places between winners; `GROUP` of `kernels/cuda/distance_lines.cu`.
const GROUP: u64 = 8;
/// The most bytes that are read or written at once.
const VECTOR: u64 = 16;
/// Dynamic shared memory that a block has without asking, less what `distance_lines` declares.
const SHARED_BYTES: u64 = (48 << 10) - 64;
/// Voxels of a lane of `distance_rows`, where they lie side by side, and those that a warp takes at a time, of each of the two kernels; `CHUNK`
/// of `kernels/cuda/distance_rows.cuh`.
const STRIP: u64 = 4;
const STRIPS_CHUNK: u64 = 512;
const ANY_CHUNK: u64 = 256;
/// Voxels that a warp of theirs takes at least, and blocks that share the rows of all transforms, about: enough to keep a large device busy, and few
/// enough that what a warp prepares is little of what it does.
const ROWS_VOXELS: u64 = 1024;
const ROWS_BLOCKS: u64 = 2048;
/// Blocks of a launch whose tables lie in global memory: enough to keep a device busy with lines so long.
const LONG_BLOCKS: u64 = 512;
/// Each part of a workspace begins at a multiple of this.
const ALIGNMENT: u64 = 256;
/// Blocks of a grid, and along its second axis.
const GRID_MAX: u64 = i32::MAX as u64;
const GRID_MAX_Y: u64 = u16::MAX as u64;

/// `Field` of `kernels/cuda/distance.cuh`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Field {
    pub(super) address: u64,
    ignored: i64,
    classes: u32,
    dtype: u32,
    is_labels: u32,
    interleaved: u32,
    ignores: u32,
    limit: u32,
    above: f32,
    of_transforms: u32,
}

impl Field {
    /// Whether the numbers of a strip can be loaded at once, in rows of whole ones.
    fn has_strips(&self) -> bool {
        let alignment = (STRIP * TYPES[self.dtype as usize].size()).min(VECTOR);
        (self.classes == 1 || self.interleaved == 0) && self.address.is_multiple_of(alignment)
    }
    /// Labels `[N, V]` of so many classes.
    pub(super) fn labels(address: u64, dtype: DType, classes: usize, ignored: Option<i64>) -> Field {
        Field {
            address,
            ignored: ignored.unwrap_or_default(),
            classes: 1,
            dtype: number(dtype),
            is_labels: 1,
            ignores: ignored.is_some().into(),
            limit: classes.max(2) as u32,
            ..Field::default()
        }
    }
    /// A value per voxel and class; a class is where its value is above `above`.
    pub(super) fn values(address: u64, dtype: DType, classes: usize, layout: Layout, above: f32) -> Field {
        Field {
            address,
            classes: classes as u32,
            dtype: number(dtype),
            interleaved: (layout == Layout::Interleaved).into(),
            above,
            ..Field::default()
        }
    }
}

/// `TYPE_…` of `kernels/cuda/distance.cuh`, by their numbers.
const TYPES: [DType; 7] = [DType::U8, DType::I16, DType::I32, DType::I64, DType::F32, DType::F16, DType::BF16];

fn number(dtype: DType) -> u32 {
    TYPES.into_iter().take_while(|other| *other != dtype).count() as u32
}

/// `KIND_…` of `kernels/cuda/distance.cuh`.
fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::Outside => 0,
        Kind::Inside | Kind::MultiLabel => 1,
        Kind::TwoSided => 2,
        Kind::Signed => 3,
        Kind::Difference => 4,
    }
}

/// `Transform` of `kernels/cuda/distance.cuh`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct TransformParams {
    field: Field,
    from: u64,
    to: u64,
    classes_of_maps: u64,
    tables: u64,
    table_bytes: u64,
    voxels: u64,
    extent: u64,
    inner: u64,
    first: u64,
    count: u64,
    maps: u32,
    of_labels: u32,
    one_class: u32,
    step_squared: f32,
    per_step: f32,
    slack: u32,
    is_last: u32,
    kind: u32,
    squared: u32,
    is_half: u32,
    interleaved: u32,
    one_map: u32,
}

/// `RULE_…` of `kernels/cuda/distance_sides.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SidesRule {
    Label = 0,
    Argmax = 1,
    /// The class whose p is above ½.
    Majority = 2,
    Above = 3,
    SoftmaxAbove = 4,
}

/// `Sides` of `kernels/cuda/distance_sides.cu`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct SidesParams {
    pub(super) field: Field,
    pub(super) counts: Field,
    pub(super) keep: u64,
    pub(super) to: u64,
    pub(super) classes_of_maps: u64,
    pub(super) voxels: u64,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) maps: u32,
    pub(super) rule: u32,
}

/// Blocks that take so many tasks.
pub(super) fn grid(tasks: u64) -> [u32; 3] {
    [tasks.clamp(1, GRID_MAX) as u32, 1, 1]
}

/// One pass of a transform.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: u64,
    /// Voxels from a place to the next.
    inner: u64,
    step_squared: f32,
    per_step: f32,
    slack: u32,
}

impl Axis {
    fn new(extent: usize, inner: usize, step: f64, largest: f64) -> Axis {
        Axis {
            extent: extent as u64,
            inner: inner as u64,
            step_squared: (step * step) as f32,
            per_step: per_step(step),
            slack: slack(extent, step, largest, ROUNDINGS) as u32,
        }
    }
    /// Bytes of the tables of 32 lines, where places have so many bytes.
    fn tables(&self, place: u64) -> u64 {
        let places = self.extent.next_multiple_of(WARP);
        let words = 2 * places + 2 * (places + WARP) + 2 * (self.extent / GROUP + 2);
        (4 * words + 2 * place * places).next_multiple_of(VECTOR)
    }
    fn table_bytes(&self) -> u64 {
        self.tables(if self.is_long() { 4 } else { 2 })
    }
    /// Threads of a block: a warp for each group of places, up to the most.
    fn threads(&self) -> u32 {
        (WARP * self.extent.div_ceil(GROUP).min(WARPS)) as u32
    }
    fn is_long(&self) -> bool {
        self.tables(2) > SHARED_BYTES
    }
    /// Tiles of lines of a transform.
    fn tiles(&self, voxels: u64) -> u64 {
        voxels / (self.extent * self.inner) * self.inner.div_ceil(WARP)
    }
    /// The grid of some transforms' rows, of which a warp takes so many voxels at a time.
    fn rows_grid(&self, chunk: u64, voxels: u64, count: u64) -> [u32; 3] {
        let rows = (chunk / self.extent).max(1) * self.extent;
        let of_warp = rows * (ROWS_VOXELS / rows).max(1);
        let blocks = voxels.div_ceil(WARPS * of_warp).min(ROWS_BLOCKS.div_ceil(count));
        [blocks as u32, count.min(GRID_MAX_Y) as u32, 1]
    }
    fn blocks(&self, tasks: u64) -> u64 {
        if self.is_long() { tasks.min(LONG_BLOCKS) } else { tasks.min(GRID_MAX) }
    }
}

/// The launches that make the maps of some settings, and what they need.
#[derive(Debug)]
pub(super) struct Transform {
    pub(super) distances: Distances,
    form: Form,
    axes: Vec<Axis>,
    in_place: bool,
    /// Transforms in all, and of one launch.
    all: u64,
    at_once: u64,
    /// Places in its workspace, in bytes: squares of two passes, and the tables of long lines.
    squares: [u64; 2],
    tables: u64,
    bytes: u64,
    /// Rows of strips, where extents are of whole ones, and any rows.
    rows: Option<Arc<Function>>,
    any_rows: Arc<Function>,
    lines: Option<Arc<Function>>,
}

impl Transform {
    /// The settings were checked; each transform of a launch takes `masks` bytes beside its squares.
    pub(super) fn new(device: &Device, distances: &Distances, masks: u64) -> Result<Transform, Error> {
        let Squeezed { extents: [depth, height, width], steps } = Squeezed::new(distances);
        if let Some(extent) = [depth, height].into_iter().find(|extent| *extent > EXTENT_MAX) {
            let what = "a spatial extent of a distance map on CUDA, but the last";
            return Err(Error::Shape { what, min: 1, max: EXTENT_MAX as u64, got: extent as u64 });
        }
        if width > WIDTH_MAX {
            let what = "the last spatial extent of a distance map on CUDA";
            return Err(Error::Shape { what, min: 1, max: WIDTH_MAX as u64, got: width as u64 });
        }
        let largest = distances.largest_square();
        let mut axes = vec![Axis::new(width, 1, steps[2], largest)];
        if height > 1 {
            axes.push(Axis::new(height, width, steps[1], largest));
        }
        if depth > 1 {
            axes.push(Axis::new(depth, height * width, steps[0], largest));
        }
        let (form, in_place) = (Form::of(distances), in_place(distances));
        let all = (distances.shape.samples() * form.transforms(distances.maps())) as u64;
        // The first of three passes may use the maps themselves.
        let buffers = if in_place { (axes.len() > 1).into() } else { axes.len() as u64 - 1 };
        let plane = distances.shape.voxels() * DType::F32.size();
        let at_once = (distances.budget / (buffers * plane + masks).max(1)).clamp(1, all);
        let mut bytes = 0;
        let mut take = |count: u64| {
            let at = bytes;
            bytes = (bytes + count).next_multiple_of(ALIGNMENT);
            at
        };
        let squares = [0, 1].map(|buffer| take(if buffer < buffers { at_once * plane } else { 0 }));
        let voxels = distances.shape.voxels();
        let long = axes[1..].iter().filter(|axis| axis.is_long());
        let tables = long.map(|axis| axis.blocks(at_once * axis.tiles(voxels)) * axis.table_bytes()).max().unwrap_or(0);
        let tables = take(tables);
        Ok(Transform {
            distances: distances.clone(),
            form,
            in_place,
            all,
            at_once,
            squares,
            tables,
            bytes,
            rows: (axes.len() > 1 && axes[0].extent.is_multiple_of(STRIP))
                .then(|| device.kernel(Text::Plain("distance_rows")))
                .transpose()?,
            any_rows: device.kernel(Text::Plain("distance_rows_any"))?,
            lines: (axes.len() > 1).then(|| device.kernel(Text::Plain("distance_lines"))).transpose()?,
            axes,
        })
    }

    /// Bytes of its workspace.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// A plane that the rows neither read nor write, but the pass after them: of three passes that of the second.
    fn free_for_rows(&self) -> Option<u64> {
        (self.axes.len() == 3 && self.form == Form::Class).then_some(self.squares[0])
    }
    /// The transforms of each launch.
    pub(super) fn groups(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let (all, at_once) = (self.all, self.at_once);
        (0..all).step_by(at_once as usize).map(move |first| first..(first + at_once).min(all))
    }

    /// Launches some transforms. `field` says which voxels are of a class; the other addresses are of the table of classes, the maps
    /// and the workspace.
    ///
    /// # Safety
    /// As [`Function::launch`], of what the addresses reach.
    #[expect(clippy::too_many_arguments, reason = "which transforms, four addresses and where to launch")]
    pub(super) unsafe fn launch(
        &self,
        entered: &Entered<'_>,
        field: Field,
        classes_of_maps: u64,
        maps: u64,
        workspace: u64,
        group: Range<u64>,
        stream: Stream,
    ) -> Result<(), Error> {
        let distances = &self.distances;
        let (voxels, count) = (distances.shape.voxels(), group.end - group.start);
        let maps_of_transform = distances.maps() / self.form.transforms(distances.maps());
        let of_group = maps + group.start * maps_of_transform as u64 * voxels * distances.dtype.size();
        // Where the squares go of a pass with so many after it.
        let to = |left: usize| match left {
            0 => maps,
            2 if self.in_place => of_group,
            left => workspace + self.squares[left - 1],
        };
        for (pass, axis) in self.axes.iter().enumerate() {
            let left = self.axes.len() - 1 - pass;
            let params = TransformParams {
                field,
                from: if pass > 0 { to(left + 1) } else { 0 },
                to: to(left),
                classes_of_maps,
                tables: if axis.is_long() && pass > 0 { workspace + self.tables } else { 0 },
                table_bytes: axis.table_bytes(),
                voxels,
                extent: axis.extent,
                inner: axis.inner,
                first: group.start,
                count,
                maps: distances.maps() as u32,
                of_labels: (self.form == Form::Labels).into(),
                one_class: (distances.shape.classes() == 1).into(),
                step_squared: axis.step_squared,
                per_step: axis.per_step,
                slack: axis.slack,
                is_last: (left == 0).into(),
                kind: kind_number(distances.kind),
                squared: distances.squared.into(),
                is_half: (distances.dtype == DType::F16).into(),
                interleaved: (distances.layout == Layout::Interleaved).into(),
                one_map: (self.form == Form::Labels && distances.kind == Kind::MultiLabel).into(),
            };
            let (function, grid, threads, shared) = match (&self.lines, &self.rows) {
                (Some(lines), _) if pass > 0 => {
                    let shared = if axis.is_long() { 0 } else { axis.table_bytes() as u32 };
                    (lines, grid(axis.blocks(count * axis.tiles(voxels))), axis.threads(), shared)
                }
                (_, Some(rows)) if field.has_strips() && params.to.is_multiple_of(VECTOR) => {
                    (rows, axis.rows_grid(STRIPS_CHUNK, voxels, count), THREADS, 0)
                }
                _ => (&self.any_rows, axis.rows_grid(ANY_CHUNK, voxels, count), THREADS, 0),
            };
            // SAFETY: the kernels take these numbers, and reach no further than the planes and maps do; the rest is the caller's
            // promise.
            unsafe { function.launch(entered, grid, threads, shared, stream, params)? };
        }
        Ok(())
    }
}

/// Distance maps on a device, for any number of calls. A call allocates, copies and waits for nothing on the device, so that it
/// can be captured into a CUDA graph. Calls that run on the device at the same time need a workspace each.
///
/// Dropping it waits for the kernels that use its memory, as with [`Executor`](super::Executor).
#[derive(Debug)]
pub struct DistanceExecutor {
    transform: Transform,
    /// Where the source is a prediction that rows cannot read: the kernel, its rule, and where in the workspace its numbers go, group by
    /// group.
    sides: Option<(Arc<Function>, SidesRule)>,
    sides_at: u64,
    bytes: u64,
    /// The class of each map, where they are not all classes; of one map of several, a bit for each label.
    classes: Option<Memory>,
    workspace: Option<Memory>,
    device: Device,
    turn: Mutex<()>,
}

impl Device {
    /// Has the driver compile the kernels of these maps, and allocates the workspace. Not while a stream of the thread is captured.
    ///
    /// # Errors
    /// When the settings contradict each other, and whatever the device refuses.
    pub fn prepare_distances(&self, distances: &Distances) -> Result<DistanceExecutor, Error> {
        DistanceExecutor::new(self, distances, true)
    }

    /// As [`Device::prepare_distances`], where every call brings a workspace.
    ///
    /// # Errors
    /// As there.
    pub fn prepare_distances_without_workspace(&self, distances: &Distances) -> Result<DistanceExecutor, Error> {
        DistanceExecutor::new(self, distances, false)
    }

    /// The maps of a source on the host, in maps on the host: uploads, runs, waits and downloads, on the default stream.
    ///
    /// `run_to_run` deterministic.
    ///
    /// # Errors
    /// When the settings contradict each other, when the source or the maps have another type or length than they say, and when the
    /// device is lost or has no memory left. Nothing is written then.
    pub fn distances<'a, 'b>(
        &self,
        distances: &Distances,
        source: impl Into<Slice<'a>>,
        maps: impl Into<SliceMut<'b>>,
    ) -> Result<(), Error> {
        let (source, maps) = (source.into(), maps.into());
        distances.check_buffers((source.dtype(), source.len()), (maps.dtype(), maps.len()))?;
        self.prepare_distances(distances)?.compute(source, maps)
    }
}

impl DistanceExecutor {
    fn new(device: &Device, distances: &Distances, workspace: bool) -> Result<DistanceExecutor, Error> {
        distances.check()?;
        let rule = match Rule::of(distances) {
            Rule::Label | Rule::Above(_) => None,
            Rule::Argmax => Some(SidesRule::Argmax),
            Rule::SoftmaxAbove(_) => Some(SidesRule::SoftmaxAbove),
        };
        let masks = distances.shape.voxels()
            * match rule {
                None => 0,
                Some(SidesRule::SoftmaxAbove) => DType::U8.size(),
                Some(_) => DType::I16.size(),
            };
        // Where no plane is free for them, masks take bytes of their own.
        let three = Squeezed::new(distances).extents.iter().all(|extent| *extent > 1);
        let masks = if three && Form::of(distances) == Form::Class { 0 } else { masks };
        let transform = Transform::new(device, distances, masks)?;
        let sides_at = transform.free_for_rows().unwrap_or(transform.bytes());
        let bytes = transform.bytes() + transform.at_once * masks;
        let context = &device.inner.context;
        let table = |classes: &Vec<usize>| {
            let words: Vec<u32> = match Chosen::of(distances) {
                Some(chosen) => chosen.words(distances.shape.classes()).to_vec(),
                None => classes.iter().map(|&class| class as u32).collect(),
            };
            Memory::of(context, "the classes of the distance maps", bytemuck::cast_slice(&words))
        };
        Ok(DistanceExecutor {
            sides: match rule {
                Some(rule) => Some((device.kernel(Text::Plain("distance_sides"))?, rule)),
                None => None,
            },
            sides_at,
            bytes,
            classes: distances.classes.as_ref().map(table).transpose()?,
            workspace: workspace.then(|| Memory::new(context, "the workspace", bytes)).transpose()?,
            device: device.clone(),
            transform,
            turn: Mutex::new(()),
        })
    }

    /// What is computed.
    pub fn distances(&self) -> &Distances {
        &self.transform.distances
    }
    /// Bytes that a workspace has, aligned to 16: at most 8 per voxel and map in flight (10 of an f16 [`Kind::MultiLabel`] of a
    /// [`Hard::Argmax`](crate::distance::Hard::Argmax)), of which there are as many as [`Distances::memory_budget`] allows. Tables of
    /// axes longer than some 2300 come on top, 25 bytes per place of the axis for each of at most 512 blocks.
    pub fn workspace_bytes(&self) -> u64 {
        self.bytes
    }

    /// Launches the maps of a source on `stream`, and returns before they are done. Source and maps are addresses of device memory,
    /// of the types, lengths and layouts of the settings, aligned to their element types.
    ///
    /// # Errors
    /// When a buffer does not fit the settings or the device; nothing is launched then. [`Error::Launch`] where the driver refuses.
    ///
    /// # Safety
    /// Until the stream has come to the end of the call, this executor, source, maps and workspace are there and hold the elements
    /// that the settings say, the source is not written, and nothing else uses the maps or the workspace, the executor's own where
    /// the call names none; `stream` is a stream. Where it is captured, all of this holds for every launch of the graph.
    pub unsafe fn run(
        &self,
        source: u64,
        maps: u64,
        workspace: Option<Workspace>,
        stream: impl Into<Stream>,
    ) -> Result<(), Error> {
        let (stream, distances) = (stream.into(), self.distances());
        let entered = self.device.inner.context.enter()?;
        entered.owns(stream)?;
        let base = match (workspace, &self.workspace) {
            (Some(workspace), _) => {
                let (role, need) = ("the workspace", self.bytes);
                if workspace.bytes < need {
                    return Err(Error::BufferBytes { role, need, got: workspace.bytes });
                }
                if need > 0 {
                    check(&entered, role, workspace.address, need, WORKSPACE_ALIGNMENT)?;
                }
                workspace.address
            }
            (None, Some(own)) => own.address(),
            (None, None) => return Err(Error::BufferMissing { role: "the workspace" }),
        };
        let (elements, dtype) = distances.source_elements();
        let mut spans = Vec::new();
        for (role, address, bytes, alignment, written) in [
            ("the source of the distance maps", source, elements * dtype.size(), dtype.size(), false),
            ("the distance maps", maps, distances.elements() * distances.dtype.size(), distances.dtype.size(), true),
        ] {
            check(&entered, role, address, bytes, alignment)?;
            let end = address.checked_add(bytes).ok_or(Error::BufferForeign { role, address })?;
            spans.push(Span { role, start: address, end, written });
        }
        if self.bytes > 0 {
            spans.push(Span { role: "the workspace", start: base, end: base + self.bytes, written: true });
        }
        apart(&spans)?;
        // SAFETY: checked above as far as it can be, and promised by the caller.
        unsafe { self.launch(&entered, source, maps, base, stream) }
    }

    /// # Safety
    /// As [`DistanceExecutor::run`], whose checks were made.
    unsafe fn launch(
        &self,
        entered: &Entered<'_>,
        source: u64,
        maps: u64,
        base: u64,
        stream: Stream,
    ) -> Result<(), Error> {
        let distances = self.distances();
        let shape = &distances.shape;
        let (classes, voxels) = (shape.classes(), shape.voxels());
        let (_, dtype) = distances.source_elements();
        let field = match Rule::of(distances) {
            Rule::Label => Field::labels(source, dtype, classes, distances.ignore_label),
            Rule::Above(t) | Rule::SoftmaxAbove(t) => Field::values(source, dtype, classes, distances.layout, t),
            Rule::Argmax => Field::values(source, dtype, classes, distances.layout, 0.0),
        };
        let classes_of_maps = self.classes.as_ref().map_or(0, Memory::address);
        let sides_at = base + self.sides_at;
        let sides = |rule, group: Range<u64>| SidesParams {
            field,
            counts: Field::default(),
            keep: 0,
            to: sides_at,
            classes_of_maps,
            voxels,
            first: group.start,
            count: group.end - group.start,
            maps: distances.maps() as u32,
            rule: rule as u32,
        };
        let blocks = |transforms: u64| grid((transforms * voxels).div_ceil(THREADS.into()));
        let mut of_rows = field;
        match &self.sides {
            Some((_, SidesRule::Argmax)) => of_rows = Field::labels(sides_at, DType::I16, classes, None),
            Some(_) => {
                of_rows =
                    Field { of_transforms: 1, ..Field::values(sides_at, DType::U8, classes, Layout::Planar, 0.5) };
            }
            None => {}
        }
        let of_sample = self.transform.all / shape.samples() as u64;
        for group in self.transform.groups() {
            // SAFETY: `distance_sides` reads the source, and writes no more numbers than there is room for in the workspace: a sample's for
            // each transform at most; the rest is the caller's promise.
            unsafe {
                if let Some((function, rule)) = &self.sides {
                    let mut of_sides = group.clone();
                    if *rule == SidesRule::Argmax {
                        of_sides = group.start / of_sample..group.end.div_ceil(of_sample);
                        // Labels are read by their number among those of all samples.
                        of_rows.address = sides_at.wrapping_sub(of_sides.start * voxels * DType::I16.size());
                    }
                    let count = of_sides.end - of_sides.start;
                    function.launch(entered, blocks(count), THREADS, 0, stream, sides(*rule, of_sides))?;
                }
                self.transform.launch(entered, of_rows, classes_of_maps, maps, base, group, stream)?;
            }
        }
        Ok(())
    }

    /// As [`Device::distances`], with kernels and workspace at hand.
    ///
    /// # Errors
    /// As there.
    pub fn compute<'a, 'b>(&self, source: impl Into<Slice<'a>>, maps: impl Into<SliceMut<'b>>) -> Result<(), Error> {
        let (source, mut maps) = (source.into(), maps.into());
        let distances = self.distances();
        distances.check_buffers((source.dtype(), source.len()), (maps.dtype(), maps.len()))?;
        let context = &self.device.inner.context;
        let uploaded = Memory::of(context, "the source of the distance maps", source.as_bytes())?;
        let made = Memory::new(context, "the distance maps", distances.elements() * distances.dtype.size())?;
        let entered = context.enter()?;
        // A panic while another held it leaves nothing half done that this call reads.
        let turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: the buffers were made here, of the sizes that the settings say, and live until the stream has been waited for.
        let launched = unsafe { self.run(uploaded.address(), made.address(), None, Stream::DEFAULT) };
        // Also where a launch failed: those before it still use the workspace.
        let waited = entered.synchronize(Stream::DEFAULT);
        launched.and(waited)?;
        drop(turn);
        entered.download(&made, 0, maps.as_bytes_mut())
    }

    /// Fills the workspace with a word, for tests that what an earlier call left there does not matter.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    #[doc(hidden)]
    pub fn fill_workspace(&self, word: u32) -> Result<(), Error> {
        match &self.workspace {
            Some(workspace) => self.device.inner.context.enter()?.fill(workspace, word),
            None => Ok(()),
        }
    }
}
