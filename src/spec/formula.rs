//! What a formula sees: the voxel of a pixel term, the moments of a group.

use super::Real;

/// The most pixel terms one formula may define.
pub const PIXEL_TERMS_MAX: usize = 4;
/// The most terms `inner` may return.
pub const TERMS_MAX: usize = 4;

/// A loss, written once. Implement this to define a loss of your own; no derivative is ever typed.
///
/// ```text
/// pixel : voxel   → up to 4 values, summed over the kept voxels of each group (Σm·value)
/// inner : moments → up to 4 terms, per group
/// outer : terms   → the value, in pool scope
/// ```
/// The functions must be pure: they are run once, on recording numbers, when a plan is made. `if` on a parameter or on the
/// [`Context`] is fine; a choice by value is made with [`Real::select`].
pub trait Formula: Send + Sync + 'static {
    /// How groups make the loss.
    fn scope(&self) -> Scope;
    /// Values per voxel and class, whose sums `inner` reads with [`Moments::pixel`]. None by default.
    fn pixel<R: Real>(&self, voxel: &Voxel<R>) -> Vec<R> {
        let _ = voxel;
        Vec::new()
    }
    /// The terms of one group: one in [`Scope::Group`], numerator and denominator in [`Scope::Ratio`].
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R>;
    /// The value of a pool from its summed terms; only [`Scope::Pool`] asks.
    fn outer<R: Real>(&self, terms: &[R]) -> R {
        terms[0]
    }
    /// Dissimilarities `M[k, c]` of the classes, row-major C×C, for [`Moments::cost`]. None by default.
    fn cost_matrix(&self, classes: usize) -> Option<Vec<f64>> {
        let _ = classes;
        None
    }
    /// What the maps of repeated erosion are made by, for a formula that reads them. None by default.
    fn erosions(&self) -> Option<Erosions> {
        None
    }
    /// Up to which length the pixel terms tell values of [`VoxelInput::ObjectDistances`] apart: what is longer, they are given as this
    /// length, and nothing farther away is searched. At least 0. ∞ by default: then on GPUs every voxel without two objects near it searches the
    /// whole of its lines, at a cost that is quadratic in their lengths, and on the CPU all objects are told apart. A formula that reads the map should say how far it looks.
    fn reach(&self) -> f64 {
        f64::INFINITY
    }
}

/// How the error b_0 = (p − g)² is eroded, again and again.
///
/// b_k is made of b_{k−1}: d is its mean over a voxel and the 2·dims voxels that share a face with it, those beyond the borders
/// being 0; e = max(d − ½, 0), with slope 1 where d is exactly ½; b_k = (e − min e)/(max e − min e) over the image, or e where
/// that has one value alone. In the slope, voxels that are equally largest or least share it equally.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Erosions {
    /// α: erosion k, of 1 to `count`, has the weight k^α.
    pub alpha: f64,
    /// How many there are.
    pub count: usize,
}

impl Erosions {
    /// The largest α.
    pub const ALPHA_MAX: f64 = 16.0;
    /// The most erosions.
    pub const COUNT_MAX: usize = 100;

    /// The weight of an erosion, of 1 to `count`.
    pub fn weight(&self, erosion: usize) -> f64 {
        (erosion as f64).powf(self.alpha)
    }
}

/// How the values of groups make a loss. A group is one class of one pool; a pool is one sample, or the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One value per group, then the weighted mean over groups.
    Group,
    /// Terms are summed over the classes of a pool, `outer` makes the value, then the mean over pools.
    Pool,
    /// Σ numerator / Σ denominator over all groups: the mean over voxels.
    Ratio,
}

/// What is known when a formula is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// C, the number of classes.
    pub classes: usize,
    /// Whether the classes exclude each other (softmax), so that pixel terms look at the target's class alone.
    pub categorical: bool,
    /// Whether the problem has a map of the caller's, which a loss over a distance then takes for its own.
    pub given_map: bool,
}

/// A sum over the kept voxels of one (sample, class), each carrying its voxel weight m.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// N = Σm
    N,
    /// G = Σm·g
    G,
    /// GG = Σm·g²
    GG,
    /// P = Σm·p
    P,
    /// I = Σm·p·g
    PG,
    /// PP = Σm·p²
    PP,
    /// D = Σm·g·Σ_c M\[k, c\]·p_c, the cost of the class's voxels
    Cost,
    /// Σm·ℓ of a pixel term, by its number in the plan
    Pixel(u8),
}

/// The input slots of an `inner` program.
#[derive(Clone, Copy, Debug)]
pub struct Slots;

impl Slots {
    /// Slots of the moments that every plan may hold, in the order of [`Moment`].
    pub const FIXED: [Moment; 7] = [Moment::N, Moment::G, Moment::GG, Moment::P, Moment::PG, Moment::PP, Moment::Cost];
    /// First of the slots of the formula's own pixel sums.
    pub const PIXEL: usize = Self::FIXED.len();
    /// The class index, 0 to C − 1.
    pub const CLASS: usize = Self::PIXEL + PIXEL_TERMS_MAX;
    /// ΣG over the counted classes of the pool.
    pub const G_SUM: usize = Self::CLASS + 1;
    /// The smallest positive G of the pool's counted classes; 0 when every class is absent.
    pub const G_MIN: usize = Self::CLASS + 2;
    /// How many slots there are.
    pub const COUNT: usize = Self::CLASS + 3;
}

/// The moments of one group, and what `inner` may know of its pool.
#[derive(Clone, Copy, Debug)]
pub struct Moments<R> {
    values: [R; Slots::COUNT],
    context: Context,
}

impl<R: Real> Moments<R> {
    /// Moments from the slots of [`Slots`].
    pub fn new(values: [R; Slots::COUNT], context: Context) -> Self {
        Moments { values, context }
    }
    /// N = Σm, the kept voxels.
    pub fn n(&self) -> R {
        self.values[0]
    }
    /// G = Σm·g.
    pub fn g(&self) -> R {
        self.values[1]
    }
    /// GG = Σm·g².
    pub fn gg(&self) -> R {
        self.values[2]
    }
    /// P = Σm·p.
    pub fn p(&self) -> R {
        self.values[3]
    }
    /// I = Σm·p·g, the soft true positives.
    pub fn pg(&self) -> R {
        self.values[4]
    }
    /// PP = Σm·p².
    pub fn pp(&self) -> R {
        self.values[5]
    }
    /// D = Σm·g·Σ_c M\[k, c\]·p_c of this class k, with the matrix of [`Formula::cost_matrix`].
    pub fn cost(&self) -> R {
        self.values[6]
    }
    /// The sum of the formula's pixel term `index`.
    ///
    /// # Panics
    /// When `index` is [`PIXEL_TERMS_MAX`] or more.
    pub fn pixel(&self, index: usize) -> R {
        assert!(index < PIXEL_TERMS_MAX, "a formula has at most {PIXEL_TERMS_MAX} pixel terms");
        self.values[Slots::PIXEL + index]
    }
    /// Positive (the class index) for foreground classes, 0 for class 0.
    pub fn class(&self) -> R {
        self.values[Slots::CLASS]
    }
    /// ΣG over the counted classes of the pool.
    pub fn g_sum(&self) -> R {
        self.values[Slots::G_SUM]
    }
    /// The smallest positive G among the counted classes of the pool, 0 when all are absent.
    pub fn g_min(&self) -> R {
        self.values[Slots::G_MIN]
    }
    /// Number of classes, form.
    pub fn context(&self) -> Context {
        self.context
    }
}

/// The input slots of a pixel program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum VoxelInput {
    /// p, the probability.
    P,
    /// ln p, from log-softmax or log-sigmoid.
    LnP,
    /// q = 1 − p.
    Q,
    /// ln q.
    LnQ,
    /// g, the target.
    G,
    /// φ, the caller's map.
    Map,
    /// φ of the class: outside of its voxels the distance to the nearest of them, inside 1 less the distance to the nearest
    /// other voxel. 0 everywhere where the class is absent or full.
    SignedDistance,
    /// The squared distance to the nearest voxel on the other side of the class's boundary; 0 where it is absent or full.
    TargetSquared,
    /// The same of the voxels with p > ½.
    PredictionSquared,
    /// On each side of the class's boundary (M − d)/(M − min d), M the largest d: 1 at the boundary, 0 farthest from it. 0
    /// where d is the same on the whole side.
    Closeness,
    /// One number per sample and class: the mean, over the contour of the voxels with p > ½, of the distance to the class's
    /// contour. 0 where either has none.
    ContourDistance,
    /// Σ_k k^α·b_k, the error (p − g)² after each of its erosions; see [`Erosions`].
    ErodedError,
    /// The slope of Σ m·[`VoxelInput::ErodedError`] over the image by the error of the voxel, divided by the voxel's weight m.
    ErodedErrorSlope,
    /// d1 + d2, the distances to the nearest object and to the second nearest, the same for all classes of a sample; the
    /// [reach](Formula::reach) where that is shorter, or where there are fewer than two objects. An object is a connected component of the
    /// foreground: voxels of one class that meet in a face, an edge or a corner. With one class, the foreground is the class; with
    /// several, the classes from 1 on, and 0 too where a dense target holds classes that do not exclude each other.
    ObjectDistances,
}

impl VoxelInput {
    /// All slots, in order.
    pub const ALL: [VoxelInput; 14] = [
        VoxelInput::P,
        VoxelInput::LnP,
        VoxelInput::Q,
        VoxelInput::LnQ,
        VoxelInput::G,
        VoxelInput::Map,
        VoxelInput::SignedDistance,
        VoxelInput::TargetSquared,
        VoxelInput::PredictionSquared,
        VoxelInput::Closeness,
        VoxelInput::ContourDistance,
        VoxelInput::ErodedError,
        VoxelInput::ErodedErrorSlope,
        VoxelInput::ObjectDistances,
    ];
    /// The slots that depend on the prediction.
    pub const PREDICTED: [VoxelInput; 4] = [VoxelInput::P, VoxelInput::LnP, VoxelInput::Q, VoxelInput::LnQ];
    /// The slots of the maps that a plan makes from the whole of target and prediction, before its passes. They are constants
    /// of the gradient.
    pub const MADE: [VoxelInput; 8] = [
        VoxelInput::SignedDistance,
        VoxelInput::TargetSquared,
        VoxelInput::PredictionSquared,
        VoxelInput::Closeness,
        VoxelInput::ContourDistance,
        VoxelInput::ErodedError,
        VoxelInput::ErodedErrorSlope,
        VoxelInput::ObjectDistances,
    ];
    /// Whether a map has one plane per sample, that all of its classes share.
    pub fn is_shared(self) -> bool {
        self == VoxelInput::ObjectDistances
    }
    /// The name used in reports.
    pub fn label(self) -> &'static str {
        match self {
            VoxelInput::P => "p",
            VoxelInput::LnP => "ln p",
            VoxelInput::Q => "q",
            VoxelInput::LnQ => "ln q",
            VoxelInput::G => "g",
            VoxelInput::Map => "given map",
            VoxelInput::SignedDistance => "signed distance",
            VoxelInput::TargetSquared => "squared distance of the target",
            VoxelInput::PredictionSquared => "squared distance of the prediction",
            VoxelInput::Closeness => "closeness",
            VoxelInput::ContourDistance => "contour distance",
            VoxelInput::ErodedError => "eroded error",
            VoxelInput::ErodedErrorSlope => "slope of the eroded error",
            VoxelInput::ObjectDistances => "distances to two objects",
        }
    }
}

/// One voxel of one class, as a pixel term sees it.
///
/// p, ln p, q and ln q are independent inputs: a term that uses ln p never forms 1/p in its slope.
#[derive(Clone, Copy)]
pub struct Voxel<'a, R> {
    values: [R; VoxelInput::ALL.len()],
    context: Context,
    parameter: &'a dyn Fn(f64) -> R,
}

impl<'a, R: Real> Voxel<'a, R> {
    /// A voxel from the slots of [`VoxelInput`]; `parameter` makes the numbers of [`Voxel::param`].
    pub fn new(values: [R; VoxelInput::ALL.len()], context: Context, parameter: &'a dyn Fn(f64) -> R) -> Self {
        Voxel { values, context, parameter }
    }
    /// p, the probability.
    pub fn p(&self) -> R {
        self.values[VoxelInput::P as usize]
    }
    /// ln p.
    pub fn ln_p(&self) -> R {
        self.values[VoxelInput::LnP as usize]
    }
    /// q = 1 − p.
    pub fn q(&self) -> R {
        self.values[VoxelInput::Q as usize]
    }
    /// ln q.
    pub fn ln_q(&self) -> R {
        self.values[VoxelInput::LnQ as usize]
    }
    /// g, the target.
    pub fn g(&self) -> R {
        self.values[VoxelInput::G as usize]
    }
    /// φ, the caller's map.
    pub fn map(&self) -> R {
        self.values[VoxelInput::Map as usize]
    }
    /// A map that the plan makes, one of [`VoxelInput::MADE`]; the caller's instead, where the problem has one.
    pub fn map_or(&self, made: VoxelInput) -> R {
        if self.context.given_map { self.map() } else { self.made(made) }
    }
    /// A map that the plan makes, one of [`VoxelInput::MADE`].
    pub fn made(&self, map: VoxelInput) -> R {
        self.values[map as usize]
    }
    /// A parameter of the loss. Where text is generated once for all values it becomes a run-time input,
    /// everywhere else the constant itself.
    pub fn param(&self, value: f64) -> R {
        (self.parameter)(value)
    }
    /// Number of classes, form.
    pub fn context(&self) -> Context {
        self.context
    }
}
