//! The distances to the two nearest objects, for the weight map of the U-Net.
//!
//! Each object gets a code of a few bits: objects that one voxel may have near it get different codes, and every code has as many bits
//! set. An ordinary transform per bit says how far the nearest object is that has the bit. Of these distances of a voxel, as many as a
//! code has bits are those of its nearest object; and as any other object has a bit that the nearest one has not, the next larger is
//! that of the second nearest.

use super::maps::{Regions, UNIT_VOXELS};
use super::planes::{self, room};
use crate::distance::transform::Squeezed;
use crate::distance::{Distances, Kind, Source, objects};
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::Head;
use crate::shape::Shape;
use fearless_simd::{Level, Simd, dispatch};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Voxels of a sample up to which samples are made side by side.
const SMALL_VOXELS: usize = 1 << 18;
/// Neighbours in a row that are compared together.
const STRIDE: usize = 32;
/// Voxels whose distances are sorted together.
const TILE: usize = 64;
/// Most bits of a code.
const BITS_MAX: usize = u32::BITS as usize;
/// What there is no memory for.
const OBJECTS: &str = "the distances to objects";

/// d1 + d2 of every voxel of every sample, or the head's reach where that is less or there are no two objects.
///
/// # Errors
/// [`Error::DeviceMemory`] when there is no memory for the objects of a sample; [`Error::Limit`] for more objects than there are codes.
pub(super) fn distances(head: &Head, regions: &Regions, sums: &mut [f32]) -> Result<(), Error> {
    let voxels = head.problem.shape.voxels() as usize;
    let sample = |scratch: &mut Scratch, (sample, sums)| of_sample(head, regions, sample, scratch, sums);
    if voxels <= SMALL_VOXELS {
        sums.par_chunks_mut(voxels).enumerate().try_for_each_init(Scratch::default, sample)
    } else {
        let mut scratch = Scratch::default();
        sums.chunks_mut(voxels).enumerate().try_for_each(|item| sample(&mut scratch, item))
    }
}

/// What the samples use one after the other.
#[derive(Default)]
struct Scratch {
    /// Which voxels are in an object that has a bit, a plane for each bit.
    masks: Vec<u8>,
    /// Squares of the distances to these.
    squares: Vec<f32>,
}

fn of_sample(
    head: &Head,
    regions: &Regions,
    sample: usize,
    scratch: &mut Scratch,
    sums: &mut [f32],
) -> Result<(), Error> {
    let (problem, reach) = (&head.problem, head.reach);
    let (shape, classes, voxels) = (&problem.shape, problem.shape.classes(), sums.len());
    let of = |planes| -> Result<Distances, Error> {
        let shape = Shape::new(1, planes, shape.spatial())?;
        Ok(Distances::new(&shape, Source::Dense(DType::U8)).spacing(problem.voxel_spacing()))
    };
    let squeezed = Squeezed::new(&of(1)?);
    let extents = squeezed.extents;
    let runs = match regions {
        // Negative where a voxel does not count.
        Regions::Labels(labels) => Runs::find(&labels[sample * voxels..][..voxels], extents, |label| label.max(0))?,
        Regions::Masks(masks) => {
            let planes = sample * classes + objects::first_class(problem)..(sample + 1) * classes;
            Runs::find(&masks[planes.start * voxels..planes.end * voxels], extents, i16::from)?
        }
    };
    let objects = runs.objects()?;
    let (colours, count) = objects.colours(f64::from(reach), squeezed)?;
    // No voxel is between two objects that are that near.
    if count < 2 {
        sums.fill(reach);
        return Ok(());
    }
    let codes = Codes::new(count)?;
    let of_runs: Vec<u32> =
        objects.of_runs.into_iter().map(|object| codes.of[colours[object as usize] as usize]).collect();

    let Scratch { masks, squares } = scratch;
    let all = codes.bits * voxels;
    if masks.len() < all {
        (*masks, *squares) = (Vec::new(), Vec::new());
        (*masks, *squares) = (planes::zeros(all, OBJECTS)?, planes::zeros(all, OBJECTS)?);
    }
    let (masks, squares) = (&mut masks[..all], &mut squares[..all]);
    runs.paint(&of_runs, masks, voxels);
    let distances = of(codes.bits)?.kind(Kind::Outside).squared(true);
    distances.compute_into(&*masks, &mut *squares)?;
    let level = Level::new();
    sums.par_chunks_mut(UNIT_VOXELS).enumerate().for_each(|(unit, sums)| {
        let part = unit * UNIT_VOXELS..unit * UNIT_VOXELS + sums.len();
        let planes = squares.chunks_exact(voxels).map(|plane| &plane[part.clone()]);
        dispatch!(level, simd => add(simd, planes, codes.ones, reach, sums));
    });
    Ok(())
}

/// Voxels of one class that follow each other in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    first: u32,
    end: u32,
    class: i16,
}

/// The runs of a sample in the order of their voxels: of each plane in which voxels are numbered, row by row.
struct Runs {
    runs: Vec<Run>,
    /// Where the runs of each row begin, and the end.
    rows: Vec<u32>,
    extents: [usize; 3],
}

impl Runs {
    /// Those of planes of some values, by the class of a value, 0 for none.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for them.
    fn find<T: Copy + Sync>(
        values: &[T],
        extents: [usize; 3],
        class: impl Fn(T) -> i16 + Copy + Sync,
    ) -> Result<Runs, Error> {
        let width = extents[2];
        let unit = UNIT_VOXELS.div_ceil(width);
        let parts = values.par_chunks(unit * width).map(|part| {
            let (mut runs, mut ends) = (Vec::new(), room(part.len() / width, OBJECTS)?);
            for row in part.chunks_exact(width) {
                of_row(row, class, &mut runs)?;
                ends.push(runs.len() as u32);
            }
            Ok((runs, ends))
        });
        let parts = parts.collect::<Result<Vec<(Vec<Run>, Vec<u32>)>, Error>>()?;
        let mut runs = room(parts.iter().map(|(runs, _)| runs.len()).sum(), OBJECTS)?;
        let mut rows = room(values.len() / width + 1, OBJECTS)?;
        rows.push(0);
        for (part, ends) in parts {
            rows.extend(ends.iter().map(|end| runs.len() as u32 + end));
            runs.extend(part);
        }
        Ok(Runs { runs, rows, extents })
    }

    fn row(&self, row: usize) -> Range<usize> {
        self.rows[row] as usize..self.rows[row + 1] as usize
    }

    /// The rows of voxels that a voxel of a row touches, as far as they come before it.
    fn before(&self, row: usize) -> impl Iterator<Item = usize> + use<> {
        let [depth, height, _] = self.extents;
        let (y, z) = (row % height, row / height % depth);
        let above = (z > 0).then(|| row - height - usize::from(y > 0)..row - height + 1 + usize::from(y + 1 < height));
        above.into_iter().flatten().chain((y > 0).then(|| row - 1))
    }

    /// The objects that they are of. Runs of one class that meet in a face, an edge or a corner are of one object.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for them.
    fn objects(&self) -> Result<Objects, Error> {
        let mut parents = room(self.runs.len(), OBJECTS)?;
        parents.extend((0..self.runs.len() as u32).map(AtomicU32::new));
        let forest = Forest { parents };
        let rows = self.rows.len() - 1;
        let unit = UNIT_VOXELS.div_ceil(self.extents[2]);
        (0..rows).into_par_iter().with_min_len(unit).for_each(|row| {
            self.before(row).for_each(|before| self.join(self.row(row), self.row(before), &forest));
        });

        let [depth, height, _] = self.extents;
        let is_first = |(run, parent): &(usize, &AtomicU32)| parent.load(Relaxed) as usize == *run;
        let count = forest.parents.iter().enumerate().filter(is_first).count();
        let (mut of_runs, mut bounds) = (room::<u32>(self.runs.len(), OBJECTS)?, room::<Bounds>(count, OBJECTS)?);
        for row in 0..rows {
            let place = |at: usize| [(row / height % depth) as u32, (row % height) as u32, at as u32];
            for index in self.row(row) {
                let Run { first, end, .. } = self.runs[index];
                let own = Bounds { low: place(first as usize), high: place(end as usize - 1) };
                // A parent comes before its children, and the first run of an object has none.
                let parent = forest.parents[index].load(Relaxed) as usize;
                if parent == index {
                    of_runs.push(bounds.len() as u32);
                    bounds.push(own);
                } else {
                    of_runs.push(of_runs[parent]);
                    bounds[of_runs[parent] as usize].include(&own);
                }
            }
        }
        Ok(Objects { of_runs, bounds })
    }

    /// Joins the objects of the runs of two rows that touch each other.
    fn join(&self, own: Range<usize>, before: Range<usize>, forest: &Forest) {
        let mut others = before;
        for index in own {
            let run = self.runs[index];
            // What ends before this run ends before those that follow.
            while others.start < others.end && self.runs[others.start].end < run.first {
                others.start += 1;
            }
            for other in others.clone() {
                if self.runs[other].first > run.end {
                    break;
                }
                if self.runs[other].class == run.class {
                    forest.join(index as u32, other as u32);
                }
            }
        }
    }

    /// Writes a plane for each bit: 1 where a voxel is in a run whose code has it.
    fn paint(&self, codes: &[u32], masks: &mut [u8], voxels: usize) {
        let width = self.extents[2];
        let (unit, rows) = (UNIT_VOXELS.div_ceil(width), voxels / width);
        masks.par_chunks_mut(voxels).enumerate().for_each(|(bit, plane)| {
            plane.par_chunks_mut(unit * width).enumerate().for_each(|(part, plane)| {
                plane.fill(0);
                for (row, plane) in (part * unit..).zip(plane.chunks_exact_mut(width)) {
                    // In each plane in which voxels are numbered.
                    for index in (row..self.rows.len() - 1).step_by(rows).flat_map(|row| self.row(row)) {
                        if codes[index] >> bit & 1 != 0 {
                            let Run { first, end, .. } = self.runs[index];
                            plane[first as usize..end as usize].fill(1);
                        }
                    }
                }
            });
        });
    }
}

/// Adds the runs of a row.
fn of_row<T: Copy>(row: &[T], class: impl Fn(T) -> i16, runs: &mut Vec<Run>) -> Result<(), Error> {
    let mut x = 0;
    while let Some(&value) = row.get(x) {
        let (first, own) = (x, class(value));
        while let Some(stride) = row[x..].first_chunk::<STRIDE>()
            && stride.iter().fold(true, |same, value| same & (class(*value) == own))
        {
            x += STRIDE;
        }
        x += row[x..].iter().take_while(|value| class(**value) == own).count();
        if own != 0 {
            runs.try_reserve(1).map_err(|_| Error::DeviceMemory { what: OBJECTS })?;
            runs.push(Run { first: first as u32, end: x as u32, class: own });
        }
    }
    Ok(())
}

/// Runs that point to others of their object, before them; the first to itself.
struct Forest {
    parents: Vec<AtomicU32>,
}

impl Forest {
    fn root(&self, mut run: u32) -> u32 {
        loop {
            let parent = self.parents[run as usize].load(Relaxed);
            if parent == run {
                return run;
            }
            let next = self.parents[parent as usize].load(Relaxed);
            // Halves the way for those that come after. Whoever else does, each of these comes before the run and is of its object.
            if next != parent {
                self.parents[run as usize].store(next, Relaxed);
            }
            run = parent;
        }
    }

    /// Makes the later of two roots point to the other: they end at the first run, whoever comes first.
    fn join(&self, a: u32, b: u32) {
        let (mut a, mut b) = (self.root(a), self.root(b));
        while a != b {
            let (low, high) = (a.min(b), a.max(b));
            match self.parents[high as usize].compare_exchange(high, low, Relaxed, Relaxed) {
                Ok(_) => return,
                // Another thread was first.
                Err(parent) => (a, b) = (self.root(parent), self.root(low)),
            }
        }
    }
}

/// The places along each axis between which an object lies.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bounds {
    low: [u32; 3],
    high: [u32; 3],
}

impl Bounds {
    fn include(&mut self, other: &Bounds) {
        for axis in 0..3 {
            self.low[axis] = self.low[axis].min(other.low[axis]);
            self.high[axis] = self.high[axis].max(other.high[axis]);
        }
    }
    /// The way between the two along an axis.
    fn way(&self, other: &Bounds, axis: usize, step: f64) -> f64 {
        let gap = self.low[axis].saturating_sub(other.high[axis]).max(other.low[axis].saturating_sub(self.high[axis]));
        f64::from(gap) * step
    }
}

/// The objects of a sample.
struct Objects {
    /// Which object each run is of.
    of_runs: Vec<u32>,
    bounds: Vec<Bounds>,
}

impl Objects {
    /// A colour for each object, and how many there are: objects that may be less than `reach` apart have different ones.
    ///
    /// A voxel is at least as far from two objects, together, as these are apart. Where that is beyond the reach, how far the second
    /// one is makes no difference. So an object is compared to those before it that are that near along the longest axis.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for them.
    fn colours(&self, reach: f64, Squeezed { extents, steps }: Squeezed) -> Result<(Vec<u32>, usize), Error> {
        /// What sums of f32 are off at most.
        const ROUNDING: f64 = 1.0 + 1e-5;
        let (reach, count) = (reach * ROUNDING, self.bounds.len());
        let length = |axis: &usize| (extents[*axis] - 1) as f64 * steps[*axis];
        let along = (0..3).max_by(|a, b| length(a).total_cmp(&length(b))).unwrap_or_default();
        let mut order: Vec<u32> = room(count, OBJECTS)?;
        order.extend(0..count as u32);
        order.sort_unstable_by_key(|&object| (self.bounds[object as usize].low[along], object));
        let mut colours: Vec<u32> = planes::zeros(count, OBJECTS)?;
        // By colour, the turn of the last object that had a neighbour of it.
        let mut taken: Vec<u32> = planes::zeros(count, OBJECTS)?;
        let (mut near, mut compared, mut most) = (room(count, OBJECTS)?, 0, 0);
        for (turn, &object) in (1..).zip(&order) {
            let own = &self.bounds[object as usize];
            near.retain(|&other: &u32| own.way(&self.bounds[other as usize], along, steps[along]) <= reach);
            compared += near.len();
            // It may take longer than it saves.
            if compared > extents.iter().product() {
                order.sort_unstable();
                return Ok((order, count));
            }
            for &other in &near {
                let ways = [0, 1, 2].map(|axis| own.way(&self.bounds[other as usize], axis, steps[axis]));
                if ways.iter().map(|way| way * way).sum::<f64>() <= reach * reach {
                    taken[colours[other as usize] as usize] = turn;
                }
            }
            let colour = taken.iter().position(|&by| by != turn).expect("fewer colours than objects are taken");
            colours[object as usize] = colour as u32;
            most = most.max(colour + 1);
            near.push(object);
        }
        Ok((colours, most))
    }
}

/// Codes with equally many bits set.
struct Codes {
    bits: usize,
    ones: usize,
    of: Vec<u32>,
}

impl Codes {
    /// So many, two at least: of as few bits as can be, half of them set.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than there are of [`BITS_MAX`] bits.
    fn new(count: usize) -> Result<Codes, Error> {
        let choices =
            |bits: usize| (0..bits / 2).fold(1, |choices: u64, i| choices * (bits - i) as u64 / (i + 1) as u64);
        let bits = (2..=BITS_MAX).find(|&bits| choices(bits) >= count as u64).ok_or(Error::Limit {
            what: "objects of a sample that are near each other",
            need: count,
            limit: choices(BITS_MAX) as usize,
        })?;
        let ones = bits / 2;
        let mut of = room(count, OBJECTS)?;
        // The next larger number with as many bits set: the lowest ones but one go to the bottom, that one moves up.
        let next = |code: &u64| {
            let lowest = code & code.wrapping_neg();
            let carried = code + lowest;
            Some(carried | (carried ^ code) >> 2 >> lowest.trailing_zeros())
        };
        of.extend(std::iter::successors(Some((1u64 << ones) - 1), next).take(count).map(|code| code as u32));
        Ok(Codes { bits, ones, of })
    }
}

/// The roots of the least square of each voxel and of the one that `ones` are not above, added.
#[inline(always)]
fn add<'a, S: Simd>(_: S, planes: impl Iterator<Item = &'a [f32]> + Clone, ones: usize, reach: f32, sums: &mut [f32]) {
    for (tile, sums) in sums.chunks_mut(TILE).enumerate() {
        let mut least = [[f32::INFINITY; TILE]; BITS_MAX / 2 + 1];
        let least = &mut least[..=ones];
        for plane in planes.clone() {
            let mut squares = [f32::INFINITY; TILE];
            squares[..sums.len()].copy_from_slice(&plane[tile * TILE..][..sums.len()]);
            // Each takes its place among the least ones.
            for least in &mut *least {
                for (least, square) in least.iter_mut().zip(&mut squares) {
                    let (low, high) = if *square < *least { (*square, *least) } else { (*least, *square) };
                    (*least, *square) = (low, high);
                }
            }
        }
        for ((sum, first), second) in sums.iter_mut().zip(&least[0]).zip(&least[ones]) {
            *sum = (first.sqrt() + second.sqrt()).min(reach);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Different ones, equally many bits set, and no bit more than it takes.
    #[test]
    fn codes() {
        for count in (2..300).chain([924, 925, 12_870, 12_871]) {
            let Codes { bits, ones, mut of } = Codes::new(count).expect("there are as many");
            assert!(of.iter().all(|code| code.count_ones() as usize == ones && code.ilog2() < bits as u32), "{count}");
            of.sort_unstable();
            of.dedup();
            assert_eq!(of.len(), count);
        }
        let bits = [2, 3, 4, 6, 7, 10, 11, 20, 21, 924, 925].map(|count| Codes::new(count).map(|codes| codes.bits));
        assert_eq!(bits.map(Result::ok), [2, 3, 4, 4, 5, 5, 6, 6, 7, 12, 13].map(Some));
        assert!(matches!(Codes::new(601_080_391), Err(Error::Limit { limit: 601_080_390, .. })));
    }

    /// Objects on a line have two colours where each is near the next one alone, along whichever axis the line is; also where a step
    /// along an axis of one voxel is longer than the line.
    #[test]
    fn colours_along_each_axis() {
        for (extent, width, step) in [(20_000, 1, 1.0), (999, 1, 1e-3), (20_000, 3, 0.5)] {
            for axis in 0..3 {
                let (mut extents, mut steps) = ([width; 3], [1.0; 3]);
                (extents[axis], steps[axis]) = (extent, step);
                let stride: usize = extents[axis + 1..].iter().product();
                let mut labels = vec![0i16; extents.iter().product()];
                (0..extent).step_by(20).for_each(|at| labels[at * stride] = 1);
                let objects = Runs::find(&labels, extents, |label| label).and_then(|runs| runs.objects());
                let objects = objects.expect("there is memory");
                assert_eq!(objects.bounds.len(), extent.div_ceil(20));
                let colours = objects.colours(31.0 * step, Squeezed { extents, steps });
                assert_eq!(colours.expect("there is memory").1, 2, "{extents:?}, {steps:?}");
            }
        }
    }
}
