//! The cross-entropies: means over voxels of −ln p, weighed in many ways.

use super::{Built, Form, Part, loss, whole, words};
use crate::spec::{Context, Formula, Moments, Real, Scope, Voxel, VoxelInput};

/// −g·ln p.
pub(super) fn positive<R: Real>(v: &Voxel<R>) -> R {
    -(v.g() * v.ln_p())
}

/// −(1 − g)·ln q.
pub(super) fn negative<R: Real>(v: &Voxel<R>) -> R {
    -(v.g().complement() * v.ln_q())
}

/// −g·ln p, and in the binary form −(1−g)·ln q as well.
pub(super) fn entropy<R: Real>(v: &Voxel<R>, categorical: bool) -> R {
    if categorical { positive(v) } else { positive(v) + negative(v) }
}

/// What a mean over voxels divides by: G in the categorical form, where the classes share a voxel, N in the binary one.
pub(super) fn voxels<R: Real>(m: &Moments<R>, categorical: bool) -> R {
    if categorical { m.g() } else { m.n() }
}

loss! {
    /// Binary cross-entropy, the mean of −g·ln p − (1−g)·ln q over voxels and channels.
    Bce = "bce", source "cross-entropy of a Bernoulli variable" {
        /// Label smoothing s: g becomes g(1−s) + s/2.
        smoothing: f64 = 0.0, UNIT;
    }
}

impl Formula for Bce {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let s = v.param(self.smoothing);
        let g = v.g() * s.complement() + s * R::lit(0.5);
        vec![-(g * v.ln_p()) - g.complement() * v.ln_q()]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0), m.n()]
    }
}
whole!(Bce);

loss! {
    /// Binary cross-entropy with a weight on the positives: the mean of −pos_weight·g·ln p − (1−g)·ln q.
    WeightedCe = "weighted_ce", source "Pihur et al. 2007; survey: Jadon 2020, arXiv:2006.14822" {
        /// Weight of the positive voxels.
        pos_weight: f64 = 1.0, NON_NEGATIVE;
    }
}

impl Formula for WeightedCe {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![v.param(self.pos_weight) * positive(v) + negative(v)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0), m.n()]
    }
}
whole!(WeightedCe);

loss! {
    /// Balanced cross-entropy: the mean of −β·g·ln p − (1−β)(1−g)·ln q, β = 1 − G/N of the sample's class.
    BalancedCe = "balanced_ce", source "Xie and Tu 2015, arXiv:1504.06375" {
        /// β, or auto to take it from the target.
        beta: Option<f64> = None, UNIT;
    }
}

impl Formula for BalancedCe {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![positive(v), negative(v)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        let beta = match self.beta {
            Some(beta) => R::lit(beta),
            None => m.g().over(m.n(), R::lit(0.0)).complement(),
        };
        vec![beta * m.pixel(0) + beta.complement() * m.pixel(1), m.n()]
    }
}
whole!(BalancedCe);

loss! {
    /// Softmax cross-entropy: Σw·(−ln p) of the target class over Σw, w the weight of the voxel's class.
    Ce = "ce", source "cross-entropy of a categorical variable; smoothing: Szegedy et al. 2015, arXiv:1512.00567" {
        /// Label smoothing ε: the target becomes (1−ε)g + ε/C.
        smoothing: f64 = 0.0, UNIT;
    }
}

impl Formula for Ce {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let s = v.param(self.smoothing);
        let share = v.param(self.smoothing / v.context().classes as f64);
        vec![-((v.g() * s.complement() + share) * v.ln_p())]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0), m.g()]
    }
}
impl Built for Ce {
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![Part::whole(self)]
    }
    fn unsuitable(&self, context: Context) -> Option<String> {
        (!context.categorical)
            .then(|| "needs softmax, or probabilities of at least 2 classes; bce takes sigmoid".into())
    }
}

loss! {
    /// Cross-entropy plus the first term of its expansion: −ln p + ε(1 − p) of the target.
    Poly1 = "poly1", source "Leng et al. 2022, arXiv:2204.12511" {
        /// ε, the weight of 1 − p.
        epsilon: f64 = 1.0, ANY;
        /// categorical, binary, or auto by the activation.
        form: Form = Form::Auto;
    }
}

impl Formula for Poly1 {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let categorical = self.form.is_categorical(v.context());
        let epsilon = v.param(self.epsilon);
        let missed = v.g() * v.q();
        let wrong = if categorical { missed } else { missed + v.g().complement() * v.p() };
        vec![entropy(v, categorical) + epsilon * wrong]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0), voxels(m, self.form.is_categorical(m.context()))]
    }
}
whole!(Poly1);

loss! {
    /// Cross-entropy over the hard voxels alone: those whose target probability lies below a threshold.
    TopkCe = "topk_ce", source "Wu et al. 2016, arXiv:1605.06885" {
        /// A voxel counts where its p of the target class is below this. There is no default: it must be given.
        threshold: Option<f64> = None, UNIT;
        /// categorical, binary, or auto by the activation.
        form: Form = Form::Auto;
    }
}

impl Formula for TopkCe {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let (zero, one) = (R::lit(0.0), R::lit(1.0));
        let threshold = v.param(self.threshold.unwrap_or(1.0));
        let hard = |probability: R| (threshold - probability).select(one, zero);
        let (p_hard, q_hard) = (hard(v.p()), hard(v.q()));
        if self.form.is_categorical(v.context()) {
            vec![p_hard * positive(v), p_hard * v.g()]
        } else {
            let count = p_hard * v.g() + q_hard * v.g().complement();
            vec![p_hard * positive(v) + q_hard * negative(v), count]
        }
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0), m.pixel(1)]
    }
}
impl Built for TopkCe {
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![Part::whole(self)]
    }
    fn unsuitable(&self, _: Context) -> Option<String> {
        self.threshold.is_none().then(|| "needs threshold=…, from 0 to 1".into())
    }
}

loss! {
    /// Distance-penalised cross-entropy: (1 + D)·CE, D large near boundaries; or the caller's map.
    ///
    /// map=closeness: D from 1 at the class's boundary to 0 farthest from it. map=unet: D = w0·exp(−(d1+d2)²/2σ²), d1 and d2 the
    /// distances to the two nearest objects, the same for all classes.
    DistanceCe = "distance_ce", alias "dpce", source "Caliva et al. 2019, arXiv:1908.03679; unet: Ronneberger et al. 2015, arXiv:1505.04597" {
        /// What D is: closeness, or unet.
        map: DistanceMap = DistanceMap::Closeness;
        /// w0, the largest D of map=unet: that between objects that touch.
        w0: f64 = 10.0, NON_NEGATIVE;
        /// σ of map=unet, in the unit of the spacing.
        sigma: f64 = 5.0, LENGTH;
        /// categorical, binary, or auto by the activation.
        form: Form = Form::Auto;
    }
}

words! {
    /// The maps that `distance_ce` may make.
    DistanceMap {
        /// The closeness to the class's boundary.
        #[default]
        Closeness = "closeness",
        /// The weight map of the U-Net.
        Unet = "unet",
    }
}

loss! {
    /// Shape-aware cross-entropy: (1 + E)·CE, E the mean distance from the contour of p > ½ to the class's; or the caller's map.
    ShapeAwareCe = "shape_aware_ce", source "Al Arif et al. 2017, Shape-aware deep convolutional neural network" {
        /// categorical, binary, or auto by the activation.
        form: Form = Form::Auto;
    }
}

/// (1 + φ)·CE: what the two losses above share; they differ in φ.
struct MapWeighted {
    form: Form,
    map: Phi,
}

/// What φ is where the caller gives none.
enum Phi {
    Made(VoxelInput),
    /// w0·exp(−(d1 + d2)²/2σ²).
    Unet {
        w0: f64,
        sigma: f64,
    },
}

impl Phi {
    fn at<R: Real>(&self, v: &Voxel<R>) -> R {
        match *self {
            Phi::Made(map) => v.made(map),
            Phi::Unet { w0, sigma } => {
                let way = v.made(VoxelInput::ObjectDistances) * v.param(std::f64::consts::FRAC_1_SQRT_2 / sigma);
                v.param(w0) * (-way.square()).exp()
            }
        }
    }
}

/// What nobody sees beside 1: a quarter of the step from 1 to the next number of single precision.
const INVISIBLE: f64 = f32::EPSILON as f64 / 4.0;

impl Formula for MapWeighted {
    fn scope(&self) -> Scope {
        Scope::Ratio
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        let phi = if v.context().given_map { v.map() } else { self.map.at(v) };
        vec![(R::lit(1.0) + phi) * entropy(v, self.form.is_categorical(v.context()))]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0), voxels(m, self.form.is_categorical(m.context()))]
    }
    fn reach(&self) -> f64 {
        match self.map {
            Phi::Unet { w0, sigma } => sigma * (2.0 * (w0 / INVISIBLE).ln().max(0.0)).sqrt(),
            Phi::Made(_) => f64::INFINITY,
        }
    }
}
impl Built for DistanceCe {
    fn parts(&self, _: Context) -> Vec<Part> {
        let map = match self.map {
            DistanceMap::Closeness => Phi::Made(VoxelInput::Closeness),
            DistanceMap::Unet => Phi::Unet { w0: self.w0, sigma: self.sigma },
        };
        vec![Part::new(1.0, MapWeighted { form: self.form, map })]
    }
}
impl Built for ShapeAwareCe {
    fn parts(&self, _: Context) -> Vec<Part> {
        vec![Part::new(1.0, MapWeighted { form: self.form, map: Phi::Made(VoxelInput::ContourDistance) })]
    }
}
