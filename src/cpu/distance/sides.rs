//! Which voxels are of a class: labels, dense targets and predictions as bits.

use super::super::math::exp_lanes;
use super::super::planes::{LANES, Planes, zeros};
use super::super::view::Source;
use crate::distance::Distances;
use crate::distance::transform::Rule;
use crate::error::Error;
use crate::problem::Layout;
use fearless_simd::{f32x16, i32x16, prelude::*};
use std::ops::Range;

/// Voxels of a word of bits.
pub(super) const WORD: usize = u64::BITS as usize;

/// The source of a call.
pub(super) struct Sides<'a> {
    distances: &'a Distances,
    source: Source<'a>,
    rule: Rule,
}

/// Memory for voxels that follow each other.
#[derive(Default)]
pub(super) struct Row {
    labels: Vec<i32>,
    /// One plane per class.
    values: Planes,
    mixed: Vec<f32>,
}

impl<'a> Sides<'a> {
    pub(super) fn new(distances: &'a Distances, source: Source<'a>) -> Sides<'a> {
        Sides { distances, source, rule: Rule::of(distances) }
    }
    /// What [`Sides::labels`] gives for the voxels of a map's class.
    pub(super) fn label(&self, map: usize) -> i32 {
        if self.distances.shape.classes() == 1 { 1 } else { self.distances.class(map) as i32 }
    }
    /// Room for so many voxels, that nothing is allocated when they are read.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`] when there is no memory for them.
    pub(super) fn row(&self, voxels: usize) -> Result<Row, Error> {
        let classes = self.distances.shape.classes();
        let labels = zeros(voxels.next_multiple_of(LANES), super::passes::SCRATCH)?;
        if self.rule == Rule::Label {
            return Ok(Row { labels, ..Row::default() });
        }
        let mixed = if self.distances.layout == Layout::Interleaved { voxels * classes } else { 0 };
        let mixed = zeros(mixed, super::passes::SCRATCH)?;
        Ok(Row { labels, values: Planes::try_new(classes + 1, voxels, super::passes::SCRATCH)?, mixed })
    }
    /// Bytes of a [`Row`] of this many voxels.
    pub(super) fn row_bytes(&self, voxels: usize) -> usize {
        let classes = self.distances.shape.classes();
        let mixed = if self.distances.layout == Layout::Interleaved { classes } else { 0 };
        match self.rule {
            Rule::Label => 4 * (voxels + LANES),
            Rule::Argmax | Rule::Above(_) | Rule::SoftmaxAbove(_) => 4 * (voxels + 2 * LANES) * (2 + mixed + classes),
        }
    }

    /// The class of each of `len` voxels from `start`, below 0 where it has none; whole vectors, the rest as the last voxel.
    #[inline(always)]
    pub(super) fn labels<'r, S: Simd>(
        &self,
        simd: S,
        sample: usize,
        start: usize,
        len: usize,
        row: &'r mut Row,
    ) -> &'r [i32] {
        let padded = len.next_multiple_of(LANES);
        row.labels.resize(row.labels.len().max(padded), 0);
        let classes = self.distances.shape.classes();
        if self.rule == Rule::Label {
            let voxels = self.distances.shape.voxels() as usize;
            let limit = classes.max(2) as i32;
            self.source.read_labels(
                sample * voxels + start,
                limit,
                self.distances.ignore_label,
                &mut row.labels[..len],
            );
        } else {
            self.values(sample, start, len, 0..classes, row);
            let labels = row.labels[..padded].as_chunks_mut::<LANES>().0;
            for (column, labels) in labels.iter_mut().enumerate() {
                // A NaN is above nothing, and a voxel of NaN alone is of no class.
                let none = f32x16::splat(simd, f32::NEG_INFINITY);
                let mut best = row.values.load(simd, 0, column);
                let there = best.simd_eq(best);
                let mut winner = there.select(i32x16::splat(simd, 0), i32x16::splat(simd, -1));
                best = there.select(best, none);
                for class in 1..classes {
                    let value = row.values.load(simd, class, column);
                    let wins = value.simd_gt(best);
                    best = wins.select(value, best);
                    winner = wins.select(i32x16::splat(simd, class as i32), winner);
                }
                winner.store_array(labels);
            }
        }
        let last = row.labels[len - 1];
        row.labels[len..padded].fill(last);
        &row.labels[..padded]
    }

    /// One bit for each of `len` voxels from `start` and each of some maps: whether it is of the map's class. Those of a map
    /// begin `pitch` words after those of the one before it; bits beyond `len` are 0 up to a whole word.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "a range of voxels, a range of maps, and where they go")]
    pub(super) fn bits<S: Simd>(
        &self,
        simd: S,
        sample: usize,
        start: usize,
        len: usize,
        maps: Range<usize>,
        row: &mut Row,
        bits: &mut [u64],
        pitch: usize,
    ) {
        let (columns, words) = (len.div_ceil(LANES), len.div_ceil(WORD));
        let first = maps.start;
        match self.rule {
            Rule::Label | Rule::Argmax => {
                self.labels(simd, sample, start, len, row);
                let labels = row.labels.as_chunks::<LANES>().0;
                for map in maps {
                    let label = self.label(map);
                    let of = |column: usize| i32x16::load_array_ref(simd, &labels[column]).simd_eq(label).to_bitmask();
                    pack(&mut bits[(map - first) * pitch..][..words], columns, len, of);
                }
            }
            Rule::Above(t) => {
                for map in maps {
                    let class = self.distances.class(map);
                    self.values(sample, start, len, class..class + 1, row);
                    let of = |column: usize| row.values.load(simd, 0, column).simd_gt(t).to_bitmask();
                    pack(&mut bits[(map - first) * pitch..][..words], columns, len, of);
                }
            }
            Rule::SoftmaxAbove(t) => {
                let classes = self.distances.shape.classes();
                self.values(sample, start, len, 0..classes, row);
                for column in 0..columns {
                    let mut top = row.values.load(simd, 0, column);
                    for class in 1..classes {
                        top = top.max(row.values.load(simd, class, column));
                    }
                    let mut sum = f32x16::splat(simd, 0.0);
                    for class in 0..classes {
                        let share = exp_lanes(simd, row.values.load(simd, class, column) - top);
                        row.values.store(class, column, share);
                        sum += share;
                    }
                    row.values.store(classes, column, sum);
                }
                for map in maps {
                    let class = self.distances.class(map);
                    let share = |column| row.values.load(simd, class, column) / row.values.load(simd, classes, column);
                    let of = |column: usize| share(column).simd_gt(t).to_bitmask();
                    pack(&mut bits[(map - first) * pitch..][..words], columns, len, of);
                }
            }
        }
    }

    /// The values of some classes, one plane each, with room for one more.
    fn values(&self, sample: usize, start: usize, len: usize, of: Range<usize>, row: &mut Row) {
        let (classes, voxels) = (self.distances.shape.classes(), self.distances.shape.voxels() as usize);
        if row.values.count() < of.len() + 1 || row.values.len() < row.values.count() * len.next_multiple_of(LANES) {
            row.values = Planes::new(of.len() + 1, len);
        }
        match self.distances.layout {
            Layout::Planar => {
                for (plane, class) in of.enumerate() {
                    let at = (sample * classes + class) * voxels + start;
                    self.source.read_f32(at, row.values.plane_mut(plane, len));
                }
            }
            Layout::Interleaved => {
                row.mixed.resize(row.mixed.len().max(len * classes), 0.0);
                let mixed = &mut row.mixed[..len * classes];
                self.source.read_f32((sample * voxels + start) * classes, mixed);
                for (plane, class) in of.enumerate() {
                    let values = mixed[class..].iter().step_by(classes);
                    row.values.plane_mut(plane, len).iter_mut().zip(values).for_each(|(x, value)| *x = *value);
                }
            }
        }
    }
}

/// One bit for each of `len` voxels of a row: whether its label is another than that of the voxel before; the first has none.
#[inline(always)]
pub(super) fn changes_along<S: Simd>(simd: S, labels: &[i32], len: usize, to: &mut [u64]) {
    let labels = labels.as_chunks::<LANES>().0;
    pack(to, labels.len(), len, |column: usize| {
        let label = i32x16::load_array_ref(simd, &labels[column]);
        let before = if column == 0 { labels[0][0] } else { labels[column - 1][LANES - 1] };
        label.simd_ne(label.shift_elements_right::<1>(before)).to_bitmask()
    });
}

/// One bit for each of `len` voxels of a row: whether its label is another than that in `others`.
#[inline(always)]
pub(super) fn changes_from<S: Simd>(simd: S, labels: &[i32], others: &[i32], len: usize, to: &mut [u64]) {
    let (labels, others) = (labels.as_chunks::<LANES>().0, others.as_chunks::<LANES>().0);
    pack(to, labels.len(), len, |column: usize| {
        let lanes = |of: &[[i32; LANES]]| i32x16::load_array_ref(simd, &of[column]);
        lanes(labels).simd_ne(lanes(others)).to_bitmask()
    });
}

/// Bits of vectors as words; those beyond `len` are 0.
#[inline(always)]
pub(super) fn pack(words: &mut [u64], columns: usize, len: usize, of: impl Fn(usize) -> u64) {
    const VECTORS: usize = WORD / LANES;
    for (index, word) in words.iter_mut().enumerate() {
        let vectors = index * VECTORS..((index + 1) * VECTORS).min(columns);
        *word = vectors.clone().fold(0, |word, column| word | of(column) << ((column - vectors.start) * LANES));
    }
    if let Some(rest) = words.get_mut(len / WORD) {
        *rest &= (1 << (len % WORD)) - 1;
    }
}
