//! Exact Euclidean distance maps of label maps, masks and predictions.
//!
//! ```
//! use segfuse::distance::{Distances, Kind, Source};
//! use segfuse::{DType, Shape};
//!
//! let labels = [0u8, 0, 1, 1, 1, 0];
//! let maps = Distances::new(&Shape::new(1, 2, [6])?, Source::Labels(DType::U8)).kind(Kind::Signed).classes([1]);
//! # #[cfg(feature = "cpu")]
//! assert_eq!(maps.compute(&labels)?, [2.0, 1.0, 0.0, -1.0, 0.0, 1.0]);
//! # Ok::<(), segfuse::Error>(())
//! ```
//!
//! Distances are those between centres of voxels. d_out of a voxel is the distance to the nearest voxel of the class, 0 in
//! the class; d_in that to the nearest voxel not of the class, 0 outside of it. Voxels beyond the borders of the volume do
//! not exist: nothing is measured to them.

#[cfg_attr(not(feature = "cpu"), allow(dead_code, reason = "a build without the backend that calls them"))]
pub(crate) mod transform;

#[cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]
pub(crate) mod erosion;
pub(crate) mod objects;

use crate::dtype::DType;
use crate::error::Error;
use crate::problem::{Activation, Layout};
use crate::shape::Shape;
use crate::validate;

/// Most spatial dimensions of a transform.
pub const DIMENSIONS_MAX: usize = 3;
/// Longest extent of an axis but the last.
const EXTENT_MAX: usize = i32::MAX as usize;
/// Memory for maps that are not made in the caller's buffer, where the caller says nothing.
pub(crate) const BUDGET: u64 = 1 << 30;

/// What a map holds.
///
/// Where a class is empty or fills its sample, one of d_in and d_out has nothing to measure to. The maps of both sides
/// (two-sided, signed, difference) are then 0 everywhere; `Outside` is ∞ everywhere for an empty class and 0 for a full one,
/// `Inside` and `MultiLabel` the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// d_out.
    Outside,
    /// d_in.
    Inside,
    /// d_out + d_in: the distance to the nearest voxel of the other side (Karimi & Salcudean 2019).
    TwoSided,
    /// d_out outside, −(d_in − 1) inside: 0 on the voxels of the class at its border (Kervadec et al. 2019).
    Signed,
    /// d_out − d_in.
    Difference,
    /// One map for all chosen classes: of each voxel the d_in of its own class, which is the distance to the nearest voxel of
    /// another label; 0 where the voxel is of none of them. Of several classes a voxel must be of one at most: labels, or
    /// [`Hard::Argmax`]; the name is that of such maps in PyPI's `edt`, and means many labels, not labels that overlap.
    MultiLabel,
}

/// What the classes are read from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// Labels `[N, V]`: u8, i16, i32 or i64. With C = 1 the class is label 1. A label out of range belongs to no class.
    Labels(DType),
    /// One value per voxel and class, in the layout of the maps: u8, f32, f16 or bf16. A class is where its value is above 0.5.
    Dense(DType),
    /// A prediction in the layout of the maps: f32, f16 or bf16.
    Prediction(DType, Activation, Hard),
}

/// How a prediction becomes classes. A NaN is above nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hard {
    /// Each voxel is of the class with the largest value, the first of several. With one class: as `Above(0.5)`.
    Argmax,
    /// A class is where its probability is above this.
    Above(f64),
}

/// Distance maps of a shape: `[N, K, V]`, or `[N, V, K]` interleaved, for K of its classes; `[N, 1, V]` with
/// [`Kind::MultiLabel`].
///
/// Made with [`Distances::new`] and changed with the methods named after each setting. Defaults: two-sided, all classes,
/// spacing 1, not squared, f32, planar.
///
/// Squares of distances are exact below 2²⁴ where the spacing is whole; everywhere else they are within a few units in the
/// last place of f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Distances {
    pub(crate) shape: Shape,
    pub(crate) source: Source,
    pub(crate) kind: Kind,
    pub(crate) spacing: Option<Vec<f64>>,
    pub(crate) classes: Option<Vec<usize>>,
    pub(crate) ignore_label: Option<i64>,
    pub(crate) squared: bool,
    pub(crate) dtype: DType,
    pub(crate) layout: Layout,
    pub(crate) budget: u64,
}

impl Distances {
    /// Maps of a source of this shape.
    pub fn new(shape: &Shape, source: Source) -> Distances {
        Distances {
            shape: shape.clone(),
            source,
            kind: Kind::TwoSided,
            spacing: None,
            classes: None,
            ignore_label: None,
            squared: false,
            dtype: DType::F32,
            layout: Layout::Planar,
            budget: BUDGET,
        }
    }
    /// What the maps hold.
    pub fn kind(mut self, kind: Kind) -> Distances {
        self.kind = kind;
        self
    }
    /// The distance between neighbours along each axis, slowest first. The 1 of [`Kind::Signed`] stays 1.
    pub fn spacing(mut self, spacing: impl Into<Vec<f64>>) -> Distances {
        self.spacing = Some(spacing.into());
        self
    }
    /// The classes that maps are made of, in the order of the maps. [`Kind::MultiLabel`] makes one map of all of them, in which a
    /// class listed twice counts once.
    pub fn classes(mut self, classes: impl Into<Vec<usize>>) -> Distances {
        self.classes = Some(classes.into());
        self
    }
    /// Voxels with this label belong to no class.
    pub fn ignore_label(mut self, label: i64) -> Distances {
        self.ignore_label = Some(label);
        self
    }
    /// Whether each value x of a map is replaced by x·|x|.
    pub fn squared(mut self, squared: bool) -> Distances {
        self.squared = squared;
        self
    }
    /// The type of the maps: f32 or f16. In f16 what is beyond 65504 is ∞.
    pub fn dtype(mut self, dtype: DType) -> Distances {
        self.dtype = dtype;
        self
    }
    /// The layout of the maps, and of a source with a value per class.
    pub fn layout(mut self, layout: Layout) -> Distances {
        self.layout = layout;
        self
    }
    /// The most memory for maps that cannot be made in the caller's buffer: classes are taken in groups that fit, at least
    /// one at a time. The default is 1 GiB.
    pub fn memory_budget(mut self, bytes: u64) -> Distances {
        self.budget = bytes;
        self
    }

    /// The shape of the source.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// K, the number of maps of a sample: one for each class of [`Distances::classes`], or one in all.
    pub fn maps(&self) -> usize {
        if self.kind == Kind::MultiLabel { 1 } else { self.listed() }
    }
    /// Values of all maps: N·K·V.
    pub fn elements(&self) -> u64 {
        self.shape.all_voxels() * self.maps() as u64
    }
}

#[cfg_attr(not(feature = "cpu"), allow(dead_code, reason = "a build without the backend that calls them"))]
impl Distances {
    /// Elements and type of the source.
    pub(crate) fn source_elements(&self) -> (u64, DType) {
        match self.source {
            Source::Labels(dtype) => (self.shape.all_voxels(), dtype),
            Source::Dense(dtype) | Source::Prediction(dtype, ..) => (self.shape.elements(), dtype),
        }
    }
    /// How many classes are listed; one that is listed twice counts twice.
    fn listed(&self) -> usize {
        self.classes.as_ref().map_or(self.shape.classes(), Vec::len)
    }
    /// The classes that the maps are made of, each once, in ascending order.
    pub(crate) fn distinct(&self) -> Vec<usize> {
        let mut classes: Vec<usize> = (0..self.listed()).map(|map| self.class(map)).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
    /// The class of each map, where each has one.
    pub(crate) fn class(&self, map: usize) -> usize {
        self.classes.as_ref().map_or(map, |classes| classes[map])
    }
    /// The spacing along `axis`.
    pub(crate) fn step(&self, axis: usize) -> f64 {
        self.spacing.as_ref().map_or(1.0, |spacing| spacing[axis])
    }
    /// No square of a distance is larger.
    pub(crate) fn largest_square(&self) -> f64 {
        let longest = |(axis, &extent): (usize, &usize)| ((extent - 1) as f64 * self.step(axis)).powi(2);
        self.shape.spatial().iter().enumerate().map(longest).sum()
    }

    /// Whether the settings agree with each other; every call asks first.
    ///
    /// # Errors
    /// [`Error::Shape`] for more than three spatial dimensions, a class that is none, or spacings of another number;
    /// [`Error::Spacing`], [`Error::DTypeOf`], [`Error::Overflow`] or [`Error::Problem`] for what their names say.
    pub fn check(&self) -> Result<(), Error> {
        let spatial = self.shape.spatial();
        let within = |what, min, max: usize, got: usize| match (min..=max).contains(&got) {
            true => Ok(()),
            false => Err(Error::Shape { what, min: min as u64, max: max as u64, got: got as u64 }),
        };
        within("the number of spatial dimensions of a distance map", 1, DIMENSIONS_MAX, spatial.len())?;
        for &extent in &spatial[..spatial.len() - 1] {
            within("a spatial extent of a distance map, but the last", 1, EXTENT_MAX, extent)?;
        }
        if let Some(spacing) = &self.spacing {
            within("the number of spacings", spatial.len(), spatial.len(), spacing.len())?;
            // Squares of the spacing, and sums of them, are normal numbers of f32.
            let smallest = f64::from(f32::MIN_POSITIVE).sqrt();
            let bad = spacing.iter().position(|x| !(x.is_finite() && *x >= smallest));
            let bad = bad.or_else(|| (self.largest_square() > f64::from(f32::MAX)).then_some(0));
            if let Some(axis) = bad {
                return Err(Error::Spacing { axis, got: spacing[axis] });
            }
        }
        let classes = self.shape.classes();
        for &class in self.classes.iter().flatten() {
            within("a class of the distance maps", 0, classes - 1, class)?;
        }
        within("the number of classes of the distance maps", 1, crate::shape::CLASSES_MAX, self.listed())?;
        if self.shape.all_voxels().checked_mul(self.maps() as u64).is_none_or(|n| n > crate::shape::ELEMENTS_MAX) {
            return Err(Error::Overflow { what: "the distance maps" });
        }
        if !matches!(self.dtype, DType::F32 | DType::F16) {
            return Err(Error::DTypeOf { role: "a distance map", got: self.dtype, allowed: "f32 or f16" });
        }
        match self.source {
            Source::Labels(dtype) if dtype.is_float() => {
                Err(Error::DTypeOf { role: "a map of labels", got: dtype, allowed: "u8, i16, i32 or i64" })
            }
            Source::Dense(dtype) if !dtype.is_float() && dtype != DType::U8 => {
                Err(Error::DTypeOf { role: "a dense target", got: dtype, allowed: "u8, f32, f16 or bf16" })
            }
            Source::Prediction(dtype, ..) if !dtype.is_float() => {
                Err(Error::DTypeOf { role: "the prediction", got: dtype, allowed: "f32, f16 or bf16" })
            }
            Source::Prediction(_, Activation::Softmax, _) if classes < 2 => {
                Err(Error::Problem("softmax needs two classes or more; one class takes sigmoid".into()))
            }
            Source::Prediction(.., Hard::Above(t)) if !(0.0..=1.0).contains(&t) => {
                Err(Error::Problem(format!("the threshold of a probability must be from 0 to 1, got {t}")))
            }
            Source::Dense(_) | Source::Prediction(..) if self.ignore_label.is_some() => {
                Err(Error::Problem("an ignore label needs a map of labels".into()))
            }
            _ if self.kind != Kind::MultiLabel || transform::Rule::of(self).exclusive() => Ok(()),
            _ => match self.distinct().len() {
                1 => Ok(()),
                several => {
                    let problem =
                        format!("one map of {several} classes needs labels, or the class with the largest value");
                    Err(Error::Problem(problem))
                }
            },
        }
    }
    /// The settings, the source and the maps against each other.
    pub(crate) fn check_buffers(&self, source: (DType, usize), maps: (DType, usize)) -> Result<(), Error> {
        self.check()?;
        let (elements, dtype) = self.source_elements();
        validate::expect("the source of the distance maps", dtype, elements, source.0, source.1)?;
        validate::expect("the distance maps", self.dtype, self.elements(), maps.0, maps.1)
    }
}
