//! The sums of a plan, between the stages: what an engine reduces over its devices or tiles.

use crate::error::Error;
use crate::evaluation::HardCounts;
use crate::plan::Head;

/// The moments of one head per sample and class, and the counts of the pass that made them.
///
/// Tables of tiles, or of the parts of a volume on several devices, are added with [`MomentTable::merge`], or by any
/// all-reduce over [`MomentTable::values_mut`] and the counts; finishing the total gives the loss of the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct MomentTable {
    pub(crate) samples: usize,
    pub(crate) classes: usize,
    pub(crate) count: usize,
    pub(crate) values: Vec<f64>,
    pub(crate) fingerprint: u64,
    /// Voxels that counted.
    pub valid_voxels: u64,
    /// Labels out of range that were not masked out.
    pub invalid_labels: u64,
    /// Per sample and class, where the problem asks for them; empty otherwise.
    pub hard_counts: Vec<HardCounts>,
}

impl MomentTable {
    /// Zeros for this head.
    pub fn zeros(head: &Head) -> MomentTable {
        let shape = head.problem().shape();
        let count = head.moments().len();
        let hard = if head.problem().hard_counts { head.groups() } else { 0 };
        MomentTable {
            samples: shape.samples(),
            classes: shape.classes(),
            count,
            values: vec![0.0; head.groups() * count],
            fingerprint: head.fingerprint,
            valid_voxels: 0,
            invalid_labels: 0,
            hard_counts: vec![HardCounts::default(); hard],
        }
    }
    /// `[N, C, moments]`, the moments in the order of [`Head::moments`].
    pub fn values(&self) -> &[f64] {
        &self.values
    }
    /// As [`MomentTable::values`], to be reduced over devices in place.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
    /// Adds the moments and counts of another tile of the same samples and classes.
    ///
    /// # Errors
    /// [`Error::OtherPlan`] when the other table has other moments, samples or classes.
    pub fn merge(&mut self, other: &MomentTable) -> Result<(), Error> {
        if (self.fingerprint, self.hard_counts.len()) != (other.fingerprint, other.hard_counts.len()) {
            return Err(Error::OtherPlan { what: "moments", need: self.values.len(), got: other.values.len() });
        }
        self.values.iter_mut().zip(&other.values).for_each(|(a, b)| *a += b);
        self.valid_voxels += other.valid_voxels;
        self.invalid_labels += other.invalid_labels;
        self.hard_counts.iter_mut().zip(&other.hard_counts).for_each(|(a, b)| *a += *b);
        Ok(())
    }
    /// The moments of one group.
    pub(crate) fn group(&self, sample: usize, class: usize) -> &[f64] {
        let start = (sample * self.classes + class) * self.count;
        &self.values[start..start + self.count]
    }
}

/// ∂loss/∂moment of one head, per sample and class: all that the gradient pass needs of the sums.
#[derive(Clone, Debug, PartialEq)]
pub struct Coefficients {
    pub(crate) samples: usize,
    pub(crate) classes: usize,
    /// Moments that depend on the prediction.
    pub(crate) count: usize,
    pub(crate) values: Vec<f64>,
    pub(crate) fingerprint: u64,
}

impl Coefficients {
    /// Coefficients of this head from [`Coefficients::values`], as they come from another device or process.
    ///
    /// # Errors
    /// [`Error::OtherPlan`] when there are more or fewer than N·C·(moments that depend on the prediction).
    pub fn from_values(head: &Head, values: Vec<f64>) -> Result<Coefficients, Error> {
        let shape = head.problem().shape();
        let need = head.groups() * head.slope_count();
        if values.len() != need {
            return Err(Error::OtherPlan { what: "coefficients", need, got: values.len() });
        }
        let (samples, classes, count) = (shape.samples(), shape.classes(), head.slope_count());
        Ok(Coefficients { samples, classes, count, values, fingerprint: head.fingerprint })
    }
    /// `[N, C, moments]`, the moments that depend on the prediction in the order of [`Head::moments`].
    pub fn values(&self) -> &[f64] {
        &self.values
    }
    pub(crate) fn group(&self, sample: usize, class: usize) -> &[f64] {
        let start = (sample * self.classes + class) * self.count;
        &self.values[start..start + self.count]
    }
}
