//! One block of voxels in the first-level caches: loaded, masked, activated.
//!
//! Whatever the layout and the types of the buffers, a block holds its classes as planes of f32, so that every later loop
//! runs over one array. Voxels beyond the end of a unit fill the last vector with weight 0.

use super::math;
use super::planes::Planes;
use super::view::{IGNORED, INVALID, Source};
use crate::plan::{Head, PROBABILITY_FLOOR};
use crate::problem::{Activation, Layout, Map, Target};
use crate::spec::{Program, VoxelInput};

/// Floats in the widest vector; sums keep as many partial sums, on every instruction set.
pub(super) const LANES: usize = 16;

/// The buffers of one head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) prediction: Source<'a>,
    pub(super) target: Source<'a>,
    pub(super) mask: Option<Source<'a>>,
    pub(super) weights: Option<Source<'a>>,
    pub(super) map: Option<Source<'a>>,
}

/// Voxels of one sample that follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) sample: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// What the programs of a pass read of a voxel, beyond p and g.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reads {
    p: bool,
    ln_p: bool,
    q: bool,
    pub(super) ln_q: bool,
}

impl Reads {
    pub(super) fn of(programs: &[&Program]) -> Reads {
        let any = |slot: VoxelInput| programs.iter().any(|p| p.reads(slot as usize));
        Reads { p: any(VoxelInput::P), ln_p: any(VoxelInput::LnP), q: any(VoxelInput::Q), ln_q: any(VoxelInput::LnQ) }
    }
}

#[derive(Debug)]
pub(super) struct Block<'h> {
    head: &'h Head,
    reads: Reads,
    classes: usize,
    /// Voxels of this block, rounded up to whole vectors.
    len: usize,
    /// Kept voxels, and labels out of range, of this block.
    pub(super) valid: u64,
    pub(super) invalid: u64,
    // One plane per class.
    p: Planes,
    ln_p: Planes,
    q: Planes,
    ln_q: Planes,
    /// Softmax without the largest class: only where ln q is read.
    rest: Planes,
    dense: Planes,
    /// One plane, or one per class.
    map: Planes,
    /// A block of an interleaved buffer, before its classes are taken apart.
    mixed: Vec<f32>,
    // One value per voxel.
    labels: Vec<i32>,
    weight: Planes,
    /// The target of the class at hand.
    g: Planes,
    /// Largest logit, sum of exponentials, largest class.
    largest: Planes,
    sum: Planes,
    top: Vec<i32>,
    /// p, ln p, q and φ of the voxel's own class, where the pixel terms look at no other.
    own: Planes,
}

/// Voxels of a block: as many as keep a few planes in the nearest caches.
pub(super) fn stride(classes: usize) -> usize {
    (PLANE_VOXELS / classes).clamp(4 * LANES, 64 * LANES) / LANES * LANES
}
const PLANE_VOXELS: usize = 4096;

/// The planes of [`Block::own`].
#[derive(Clone, Copy)]
enum Own {
    P,
    LnP,
    Q,
    Map,
}

impl<'h> Block<'h> {
    pub(super) fn new(head: &'h Head, reads: Reads) -> Block<'h> {
        let problem = &head.problem;
        let classes = problem.shape.classes();
        let stride = stride(classes);
        let planes = |wanted: bool| Planes::new(if wanted { classes } else { 0 }, stride);
        let one = || Planes::new(1, stride);
        let softmax = problem.activation == Activation::Softmax;
        let every = !head.own_class;
        let map = match problem.map {
            None => planes(false),
            Some(Map::Shared) => one(),
            Some(Map::PerClass) => planes(true),
        };
        Block {
            head,
            reads,
            classes,
            len: 0,
            valid: 0,
            invalid: 0,
            p: planes(true),
            ln_p: planes(every && reads.ln_p),
            q: planes(every && (reads.q || reads.ln_q) || problem.activation == Activation::Sigmoid),
            ln_q: planes(reads.ln_q),
            rest: planes(reads.ln_q && softmax),
            dense: planes(matches!(problem.target, Target::Dense(_))),
            map,
            mixed: vec![0.0; if problem.layout == Layout::Interleaved { classes * stride } else { 0 }],
            labels: vec![IGNORED; stride],
            weight: one(),
            g: one(),
            largest: one(),
            sum: one(),
            top: vec![0; stride],
            own: Planes::new(if head.own_class { 4 } else { 0 }, stride),
        }
    }

    /// Voxels of the block, rounded up to whole vectors.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }
    /// m of every voxel; 0 where it does not count.
    #[inline(always)]
    pub(super) fn weight(&self) -> &[f32] {
        self.weight.plane(0, self.len)
    }
    /// Whether a voxel counts.
    #[inline(always)]
    pub(super) fn is_kept(&self, voxel: usize) -> bool {
        self.labels[voxel] >= 0
    }
    /// p of a class.
    #[inline(always)]
    pub(super) fn p(&self, class: usize) -> &[f32] {
        self.p.plane(class, self.len)
    }
    /// 1 − p of a class; only after sigmoid, or where a program reads it.
    #[inline(always)]
    pub(super) fn q(&self, class: usize) -> &[f32] {
        self.q.plane(class, self.len)
    }
    /// p of a class among all classes but the largest; 0 for that one.
    #[inline(always)]
    pub(super) fn rest(&self, class: usize) -> &[f32] {
        self.rest.plane(class, self.len)
    }
    /// The largest class of every voxel; only after softmax with ln q.
    #[inline(always)]
    pub(super) fn top(&self) -> &[i32] {
        &self.top[..self.len]
    }
    /// The target of the class that [`Block::select`] chose.
    #[inline(always)]
    pub(super) fn g(&self) -> &[f32] {
        self.g.plane(0, self.len)
    }
    /// The class of every voxel; negative where it does not count.
    #[inline(always)]
    pub(super) fn labels(&self) -> &[i32] {
        &self.labels[..self.len]
    }
    /// The array of an input slot of a pixel program, for the class that [`Block::select`] chose.
    #[inline(always)]
    pub(super) fn input(&self, slot: u8, class: usize) -> &[f32] {
        let (planes, class) = match VoxelInput::ALL[slot as usize] {
            VoxelInput::P => (&self.p, class),
            VoxelInput::LnP => (&self.ln_p, class),
            VoxelInput::Q => (&self.q, class),
            VoxelInput::LnQ => (&self.ln_q, class),
            VoxelInput::G => (&self.g, 0),
            VoxelInput::Map if self.head.problem.map == Some(Map::Shared) => (&self.map, 0),
            VoxelInput::Map => (&self.map, class),
        };
        planes.plane(class, self.len)
    }
    /// The array of an input slot for each voxel's own class.
    #[inline(always)]
    pub(super) fn own_input(&self, slot: u8) -> &[f32] {
        let own = match VoxelInput::ALL[slot as usize] {
            VoxelInput::P => Own::P,
            VoxelInput::LnP => Own::LnP,
            VoxelInput::Q => Own::Q,
            VoxelInput::Map if self.head.problem.map == Some(Map::Shared) => return self.map.plane(0, self.len),
            VoxelInput::Map => Own::Map,
            VoxelInput::G | VoxelInput::LnQ => unreachable!("programs of the own class read neither g nor ln q"),
        };
        self.own.plane(own as usize, self.len)
    }

    /// Loads which voxels count, and the target.
    #[inline(always)]
    pub(super) fn load_target(&mut self, sources: &Sources<'_>, range: Range) {
        let problem = &self.head.problem;
        let voxels = problem.shape.voxels() as usize;
        let first = range.sample * voxels + range.start;
        self.len = range.len.next_multiple_of(LANES);
        self.labels[range.len..self.len].fill(IGNORED);
        let labels = &mut self.labels[..range.len];
        match problem.target {
            Target::Labels(_) => {
                let limit = self.classes.max(2) as i32;
                sources.target.read_labels(first, limit, problem.ignore_label, labels);
            }
            Target::Dense(_) => labels.fill(0),
        }
        if let Some(mask) = &sources.mask {
            for (label, &keep) in labels.iter_mut().zip(mask.read_u8(first, range.len)) {
                *label = if keep == 0 { IGNORED } else { *label };
            }
        }
        let (mut valid, mut invalid) = (0u32, 0u32);
        for &label in labels.iter() {
            valid += u32::from(label >= 0);
            invalid += u32::from(label == INVALID);
        }
        (self.valid, self.invalid) = (u64::from(valid), u64::from(invalid));
        let weight = self.weight.plane_mut(0, self.len);
        if let Some(weights) = &sources.weights {
            weights.read_f32(first, &mut weight[..range.len]);
            for (w, &label) in weight.iter_mut().zip(&self.labels) {
                *w = if label >= 0 { *w } else { 0.0 };
            }
        } else {
            for (w, &label) in weight.iter_mut().zip(&self.labels) {
                *w = if label >= 0 { 1.0 } else { 0.0 };
            }
        }
        if matches!(problem.target, Target::Dense(_)) {
            load_planes(&sources.target, range, self.head, &mut self.mixed, &mut self.dense);
            self.clear_dropped(|block| &mut block.dense);
        }
        match (problem.map, &sources.map) {
            (Some(Map::Shared), Some(map)) => {
                let plane = self.map.plane_mut(0, self.len);
                map.read_f32(first, &mut plane[..range.len]);
                plane[range.len..].fill(0.0);
                self.clear_dropped(|block| &mut block.map);
            }
            (Some(Map::PerClass), Some(map)) => {
                load_planes(map, range, self.head, &mut self.mixed, &mut self.map);
                self.clear_dropped(|block| &mut block.map);
            }
            _ => {}
        }
    }

    /// Sets the values of voxels that do not count to 0, whatever they held; NaN times weight 0 would be NaN.
    #[inline(always)]
    fn clear_dropped(&mut self, planes: impl Fn(&mut Self) -> &mut Planes) {
        let len = self.len;
        if self.valid == len as u64 {
            return;
        }
        let mut values = std::mem::take(planes(self));
        let pitch = values.pitch();
        for plane in values.chunks_exact_mut(pitch) {
            for (x, &label) in plane[..len].iter_mut().zip(&self.labels) {
                *x = if label >= 0 { *x } else { 0.0 };
            }
        }
        *planes(self) = values;
    }

    /// The label that means `class`; with one class, label 1 is the class and 0 is not.
    #[inline(always)]
    fn label_of(&self, class: usize) -> i32 {
        if self.classes == 1 { 1 } else { class as i32 }
    }

    /// Makes `g` the target of this class.
    #[inline(always)]
    pub(super) fn select(&mut self, class: usize) {
        let wanted = self.label_of(class);
        let g = self.g.plane_mut(0, self.len);
        if self.dense.is_empty() {
            for (g, &label) in g.iter_mut().zip(&self.labels) {
                *g = if label == wanted { 1.0 } else { 0.0 };
            }
        } else {
            g.copy_from_slice(self.dense.plane(class, self.len));
        }
    }

    /// Loads the prediction and turns it into what the pass reads: p, and ln p, q, ln q where asked.
    #[inline(always)]
    pub(super) fn load_prediction(&mut self, sources: &Sources<'_>, range: Range) {
        load_planes(&sources.prediction, range, self.head, &mut self.mixed, &mut self.p);
        self.clear_dropped(|block| &mut block.p);
        match self.head.problem.activation {
            Activation::None => self.probabilities(),
            Activation::Sigmoid => self.sigmoid(),
            Activation::Softmax => self.softmax(),
        }
    }

    #[inline(always)]
    fn probabilities(&mut self) {
        let len = self.len;
        let floor = PROBABILITY_FLOOR as f32;
        let floored_ln = |x: f32| math::ln(if x < floor { floor } else { x });
        for class in 0..self.classes {
            let p = self.p.plane(class, len);
            if self.reads.ln_p {
                map(self.ln_p.plane_mut(class, len), p, floored_ln);
            }
            if self.reads.q || self.reads.ln_q {
                map(self.q.plane_mut(class, len), p, |p| 1.0 - p);
            }
            if self.reads.ln_q {
                map(self.ln_q.plane_mut(class, len), self.q.plane(class, len), floored_ln);
            }
        }
    }

    #[inline(always)]
    fn sigmoid(&mut self) {
        let len = self.len;
        for class in 0..self.classes {
            let z = self.p.plane_mut(class, len);
            if self.reads.ln_p {
                map(self.ln_p.plane_mut(class, len), z, |z| {
                    let low = if z < 0.0 { z } else { 0.0 };
                    math::finite_ln(low - math::ln_1p(math::exp(-z.abs())))
                });
            }
            if self.reads.ln_q {
                map(self.ln_q.plane_mut(class, len), z, |z| {
                    let high = if z > 0.0 { z } else { 0.0 };
                    math::finite_ln(-high - math::ln_1p(math::exp(-z.abs())))
                });
            }
            for (p, q) in z.iter_mut().zip(self.q.plane_mut(class, len)) {
                let z = *p;
                let e = math::exp(-z.abs());
                let large = 1.0 / (1.0 + e);
                let small = e * large;
                *p = if z >= 0.0 { large } else { small };
                *q = if z >= 0.0 { small } else { large };
            }
        }
    }

    #[inline(always)]
    fn softmax(&mut self) {
        let (len, classes) = (self.len, self.classes);
        let own = self.head.own_class;
        if own {
            // The logit of the voxel's class, before it is gone.
            self.own_of(Own::LnP, |block| &block.p);
            self.own_map();
        }
        if self.reads.ln_q {
            self.without_largest();
        }
        let (largest, sum) = (self.largest.plane_mut(0, len), self.sum.plane_mut(0, len));
        largest.copy_from_slice(self.p.plane(0, len));
        for class in 1..classes {
            for (m, &z) in largest.iter_mut().zip(self.p.plane(class, len)) {
                *m = if z > *m { z } else { *m };
            }
        }
        sum.fill(0.0);
        let every_ln_p = !self.ln_p.is_empty();
        for class in 0..classes {
            let p = self.p.plane_mut(class, len);
            if every_ln_p {
                for ((shifted, &z), &m) in self.ln_p.plane_mut(class, len).iter_mut().zip(&*p).zip(&*largest) {
                    *shifted = z - m;
                }
            }
            for ((p, &m), sum) in p.iter_mut().zip(&*largest).zip(&mut *sum) {
                *p = math::exp(*p - m);
                *sum += *p;
            }
        }
        if self.reads.ln_p {
            if own {
                let own_ln_p = self.own.plane_mut(Own::LnP as usize, len);
                for ((l, &m), &sum) in own_ln_p.iter_mut().zip(&*largest).zip(&*sum) {
                    *l = math::finite_ln((*l - m) - math::ln(sum));
                }
            } else {
                // `largest` has served; it takes ln Σ.
                map(largest, sum, math::ln);
                for class in 0..classes {
                    for (l, &ln_sum) in self.ln_p.plane_mut(class, len).iter_mut().zip(&*largest) {
                        *l = math::finite_ln(*l - ln_sum);
                    }
                }
            }
        }
        for s in sum.iter_mut() {
            *s = 1.0 / *s;
        }
        for class in 0..classes {
            for (p, &r) in self.p.plane_mut(class, len).iter_mut().zip(&*sum) {
                *p *= r;
            }
            if !self.q.is_empty() {
                map(self.q.plane_mut(class, len), self.p.plane(class, len), |p| 1.0 - p);
            }
        }
        if own && (self.reads.p || self.reads.q) {
            self.own_of(Own::P, |block| &block.p);
            let [p, _, q] = self.own_planes();
            map(q, p, |p| 1.0 - p);
        }
        if self.reads.ln_q {
            self.complete_ln_q();
        }
    }

    /// Gathers the value of each voxel's own class.
    #[inline(always)]
    fn own_of(&mut self, own: Own, planes: impl Fn(&Self) -> &Planes) {
        let len = self.len;
        let mut values = std::mem::take(&mut self.own);
        let gathered = values.plane_mut(own as usize, len);
        gathered.fill(0.0);
        for class in 0..self.classes {
            let label = self.label_of(class);
            let plane = planes(self).plane(class, len);
            for ((x, &y), &l) in gathered.iter_mut().zip(plane).zip(&self.labels) {
                *x = if l == label { y } else { *x };
            }
        }
        self.own = values;
    }

    #[inline(always)]
    fn own_map(&mut self) {
        if self.head.problem.map == Some(Map::PerClass) {
            self.own_of(Own::Map, |block| &block.map);
        }
    }

    /// p, ln p and q of the own class.
    #[inline(always)]
    fn own_planes(&mut self) -> [&mut [f32]; 3] {
        let (len, pitch) = (self.len, self.own.pitch());
        let mut planes = self.own.chunks_exact_mut(pitch);
        std::array::from_fn(|_| &mut planes.next().expect("there are four planes")[..len])
    }

    /// Softmax over all classes but the largest, from the logits in `p`; ln q of the largest goes to its plane.
    ///
    /// For the largest class 1 − p cancels; ln q is the log-sum-exp of the others less that of all.
    #[inline(always)]
    fn without_largest(&mut self) {
        let (len, classes) = (self.len, self.classes);
        for i in 0..len {
            let logit = |class: usize| self.p.plane(class, len)[i];
            let top = (1..classes).fold(0, |top, class| if logit(class) > logit(top) { class } else { top });
            let others = || (0..classes).filter(|&class| class != top);
            let second = others().map(logit).fold(f32::NEG_INFINITY, |m, z| if z > m { z } else { m });
            let mut total = 0.0;
            for class in 0..classes {
                let e = if class == top { 0.0 } else { math::exp(self.p.plane(class, len)[i] - second) };
                total += e;
                self.rest.plane_mut(class, len)[i] = e;
            }
            for class in 0..classes {
                self.rest.plane_mut(class, len)[i] /= total;
            }
            // ln of the others' share, relative to the largest logit: ln q = this − ln(1 + e^this).
            let ratio = (second - self.p.plane(top, len)[i]) + math::ln(total);
            let ln_q = if ratio > 0.0 { -math::ln_1p(math::exp(-ratio)) } else { ratio - math::ln_1p(math::exp(ratio)) };
            self.ln_q.plane_mut(top, len)[i] = math::finite_ln(ln_q);
            self.top[i] = top as i32;
        }
    }

    /// ln q, and an exact q of the largest class, once p is known.
    #[inline(always)]
    fn complete_ln_q(&mut self) {
        let len = self.len;
        for class in 0..self.classes {
            let (q, ln_q) = (self.q.plane_mut(class, len), self.ln_q.plane_mut(class, len));
            for ((q, ln_q), &top) in q.iter_mut().zip(ln_q).zip(&self.top) {
                let largest = top == class as i32;
                let (of_ln, of_q) = (math::exp(*ln_q), math::finite_ln(math::ln(*q)));
                *q = if largest { of_ln } else { *q };
                *ln_q = if largest { *ln_q } else { of_q };
            }
        }
    }
}

#[inline(always)]
fn map(into: &mut [f32], from: &[f32], f: impl Fn(f32) -> f32) {
    for (x, &y) in into.iter_mut().zip(from) {
        *x = f(y);
    }
}

/// Reads a range of a buffer in the prediction's layout into planes.
#[inline(always)]
fn load_planes(source: &Source<'_>, range: Range, head: &Head, mixed: &mut [f32], planes: &mut Planes) {
    let (classes, voxels) = (head.problem.shape.classes(), head.problem.shape.voxels() as usize);
    // The voxels that fill the last vector: any finite value, their weight is 0.
    let end = range.len.next_multiple_of(LANES);
    match head.problem.layout {
        Layout::Planar => {
            for class in 0..classes {
                let first = (range.sample * classes + class) * voxels + range.start;
                let (values, rest) = planes.plane_mut(class, end).split_at_mut(range.len);
                source.read_f32(first, values);
                rest.fill(0.0);
            }
        }
        Layout::Interleaved => {
            let mixed = &mut mixed[..range.len * classes];
            source.read_f32((range.sample * voxels + range.start) * classes, mixed);
            for class in 0..classes {
                let (values, rest) = planes.plane_mut(class, end).split_at_mut(range.len);
                for (x, voxel) in values.iter_mut().zip(mixed.chunks_exact(classes)) {
                    *x = voxel[class];
                }
                rest.fill(0.0);
            }
        }
    }
}
