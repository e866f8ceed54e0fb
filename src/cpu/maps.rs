//! The stage `distance`: the maps that a plan makes of target and prediction, before its passes.

use super::block::{self, Block, Range, Reads, Sources};
use super::erosion;
use super::objects;
use super::planes;
use super::view::Source;
use crate::distance::transform::{Side, is_of_squares, sides};
use crate::distance::{self, Distances, Kind};
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::{Head, PlannedMap};
use crate::problem::{Activation, Target};
use crate::spec::VoxelInput;
use bytemuck::Zeroable;
use fearless_simd::{Level, Simd, dispatch};
use rayon::prelude::*;

/// Voxels that a thread takes at a time.
pub(super) const UNIT_VOXELS: usize = 1 << 14;
/// What there is no memory for.
const CLASSES: &str = "the classes of the voxels that distance maps are made of";
/// A class is where g, or p, is above this.
const THRESHOLD: f32 = 0.5;

/// The made maps of a head, f32 `[N, planes, V]` each.
#[derive(Debug)]
pub(super) struct Maps(Vec<Vec<f32>>);

impl Maps {
    /// Makes the maps of a head, those of slopes where the call has a gradient. What several of them are made of is made once.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for a map.
    pub(super) fn make(head: &Head, sources: &Sources<'_>, gradient: bool) -> Result<Maps, Error> {
        let reads = |of| head.maps.iter().any(|map| sides(map.input).contains(&of));
        let regions = |of| if reads(of) { Regions::of(head, sources, of) } else { Ok(Regions::Masks(Vec::new())) };
        let (target, prediction) = (regions(Side::Target)?, regions(Side::Prediction)?);
        // The maps that are functions of the target's two-sided transform share it, and the last takes its buffer.
        let shares = |map: &&PlannedMap| is_of_squares(map.input);
        let mut sharing = head.maps.iter().filter(shares).count();
        let first_class = head.maps.iter().filter(shares).map(|map| map.first_class).min();
        let mut squares = match first_class {
            Some(first_class) => target.transform(head, Kind::TwoSided, first_class)?,
            None => Vec::new(),
        };
        let mut of_target = |map: &PlannedMap| -> Result<Vec<f32>, Error> {
            sharing -= 1;
            let (samples, voxels) = (head.problem.shape.samples(), head.problem.shape.voxels() as usize);
            let skipped = voxels * (map.first_class - first_class.unwrap_or_default());
            if sharing == 0 {
                let mut values = std::mem::take(&mut squares);
                let planes = values.len() / samples - skipped;
                for sample in 0..samples {
                    let start = sample * (skipped + planes) + skipped;
                    values.copy_within(start..start + planes, sample * planes);
                }
                values.truncate(samples * planes);
                return Ok(values);
            }
            let mut values = zeros(head, map.planes(head.problem.shape.classes()))?;
            let planes = values.len() / samples;
            for (into, from) in values.chunks_mut(planes).zip(squares.chunks(skipped + planes)) {
                into.copy_from_slice(&from[skipped..]);
            }
            Ok(values)
        };
        let mut made = Vec::with_capacity(head.maps.len());
        let mut eroded = erosion::make(head, sources, gradient)?.into_iter();
        for map in &head.maps {
            let mut values = match map.input {
                VoxelInput::ErodedError | VoxelInput::ErodedErrorSlope => eroded.next().unwrap_or_default(),
                VoxelInput::PredictionSquared => prediction.transform(head, Kind::TwoSided, map.first_class)?,
                VoxelInput::ContourDistance => {
                    target.contours(head)?.transform(head, Kind::Outside, map.first_class)?
                }
                VoxelInput::ObjectDistances => {
                    let mut sums = zeros(head, 1)?;
                    objects::distances(head, &target, &mut sums)?;
                    sums
                }
                _ => of_target(map)?,
            };
            match map.input {
                VoxelInput::SignedDistance => signed(head, map, &target, &mut values),
                VoxelInput::Closeness => closeness(head, map, &target, &mut values),
                VoxelInput::ContourDistance => mean_distance(head, map, &prediction.contours(head)?, &mut values),
                _ => {}
            }
            made.push(values);
        }
        Ok(Maps(made))
    }

    /// The sources of the passes: those of the call, and these maps.
    pub(super) fn join<'a>(&'a self, sources: &Sources<'a>) -> Sources<'a> {
        let mut joined = *sources;
        for (slot, map) in joined.made.iter_mut().zip(&self.0) {
            *slot = (!map.is_empty()).then(|| Source::from(&map[..]));
        }
        joined
    }
}

/// Bytes that the maps of a head, which has some, take at most, with the classes, transforms and erosions that they are made of, on the threads of rayon's current
/// pool. What objects are made in is beside them.
pub(super) fn bytes(head: &Head) -> u64 {
    let shape = &head.problem.shape;
    let plane = shape.all_voxels() * DType::F32.size();
    let planes = |first_class: usize| (shape.classes() - first_class) as u64 * plane;
    let shares = || head.maps.iter().filter(|map| is_of_squares(map.input));
    // The last map that shares a transform takes its buffer, which may have more classes.
    let shared = shares().map(|map| planes(map.first_class)).max().unwrap_or_default();
    let last = shares().next_back().map_or(0, |map| planes(map.first_class));
    let made: u64 = head.maps.iter().map(|map| map.planes(shape.classes()) as u64 * plane).sum();

    let of_side = |side| match Regions::are_labels(head, side) {
        true => shape.all_voxels() * DType::I16.size(),
        false => shape.elements() * DType::U8.size(),
    };
    let read = |side: &Side| head.maps.iter().any(|map| sides(map.input).contains(side));
    let regions = || [Side::Target, Side::Prediction].into_iter().filter(read).map(of_side);
    let has_contours = head.maps.iter().any(|map| map.input == VoxelInput::ContourDistance);
    let contours = if has_contours { regions().max().unwrap_or_default() } else { 0 };
    let transforms = [distance::Source::Labels(DType::I16), distance::Source::Dense(DType::U8)]
        .map(|source| Distances::new(shape, source).spacing(head.problem.voxel_spacing()).workspace_bytes());
    let is_transformed = head.maps.iter().any(|map| !sides(map.input).is_empty());
    let transform = if is_transformed { transforms.into_iter().max().unwrap_or_default() } else { 0 };
    // Not while a transform is made.
    let transform = transform.max(erosion::in_flight_bytes(head, rayon::current_num_threads(), true));
    made + shared - last + regions().sum::<u64>() + contours + transform
}

/// Zeros for a map of so many planes of a sample.
pub(super) fn zeros(head: &Head, count: usize) -> Result<Vec<f32>, Error> {
    planes::zeros(head.problem.shape.all_voxels() as usize * count, "a distance map")
}

/// Which voxels are of which class. A voxel that does not count is of none.
#[derive(Clone, Debug)]
pub(super) enum Regions {
    /// Where the classes exclude each other: `[N, V]`, negative for none; with C = 1 the class is label 1.
    Labels(Vec<i16>),
    /// `[N, C, V]`, 1 in the class.
    Masks(Vec<u8>),
}

impl Regions {
    /// Whether no voxel is of two classes.
    fn are_labels(head: &Head, side: Side) -> bool {
        match side {
            Side::Target => matches!(head.problem.target, Target::Labels(_)),
            // No two classes have p > ½.
            Side::Prediction => head.problem.activation == Activation::Softmax,
        }
    }

    fn of(head: &Head, sources: &Sources<'_>, side: Side) -> Result<Regions, Error> {
        let shape = &head.problem.shape;
        let level = Level::new();
        let block = || Block::new(head, Reads::of(head, &[])).with_p();
        if Self::are_labels(head, side) {
            let mut labels: Vec<i16> = planes::zeros(shape.all_voxels() as usize, CLASSES)?;
            units(head, &mut labels, 1).into_par_iter().for_each_init(block, |block, (range, mut planes)| {
                dispatch!(level, simd => labels_of(simd, block, sources, side, range, planes.remove(0)));
            });
            Ok(Regions::Labels(labels))
        } else {
            let mut masks: Vec<u8> = planes::zeros(shape.elements() as usize, CLASSES)?;
            units(head, &mut masks, shape.classes()).into_par_iter().for_each_init(block, |block, (range, planes)| {
                dispatch!(level, simd => masks_of(simd, block, sources, side, range, planes));
            });
            Ok(Regions::Masks(masks))
        }
    }

    /// Squares of distances to the classes from `first_class` on.
    fn transform(&self, head: &Head, kind: Kind, first_class: usize) -> Result<Vec<f32>, Error> {
        let problem = &head.problem;
        let source = match self {
            Regions::Labels(_) => distance::Source::Labels(DType::I16),
            Regions::Masks(_) => distance::Source::Dense(DType::U8),
        };
        let classes: Vec<usize> = (first_class..problem.shape.classes()).collect();
        let distances = Distances::new(&problem.shape, source)
            .kind(kind)
            .classes(classes)
            .spacing(problem.voxel_spacing())
            .squared(true);
        let mut values = zeros(head, problem.shape.classes() - first_class)?;
        match self {
            Regions::Labels(labels) => distances.compute_into(labels, &mut values)?,
            Regions::Masks(masks) => distances.compute_into(masks, &mut values)?,
        }
        Ok(values)
    }

    /// Whether a voxel, one of N·V, is of a class.
    fn contains(&self, head: &Head, sample: usize, class: usize, voxel: usize) -> bool {
        let (classes, voxels) = (head.problem.shape.classes(), head.problem.shape.voxels() as usize);
        match self {
            Regions::Labels(labels) => labels[sample * voxels + voxel] == if classes == 1 { 1 } else { class as i16 },
            Regions::Masks(masks) => masks[(sample * classes + class) * voxels + voxel] != 0,
        }
    }

    /// The voxels of each class that share a face with a voxel that is not of it.
    fn contours(&self, head: &Head) -> Result<Regions, Error> {
        match self {
            Regions::Labels(labels) => contours(head, labels, -1).map(Regions::Labels),
            Regions::Masks(masks) => contours(head, masks, 0).map(Regions::Masks),
        }
    }
}

/// The ranges of all samples, with their part of each of a sample's planes.
pub(super) fn units<'a, T>(head: &Head, values: &'a mut [T], planes: usize) -> Vec<(Range, Vec<&'a mut [T]>)> {
    let voxels = head.problem.shape.voxels() as usize;
    let unit = UNIT_VOXELS.next_multiple_of(block::stride(head.problem.shape.classes()));
    let mut units = Vec::new();
    for (sample, values) in values.chunks_mut(planes * voxels).enumerate() {
        let mut planes: Vec<_> = values.chunks_mut(voxels).map(|plane| plane.chunks_mut(unit)).collect();
        for start in (0..voxels).step_by(unit) {
            let parts = planes.iter_mut().filter_map(Iterator::next).collect();
            units.push((Range { sample, start, len: unit.min(voxels - start) }, parts));
        }
    }
    units
}

/// The blocks of a range, each with its place in the range.
pub(super) fn blocks(block: &Block<'_>, range: Range) -> impl Iterator<Item = (std::ops::Range<usize>, Range)> + use<> {
    let stride = block.stride();
    (0..range.len).step_by(stride).map(move |start| {
        let len = stride.min(range.len - start);
        (start..start + len, Range { start: range.start + start, len, ..range })
    })
}

#[inline(always)]
fn labels_of<S: Simd>(
    simd: S,
    block: &mut Block<'_>,
    sources: &Sources<'_>,
    side: Side,
    range: Range,
    labels: &mut [i16],
) {
    for (place, range) in blocks(block, range) {
        block.load_target(simd, sources, range);
        let labels = &mut labels[place];
        for (label, &own) in labels.iter_mut().zip(block.labels()) {
            *label = own as i16;
        }
        if side == Side::Prediction {
            block.load_prediction(simd, sources, range);
            for (label, &own) in labels.iter_mut().zip(block.labels()) {
                *label = if own < 0 { own as i16 } else { -1 };
            }
            for class in 0..block.classes() {
                for ((label, &p), &own) in labels.iter_mut().zip(block.plane_of_p(class)).zip(block.labels()) {
                    *label = if p > THRESHOLD && own >= 0 { class as i16 } else { *label };
                }
            }
        }
    }
}

#[inline(always)]
fn masks_of<S: Simd>(
    simd: S,
    block: &mut Block<'_>,
    sources: &Sources<'_>,
    side: Side,
    range: Range,
    mut planes: Vec<&mut [u8]>,
) {
    for (place, range) in blocks(block, range) {
        block.load_target(simd, sources, range);
        if side == Side::Prediction {
            block.load_prediction(simd, sources, range);
        }
        for (class, plane) in planes.iter_mut().enumerate() {
            let values = match side {
                Side::Target => block.plane_of_dense(class),
                Side::Prediction => block.plane_of_p(class),
            };
            for ((mask, &value), &own) in plane[place.clone()].iter_mut().zip(values).zip(block.labels()) {
                *mask = u8::from(value > THRESHOLD && own >= 0);
            }
        }
    }
}

/// Planes of values in which only voxels that share a face with another value are left, and `none` elsewhere.
fn contours<T: Zeroable + Copy + PartialEq + Send + Sync>(head: &Head, values: &[T], none: T) -> Result<Vec<T>, Error> {
    let (voxels, spatial) = (head.problem.shape.voxels() as usize, head.problem.shape.spatial());
    let stride = |axis: usize| spatial[axis + 1..].iter().product::<usize>();
    let axes: Vec<(usize, usize)> = (0..spatial.len()).map(|axis| (stride(axis), spatial[axis])).collect();
    let mut kept: Vec<T> = planes::zeros(values.len(), CLASSES)?;
    kept.par_chunks_mut(voxels).zip(values.par_chunks(voxels)).for_each(|(kept, values)| {
        kept.par_iter_mut().enumerate().with_min_len(UNIT_VOXELS).for_each(|(voxel, kept)| {
            let own = values[voxel];
            let differs = axes.iter().any(|&(stride, extent)| {
                let at = voxel / stride % extent;
                (at > 0 && values[voxel - stride] != own) || (at + 1 < extent && values[voxel + stride] != own)
            });
            *kept = if differs { own } else { none };
        });
    });
    Ok(kept)
}

/// Calls `f` for every plane of a map with its sample and class, on all threads.
fn each_plane(head: &Head, map: &PlannedMap, values: &mut [f32], f: impl Fn(usize, usize, &mut [f32]) + Sync) {
    let (voxels, made) = (head.problem.shape.voxels() as usize, head.problem.shape.classes() - map.first_class);
    let planes = values.par_chunks_mut(voxels).enumerate();
    planes.for_each(|(index, plane)| f(index / made, map.first_class + index % made, plane));
}

/// Squares of two-sided distances to signed distances. A square of 0 stands for a class without a boundary.
fn signed(head: &Head, map: &PlannedMap, regions: &Regions, values: &mut [f32]) {
    each_plane(head, map, values, |sample, class, plane| {
        plane.par_iter_mut().enumerate().with_min_len(UNIT_VOXELS).for_each(|(voxel, value)| {
            let inside = regions.contains(head, sample, class, voxel) && *value > 0.0;
            *value = if inside { 1.0 - value.sqrt() } else { value.sqrt() };
        });
    });
}

/// Squares of two-sided distances to (M − d)/(M − min d) on either side.
fn closeness(head: &Head, map: &PlannedMap, regions: &Regions, values: &mut [f32]) {
    each_plane(head, map, values, |sample, class, plane| {
        let inside = |voxel| usize::from(regions.contains(head, sample, class, voxel));
        let none = [[f32::INFINITY, f32::NEG_INFINITY]; 2];
        let extremes = plane.par_iter_mut().enumerate().with_min_len(UNIT_VOXELS).fold(
            || none,
            |mut extremes, (voxel, value)| {
                *value = value.sqrt();
                let [min, max] = &mut extremes[inside(voxel)];
                (*min, *max) = (min.min(*value), max.max(*value));
                extremes
            },
        );
        let extremes = extremes.reduce(
            || none,
            |a, b| std::array::from_fn(|side| [a[side][0].min(b[side][0]), a[side][1].max(b[side][1])]),
        );
        plane.par_iter_mut().enumerate().with_min_len(UNIT_VOXELS).for_each(|(voxel, value)| {
            let [min, max] = extremes[inside(voxel)];
            *value = if max > min { (max - *value) / (max - min) } else { 0.0 };
        });
    });
}

/// Squares of distances to a contour to one number per plane: their mean root over another contour; 0 where there is none of
/// either.
fn mean_distance(head: &Head, map: &PlannedMap, over: &Regions, values: &mut [f32]) {
    each_plane(head, map, values, |sample, class, plane| {
        // Parts of a fixed size, added in their order.
        let parts = plane.par_chunks(UNIT_VOXELS).enumerate().map(|(part, squares)| {
            let of = |at: usize| over.contains(head, sample, class, part * UNIT_VOXELS + at);
            let distances =
                squares.iter().enumerate().filter(|(at, _)| of(*at)).map(|(_, square)| f64::from(*square).sqrt());
            distances.fold((0.0, 0u64), |(sum, count), distance| (sum + distance, count + 1))
        });
        let parts: Vec<(f64, u64)> = parts.collect();
        let (sum, count) = parts.iter().fold((0.0, 0), |total, part| (total.0 + part.0, total.1 + part.1));
        let mean = if count > 0 && f64::is_finite(sum) { sum / count as f64 } else { 0.0 };
        plane.fill(mean as f32);
    });
}
