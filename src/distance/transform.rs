//! What the transforms of all backends share: the axes, what a class is read by, what one transform serves, what the maps of
//! a plan are made of.

use super::{Distances, Hard, Kind, Source};
use crate::dtype::DType;
use crate::problem::{Activation, Layout};
use crate::shape::CLASSES_MAX;
use crate::spec::VoxelInput;
use std::ops::RangeInclusive;

/// The voxels of a sample without axes of one voxel, as slices of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Squeezed {
    pub(crate) extents: [usize; 3],
    pub(crate) steps: [f64; 3],
}

impl Squeezed {
    pub(crate) fn new(distances: &Distances) -> Squeezed {
        let spatial = distances.shape.spatial().iter().enumerate();
        let axes: Vec<(usize, f64)> =
            spatial.filter(|(_, extent)| **extent > 1).map(|(axis, &extent)| (extent, distances.step(axis))).collect();
        let (extents, steps) = match *axes.as_slice() {
            [] => ([1; 3], [1.0; 3]),
            [(w, x)] => ([1, 1, w], [1.0, 1.0, x]),
            // Rows of an image are the slices, and nothing is across them but the columns.
            [(h, y), (w, x)] => ([h, 1, w], [y, 1.0, x]),
            [(d, z), (h, y), (w, x), ..] => ([d, h, w], [z, y, x]),
        };
        Squeezed { extents, steps }
    }
}

/// How a source says which voxels are of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// The voxel's label is the class.
    Label,
    /// The class has the largest value of the voxel.
    Argmax,
    /// The class's own value is above this.
    Above(f32),
    /// The class's share of the exponentials is above this.
    SoftmaxAbove(f32),
}

impl Rule {
    pub(crate) fn of(distances: &Distances) -> Rule {
        let one = distances.shape.classes() == 1;
        match distances.source {
            Source::Labels(_) => Rule::Label,
            Source::Dense(_) => Rule::Above(0.5),
            Source::Prediction(_, activation, hard) => match (activation, hard) {
                (_, Hard::Argmax) if !one => Rule::Argmax,
                (Activation::None, Hard::Argmax) => Rule::Above(0.5),
                (_, Hard::Argmax) => Rule::Above(0.0),
                (Activation::None, Hard::Above(t)) => Rule::Above(rounded_down(t)),
                (Activation::Sigmoid, Hard::Above(t)) => Rule::Above(rounded_down((t / (1.0 - t)).ln())),
                (Activation::Softmax, Hard::Above(t)) => Rule::SoftmaxAbove(rounded_down(t)),
            },
        }
    }
    /// Whether a voxel is of one class at most.
    pub(crate) fn exclusive(self) -> bool {
        matches!(self, Rule::Label | Rule::Argmax)
    }
}

/// The largest f32 not above x: for numbers of f32, to be above one is to be above the other.
fn rounded_down(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) > x { near.next_down() } else { near }
}

/// What one transform serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One class.
    Class,
    /// The inside distances of all classes, each in a map of its own or all in one: those to the nearest voxel of another label.
    Labels,
}

impl Form {
    pub(crate) fn of(distances: &Distances) -> Form {
        let inside = matches!(distances.kind, Kind::Inside | Kind::MultiLabel);
        let shared = inside && Rule::of(distances).exclusive() && distances.distinct().len() > 1;
        if shared { Form::Labels } else { Form::Class }
    }
    /// Transforms that make so many maps of a sample.
    pub(crate) fn transforms(self, maps: usize) -> usize {
        match self {
            Form::Class => maps,
            Form::Labels => 1,
        }
    }
}

/// Labels of a word of bits.
const WORD: usize = u32::BITS as usize;

/// The labels that one map of several classes is of.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// Where the chosen ones lie, and whether others lie between them.
    pub(crate) range: RangeInclusive<i32>,
    pub(crate) gaps: bool,
    /// A bit for each label.
    words: [u32; CLASSES_MAX / WORD],
}

impl Chosen {
    /// None where each class has a map of its own.
    pub(crate) fn of(distances: &Distances) -> Option<Chosen> {
        if distances.kind != Kind::MultiLabel || Form::of(distances) != Form::Labels {
            return None;
        }
        let classes = distances.distinct();
        let &[least, .., most] = classes.as_slice() else { return None };
        let mut words = [0u32; CLASSES_MAX / WORD];
        classes.iter().for_each(|class| words[class / WORD] |= 1 << (class % WORD));
        Some(Chosen { range: least as i32..=most as i32, gaps: classes.len() <= most - least, words })
    }
    /// The bits of the labels of so many classes.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    pub(crate) fn words(&self, classes: usize) -> &[u32] {
        &self.words[..classes.div_ceil(WORD)]
    }
    /// Whether voxels with this label have distances.
    pub(crate) fn has(&self, label: i32) -> bool {
        self.range.contains(&label) && self.words[label as usize / WORD] >> (label as usize % WORD) & 1 != 0
    }
}

/// Whether the maps themselves are planes of f32.
pub(crate) fn in_place(distances: &Distances) -> bool {
    let planar = distances.layout == Layout::Planar || distances.maps() == 1;
    planar && distances.dtype == DType::F32
}

/// What the classes of a plan's map are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Target,
    Prediction,
}

/// Which masks a map of a plan is made of.
pub(crate) fn sides(map: VoxelInput) -> &'static [Side] {
    match map {
        VoxelInput::PredictionSquared => &[Side::Prediction],
        VoxelInput::ContourDistance => &[Side::Target, Side::Prediction],
        VoxelInput::ErodedError | VoxelInput::ErodedErrorSlope => &[],
        _ => &[Side::Target],
    }
}

/// Whether a map of a plan is a function of the two-sided transform of the target's classes.
pub(crate) fn is_of_squares(map: VoxelInput) -> bool {
    matches!(map, VoxelInput::SignedDistance | VoxelInput::TargetSquared | VoxelInput::Closeness)
}

/// Steps of the axis in a unit of distance; no fewer, and so many more that a root of rounded squares times this is no fewer steps
/// than the distance.
#[cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]
pub(crate) fn per_step(step: f64) -> f32 {
    const ROUNDINGS: f64 = 1e-6;
    ((1.0 + ROUNDINGS) / step) as f32
}

/// How many places winners may lie in the wrong order. Winners i and j of two places change order by rounding alone where their
/// difference, 2·step²·|i − j| or more, is below what the roundings of their sums are off together: so many halves of a unit of
/// the `largest` square.
#[cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]
pub(crate) fn slack(extent: usize, step: f64, largest: f64, roundings: f64) -> usize {
    /// Whole numbers up to here are exact in f32.
    const EXACT: f64 = (1 << f32::MANTISSA_DIGITS) as f64;
    if (step * step).fract() == 0.0 && largest <= EXACT {
        return 0;
    }
    (roundings / EXACT * largest / (2.0 * step * step)).ceil().min(extent as f64) as usize
}
