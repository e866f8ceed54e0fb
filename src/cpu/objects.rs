//! The distances to the two nearest objects, for the weight map of the U-Net.
//!
//! What is kept of a voxel are its two best: the least squares of distances to two objects that differ, and which these are. The two best
//! of a union are the two best of the two bests, so they are found an axis at a time, like the least one of a distance transform.

use super::maps::Regions;
use crate::distance::objects::{self, NONE};
use crate::distance::transform::Squeezed;
use crate::distance::{Distances, Source};
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::Head;
use fearless_simd::{Level, Simd, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Voxels of a row that go outward together, until none of them can find anything nearer.
const TILE: usize = 64;
/// Voxels that a thread takes at least.
const UNIT_VOXELS: usize = 1 << 12;

/// Of each voxel two squares, the lesser first, and the objects that they are of.
struct Nearest {
    squares: [Vec<f32>; 2],
    objects: [Vec<u32>; 2],
}

/// d1 + d2 of every voxel of every sample, or the head's reach where that is less or there are no two objects.
///
/// # Errors
/// [`Error::DeviceMemory`] when there is no memory for the objects of a sample.
pub(super) fn distances(head: &Head, regions: &Regions, sums: &mut [f32]) -> Result<(), Error> {
    let shape = &head.problem.shape;
    let voxels = shape.voxels() as usize;
    // Only the extents and the steps matter.
    let distances = Distances::new(shape, Source::Labels(DType::I16)).spacing(head.problem.voxel_spacing());
    let Squeezed { extents: [depth, height, width], steps } = Squeezed::new(&distances);
    let axes = [(width, 1), (height, width), (depth, height * width)].into_iter().zip(steps.into_iter().rev());
    let axes: Vec<Axis> = axes
        .filter(|((extent, _), _)| *extent > 1)
        .map(|((extent, stride), step)| Axis { extent, stride, step_squared: (step * step) as f32 })
        .collect();
    let farthest = objects::farthest(head.reach);
    let mut parents = filled(voxels, NONE)?;
    let mut nearest = Nearest::new(voxels, farthest)?;
    let mut spare = Nearest::new(voxels, farthest)?;
    for (sample, sums) in sums.chunks_mut(voxels).enumerate() {
        if sample > 0 {
            nearest.clear(farthest);
        }
        match regions {
            Regions::Labels(labels) => {
                let labels = &labels[sample * voxels..][..voxels];
                // Negative where a voxel does not count.
                number(&mut parents, &axes, |voxel| labels[voxel].max(0));
                nearest.begin(&parents, 0);
            }
            Regions::Masks(masks) => {
                let planes = masks.chunks(voxels).skip(sample * shape.classes()).take(shape.classes());
                for (plane, mask) in planes.skip(objects::first_class(&head.problem)).enumerate() {
                    number(&mut parents, &axes, |voxel| i16::from(mask[voxel]));
                    nearest.begin(&parents, (plane * voxels) as u32);
                }
            }
        }
        for axis in &axes {
            nearest.along(axis, width, &mut spare);
            std::mem::swap(&mut nearest, &mut spare);
        }
        let squares = nearest.squares[0].par_iter().zip(&nearest.squares[1]).zip(&nearest.objects[1]);
        sums.par_iter_mut().zip(squares).with_min_len(UNIT_VOXELS).for_each(|(sum, ((&first, &second), &object))| {
            *sum = if object == NONE { head.reach } else { (first.sqrt() + second.sqrt()).min(head.reach) };
        });
    }
    Ok(())
}

fn filled<T: Copy>(count: usize, value: T) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Error::DeviceMemory { what: "the distances to objects" })?;
    values.resize(count, value);
    Ok(values)
}

/// An axis of more than one voxel.
struct Axis {
    extent: usize,
    stride: usize,
    step_squared: f32,
}

/// Numbers the voxels of each object by the first of them, the others [`NONE`]. Voxels of one class, above 0, that meet in a face, an edge
/// or a corner are of one object.
fn number(parents: &mut [u32], axes: &[Axis], class: impl Fn(usize) -> i16) {
    // Of the neighbours of a voxel, those that come before it: steps along each axis, and how much less their index is.
    let mut earlier: Vec<(Vec<isize>, usize)> = Vec::new();
    for code in 0..3usize.pow(axes.len() as u32) {
        let steps: Vec<isize> = (0..axes.len()).map(|axis| (code / 3usize.pow(axis as u32) % 3) as isize - 1).collect();
        let offset: isize = axes.iter().zip(&steps).map(|(axis, step)| step * axis.stride as isize).sum();
        if offset < 0 {
            earlier.push((steps, offset.unsigned_abs()));
        }
    }
    for voxel in 0..parents.len() {
        let own = class(voxel);
        parents[voxel] = NONE;
        if own == 0 {
            continue;
        }
        let mut root = voxel as u32;
        for (steps, offset) in &earlier {
            let exists = |(axis, step): (&Axis, &isize)| {
                let at = voxel / axis.stride % axis.extent;
                (*step >= 0 || at > 0) && (*step <= 0 || at + 1 < axis.extent)
            };
            if axes.iter().zip(steps).all(exists) && class(voxel - offset) == own {
                let other = root_of(parents, (voxel - offset) as u32);
                let (least, most) = (root.min(other), root.max(other));
                parents[most as usize] = least;
                root = least;
            }
        }
        parents[voxel] = root;
    }
    // A parent comes before its children.
    for voxel in 0..parents.len() {
        if parents[voxel] != NONE {
            parents[voxel] = parents[parents[voxel] as usize];
        }
    }
}

fn root_of(parents: &mut [u32], mut voxel: u32) -> u32 {
    while parents[voxel as usize] != voxel {
        // Halves the way for those that come after.
        parents[voxel as usize] = parents[parents[voxel as usize] as usize];
        voxel = parents[voxel as usize];
    }
    voxel
}

impl Nearest {
    fn new(voxels: usize, farthest: f32) -> Result<Nearest, Error> {
        Ok(Nearest {
            squares: [filled(voxels, farthest)?, filled(voxels, farthest)?],
            objects: [filled(voxels, NONE)?, filled(voxels, NONE)?],
        })
    }

    fn clear(&mut self, farthest: f32) {
        self.squares.iter_mut().for_each(|squares| squares.fill(farthest));
        self.objects.iter_mut().for_each(|objects| objects.fill(NONE));
    }

    /// Adds the objects that voxels are in: of a plane whose numbers begin at `first`.
    fn begin(&mut self, parents: &[u32], first: u32) {
        for (voxel, &root) in parents.iter().enumerate().filter(|(_, root)| **root != NONE) {
            if let Some(place) = (0..2).find(|&place| self.objects[place][voxel] == NONE) {
                self.squares[place][voxel] = 0.0;
                self.objects[place][voxel] = first + root;
            }
        }
    }

    /// The two best of every voxel among those of its line, and the ways to them.
    fn along(&self, axis: &Axis, width: usize, to: &mut Nearest) {
        let level = Level::new();
        let ([first, second], [of_first, of_second]) = (&mut to.squares, &mut to.objects);
        let squares = first.par_chunks_mut(width).zip(second.par_chunks_mut(width));
        let objects = of_first.par_chunks_mut(width).zip(of_second.par_chunks_mut(width));
        let rows = squares.zip(objects).enumerate().with_min_len(UNIT_VOXELS.div_ceil(width));
        rows.for_each(|(row, ((first, second), (of_first, of_second)))| {
            for start in (0..width).step_by(TILE) {
                let (voxel, tile) = (row * width + start, start..width.min(start + TILE));
                let best = Best {
                    squares: [&mut first[tile.clone()], &mut second[tile.clone()]],
                    objects: [&mut of_first[tile.clone()], &mut of_second[tile]],
                };
                dispatch!(level, simd => outward(simd, self, axis, voxel, best));
            }
        });
    }
}

/// The two best of the voxels of a tile.
struct Best<'a> {
    squares: [&'a mut [f32]; 2],
    objects: [&'a mut [u32]; 2],
}

/// Goes outward from the voxels of a tile, the first of which is `voxel`, along their lines.
#[inline(always)]
fn outward<S: Simd>(_: S, from: &Nearest, axis: &Axis, voxel: usize, mut best: Best<'_>) {
    let len = best.squares[0].len();
    for place in 0..2 {
        best.squares[place].copy_from_slice(&from.squares[place][voxel..][..len]);
        best.objects[place].copy_from_slice(&from.objects[place][voxel..][..len]);
    }
    let first = voxel / axis.stride % axis.extent;
    // The places of the others: along its row they follow, across the rows they are the same.
    let last = if axis.stride == 1 { first + len - 1 } else { first };
    for k in 1..=last.max(axis.extent - 1 - first) {
        let way = (k * k) as f32 * axis.step_squared;
        // Nothing farther away can be nearer.
        if best.squares[1].iter().all(|&second| way >= second) {
            break;
        }
        // Which of the tile have a neighbour k steps before, and after.
        let (before, after) = match axis.stride {
            1 => (k.saturating_sub(first).min(len)..len, 0..(axis.extent - first).saturating_sub(k).min(len)),
            _ => (if k <= first { 0..len } else { 0..0 }, if first + k < axis.extent { 0..len } else { 0..0 }),
        };
        if !before.is_empty() {
            let other = voxel + before.start - k * axis.stride;
            best.take(from, before, other, way);
        }
        if !after.is_empty() {
            best.take(from, after, voxel + k * axis.stride, way);
        }
    }
}

impl Best<'_> {
    /// Takes in what is nearer among the two best of as many voxels from `other` on, which are this far away.
    #[inline(always)]
    fn take(&mut self, from: &Nearest, tile: Range<usize>, other: usize, way: f32) {
        let len = tile.len();
        let [first, second] = self.squares.each_mut().map(|squares| &mut squares[tile.clone()]);
        let [of_first, of_second] = self.objects.each_mut().map(|objects| &mut objects[tile.clone()]);
        let [squares, second_squares] = from.squares.each_ref().map(|squares| &squares[other..][..len]);
        let [objects, second_objects] = from.objects.each_ref().map(|objects| &objects[other..][..len]);
        for i in 0..len {
            for (square, object) in [(squares[i], objects[i]), (second_squares[i], second_objects[i])] {
                let square = square + way;
                let is_nearer = square < first[i];
                // What was the nearest is the second then.
                let is_second = (object != of_first[i]) & (is_nearer | (square < second[i]));
                let (moved, of_moved) = if is_nearer { (first[i], of_first[i]) } else { (square, object) };
                (second[i], of_second[i]) = if is_second { (moved, of_moved) } else { (second[i], of_second[i]) };
                (first[i], of_first[i]) = if is_nearer { (square, object) } else { (first[i], of_first[i]) };
            }
        }
    }
}
