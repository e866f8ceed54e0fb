//! What a loss is computed on: shapes, types, layout, activation, masks.

use crate::distance::{Distances, Source};
use crate::dtype::DType;
use crate::error::Error;
use crate::loss::Absent;
use crate::shape::Shape;

/// How the prediction (and a dense target, and a map per class) lies in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `[N, C, V]`, each class a plane.
    #[default]
    Planar,
    /// `[N, V, C]`, the classes of a voxel side by side.
    Interleaved,
}

/// What turns the prediction into probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The prediction is a probability already.
    None,
    /// Each channel on its own.
    Sigmoid,
    /// Over the classes of a voxel.
    Softmax,
}

/// What the target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Class labels `[N, V]`: u8, i16, i32 or i64. With C = 1 the labels are 0 and 1.
    Labels(DType),
    /// One value per voxel and class, hard or soft, in the prediction's layout: u8, f32, f16 or bf16.
    Dense(DType),
}

/// How many values a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// `[N, V]`, shared by the classes.
    Shared,
    /// One per voxel and class, in the prediction's layout.
    PerClass,
}

/// What becomes of the values of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// The weighted mean: one number.
    #[default]
    Mean,
    /// The weighted sum: one number.
    Sum,
    /// One number per sample, each the sample's mean.
    None,
}

/// The problem of a plan. Made with [`Problem::new`] and changed with the methods named after each setting.
///
/// Defaults: f32 prediction in planar layout, softmax when C > 1 and sigmoid when C = 1, u8 labels, gradient of the
/// prediction's type, nothing masked or weighted, all classes counted, mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub(crate) shape: Shape,
    pub(crate) prediction: DType,
    pub(crate) layout: Layout,
    pub(crate) activation: Activation,
    pub(crate) target: Target,
    pub(crate) gradient: Option<DType>,
    pub(crate) mask: bool,
    pub(crate) weights: bool,
    pub(crate) map: Option<Map>,
    pub(crate) spacing: Option<Vec<f64>>,
    pub(crate) ignore_label: Option<i64>,
    pub(crate) class_weights: Option<Vec<f64>>,
    pub(crate) batch: bool,
    pub(crate) background: bool,
    pub(crate) absent: Absent,
    pub(crate) reduction: Reduction,
    pub(crate) hard_counts: bool,
}

impl Problem {
    /// A problem of this shape, with the defaults above.
    pub fn new(shape: Shape) -> Problem {
        let activation = if shape.classes() == 1 { Activation::Sigmoid } else { Activation::Softmax };
        Problem {
            shape,
            prediction: DType::F32,
            layout: Layout::Planar,
            activation,
            target: Target::Labels(DType::U8),
            gradient: None,
            mask: false,
            weights: false,
            map: None,
            spacing: None,
            ignore_label: None,
            class_weights: None,
            batch: false,
            background: true,
            absent: Absent::Count,
            reduction: Reduction::Mean,
            hard_counts: false,
        }
    }
    /// Type (f32, f16 or bf16) and activation of the prediction.
    pub fn prediction(mut self, dtype: DType, activation: Activation) -> Problem {
        (self.prediction, self.activation) = (dtype, activation);
        self
    }
    /// Layout of the prediction, a dense target and a map per class.
    pub fn layout(mut self, layout: Layout) -> Problem {
        self.layout = layout;
        self
    }
    /// The target is a map of labels of this type: u8, i16, i32 or i64.
    pub fn labels(mut self, dtype: DType) -> Problem {
        self.target = Target::Labels(dtype);
        self
    }
    /// The target has one value per voxel and class, of this type: u8, f32, f16 or bf16.
    pub fn dense(mut self, dtype: DType) -> Problem {
        self.target = Target::Dense(dtype);
        self
    }
    /// Type of the gradient: f32, or the prediction's type (the default).
    pub fn gradient(mut self, dtype: DType) -> Problem {
        self.gradient = Some(dtype);
        self
    }
    /// There is a keep-mask, u8 `[N, V]`: voxels with 0 do not count.
    pub fn mask(mut self) -> Problem {
        self.mask = true;
        self
    }
    /// There are voxel weights, f32 `[N, V]`, at least 0.
    pub fn weights(mut self) -> Problem {
        self.weights = true;
        self
    }
    /// There is a map φ (distance or weight), f32. The losses over a distance take it for the map that they would make.
    pub fn map(mut self, map: Map) -> Problem {
        self.map = Some(map);
        self
    }
    /// The distance from one voxel to the next along each spatial axis, slowest first, for the maps that a plan makes. 1 by default.
    pub fn spacing(mut self, spacing: impl Into<Vec<f64>>) -> Problem {
        self.spacing = Some(spacing.into());
        self
    }
    /// Voxels with this label do not count. It may lie outside of 0 to C − 1.
    pub fn ignore_label(mut self, label: i64) -> Problem {
        self.ignore_label = Some(label);
        self
    }
    /// One weight per class, at least 0.
    pub fn class_weights(mut self, weights: impl Into<Vec<f64>>) -> Problem {
        self.class_weights = Some(weights.into());
        self
    }
    /// Whether losses sum over the samples before any ratio; a loss may say otherwise.
    pub fn batch(mut self, batch: bool) -> Problem {
        self.batch = batch;
        self
    }
    /// Whether class 0 counts; a loss may say otherwise. No effect when C = 1.
    pub fn background(mut self, background: bool) -> Problem {
        self.background = background;
        self
    }
    /// What a class without a target voxel does; a loss may say otherwise.
    pub fn absent(mut self, absent: Absent) -> Problem {
        self.absent = absent;
        self
    }
    /// Mean, sum, or one value per sample.
    pub fn reduction(mut self, reduction: Reduction) -> Problem {
        self.reduction = reduction;
        self
    }
    /// Also count true positives, false positives and false negatives of the hard prediction, per sample and class.
    ///
    /// The hard prediction is the largest p (the lowest class on a tie) where classes exclude each other: softmax, or
    /// probabilities of several classes with labels. Otherwise it is p > 0.5 in each channel, with p in single precision (a
    /// logit below 1e-7 gives 0.5, and logits as near are a tie). Voxel weights do not count.
    pub fn hard_counts(mut self) -> Problem {
        self.hard_counts = true;
        self
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// The type of the gradient.
    pub fn gradient_dtype(&self) -> DType {
        self.gradient.unwrap_or(self.prediction)
    }
    /// The type of the prediction.
    pub fn prediction_dtype(&self) -> DType {
        self.prediction
    }
    /// What turns the prediction into probabilities.
    pub fn activation(&self) -> Activation {
        self.activation
    }
    /// What the target is.
    pub fn target(&self) -> Target {
        self.target
    }
    /// Elements of the target: N·V labels or N·C·V values.
    pub fn target_elements(&self) -> u64 {
        match self.target {
            Target::Labels(_) => self.shape.all_voxels(),
            Target::Dense(_) => self.shape.elements(),
        }
    }
    /// Whether there is a keep-mask.
    pub fn has_mask(&self) -> bool {
        self.mask
    }
    /// Whether there are voxel weights.
    pub fn has_weights(&self) -> bool {
        self.weights
    }
    /// Elements of the map, if there is one.
    pub fn map_elements(&self) -> Option<u64> {
        self.map.map(|map| match map {
            Map::Shared => self.shape.all_voxels(),
            Map::PerClass => self.shape.elements(),
        })
    }
    /// The distance from one voxel to the next along each spatial axis.
    pub fn voxel_spacing(&self) -> Vec<f64> {
        self.spacing.clone().unwrap_or_else(|| vec![1.0; self.shape.spatial().len()])
    }
    /// Whether the hard prediction is the largest class rather than a threshold per channel.
    pub fn hard_is_argmax(&self) -> bool {
        let labels = matches!(self.target, Target::Labels(_));
        match self.activation {
            Activation::Softmax => true,
            Activation::Sigmoid => false,
            Activation::None => labels && self.shape.classes() > 1,
        }
    }

    /// Whether the settings agree with each other.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let classes = self.shape.classes();
        if !self.prediction.is_float() {
            return Err(Error::DTypeOf { role: "the prediction", got: self.prediction, allowed: "f32, f16 or bf16" });
        }
        if self.gradient_dtype() != self.prediction && self.gradient_dtype() != DType::F32 {
            let allowed = "f32 or the prediction's type";
            return Err(Error::DTypeOf { role: "the gradient", got: self.gradient_dtype(), allowed });
        }
        match self.target {
            Target::Labels(dtype) if dtype.is_float() => {
                return Err(Error::DTypeOf { role: "a map of labels", got: dtype, allowed: "u8, i16, i32 or i64" });
            }
            Target::Dense(dtype) if !dtype.is_float() && dtype != DType::U8 => {
                return Err(Error::DTypeOf { role: "a dense target", got: dtype, allowed: "u8, f32, f16 or bf16" });
            }
            Target::Dense(_) if self.ignore_label.is_some() => {
                return Err(Error::Problem(
                    "an ignore label needs a map of labels; a dense target takes a mask".into(),
                ));
            }
            _ => {}
        }
        if self.activation == Activation::Softmax && classes < 2 {
            return Err(Error::Problem("softmax over 1 class is 1 everywhere; use sigmoid".into()));
        }
        if let Some(weights) = &self.class_weights {
            check_class_weights(weights, classes)?;
        }
        if let Some(spacing) = &self.spacing {
            Distances::new(&self.shape, Source::Labels(DType::U8)).spacing(spacing.clone()).check()?;
        }
        if self.batch && self.reduction == Reduction::None {
            return Err(Error::Problem(
                "reduction none gives a value per sample, which batch=true does not have".into(),
            ));
        }
        Ok(())
    }
}

pub(crate) fn check_class_weights(weights: &[f64], classes: usize) -> Result<(), Error> {
    if weights.len() != classes {
        return Err(Error::ClassWeights { need: classes, got: weights.len() });
    }
    match weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
        Some(index) => Err(Error::ClassWeight { index, value: weights[index] }),
        None => Ok(()),
    }
}
