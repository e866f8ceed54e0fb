//! The maps that a plan makes of target and prediction before its passes.

use super::device::Device;
use super::distance::{
    self, Bind, Builder, Grid, Piece, PieceParams, Place, Planes, Stage, THREADS, Transform, kernel, pieces, within,
};
use super::erosion;
use super::executor::{Buffers, Recorder};
use super::geometry::Limits;
use super::pipeline::Making;
use super::source;
use crate::distance::objects::{self, NEAREST_BYTES};
use crate::distance::transform::{Form, Side, is_of_squares, sides};
use crate::distance::{Distances, Source};
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::{Head, PlannedMap};
use crate::problem::{Activation, Layout, Target};
use crate::role::Role;
use crate::spec::{Erosions, VoxelInput};
use wgpu::{Buffer, BufferUsages};

/// Voxels of a workgroup of `distance_extremes`, words of one of `distance_mean`, voxels of one of `distance_fill`.
const EXTREMES_VOXELS: u64 = 4096;
const MEAN_WORDS: u64 = 1024;
const FILL_VOXELS: u64 = 16_384;
/// A class is where g, or p, is above this.
const THRESHOLD: f32 = 0.5;

/// The first class that the maps of a head are made for: that of the one which begins first. A map that the classes share begins with the
/// first that it is made of.
pub(super) fn first_class(head: &Head) -> usize {
    let first = |map: &PlannedMap| match map.input.is_shared() {
        true => objects::first_class(&head.problem),
        false => map.first_class,
    };
    head.maps.iter().map(first).min().unwrap_or_default()
}

/// Planes of the made maps of a sample: all classes of the first map, then those of the next; one plane where the classes share a map.
pub(super) fn planes_of_sample(head: &Head) -> u64 {
    first_plane(head, head.maps.len())
}

/// The first plane of a map of a sample.
pub(super) fn first_plane(head: &Head, number: usize) -> u64 {
    let classes = head.problem.shape.classes() - first_class(head);
    head.maps[..number].iter().map(|map| if map.input.is_shared() { 1 } else { classes as u64 }).sum()
}

/// The made maps of a head, f32 `[N][map][class][V]`, and the steps that make them.
#[derive(Debug)]
pub(super) struct Maps {
    stage: Stage,
    made: Buffer,
}

impl Maps {
    pub(super) fn new(making: &Making<'_>, head: &Head) -> Result<Option<Maps>, Error> {
        if head.maps.is_empty() {
            return Ok(None);
        }
        let device = making.device();
        let limits = &device.inner.limits;
        let problem = &head.problem;
        let (samples, voxels) = (problem.shape.samples(), problem.shape.voxels());
        let first = first_class(head);
        let classes = problem.shape.classes() - first;
        let distances = Distances::new(&problem.shape, Source::Labels(DType::I16)).spacing(problem.voxel_spacing());
        distances.check()?;
        let grid = Grid::new(&distances);

        let sample_bytes = planes_of_sample(head) * grid.plane_bytes();
        let roles = [Role::Prediction, Role::Target, Role::Mask, Role::Weights];
        let source_bytes = roles.map(|role| role.voxel_bytes(problem)).into_iter().max().unwrap_or_default() * voxels;
        let largest = sample_bytes.max(source_bytes).max(grid.bits_bytes());
        distance::fits("bytes of a sample, or of its made maps, in one storage binding", largest, limits)?;
        let (need, got) = (sample_bytes.saturating_mul(samples as u64), device.inner.device.limits().max_buffer_size);
        if need > got {
            return Err(Error::DeviceLimit { what: "bytes of one buffer", need, got });
        }
        // What is in flight takes no more than the maps themselves.
        let each = 2 * grid.bits_bytes() + grid.scratch_bytes(true);
        let most =
            (distances.budget.min(need) / each).min(distance::room(limits) / grid.plane_bytes().max(grid.bits_bytes()));
        let samples_at_once = distance::room(limits) / largest;

        let mut making_of = MakingOf {
            head,
            grid: &grid,
            limits,
            builder: Builder::new(making),
            classes: Bind::whole(Place::Classes, 4 * classes as u64),
            params: PieceParams::default(),
            samples: 0..0,
        };
        for piece in pieces(samples, classes, most, samples_at_once) {
            making_of.begin(&piece);
            making_of.piece();
        }
        if let Some(number) = head.maps.iter().position(|map| map.input == VoxelInput::ObjectDistances) {
            let of_objects = objects::first_class(problem) - first..classes;
            let bytes = making_of.object_bytes(of_objects.len());
            distance::fits("bytes of the objects of a sample in one storage binding", bytes, limits)?;
            let together = (distance::room(limits) / bytes.max(largest)).min(distances.budget / (3 * bytes)).max(1);
            for start in (0..samples).step_by(together as usize) {
                let samples = start..samples.min(start + together as usize);
                making_of.begin(&Piece { samples, maps: of_objects.clone() });
                making_of.objects(number);
            }
        }
        if let Some((by, [values, slopes])) = erosion::maps(head) {
            let buffer_bytes = device.inner.device.limits().max_buffer_size;
            let (most, room) = erosion::at_once(by, voxels, slopes.is_some(), distances.budget, limits, buffer_bytes)?;
            for piece in pieces(samples, classes, most, samples_at_once) {
                making_of.begin(&piece);
                making_of.erode(by, room, values.expect("it is made"), slopes);
            }
        }
        let table: Vec<u32> = (first..problem.shape.classes()).map(|class| class as u32).collect();
        let stage = making_of.builder.build(&[(Place::Classes, &table)])?;
        let made = device.buffer("made maps", need, BufferUsages::STORAGE | BufferUsages::COPY_DST);
        Ok(Some(Maps { stage, made }))
    }

    /// The buffer of the maps.
    pub(super) fn made(&self) -> &Buffer {
        &self.made
    }
    /// Bytes of device memory.
    pub(super) fn bytes(&self) -> u64 {
        self.made.size() + self.stage.bytes()
    }
    /// Every buffer that a call writes before it reads it.
    pub(super) fn scratch(&self) -> impl Iterator<Item = &Buffer> {
        self.stage.scratch().chain([&self.made])
    }

    /// Records the making of the maps, those of slopes where there is a gradient.
    pub(super) fn record(
        &self,
        device: &Device,
        recorder: &mut Recorder<'_, '_>,
        buffers: &Buffers<'_>,
        gradient: bool,
    ) {
        self.stage.record(device, recorder, gradient, &|place| match place {
            Place::Source => buffers.prediction,
            Place::Truths => buffers.target,
            Place::Keep => buffers.mask.expect("checked"),
            Place::Weights => buffers.weights.expect("checked"),
            _ => self.made.slice(..),
        });
    }
}

/// The steps of a head, piece by piece.
struct MakingOf<'a, 'm, 'd> {
    head: &'a Head,
    grid: &'a Grid,
    limits: &'a Limits,
    builder: Builder<'m, 'd>,
    classes: Bind,
    /// Of the piece at hand.
    params: PieceParams,
    samples: std::ops::Range<u64>,
}

impl MakingOf<'_, '_, '_> {
    fn begin(&mut self, piece: &Piece) {
        self.params = self.grid.params(piece);
        self.samples = piece.samples.start as u64..piece.samples.end as u64;
    }

    /// The piece of every map but that of the objects. What several of them are made of is made once.
    fn piece(&mut self) {
        let maps: Vec<VoxelInput> = self.head.maps.iter().map(|map| map.input).collect();
        let reads = |side| maps.iter().any(|&map| !map.is_shared() && sides(map).contains(&side));
        let number = |input| maps.iter().position(|&map| map == input);
        let contour = number(VoxelInput::ContourDistance);
        if reads(Side::Target) {
            self.sides(Side::Target);
            self.of_target(&maps);
        }
        if let Some(contour) = contour {
            self.contours();
            self.transform(Place::Contours, &["OUTSIDE", "SQUARED"], contour);
        }
        if reads(Side::Prediction) {
            self.sides(Side::Prediction);
            if let Some(number) = number(VoxelInput::PredictionSquared) {
                self.transform(Place::Bits, &["TWO_SIDED", "SQUARED"], number);
            }
        }
        if let Some(contour) = contour {
            self.contours();
            self.mean(contour);
        }
    }

    /// The maps that are functions of the target's two-sided transform share it.
    fn of_target(&mut self, maps: &[VoxelInput]) {
        let of_target = |&(_, &map): &(usize, &VoxelInput)| is_of_squares(map);
        let sharing: Vec<(usize, VoxelInput)> =
            maps.iter().enumerate().filter(of_target).map(|(number, &map)| (number, map)).collect();
        let squares = sharing.iter().find(|(_, map)| *map == VoxelInput::TargetSquared).or(sharing.first());
        let Some(&(squares, _)) = squares else { return };
        self.transform(Place::Bits, &["TWO_SIDED", "SQUARED"], squares);
        // The map that holds the squares comes last: it is made in their place.
        let others = sharing.iter().filter(|(number, _)| *number != squares);
        for &(number, map) in others.chain(sharing.iter().filter(|(number, _)| *number == squares)) {
            match map {
                VoxelInput::SignedDistance => self.derive(squares, number, "SIGNED"),
                VoxelInput::Closeness => {
                    self.extremes(squares);
                    self.derive(squares, number, "CLOSENESS");
                }
                _ => {}
            }
        }
    }

    fn bits(&self, place: Place) -> Bind {
        Bind::whole(place, u64::from(self.params.planes) * self.grid.bits_bytes())
    }

    /// The planes of a map, in a binding of all maps of the samples of the piece.
    fn planes(&self, number: usize) -> Planes {
        let (head, voxels) = (self.head, self.grid.voxels);
        let sample = planes_of_sample(head) * voxels;
        let range = 4 * self.samples.start * sample..4 * self.samples.end * sample;
        let (bind, base) = within(Place::Maps, range, 4, self.limits);
        let class = if head.maps[number].input.is_shared() { 0 } else { self.params.first_class };
        let plane = first_plane(head, number) + u64::from(class);
        let base = base + (plane * voxels) as u32;
        Planes { bind, base, sample: sample as u32, map: voxels as u32, voxel: 1 }
    }

    fn transform(&mut self, bits: Place, holds: &'static [&'static str], number: usize) {
        let (bits, to) = (self.bits(bits), self.planes(number));
        let transform =
            Transform { grid: self.grid, params: self.params, bits, form: Form::Class, one_map: false, in_place: true };
        self.builder.transform(&transform, holds, to);
    }

    /// A buffer of the caller, of the samples of the piece, and the element at which it begins.
    fn range(&self, place: Place, role: Role) -> (Bind, u32) {
        let problem = &self.head.problem;
        let bytes = role.voxel_bytes(problem) * self.grid.voxels;
        let range = self.samples.start * bytes..self.samples.end * bytes;
        within(place, range, role.dtype(problem).size(), self.limits)
    }

    /// Which voxels are of which class; none where a voxel does not count.
    fn sides(&mut self, side: Side) {
        let problem = &self.head.problem;
        let role = if side == Side::Target { Role::Target } else { Role::Prediction };
        let labels = match problem.target {
            Target::Labels(dtype) => Some(dtype),
            Target::Dense(_) => None,
        };
        let read = source::Sides {
            classes: problem.shape.classes(),
            labels: side == Side::Target && labels.is_some(),
            dtype: role.dtype(problem),
            interleaved: problem.layout == Layout::Interleaved,
            ignore_label: problem.ignore_label,
            rule: match (side, problem.activation) {
                (Side::Target, _) | (_, Activation::None) => "ABOVE",
                (_, Activation::Sigmoid) => "SIGMOID_ABOVE_HALF",
                (_, Activation::Softmax) => "SOFTMAX_ABOVE",
            },
            keep: problem.mask,
            counted_by: labels.filter(|_| side == Side::Prediction),
        };
        let text = source::sides(&read, &[]);
        let place = if side == Side::Target { Place::Truths } else { Place::Source };
        let (values, source_base) = self.range(place, role);
        let (keep, keep_base) = self.range(Place::Keep, Role::Mask);
        let (truths, truths_base) = self.range(Place::Truths, Role::Target);
        let mut binds = vec![values.read(), self.classes.read(), self.bits(Place::Bits)];
        binds.extend(problem.mask.then_some(keep.read()));
        binds.extend((side == Side::Prediction && labels.is_some()).then_some(truths.read()));
        let params = PieceParams { source_base, keep_base, truths_base, threshold: THRESHOLD, ..self.params };
        let groups = self.grid.sides_groups(self.samples.end - self.samples.start);
        self.builder.dispatch(text, &binds, params, groups);
    }

    /// The most bytes that a sample has in one binding: of the two nearest objects of its voxels, of trees or of bits.
    fn object_bytes(&self, classes: usize) -> u64 {
        let trees = objects::planes(&self.head.problem) as u64 * self.grid.plane_bytes();
        (self.grid.voxels * NEAREST_BYTES).max(trees).max(classes as u64 * self.grid.bits_bytes())
    }

    /// The sums of the distances to the two nearest objects.
    fn objects(&mut self, number: usize) {
        self.sides(Side::Target);
        let (head, grid) = (self.head, self.grid);
        let samples = self.samples.end - self.samples.start;
        let trees = samples * objects::planes(&head.problem) as u64;
        let bits = self.bits(Place::Bits).read();
        let forest = Bind::whole(Place::Forest, trees * grid.plane_bytes());
        let nearest =
            [Place::First, Place::Second].map(|place| Bind::whole(place, samples * grid.voxels * NEAREST_BYTES));
        // Rows of a slice, as in contours.
        let params = PieceParams {
            extent: grid.slice_rows,
            farthest: objects::farthest(head.reach),
            reach: head.reach,
            ..self.params
        };
        let exclusive = matches!(head.problem.target, Target::Labels(_)).then_some("EXCLUSIVE");
        for step in ["BEGIN", "JOIN", "GATHER"] {
            let flags: Vec<&'static str> = [step].into_iter().chain(exclusive).collect();
            // Which plane of bits a voxel is in lies where the second pass writes later.
            let (binds, planes) = match step {
                "GATHER" => (vec![forest, nearest[0]], samples),
                _ if exclusive.is_some() => {
                    (vec![bits, forest, Bind::whole(Place::Second, trees * grid.plane_bytes())], trees)
                }
                _ => (vec![bits, forest], trees),
            };
            let text = source::distance(kernel!("distance_objects"), &flags);
            self.builder.dispatch(text, &binds, params, (planes * grid.voxels).div_ceil(THREADS));
        }
        let rows = (grid.width as u32, 1, grid.step_squared);
        let across = grid.lines.iter().map(|line| (line.extent, line.stride, line.step_squared));
        let to = self.planes(number);
        for (pass, (extent, stride, step_squared)) in [rows].into_iter().chain(across).enumerate() {
            let is_last = pass == grid.lines.len();
            let params = PieceParams { extent, stride, step_squared, to_base: to.base, to_sample: to.sample, ..params };
            let text = source::distance(kernel!("distance_nearest"), if is_last { &["SUMS"] } else { &[] });
            let into = if is_last { to.bind } else { nearest[(pass + 1) % 2] };
            let groups = (samples * grid.voxels).div_ceil(THREADS);
            self.builder.dispatch(text, &[nearest[pass % 2].read(), into], params, groups);
        }
    }

    /// Errors, and what becomes of them erosion by erosion.
    fn erode(&mut self, by: Erosions, room: usize, values: usize, slopes: Option<usize>) {
        let problem = &self.head.problem;
        let labels = match problem.target {
            Target::Labels(dtype) => Some(dtype),
            Target::Dense(_) => None,
        };
        let read = source::Sides {
            classes: problem.shape.classes(),
            labels: false,
            dtype: problem.prediction,
            interleaved: problem.layout == Layout::Interleaved,
            ignore_label: problem.ignore_label,
            rule: match problem.activation {
                Activation::None => "PLAIN",
                Activation::Sigmoid => "SIGMOID",
                Activation::Softmax => "SOFTMAX",
            },
            keep: problem.mask,
            counted_by: labels,
        };
        let text = source::errors(&read, problem.target, problem.weights);
        let (source, source_base) = self.range(Place::Source, Role::Prediction);
        let (truths, truths_base) = self.range(Place::Truths, Role::Target);
        let (keep, keep_base) = self.range(Place::Keep, Role::Mask);
        let (weights, weights_base) = self.range(Place::Weights, Role::Weights);
        let values = self.planes(values);
        let slopes = slopes.map(|number| self.planes(number));
        let samples = self.samples.end - self.samples.start;
        let of_voxels = Bind::whole(Place::VoxelWeights, 4 * samples * self.grid.voxels);
        // The slopes are written in place of the errors, which are needed until then.
        let errors = slopes.unwrap_or(values);
        let mut binds = vec![source.read(), self.classes.read(), errors.bind, of_voxels, truths.read()];
        binds.extend(problem.mask.then_some(keep.read()));
        binds.extend(problem.weights.then_some(weights.read()));
        let params = PieceParams {
            source_base,
            truths_base,
            keep_base,
            weights_base,
            to_base: errors.base,
            to_sample: errors.sample,
            ..self.params
        };
        self.builder.dispatch(text, &binds, params, (samples * self.grid.voxels).div_ceil(THREADS));
        let rank = problem.shape.spatial().len();
        erosion::erode(&mut self.builder, by, room, rank, self.grid, self.params, values, slopes, self.limits);
    }

    fn contours(&mut self) {
        let binds = [self.bits(Place::Bits).read(), self.bits(Place::Contours)];
        let params = PieceParams { extent: self.grid.slice_rows, ..self.params };
        let words = u64::from(self.params.planes) * self.grid.words();
        let text = source::distance(kernel!("distance_contours"), &[]);
        self.builder.dispatch(text, &binds, params, words.div_ceil(THREADS));
    }

    fn derive(&mut self, squares: usize, number: usize, flag: &'static str) {
        let (from, to) = (self.planes(squares), self.planes(number));
        let params = PieceParams {
            from_base: from.base,
            from_sample: from.sample,
            to_base: to.base,
            to_sample: to.sample,
            ..self.params
        };
        let mut binds = vec![self.bits(Place::Bits).read(), to.bind];
        binds.extend((flag == "CLOSENESS").then(|| self.extremes_bind().read()));
        let groups = (u64::from(self.params.planes) * self.grid.voxels).div_ceil(THREADS);
        self.builder.dispatch(source::distance(kernel!("distance_derive"), &[flag]), &binds, params, groups);
    }

    fn extremes_bind(&self) -> Bind {
        Bind::whole(Place::Extremes, 16 * u64::from(self.params.planes))
    }

    fn extremes(&mut self, squares: usize) {
        self.builder.clear(Place::Extremes);
        let from = self.planes(squares);
        let params = PieceParams { from_base: from.base, from_sample: from.sample, ..self.params };
        let binds = [self.bits(Place::Bits).read(), from.bind.read(), self.extremes_bind()];
        let groups = u64::from(self.params.planes) * self.grid.voxels.div_ceil(EXTREMES_VOXELS);
        self.builder.dispatch(source::distance(kernel!("distance_extremes"), &[]), &binds, params, groups);
    }

    /// The squares of distances to a contour become one number per plane: their mean root over another contour.
    fn mean(&mut self, number: usize) {
        let planes = self.planes(number);
        let parts = u64::from(self.params.planes) * self.grid.words().div_ceil(MEAN_WORDS);
        let partials = Bind::whole(Place::Partials, 16 * parts);
        let params = PieceParams {
            from_base: planes.base,
            from_sample: planes.sample,
            to_base: planes.base,
            to_sample: planes.sample,
            ..self.params
        };
        let binds = [self.bits(Place::Contours).read(), planes.bind.read(), partials];
        self.builder.dispatch(source::distance(kernel!("distance_mean"), &[]), &binds, params, parts);
        let groups = u64::from(self.params.planes) * self.grid.voxels.div_ceil(FILL_VOXELS);
        let text = source::distance(kernel!("distance_fill"), &[]);
        self.builder.dispatch(text, &[partials.read(), planes.bind], params, groups);
    }
}
