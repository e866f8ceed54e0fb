//! The sizes of a problem.

use crate::error::Error;

/// N samples, C classes and 1 to 5 spatial extents; V is the product of the extents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    samples: usize,
    classes: usize,
    spatial: Vec<usize>,
    voxels: u64,
}

/// Most spatial dimensions.
pub const SPATIAL_MAX: usize = 5;
/// Most elements N·C·V: what all passes of a plan read and write then fits 63 bits.
pub const ELEMENTS_MAX: u64 = i64::MAX as u64 / 1024;
/// Most classes.
pub const CLASSES_MAX: usize = 4096;

impl Shape {
    /// A shape of `samples`×`classes`×`spatial`.
    ///
    /// # Errors
    /// [`Error::Shape`] when an extent is 0, there are no or more than 5 spatial dimensions, or more than 4096 classes;
    /// [`Error::Overflow`] when there are more than [`ELEMENTS_MAX`] elements.
    pub fn new(samples: usize, classes: usize, spatial: impl AsRef<[usize]>) -> Result<Shape, Error> {
        let spatial = spatial.as_ref();
        let within = |what, got: usize, max: usize| {
            let inside = (1..=max).contains(&got);
            if inside { Ok(()) } else { Err(Error::Shape { what, min: 1, max: max as u64, got: got as u64 }) }
        };
        within("the number of spatial dimensions", spatial.len(), SPATIAL_MAX)?;
        within("the number of classes", classes, CLASSES_MAX)?;
        within("the number of samples", samples, u32::MAX as usize)?;
        for &extent in spatial {
            within("a spatial extent", extent, isize::MAX as usize)?;
        }
        let times = |product: Option<u64>, &x: &usize| product?.checked_mul(x as u64);
        let voxels = spatial.iter().fold(Some(1), times);
        let elements = [samples, classes].iter().fold(voxels, times);
        match (voxels, elements) {
            (Some(voxels), Some(elements)) if elements <= ELEMENTS_MAX => {
                Ok(Shape { samples, classes, spatial: spatial.to_vec(), voxels })
            }
            _ => Err(Error::Overflow { what: "the prediction" }),
        }
    }
    /// N.
    pub fn samples(&self) -> usize {
        self.samples
    }
    /// C.
    pub fn classes(&self) -> usize {
        self.classes
    }
    /// The spatial extents, slowest first.
    pub fn spatial(&self) -> &[usize] {
        &self.spatial
    }
    /// V, the voxels of one sample.
    pub fn voxels(&self) -> u64 {
        self.voxels
    }
    /// N·V.
    pub fn all_voxels(&self) -> u64 {
        self.voxels * self.samples as u64
    }
    /// N·C·V.
    pub fn elements(&self) -> u64 {
        self.all_voxels() * self.classes as u64
    }
}
