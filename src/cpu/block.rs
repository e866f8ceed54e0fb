//! One block of voxels in the first-level caches: loaded, masked, activated.
//!
//! Whatever the layout and the types of the buffers, a block holds its classes as planes of f32, so that every later loop
//! runs over one array. Voxels beyond the end of a unit fill the last vector with weight 0.

use super::math;
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
    ln_p: bool,
    q: bool,
    pub(super) ln_q: bool,
}

impl Reads {
    pub(super) fn of(programs: &[&Program]) -> Reads {
        let any = |slot: VoxelInput| programs.iter().any(|p| p.reads(slot as usize));
        Reads { ln_p: any(VoxelInput::LnP), q: any(VoxelInput::Q), ln_q: any(VoxelInput::LnQ) }
    }
}

#[derive(Debug)]
pub(super) struct Block<'h> {
    head: &'h Head,
    reads: Reads,
    classes: usize,
    /// Voxels from one plane to the next.
    stride: usize,
    /// Voxels of this block, rounded up to whole vectors.
    len: usize,
    /// Kept voxels, and labels out of range, of this block.
    pub(super) valid: u64,
    pub(super) invalid: u64,
    // planes, [classes × stride]
    p: Vec<f32>,
    ln_p: Vec<f32>,
    q: Vec<f32>,
    ln_q: Vec<f32>,
    /// Softmax without the largest class: only where ln q is read.
    rest: Vec<f32>,
    dense: Vec<f32>,
    map: Vec<f32>,
    /// A block of an interleaved buffer, before its classes are taken apart.
    mixed: Vec<f32>,
    // per voxel, [stride]
    labels: Vec<i32>,
    weight: Vec<f32>,
    /// The target of the class at hand.
    g: Vec<f32>,
    /// Largest logit, sum of exponentials, largest class.
    largest: Vec<f32>,
    sum: Vec<f32>,
    top: Vec<i32>,
}

/// Voxels of a block: as many as keep a few planes in the nearest caches.
pub(super) fn stride(classes: usize) -> usize {
    (PLANE_VOXELS / classes).clamp(4 * LANES, 64 * LANES) / LANES * LANES
}
const PLANE_VOXELS: usize = 4096;

impl<'h> Block<'h> {
    pub(super) fn new(head: &'h Head, reads: Reads) -> Block<'h> {
        let problem = &head.problem;
        let classes = problem.shape.classes();
        let stride = stride(classes);
        let planes = |wanted: bool| if wanted { vec![0.0; classes * stride] } else { Vec::new() };
        let softmax = problem.activation == Activation::Softmax;
        let dense = matches!(problem.target, Target::Dense(_));
        let map = match problem.map {
            None => Vec::new(),
            Some(Map::Shared) => vec![0.0; stride],
            Some(Map::PerClass) => planes(true),
        };
        Block {
            head,
            reads,
            classes,
            stride,
            len: 0,
            valid: 0,
            invalid: 0,
            p: planes(true),
            ln_p: planes(reads.ln_p),
            q: planes(reads.q || reads.ln_q || problem.activation == Activation::Sigmoid),
            ln_q: planes(reads.ln_q),
            rest: planes(reads.ln_q && softmax),
            dense: planes(dense),
            map,
            mixed: planes(problem.layout == Layout::Interleaved),
            labels: vec![IGNORED; stride],
            weight: vec![0.0; stride],
            g: vec![0.0; stride],
            largest: vec![0.0; stride],
            sum: vec![0.0; stride],
            top: vec![0; stride],
        }
    }

    /// Voxels of the block, rounded up to whole vectors.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }
    pub(super) fn stride(&self) -> usize {
        self.stride
    }
    /// m of every voxel; 0 where it does not count.
    #[inline(always)]
    pub(super) fn weight(&self) -> &[f32] {
        &self.weight[..self.len]
    }
    /// Whether a voxel counts.
    #[inline(always)]
    pub(super) fn is_kept(&self, voxel: usize) -> bool {
        self.labels[voxel] >= 0
    }
    /// p of a class.
    #[inline(always)]
    pub(super) fn p(&self, class: usize) -> &[f32] {
        &self.p[class * self.stride..][..self.len]
    }
    /// 1 − p of a class; only after sigmoid, or where a program reads it.
    #[inline(always)]
    pub(super) fn q(&self, class: usize) -> &[f32] {
        &self.q[class * self.stride..][..self.len]
    }
    /// p of a class among all classes but the largest; 0 for that one.
    #[inline(always)]
    pub(super) fn rest(&self, class: usize) -> &[f32] {
        &self.rest[class * self.stride..][..self.len]
    }
    /// The largest class of every voxel; only after softmax with ln q.
    #[inline(always)]
    pub(super) fn top(&self) -> &[i32] {
        &self.top[..self.len]
    }
    /// The target of the class that [`Block::select`] chose.
    #[inline(always)]
    pub(super) fn g(&self) -> &[f32] {
        &self.g[..self.len]
    }
    /// The array of an input slot of a pixel program, for the class that [`Block::select`] chose.
    #[inline(always)]
    pub(super) fn input(&self, slot: u8, class: usize) -> &[f32] {
        let start = class * self.stride;
        let (planes, start) = match VoxelInput::ALL[slot as usize] {
            VoxelInput::P => (&self.p, start),
            VoxelInput::LnP => (&self.ln_p, start),
            VoxelInput::Q => (&self.q, start),
            VoxelInput::LnQ => (&self.ln_q, start),
            VoxelInput::G => (&self.g, 0),
            VoxelInput::Map if self.map.len() == self.stride => (&self.map, 0),
            VoxelInput::Map => (&self.map, start),
        };
        &planes[start..start + self.len]
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
        let weight = &mut self.weight[..self.len];
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
            load_planes(&sources.target, range, self.head, self.stride, &mut self.mixed, &mut self.dense);
            self.clear_dropped(|block| &mut block.dense);
        }
        match (problem.map, &sources.map) {
            (Some(Map::Shared), Some(map)) => {
                map.read_f32(first, &mut self.map[..range.len]);
                self.clear_dropped(|block| &mut block.map);
            }
            (Some(Map::PerClass), Some(map)) => {
                load_planes(map, range, self.head, self.stride, &mut self.mixed, &mut self.map);
                self.clear_dropped(|block| &mut block.map);
            }
            _ => {}
        }
    }

    /// Sets the values of voxels that do not count to 0, whatever they held; NaN times weight 0 would be NaN.
    #[inline(always)]
    fn clear_dropped(&mut self, planes: impl Fn(&mut Self) -> &mut Vec<f32>) {
        let (stride, len) = (self.stride, self.len);
        if self.valid == len as u64 {
            return;
        }
        let mut values = std::mem::take(planes(self));
        for plane in values.chunks_exact_mut(stride) {
            for (x, &label) in plane[..len].iter_mut().zip(&self.labels) {
                *x = if label >= 0 { *x } else { 0.0 };
            }
        }
        *planes(self) = values;
    }

    /// Makes `g` the target of this class.
    #[inline(always)]
    pub(super) fn select(&mut self, class: usize) {
        let g = &mut self.g[..self.len];
        if self.dense.is_empty() {
            let wanted = if self.classes == 1 { 1 } else { class as i32 };
            for (g, &label) in g.iter_mut().zip(&self.labels) {
                *g = if label == wanted { 1.0 } else { 0.0 };
            }
        } else {
            g.copy_from_slice(&self.dense[class * self.stride..][..self.len]);
        }
    }

    /// Loads the prediction and turns it into what the pass reads: p, and ln p, q, ln q where asked.
    #[inline(always)]
    pub(super) fn load_prediction(&mut self, sources: &Sources<'_>, range: Range) {
        load_planes(&sources.prediction, range, self.head, self.stride, &mut self.mixed, &mut self.p);
        self.clear_dropped(|block| &mut block.p);
        match self.head.problem.activation {
            Activation::None => self.probabilities(),
            Activation::Sigmoid => self.sigmoid(),
            Activation::Softmax => self.softmax(),
        }
    }

    #[inline(always)]
    fn probabilities(&mut self) {
        let floor = PROBABILITY_FLOOR as f32;
        let floored_ln = |x: f32| math::ln(if x < floor { floor } else { x });
        for class in 0..self.classes {
            let range = class * self.stride..class * self.stride + self.len;
            let p = &self.p[range.clone()];
            if self.reads.ln_p {
                map(&mut self.ln_p[range.clone()], p, floored_ln);
            }
            if self.reads.q || self.reads.ln_q {
                map(&mut self.q[range.clone()], p, |p| 1.0 - p);
            }
            if self.reads.ln_q {
                map(&mut self.ln_q[range.clone()], &self.q[range], floored_ln);
            }
        }
    }

    #[inline(always)]
    fn sigmoid(&mut self) {
        for class in 0..self.classes {
            let range = class * self.stride..class * self.stride + self.len;
            if self.reads.ln_p {
                map(&mut self.ln_p[range.clone()], &self.p[range.clone()], |z| {
                    let low = if z < 0.0 { z } else { 0.0 };
                    math::finite_ln(low - math::ln_1p(math::exp(-z.abs())))
                });
            }
            if self.reads.ln_q {
                map(&mut self.ln_q[range.clone()], &self.p[range.clone()], |z| {
                    let high = if z > 0.0 { z } else { 0.0 };
                    math::finite_ln(-high - math::ln_1p(math::exp(-z.abs())))
                });
            }
            for (p, q) in self.p[range.clone()].iter_mut().zip(&mut self.q[range]) {
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
        let (stride, len, classes) = (self.stride, self.len, self.classes);
        if self.reads.ln_q {
            self.without_largest();
        }
        let (largest, sum) = (&mut self.largest[..len], &mut self.sum[..len]);
        largest.copy_from_slice(&self.p[..len]);
        for class in 1..classes {
            for (m, &z) in largest.iter_mut().zip(&self.p[class * stride..][..len]) {
                *m = if z > *m { z } else { *m };
            }
        }
        sum.fill(0.0);
        for class in 0..classes {
            let p = &mut self.p[class * stride..][..len];
            if self.reads.ln_p {
                let shifted = &mut self.ln_p[class * stride..][..len];
                for (((p, shifted), &m), sum) in p.iter_mut().zip(shifted).zip(&*largest).zip(&mut *sum) {
                    *shifted = *p - m;
                    *p = math::exp(*shifted);
                    *sum += *p;
                }
            } else {
                for ((p, &m), sum) in p.iter_mut().zip(&*largest).zip(&mut *sum) {
                    *p = math::exp(*p - m);
                    *sum += *p;
                }
            }
        }
        if self.reads.ln_p {
            // `largest` has served; it takes ln Σ.
            map(largest, sum, math::ln);
        }
        for s in sum.iter_mut() {
            *s = 1.0 / *s;
        }
        for class in 0..classes {
            let range = class * stride..class * stride + len;
            for (p, &r) in self.p[range.clone()].iter_mut().zip(&*sum) {
                *p *= r;
            }
            if self.reads.ln_p {
                for (l, &ln_sum) in self.ln_p[range.clone()].iter_mut().zip(&*largest) {
                    *l = math::finite_ln(*l - ln_sum);
                }
            }
            if self.reads.q || self.reads.ln_q {
                map(&mut self.q[range.clone()], &self.p[range.clone()], |p| 1.0 - p);
            }
        }
        if self.reads.ln_q {
            self.complete_ln_q();
        }
    }

    /// Softmax over all classes but the largest, from the logits in `p`; ln q of the largest goes to its plane.
    ///
    /// For the largest class 1 − p cancels; ln q is the log-sum-exp of the others less that of all.
    #[inline(always)]
    fn without_largest(&mut self) {
        let (stride, len, classes) = (self.stride, self.len, self.classes);
        for i in 0..len {
            let logit = |class: usize| self.p[class * stride + i];
            let top = (1..classes).fold(0, |top, class| if logit(class) > logit(top) { class } else { top });
            let others = || (0..classes).filter(|&class| class != top);
            let second = others().map(logit).fold(f32::NEG_INFINITY, |m, z| if z > m { z } else { m });
            let mut total = 0.0;
            for class in 0..classes {
                let e = if class == top { 0.0 } else { math::exp(logit(class) - second) };
                total += e;
                self.rest[class * stride + i] = e;
            }
            for class in 0..classes {
                self.rest[class * stride + i] /= total;
            }
            // ln of the others' share, relative to the largest logit: ln q = this − ln(1 + e^this).
            let ratio = (second - logit(top)) + math::ln(total);
            let ln_q =
                if ratio > 0.0 { -math::ln_1p(math::exp(-ratio)) } else { ratio - math::ln_1p(math::exp(ratio)) };
            self.ln_q[top * stride + i] = math::finite_ln(ln_q);
            self.top[i] = top as i32;
        }
    }

    /// ln q, and an exact q of the largest class, once p is known.
    #[inline(always)]
    fn complete_ln_q(&mut self) {
        let (stride, len) = (self.stride, self.len);
        for class in 0..self.classes {
            for i in 0..len {
                let at = class * stride + i;
                if self.top[i] == class as i32 {
                    self.q[at] = math::exp(self.ln_q[at]);
                } else {
                    self.ln_q[at] = math::finite_ln(math::ln(self.q[at]));
                }
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
fn load_planes(source: &Source<'_>, range: Range, head: &Head, stride: usize, mixed: &mut [f32], planes: &mut [f32]) {
    let (classes, voxels) = (head.problem.shape.classes(), head.problem.shape.voxels() as usize);
    match head.problem.layout {
        Layout::Planar => {
            for (class, plane) in planes.chunks_exact_mut(stride).enumerate() {
                let first = (range.sample * classes + class) * voxels + range.start;
                source.read_f32(first, &mut plane[..range.len]);
            }
        }
        Layout::Interleaved => {
            let mixed = &mut mixed[..range.len * classes];
            source.read_f32((range.sample * voxels + range.start) * classes, mixed);
            for (class, plane) in planes.chunks_exact_mut(stride).enumerate() {
                for (x, voxel) in plane.iter_mut().zip(mixed.chunks_exact(classes)) {
                    *x = voxel[class];
                }
            }
        }
    }
    // The voxels that fill the last vector: any finite value, their weight is 0.
    let end = range.len.next_multiple_of(LANES);
    planes.chunks_exact_mut(stride).for_each(|plane| plane[range.len..end].fill(0.0));
}
