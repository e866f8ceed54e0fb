//! The stage `distance`: maps from bits that say which voxels are of which class, and maps of a source by themselves.

use super::device::Device;
use super::executor::{READ_ONLY, Recorder, STORAGE};
use super::geometry::Limits;
use super::pipeline::{Making, Pipeline, Specification};
use super::source::{self, Source as Text};
use crate::distance::transform::{Chosen, Form, Rule, Squeezed, in_place, per_step, slack};
use crate::distance::{Distances, Kind, Source};
use crate::dtype::DType;
use crate::error::Error;
use crate::problem::Layout;
use bytemuck::{Pod, Zeroable};
use std::ops::Range;
use wgpu::{
    BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferBindingType, BufferSlice, BufferUsages,
    CommandEncoder,
};

/// Threads of a workgroup of every kernel of the stage.
pub(super) const THREADS: u64 = 256;
/// Bits of a word.
const WORD: u64 = u32::BITS as u64;
/// What the passes before the last one write.
const SQUARES: &[&str] = &["SQUARED", "SQUARES"];
/// Lines of a workgroup, where there are so many.
const LINES: u64 = 32;
/// Places between winners; `GROUP` of `kernels/wgsl/distance_lines.wgsl`.
const GROUP: u64 = 8;
/// Four sums, each off by half a unit, and four squares of steps, each off by that of the step's square and its own.
/// In `kernels/wgsl/distance_lines.wgsl` too.
const ROUNDINGS: f64 = 12.0;
/// Slabs of a volume whose first squares do not lie in the maps, and voxels of a plane from which on there are several.
const SLABS: u32 = 4;
const SLABS_FROM: u64 = 1 << 15;
/// Bytes of a value of a plane.
const VALUE: u64 = size_of::<f32>() as u64;

/// A kernel of the stage.
macro_rules! kernel {
    ($name:literal) => {
        include_str!(concat!(env!("OUT_DIR"), "/", $name, ".wgsl"))
    };
}
pub(super) use kernel;

/// The uniform `Piece` of `kernels/wgsl/distance.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct PieceParams {
    pub(super) voxels: u32,
    pub(super) width: u32,
    pub(super) pitch: u32,
    pub(super) rows: u32,
    pub(super) planes: u32,
    pub(super) maps: u32,
    pub(super) extent: u32,
    pub(super) stride: u32,
    pub(super) step_squared: f32,
    pub(super) from_base: u32,
    pub(super) from_sample: u32,
    pub(super) to_base: u32,
    pub(super) to_sample: u32,
    pub(super) from_map: u32,
    pub(super) from_voxel: u32,
    pub(super) to_map: u32,
    pub(super) to_voxel: u32,
    pub(super) first_word: u32,
    pub(super) source_base: u32,
    pub(super) keep_base: u32,
    pub(super) truths_base: u32,
    pub(super) threshold: f32,
    pub(super) first_class: u32,
    pub(super) bit_sets: u32,
    pub(super) bit_set: u32,
    pub(super) per_step: f32,
    pub(super) slack: u32,
    pub(super) lines: u32,
    pub(super) farthest: f32,
    pub(super) reach: f32,
    pub(super) factor: f32,
    pub(super) cross: u32,
    pub(super) parts: u32,
    pub(super) part_voxels: u32,
    pub(super) weights_base: u32,
    pub(super) grid: u32,
}

/// A buffer that a step binds: the caller's, or one of the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Source,
    /// The labels of a plan that say which voxels of a prediction count.
    Truths,
    Keep,
    Maps,
    Classes,
    /// Of each voxel the class that is the largest.
    Labels,
    Bits,
    Contours,
    /// Of the parts of long rows, where the nearest changes beyond them are.
    Ends,
    /// Changes and winners of the lines at hand.
    Tables,
    /// Planes between the passes, or the two nearest objects of each voxel.
    First,
    Second,
    Forest,
    Extremes,
    Partials,
    /// The caller's weights of voxels, and those of the voxels that count.
    Weights,
    VoxelWeights,
    /// Of eroded errors: doubles, what is kept of each erosion, its extremes by part; slopes by an erosion and the one before, and what
    /// flows to their extremes.
    Sums,
    Eroded,
    Kept,
    SumExtremes,
    Slopes(bool),
    Shares(bool),
}

/// A range of a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bind {
    place: Place,
    offset: u64,
    size: u64,
    read_only: bool,
}

impl Bind {
    /// The first bytes of a buffer of the stage.
    pub(super) fn whole(place: Place, size: u64) -> Bind {
        Bind { place, offset: 0, size, read_only: false }
    }
    pub(super) fn read(self) -> Bind {
        Bind { read_only: true, ..self }
    }
    /// One of several ranges of a buffer of the stage, each of so many bytes.
    pub(super) fn one_of(place: Place, number: usize, size: u64, limits: &Limits) -> Bind {
        Bind { place, offset: number as u64 * size.next_multiple_of(limits.alignment), size, read_only: false }
    }
}

/// Where planes lie: the range that is bound, the element of the first of them, and the elements from sample to sample, from map to map
/// and from voxel to voxel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    pub(super) bind: Bind,
    pub(super) base: u32,
    pub(super) sample: u32,
    pub(super) map: u32,
    pub(super) voxel: u32,
}

impl Planes {
    /// The same voxels but the first ones.
    fn after(self, voxels: u64) -> Planes {
        Planes { base: self.base + voxels as u32 * self.voxel, ..self }
    }
    fn read(&self, params: PieceParams) -> PieceParams {
        let Planes { base: from_base, sample: from_sample, map: from_map, voxel: from_voxel, .. } = *self;
        PieceParams { from_base, from_sample, from_map, from_voxel, ..params }
    }
    fn written(&self, params: PieceParams) -> PieceParams {
        let Planes { base: to_base, sample: to_sample, map: to_map, voxel: to_voxel, .. } = *self;
        PieceParams { to_base, to_sample, to_map, to_voxel, ..params }
    }
}

/// The bytes `range` of a buffer, with the element of what is bound at which it begins.
pub(super) fn within(place: Place, range: Range<u64>, element: u64, limits: &Limits) -> (Bind, u32) {
    let offset = range.start / limits.alignment * limits.alignment;
    let size = range.end.next_multiple_of(4) - offset;
    (Bind { place, offset, size, read_only: false }, ((range.start - offset) / element) as u32)
}

/// Bytes of a range: it is bound up to one alignment early and to a whole word, and its elements are numbered in 32 bits.
pub(super) fn room(limits: &Limits) -> u64 {
    limits.binding.min(u32::MAX.into()).saturating_sub(limits.alignment + 4)
}

/// What does not fit a binding is an error.
pub(super) fn fits(what: &'static str, need: u64, limits: &Limits) -> Result<(), Error> {
    let got = room(limits);
    if need <= got { Ok(()) } else { Err(Error::DeviceLimit { what, need, got }) }
}

enum Step {
    /// Fills with zeros.
    Clear(Place),
    Dispatch {
        pipeline: Pipeline,
        params: PieceParams,
        binds: Vec<Bind>,
        grid: [u32; 2],
        /// Whether calls without a gradient leave it out.
        for_gradients: bool,
    },
}

/// The steps of a stage while they are put together.
pub(super) struct Builder<'m, 'd> {
    making: &'m Making<'d>,
    steps: Vec<Step>,
    for_gradients: bool,
}

impl<'m, 'd> Builder<'m, 'd> {
    pub(super) fn new(making: &'m Making<'d>) -> Self {
        Builder { making, steps: Vec::new(), for_gradients: false }
    }

    /// Whether calls without a gradient leave out the dispatches that follow.
    pub(super) fn for_gradients(&mut self, only: bool) {
        self.for_gradients = only;
    }

    pub(super) fn clear(&mut self, place: Place) {
        self.steps.push(Step::Clear(place));
    }

    /// One dispatch of so many workgroups.
    pub(super) fn dispatch(&mut self, text: Text, binds: &[Bind], params: PieceParams, groups: u64) {
        let mut bindings = vec![BufferBindingType::Uniform];
        bindings.extend(binds.iter().map(|bind| if bind.read_only { READ_ONLY } else { STORAGE }));
        let pipeline = self.making.pipeline(Specification {
            label: "segfuse distance",
            source: text,
            entry: "main",
            bindings: &bindings,
            constants: &[],
        });
        let most = self.making.device().inner.limits.workgroups;
        let across = groups.min(most);
        let params = PieceParams { grid: across as u32, ..params };
        let grid = [across as u32, groups.div_ceil(across) as u32];
        let (binds, for_gradients) = (binds.to_vec(), self.for_gradients);
        self.steps.push(Step::Dispatch { pipeline, params, binds, grid, for_gradients });
    }

    /// From bits to maps: along the rows, and across them. The last pass writes what `holds` says to `to`, those before it squares to
    /// planes beside the maps, but the first of three in their place, where they are planes of f32.
    pub(super) fn transform(&mut self, transform: &Transform<'_>, holds: &[&'static str], to: Planes) {
        let Transform { grid, ref params, in_place, .. } = *transform;
        let Some(last) = grid.lines.len().checked_sub(1) else {
            self.rows(transform, &grid.whole(), holds, to);
            return;
        };
        let spare = if to.bind.place == Place::First { Place::Second } else { Place::First };
        let squares = grid.planes(spare, params, grid.voxels, to);
        if last == 0 {
            self.rows(transform, &grid.whole(), SQUARES, squares);
        } else {
            for slab in if in_place { vec![grid.whole()] } else { grid.slabs() } {
                let along = if in_place { to } else { grid.planes(Place::Second, params, slab.voxels(grid), to) };
                self.rows(transform, &slab, SQUARES, along);
                let across = squares.after(u64::from(slab.start) * grid.slice_voxels());
                self.lines(transform, 0, &slab, SQUARES, [along, across], Place::Tables);
            }
        }
        // The planes of slabs are free by then.
        let tables = if in_place { Place::Tables } else { Place::Second };
        self.lines(transform, last, &grid.whole(), holds, [squares, to], tables);
    }

    /// Along the rows of some slices.
    fn rows(&mut self, transform: &Transform<'_>, slab: &Slab, holds: &[&'static str], to: Planes) {
        let grid = transform.grid;
        let params = to.written(slab.params(grid, transform.params));
        let params = PieceParams { step_squared: grid.step_squared, ..params };
        let bits = transform.bits.read();
        let all = u64::from(params.planes) * slab.voxels(grid) / grid.width;
        let parts = grid.pitch().div_ceil(THREADS);
        let changes = transform.changes();
        let mut flags = [holds, changes].concat();
        flags.extend(transform.one_map.then_some("CHOSEN"));
        let mut binds = vec![bits, to.bind];
        if parts > 1 {
            let ends = Bind::whole(Place::Ends, 8 * all * parts);
            for (kernel, groups) in [(kernel!("distance_ends"), all * parts), (kernel!("distance_carry"), all)] {
                self.dispatch(source::distance(kernel, changes), &[bits, ends], params, groups);
            }
            binds.push(ends.read());
            flags.push("LONG");
        }
        let groups = all.div_ceil((THREADS / grid.pitch()).max(1)) * parts;
        self.dispatch(source::distance(kernel!("distance_rows"), &flags), &binds, params, groups);
    }

    /// Along one of the axes of `grid.lines` in some slices, from planes to planes.
    fn lines(
        &mut self,
        transform: &Transform<'_>,
        axis: usize,
        slab: &Slab,
        holds: &[&'static str],
        [from, to]: [Planes; 2],
        tables: Place,
    ) {
        let params = to.written(from.read(slab.params(transform.grid, transform.params)));
        // Changes have a set of bits per axis.
        let bit_set = if transform.form == Form::Labels { axis as u32 + 1 } else { 0 };
        let (tables, groups, params) = transform.grid.lines[axis].tables(PieceParams { bit_set, ..params }, tables);
        let text = source::distance(kernel!("distance_lines"), &[holds, transform.changes()].concat());
        self.dispatch(text, &[transform.bits.read(), to.bind, from.bind.read(), tables], params, groups);
    }

    /// Of the samples of a piece: along each axis, where the labels change; and for one map of several classes, which voxels have
    /// distances.
    fn label_bits(
        &mut self,
        grid: &Grid,
        read: &source::Sides,
        binds: [Bind; 2],
        params: PieceParams,
        one_map: bool,
    ) -> Bind {
        let bits = Bind::whole(Place::Bits, u64::from(params.planes * params.bit_sets) * grid.bits_bytes());
        let row = (grid.width as u32, 1);
        let axes = std::iter::once(row).chain(grid.lines.iter().map(|line| (line.extent, line.stride)));
        let changes = axes.map(|(extent, stride)| ("CHANGES", PieceParams { extent, stride, ..params }));
        let sets = changes.chain(one_map.then_some(("CHOSEN", params)));
        for (bit_set, (flag, params)) in (0..).zip(sets) {
            let groups = grid.sides_groups(params.planes.into());
            let params = PieceParams { bit_set, ..params };
            self.dispatch(source::sides(read, &[flag]), &[binds[0], binds[1], bits], params, groups);
        }
        bits
    }

    /// The buffers of the stage and its uniforms; `filled` holds what some of them contain.
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] for a step that binds more than the device does.
    pub(super) fn build(self, filled: &[(Place, &[u32])]) -> Result<Stage, Error> {
        let device = self.making.device();
        let inner = &device.inner;
        let binds = self.steps.iter().flat_map(|step| match step {
            Step::Dispatch { binds, .. } => &binds[..],
            Step::Clear(_) => &[],
        });
        let (need, got) = (binds.map(|bind| bind.size).max().unwrap_or_default(), inner.limits.binding);
        if need > got {
            return Err(Error::DeviceLimit { what: "bytes of one storage binding of the distance maps", need, got });
        }
        let scope = inner.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let mut sizes: Vec<(Place, u64)> = Vec::new();
        let mut params: Vec<u8> = Vec::new();
        let alignment = inner.device.limits().min_uniform_buffer_offset_alignment as usize;
        for step in &self.steps {
            let Step::Dispatch { params: piece, binds, .. } = step else { continue };
            params.resize(params.len().next_multiple_of(alignment), 0);
            params.extend_from_slice(bytemuck::bytes_of(piece));
            for bind in binds {
                let end = bind.offset + bind.size;
                match sizes.iter_mut().find(|(place, _)| *place == bind.place) {
                    Some((_, size)) => *size = end.max(*size),
                    None => sizes.push((bind.place, end)),
                }
            }
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let own = sizes.iter().filter(|(place, _)| {
            !matches!(place, Place::Source | Place::Truths | Place::Keep | Place::Weights | Place::Maps)
        });
        let buffers = own.map(|&(place, size)| match filled.iter().find(|(other, _)| *other == place) {
            Some((_, words)) => (place, device.filled("distance", bytemuck::cast_slice(words), usage)),
            None => (place, device.buffer("distance", size, usage)),
        });
        let buffers = buffers.collect();
        let uniforms = device.filled("pieces", &params, BufferUsages::UNIFORM);
        self.making.end(scope, "the workspace");
        let stride = (size_of::<PieceParams>()).next_multiple_of(alignment) as u64;
        Ok(Stage { steps: self.steps, uniforms, stride, buffers })
    }
}

/// A transform of the planes of a piece.
pub(super) struct Transform<'g> {
    pub(super) grid: &'g Grid,
    pub(super) params: PieceParams,
    pub(super) bits: Bind,
    pub(super) form: Form,
    /// Whether it makes the one map of several classes.
    pub(super) one_map: bool,
    /// Whether the maps are planes of f32.
    pub(super) in_place: bool,
}

impl Transform<'_> {
    fn changes(&self) -> &'static [&'static str] {
        if self.form == Form::Labels { &["CHANGES"] } else { &[] }
    }
}

/// Some slices of each plane.
struct Slab {
    start: u32,
    end: u32,
}

impl Slab {
    fn voxels(&self, grid: &Grid) -> u64 {
        u64::from(self.end - self.start) * grid.slice_voxels()
    }
    fn params(&self, grid: &Grid, params: PieceParams) -> PieceParams {
        let first_word = self.start * grid.slice_rows * grid.pitch() as u32;
        PieceParams { voxels: self.voxels(grid) as u32, first_word, ..params }
    }
}

/// Steps, and what they need.
pub(super) struct Stage {
    steps: Vec<Step>,
    uniforms: Buffer,
    stride: u64,
    buffers: Vec<(Place, Buffer)>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("steps", &self.steps.len()).field("buffers", &self.buffers).finish()
    }
}

impl Stage {
    /// Bytes of the stage's own buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.buffers.iter().map(|(_, buffer)| buffer.size()).sum()
    }
    /// The stage's own buffers that every call writes before it reads them.
    pub(super) fn scratch(&self) -> impl Iterator<Item = &Buffer> {
        self.buffers.iter().filter(|(place, _)| *place != Place::Classes).map(|(_, buffer)| buffer)
    }

    /// Records the steps, those for gradients where there is one; `given` says where the buffers of the caller are.
    pub(super) fn record<'b>(
        &'b self,
        device: &Device,
        recorder: &mut Recorder<'_, '_>,
        gradient: bool,
        given: &dyn Fn(Place) -> BufferSlice<'b>,
    ) {
        let own = |place| self.buffers.iter().find(|(other, _)| *other == place).map(|(_, buffer)| buffer.slice(..));
        let mut number = 0;
        for step in &self.steps {
            let (pipeline, binds, grid) = match step {
                Step::Clear(place) => {
                    if let Some(slice) = own(*place) {
                        recorder.clear(slice.buffer());
                    }
                    continue;
                }
                Step::Dispatch { for_gradients: true, .. } if !gradient => {
                    number += 1;
                    continue;
                }
                Step::Dispatch { pipeline, binds, grid, .. } => (pipeline, binds, *grid),
            };
            let uniform = BufferBinding {
                buffer: &self.uniforms,
                offset: number * self.stride,
                size: wgpu::BufferSize::new(size_of::<PieceParams>() as u64),
            };
            number += 1;
            let mut entries = vec![BindGroupEntry { binding: 0, resource: BindingResource::Buffer(uniform) }];
            entries.extend((1..).zip(binds).map(|(binding, bind)| {
                let slice = own(bind.place).unwrap_or_else(|| given(bind.place));
                let resource = BindingResource::Buffer(BufferBinding {
                    buffer: slice.buffer(),
                    offset: slice.offset() + bind.offset,
                    size: wgpu::BufferSize::new(bind.size),
                });
                BindGroupEntry { binding, resource }
            }));
            recorder.dispatch(pipeline, &device.bind_group(pipeline, &entries), grid);
        }
    }
}

/// Lines across the rows.
pub(super) struct Line {
    pub(super) extent: u32,
    pub(super) stride: u32,
    pub(super) step_squared: f32,
    per_step: f32,
    slack: u32,
}

impl Line {
    /// Words of the table of a line.
    fn table_words(&self) -> u64 {
        let (extent, words) = (u64::from(self.extent), u64::from(self.extent).div_ceil(WORD));
        (if words > 1 { 3 * words } else { words }) + extent / GROUP
    }
    /// The tables of the lines of some planes, the workgroups, and what the kernel knows of the lines.
    fn tables(&self, params: PieceParams, place: Place) -> (Bind, u64, PieceParams) {
        let all = u64::from(params.planes) * u64::from(params.voxels / self.extent);
        let lines = all.next_power_of_two().min(LINES);
        let groups = all.div_ceil(lines);
        let params = PieceParams {
            extent: self.extent,
            stride: self.stride,
            step_squared: self.step_squared,
            per_step: self.per_step,
            slack: self.slack,
            lines: lines as u32,
            ..params
        };
        (Bind::whole(place, groups * lines * self.table_words() * size_of::<u32>() as u64), groups, params)
    }
}

/// The voxels of a sample, as rows and lines across them.
pub(super) struct Grid {
    pub(super) voxels: u64,
    pub(super) width: u64,
    rows: u64,
    /// Rows of a slice.
    pub(super) slice_rows: u32,
    pub(super) step_squared: f32,
    pub(super) lines: Vec<Line>,
}

impl Grid {
    pub(super) fn new(distances: &Distances) -> Grid {
        let Squeezed { extents: [depth, height, width], steps } = Squeezed::new(distances);
        let largest = distances.largest_square();
        let line = |extent: usize, stride: usize, step: f64| Line {
            extent: extent as u32,
            stride: stride as u32,
            step_squared: (step * step) as f32,
            per_step: per_step(step),
            slack: slack(extent, step, largest, ROUNDINGS) as u32,
        };
        let lines = [line(height, width, steps[1]), line(depth, height * width, steps[0])];
        Grid {
            voxels: distances.shape.voxels(),
            width: width as u64,
            rows: (depth * height) as u64,
            slice_rows: height as u32,
            step_squared: (steps[2] * steps[2]) as f32,
            lines: lines.into_iter().filter(|line| line.extent > 1).collect(),
        }
    }
    fn pitch(&self) -> u64 {
        self.width.div_ceil(WORD)
    }
    /// Words of the bits of a plane.
    pub(super) fn words(&self) -> u64 {
        self.rows * self.pitch()
    }
    pub(super) fn plane_bytes(&self) -> u64 {
        self.voxels * VALUE
    }
    /// Bytes that the tables of the lines of a plane take at most.
    fn table_bytes(&self) -> u64 {
        let of = |line: &Line| {
            let all = self.voxels / u64::from(line.extent);
            (all + LINES.min(all)) * line.table_words() * size_of::<u32>() as u64
        };
        self.lines.iter().map(of).max().unwrap_or_default()
    }
    pub(super) fn bits_bytes(&self) -> u64 {
        self.words() * size_of::<u32>() as u64
    }
    /// Planes of a buffer of the stage, of so many voxels each, interleaved where those of `like` are.
    fn planes(&self, place: Place, params: &PieceParams, voxels: u64, like: Planes) -> Planes {
        let bind = Bind::whole(place, u64::from(params.planes) * voxels * VALUE);
        let (map, voxel) = if like.voxel > 1 { (1, params.maps) } else { (voxels as u32, 1) };
        Planes { bind, base: 0, sample: params.maps * voxels as u32, map, voxel }
    }
    /// Planes of squares, one for each sample.
    fn squares(&self, params: &PieceParams) -> Planes {
        let bind = Bind::whole(Place::First, u64::from(params.planes) * self.plane_bytes());
        Planes { bind, base: 0, sample: self.voxels as u32, map: 0, voxel: 1 }
    }
    fn slice_voxels(&self) -> u64 {
        self.width * u64::from(self.slice_rows)
    }
    fn slices(&self) -> u32 {
        (self.voxels / self.slice_voxels()) as u32
    }
    /// Slices whose rows are squared together, where not all are.
    fn slab_slices(&self) -> u32 {
        self.slices().div_ceil(if self.voxels < SLABS_FROM { 1 } else { SLABS })
    }
    fn whole(&self) -> Slab {
        Slab { start: 0, end: self.slices() }
    }
    fn slabs(&self) -> Vec<Slab> {
        let (slices, each) = (self.slices(), self.slab_slices());
        (0..slices).step_by(each as usize).map(|start| Slab { start, end: slices.min(start + each) }).collect()
    }
    /// Bytes that the transform of a plane takes at most beside its bits and its map.
    pub(super) fn scratch_bytes(&self, in_place: bool) -> u64 {
        let squares = if self.lines.is_empty() { 0 } else { self.plane_bytes() };
        let slab =
            if in_place || self.lines.len() < 2 { 0 } else { u64::from(self.slab_slices()) * self.slice_voxels() };
        squares + slab * VALUE + self.table_bytes()
    }
    /// How many passes a transform has.
    pub(super) fn passes(&self) -> u64 {
        1 + self.lines.len() as u64
    }
    /// Sets of bits of a transform that serves all classes: of each axis, and for one map that of the voxels that have a distance.
    fn label_sets(&self, one_map: bool) -> u64 {
        self.passes() + u64::from(one_map)
    }
    /// What is the same for all kernels of a piece.
    pub(super) fn params(&self, piece: &Piece) -> PieceParams {
        PieceParams {
            voxels: self.voxels as u32,
            width: self.width as u32,
            pitch: self.pitch() as u32,
            rows: self.rows as u32,
            planes: (piece.samples.len() * piece.maps.len()) as u32,
            maps: piece.maps.len() as u32,
            first_class: piece.maps.start as u32,
            bit_sets: 1,
            ..PieceParams::default()
        }
    }
    /// Workgroups of `distance_sides`.
    pub(super) fn sides_groups(&self, samples: u64) -> u64 {
        (samples * self.words()).div_ceil(THREADS / WORD)
    }
}

/// Planes that are made together: some maps of one sample, or all of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) samples: Range<usize>,
    pub(super) maps: Range<usize>,
}

/// All maps of all samples, as pieces of at most so many planes and samples.
pub(super) fn pieces(samples: usize, maps: usize, planes: u64, samples_at_once: u64) -> Vec<Piece> {
    let all = (samples * maps) as u64;
    let planes = planes.clamp(1, all) as usize;
    if planes >= maps {
        let together = ((planes / maps) as u64).min(samples_at_once).max(1) as usize;
        let piece = |first: usize| Piece { samples: first..samples.min(first + together), maps: 0..maps };
        (0..samples).step_by(together).map(piece).collect()
    } else {
        let of = |sample| {
            let piece =
                move |first: usize| Piece { samples: sample..sample + 1, maps: first..maps.min(first + planes) };
            (0..maps).step_by(planes).map(piece)
        };
        (0..samples).flat_map(of).collect()
    }
}

/// The flags of what a map holds, see `map_value` of `kernels/wgsl/distance.wgsl`.
fn holds(kind: Kind, squared: bool) -> &'static [&'static str] {
    match (kind, squared) {
        (Kind::Outside, false) => &["OUTSIDE"],
        (Kind::Outside, true) => &["OUTSIDE", "SQUARED"],
        (Kind::Inside | Kind::MultiLabel, false) => &["INSIDE"],
        (Kind::Inside | Kind::MultiLabel, true) => &["INSIDE", "SQUARED"],
        (Kind::TwoSided, false) => &["TWO_SIDED"],
        (Kind::TwoSided, true) => &["TWO_SIDED", "SQUARED"],
        (Kind::Difference, false) => &["DIFFERENCE"],
        (Kind::Difference, true) => &["DIFFERENCE", "SQUARED"],
        (Kind::Signed, false) => &["SIGNED"],
        (Kind::Signed, true) => &["SIGNED_SQUARED"],
    }
}

/// Distance maps on a device. It has a workspace of its own: two calls that run on the device at the same time need two
/// executors; calls that follow each other on a queue do not.
#[derive(Debug)]
pub struct DistanceExecutor {
    pub(super) device: Device,
    distances: Distances,
    stage: Stage,
}

impl DistanceExecutor {
    pub(super) fn new(making: &Making<'_>, distances: &Distances) -> Result<DistanceExecutor, Error> {
        distances.check()?;
        let device = making.device();
        let limits = &device.inner.limits;
        let grid = Grid::new(distances);
        let (samples, maps, voxels) = (distances.shape.samples(), distances.maps(), distances.shape.voxels());
        let (source_elements, source_type) = distances.source_elements();
        let source_bytes = source_elements / samples as u64 * source_type.size();
        let value = distances.dtype.size();
        let interleaved = distances.layout == Layout::Interleaved && maps > 1;
        let form = Form::of(distances);
        let is_in_place = in_place(distances);
        let chosen = Chosen::of(distances);
        fits("bytes of a sample of the source of the distance maps in one storage binding", source_bytes, limits)?;
        // Labels have bits of every axis, which are bound together.
        let sets = if form == Form::Labels { grid.label_sets(chosen.is_some()) } else { 1 };
        let bit_bytes = sets * grid.bits_bytes();
        fits("bytes of a distance map in one storage binding", grid.plane_bytes().max(bit_bytes), limits)?;
        let sample_bytes = maps as u64 * voxels * value;
        if interleaved {
            fits("bytes of the distance maps of a sample in one storage binding", sample_bytes, limits)?;
        }
        let (rule, threshold) = match Rule::of(distances) {
            Rule::Label => ("", 0.0),
            Rule::Argmax => ("ARGMAX", 0.0),
            Rule::Above(t) => ("ABOVE", t),
            Rule::SoftmaxAbove(t) => ("SOFTMAX_ABOVE", t),
        };
        // The squares that all classes share, and the labels of a prediction. Those of one map are done with before there are squares.
        let is_shared = form == Form::Labels && chosen.is_none();
        let labels_place = if is_shared { Place::Labels } else { Place::First };
        let has_labels = form == Form::Labels && rule == "ARGMAX" && (is_shared || grid.lines.is_empty());
        let planes = u64::from(is_shared) + u64::from(has_labels);
        let scratch = grid.scratch_bytes(is_in_place || is_shared) + grid.plane_bytes() * planes;
        let most = distances.budget / (bit_bytes + scratch);
        let most = most.min(room(limits) / grid.plane_bytes().max(bit_bytes));
        // Maps that are bound together.
        let maps_most = if interleaved { u64::MAX } else { room(limits) / (voxels * value) };
        let samples_at_once = (room(limits) / source_bytes).min((room(limits) / sample_bytes).max(1));

        let mut builder = Builder::new(making);
        let read = source::Sides {
            classes: distances.shape.classes(),
            labels: matches!(distances.source, Source::Labels(_)),
            dtype: source_type,
            interleaved: distances.layout == Layout::Interleaved,
            ignore_label: distances.ignore_label,
            rule,
            keep: false,
            counted_by: None,
        };
        let classes: Vec<u32> = match &chosen {
            Some(chosen) => chosen.words(distances.shape.classes()).to_vec(),
            None => (0..maps).map(|map| distances.class(map) as u32).collect(),
        };
        let classes_bind = Bind::whole(Place::Classes, (classes.len() * size_of::<u32>()) as u64).read();
        let mut holds = holds(distances.kind, distances.squared).to_vec();
        holds.extend((distances.dtype == DType::F16).then_some("HALF"));
        let source_of = |piece: &Piece| {
            let range = piece.samples.start as u64 * source_bytes..piece.samples.end as u64 * source_bytes;
            let (bind, base) = within(Place::Source, range, source_type.size(), limits);
            (bind.read(), base)
        };
        let maps_of = |piece: &Piece| {
            let [first, end] = [piece.samples.start, piece.samples.end - 1].map(|sample| sample as u64 * sample_bytes);
            let map = voxels * value;
            let (range, skipped) = match interleaved {
                true => (first..end + sample_bytes, piece.maps.start),
                false => (first + piece.maps.start as u64 * map..end + piece.maps.end as u64 * map, 0),
            };
            let (bind, base) = within(Place::Maps, range, value, limits);
            let (map, voxel) = if interleaved { (1, maps as u32) } else { (voxels as u32, 1) };
            Planes { bind, base: base + skipped as u32, sample: (maps as u64 * voxels) as u32, map, voxel }
        };
        let most = if is_shared { most } else { most.min(maps_most) };
        for piece in pieces(samples, form.transforms(maps), most, samples_at_once) {
            let params = grid.params(&piece);
            let (bind, source_base) = source_of(&piece);
            let params = PieceParams { source_base, threshold, ..params };
            if form == Form::Class {
                let bits = Bind::whole(Place::Bits, u64::from(params.planes) * grid.bits_bytes());
                let groups = grid.sides_groups(piece.samples.len() as u64);
                builder.dispatch(source::sides(&read, &[]), &[bind, classes_bind, bits], params, groups);
                let transform = Transform { grid: &grid, params, bits, form, one_map: false, in_place: is_in_place };
                builder.transform(&transform, &holds, maps_of(&piece));
                continue;
            }
            let (mut labels, mut read, mut params) = (bind, read, params);
            if read.rule == "ARGMAX" {
                // The largest of the values is looked for once.
                labels = Bind::whole(labels_place, piece.samples.len() as u64 * grid.plane_bytes());
                let text = source::of_classes(kernel!("distance_labels"), &read, &[]);
                let groups = (piece.samples.len() as u64 * voxels).div_ceil(THREADS);
                builder.dispatch(text, &[bind, classes_bind, labels], params, groups);
                read = source::Sides { labels: true, dtype: DType::I32, ignore_label: None, ..read };
                params.source_base = 0;
            }
            let params = PieceParams { bit_sets: sets as u32, ..params };
            let bits = builder.label_bits(&grid, &read, [labels.read(), classes_bind], params, !is_shared);
            let in_place = is_shared || is_in_place;
            let transform = Transform { grid: &grid, params, bits, form, one_map: !is_shared, in_place };
            if transform.one_map {
                builder.transform(&transform, &holds, maps_of(&piece));
                continue;
            }
            let squares = grid.squares(&params);
            builder.transform(&transform, SQUARES, squares);
            for part in pieces(piece.samples.len(), maps, maps_most, samples_at_once) {
                let skipped = part.samples.start as u64 * voxels;
                let samples = piece.samples.start + part.samples.start..piece.samples.start + part.samples.end;
                let part = Piece { samples, ..part };
                let (labels, source_base) = match labels.place {
                    Place::Labels => (labels, skipped as u32),
                    _ => source_of(&part),
                };
                let to = maps_of(&part);
                let params = PieceParams { source_base, ..to.written(squares.after(skipped).read(grid.params(&part))) };
                let text = source::of_classes(kernel!("distance_share"), &read, &holds);
                let groups = (part.samples.len() as u64 * voxels).div_ceil(THREADS);
                builder.dispatch(text, &[labels.read(), classes_bind, to.bind, squares.bind.read()], params, groups);
            }
        }
        let stage = builder.build(&[(Place::Classes, &classes)])?;
        Ok(DistanceExecutor { device: device.clone(), distances: distances.clone(), stage })
    }

    /// What is computed.
    pub fn distances(&self) -> &Distances {
        &self.distances
    }
    /// Bytes of device memory that the executor holds.
    pub fn workspace_bytes(&self) -> u64 {
        self.stage.bytes()
    }

    /// Records the maps of a source into `encoder`; nothing is submitted. Both begin at a multiple of the device's storage
    /// offset alignment and hold their elements up to a whole word of 4 bytes; their buffers have the usage `STORAGE`, and are
    /// two.
    ///
    /// # Errors
    /// When a buffer does not fit the settings or the device; nothing is recorded then.
    pub fn encode(
        &self,
        encoder: &mut CommandEncoder,
        source: BufferSlice<'_>,
        maps: BufferSlice<'_>,
    ) -> Result<(), Error> {
        let (elements, dtype) = self.distances.source_elements();
        self.device.check(SOURCE, &source, (elements * dtype.size()).next_multiple_of(4))?;
        let bytes = self.distances.elements() * self.distances.dtype.size();
        self.device.check(MAPS, &maps, bytes.next_multiple_of(4))?;
        if source.buffer() == maps.buffer() {
            return Err(Error::BufferShared { role: MAPS, other: SOURCE });
        }
        let mut recorder = Recorder::new(encoder, None);
        self.stage
            .record(&self.device, &mut recorder, false, &|place| if place == Place::Maps { maps } else { source });
        recorder.end();
        Ok(())
    }

    /// Fills the workspace with a word, for tests that what an earlier call left there does not matter.
    #[doc(hidden)]
    pub fn fill_workspace(&self, word: u32) {
        self.stage.scratch().for_each(|buffer| self.device.fill(buffer, word));
    }
}

/// The names of the buffers in messages.
pub(super) const SOURCE: &str = "the source of the distance maps";
pub(super) const MAPS: &str = "the distance maps";
