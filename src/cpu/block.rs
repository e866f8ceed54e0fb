//! One block of voxels in the first-level caches: loaded, masked, activated.
//!
//! Whatever the layout and the types of the buffers, a block holds its classes as planes of f32, so that every later loop
//! runs over one array. Voxels beyond the end of a unit fill the last vector with weight 0.

use super::gradient;
use super::math;
use super::passes::in_a_function;
use super::planes::{LANES, Planes, Vectors};
use super::view::{IGNORED, INVALID, Source, prefetch};
use crate::dtype::DType;
use crate::numeric::PROBABILITY_FLOOR;
use crate::plan::Head;
use crate::problem::{Activation, Layout, Map, Target};
use crate::spec::{Moment, Program, VoxelInput};
use fearless_simd::{f32x16, i32x16, mask32x16, prelude::*};
use std::array;

/// Compiles `$few` for 2, 3 and 4 classes, with the constant `$C`, and `$many` for other numbers.
macro_rules! few_classes {
    ($classes:expr, $C:ident => $few:expr, $many:expr) => {
        few_classes!($classes, $C => $few, $many; 2 3 4)
    };
    ($classes:expr, $C:ident => $few:expr, $many:expr; $($n:literal)*) => {
        match $classes {
            $($n => {
                const $C: usize = $n;
                $few
            })*
            _ => $many,
        }
    };
}
pub(super) use few_classes;

/// The buffers of one head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) prediction: Source<'a>,
    pub(super) target: Source<'a>,
    pub(super) mask: Option<Source<'a>>,
    pub(super) weights: Option<Source<'a>>,
    pub(super) map: Option<Source<'a>>,
    /// The made maps, in the order of the head's; `None` for what the call does not read.
    pub(super) made: [Option<Source<'a>>; VoxelInput::MADE.len()],
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
    ln_q: bool,
    /// Whether any pass of the head reads ln p: p is made the same way in all of them, to the last bit.
    ln_p_anywhere: bool,
}

impl Reads {
    /// What a pass that runs `programs` reads.
    pub(super) fn of(head: &Head, programs: &[&Program]) -> Reads {
        let read = |programs: &[&Program], slot: VoxelInput| programs.iter().any(|p| p.reads(slot as usize));
        let all = [&head.pixels.values, &head.pixels.slopes];
        Reads {
            p: read(programs, VoxelInput::P),
            ln_p: read(programs, VoxelInput::LnP),
            q: read(programs, VoxelInput::Q),
            // A slope by ln q needs q and the classes' shares without the largest, also where no program reads ln q. Like
            // `ln_p_anywhere`, in every pass of the head.
            ln_q: !programs.is_empty() && (read(&all, VoxelInput::LnQ) || gradient::reads_ln_q(head)),
            ln_p_anywhere: read(&all, VoxelInput::LnP),
        }
    }
}

#[derive(Debug)]
pub(super) struct Block<'h> {
    head: &'h Head,
    reads: Reads,
    by_share: bool,
    classes: usize,
    /// Voxels of this block, rounded up to whole vectors.
    len: usize,
    /// Kept voxels, and labels out of range, of this block.
    pub(super) valid: u64,
    pub(super) invalid: u64,
    // One plane per class.
    /// The prediction, where it is not read straight from its buffer.
    z: Planes,
    /// p; with [`by_share`] e^(z − largest z), and `share` what to multiply it by.
    p: Planes,
    share: Planes,
    ln_p: Planes,
    q: Planes,
    ln_q: Planes,
    /// Softmax without the largest class: only where ln q is read.
    rest: Planes,
    dense: Planes,
    /// One plane, or one per class.
    map: Planes,
    /// The made maps, each with one plane per class.
    made: Planes,
    /// A block of an interleaved buffer, before its classes are taken apart.
    mixed: Vec<f32>,
    // One value per voxel.
    labels: Vec<i32>,
    weight: Planes,
    /// The target of the class at hand.
    g: Planes,
    /// The first of the largest classes, and 1 − p of it from the others; only with [`Block::has_top`].
    top: Vec<i32>,
    q_top: Planes,
    /// What [`Block::softmax_of_few`] keeps per voxel: the largest z, and the sum of e^(z − largest z) without that one's 1.
    largest: Planes,
    rest_sum: Planes,
    /// p, ln p, q, φ and the made maps of the voxel's own class, where the pixel terms look at no other.
    own: Planes,
}

/// Voxels of a block: as many as keep a few planes in the nearest caches.
pub(super) fn stride(classes: usize) -> usize {
    (PLANE_VOXELS / classes).clamp(4 * LANES, 64 * LANES) / LANES * LANES
}
const PLANE_VOXELS: usize = 4096;

/// The planes of [`Block::own`]; those of the made maps follow.
#[derive(Clone, Copy)]
enum Own {
    P,
    LnP,
    Q,
    Map,
    Made,
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
            by_share: by_share(head),
            classes,
            len: 0,
            valid: 0,
            invalid: 0,
            z: planes(true),
            p: planes(true),
            share: one(),
            ln_p: planes(every && reads.ln_p),
            q: planes(every && (reads.q || reads.ln_q) || problem.activation == Activation::Sigmoid),
            ln_q: planes(reads.ln_q),
            rest: planes(reads.ln_q && softmax),
            dense: planes(matches!(problem.target, Target::Dense(_))),
            map,
            made: Planes::new(head.maps.len() * classes, stride),
            mixed: vec![0.0; if problem.layout == Layout::Interleaved { classes * stride } else { 0 }],
            labels: vec![IGNORED; stride],
            weight: one(),
            g: one(),
            top: vec![0; stride],
            q_top: one(),
            largest: one(),
            rest_sum: one(),
            own: Planes::new(if head.own_class { Own::Made as usize + head.maps.len() } else { 0 }, stride),
        }
    }

    /// Vectors of the block.
    #[inline(always)]
    pub(super) fn columns(&self) -> usize {
        self.len / LANES
    }
    /// m of every voxel; 0 where it does not count.
    #[inline(always)]
    pub(super) fn weight(&self) -> Vectors<'_> {
        self.weight.vectors(0, self.columns())
    }
    /// Whether every voxel of the block counts.
    #[inline(always)]
    pub(super) fn all_kept(&self) -> bool {
        self.valid == self.len as u64
    }
    /// With [`by_share`] and C classes, the columns of a range. Their parts are cut to one length, so that a loop over them does not
    /// ask of each whether it is there.
    #[inline(always)]
    pub(super) fn few<const C: usize>(&self, columns: std::ops::Range<usize>) -> Few<'_, C> {
        Few {
            e: array::from_fn(|class| self.p.part(class, columns.clone())),
            share: self.share.part(0, columns.clone()),
            rest_sum: self.rest_sum.part(0, columns.clone()),
            weight: self.weight.part(0, columns.clone()),
            labels: &self.labels.as_chunks().0[columns],
            all_kept: self.all_kept(),
        }
    }
    /// `x`·m, and 0 where a voxel does not count, whatever `x` is there.
    #[inline(always)]
    pub(super) fn weigh<S: Simd>(&self, simd: S, column: usize, x: f32x16<S>) -> f32x16<S> {
        let weighed = x * self.weight.load(simd, 0, column);
        if self.all_kept() {
            return weighed;
        }
        self.kept(simd, column).select(weighed, f32x16::splat(simd, 0.0))
    }
    /// Which voxels count.
    #[inline(always)]
    pub(super) fn kept<S: Simd>(&self, simd: S, column: usize) -> mask32x16<S> {
        classes_at(simd, &self.labels, column).simd_ge(i32x16::splat(simd, 0))
    }
    /// p of a class.
    #[inline(always)]
    pub(super) fn p_at<S: Simd>(&self, simd: S, class: usize, column: usize) -> f32x16<S> {
        let p = self.p.load(simd, class, column);
        if self.by_share { p * self.share(simd, column) } else { p }
    }
    /// Whether p is a product where it is read; see [`by_share`].
    #[inline(always)]
    pub(super) fn by_share(&self) -> bool {
        self.by_share
    }
    /// With [`by_share`], p of the largest class.
    #[inline(always)]
    fn share<S: Simd>(&self, simd: S, column: usize) -> f32x16<S> {
        self.share.load(simd, 0, column)
    }
    /// 1 − p of a class; only after sigmoid, or where a program reads it.
    #[inline(always)]
    pub(super) fn q_at<S: Simd>(&self, simd: S, class: usize, column: usize) -> f32x16<S> {
        self.q.load(simd, class, column)
    }
    /// p of a class among all classes but the largest; 0 for that one.
    /// A block whose planes hold p itself, for those that read them voxel by voxel.
    pub(super) fn with_p(mut self) -> Self {
        self.by_share = false;
        self
    }
    #[inline(always)]
    pub(super) fn rest<S: Simd>(&self, simd: S, class: usize, column: usize) -> f32x16<S> {
        self.rest.load(simd, class, column)
    }
    /// p of a class; not with [`by_share`].
    #[inline(always)]
    pub(super) fn p(&self, class: usize) -> Vectors<'_> {
        debug_assert!(!self.by_share);
        self.p.vectors(class, self.columns())
    }
    /// 1 − p of a class, as [`Block::q_at`].
    #[inline(always)]
    pub(super) fn q(&self, class: usize) -> Vectors<'_> {
        self.q.vectors(class, self.columns())
    }
    /// 1 − p of each voxel's own class.
    #[inline(always)]
    pub(super) fn own_q(&self) -> Vectors<'_> {
        self.own.vectors(Own::Q as usize, self.columns())
    }
    /// Where a class is the voxel's own, with labels.
    #[inline(always)]
    pub(super) fn own_class(&self, class: usize) -> OwnClass<'_> {
        let labels = self.labels[..self.len].as_chunks::<LANES>().0;
        OwnClass { labels, label: label_of(class, self.classes) }
    }
    /// g of a class by column, with a dense target.
    #[inline(always)]
    pub(super) fn dense(&self, class: usize) -> Vectors<'_> {
        self.dense.vectors(class, self.columns())
    }
    /// Whether the target is dense.
    #[inline(always)]
    pub(super) fn is_dense(&self) -> bool {
        !self.dense.is_empty()
    }
    /// The target of sixteen voxels.
    #[inline(always)]
    pub(super) fn truth<S: Simd>(&self, simd: S, column: usize) -> Truth<'_, S> {
        let dense = self.is_dense().then_some(&self.dense);
        Truth { simd, labels: classes_at(simd, &self.labels, column), classes: self.classes, dense, column }
    }
    /// Where a class is the first of the largest; only with [`Block::has_top`].
    #[inline(always)]
    pub(super) fn is_top<S: Simd>(&self, simd: S, class: usize, column: usize) -> mask32x16<S> {
        classes_at(simd, &self.top, column).simd_eq(i32x16::splat(simd, class as i32))
    }
    /// Whether the largest class is known: after softmax, where pixel terms look at every class. Their slopes can be so
    /// large that 1 − p must not be made from a p of nearly 1.
    #[inline(always)]
    pub(super) fn has_top(&self) -> bool {
        has_top(self.head)
    }
    /// 1 − p of the largest class.
    #[inline(always)]
    pub(super) fn q_top(&self) -> Vectors<'_> {
        self.q_top.vectors(0, self.columns())
    }
    /// The array of an input slot of a pixel program, for the class that [`Block::select`] chose.
    #[inline(always)]
    pub(super) fn input(&self, slot: u8, class: usize) -> Vectors<'_> {
        let (planes, class) = match VoxelInput::ALL[slot as usize] {
            VoxelInput::P => (&self.p, class),
            VoxelInput::LnP => (&self.ln_p, class),
            VoxelInput::Q => (&self.q, class),
            VoxelInput::LnQ => (&self.ln_q, class),
            VoxelInput::G => (&self.g, 0),
            VoxelInput::Map if self.head.problem.map == Some(Map::Shared) => (&self.map, 0),
            VoxelInput::Map => (&self.map, class),
            made if made.is_shared() => (&self.made, self.made_number(made) * self.classes),
            made => (&self.made, self.made_number(made) * self.classes + class),
        };
        planes.vectors(class, self.columns())
    }
    /// The array of an input slot for each voxel's own class.
    #[inline(always)]
    pub(super) fn own_input(&self, slot: u8) -> Vectors<'_> {
        let own = match VoxelInput::ALL[slot as usize] {
            VoxelInput::P => Own::P,
            VoxelInput::LnP => Own::LnP,
            VoxelInput::Q => Own::Q,
            VoxelInput::Map if self.head.problem.map == Some(Map::Shared) => {
                return self.map.vectors(0, self.columns());
            }
            VoxelInput::Map => Own::Map,
            VoxelInput::G | VoxelInput::LnQ => unreachable!("programs of the own class read neither g nor ln q"),
            made if made.is_shared() => {
                return self.made.vectors(self.made_number(made) * self.classes, self.columns());
            }
            made => return self.own.vectors(Own::Made as usize + self.made_number(made), self.columns()),
        };
        self.own.vectors(own as usize, self.columns())
    }
    /// Which of the head's maps a slot is.
    #[inline(always)]
    fn made_number(&self, input: VoxelInput) -> usize {
        self.head.maps.iter().position(|map| map.input == input).expect("a map that a program reads is planned")
    }
    /// The class of each voxel of the block, 0 with a dense target; negative where the voxel does not count.
    #[inline(always)]
    pub(super) fn labels(&self) -> &[i32] {
        &self.labels[..self.len]
    }
    /// p of a class, voxel by voxel.
    #[inline(always)]
    pub(super) fn plane_of_p(&self, class: usize) -> &[f32] {
        debug_assert!(!self.by_share);
        self.p.plane(class, self.len)
    }
    /// m, voxel by voxel; 0 where a voxel does not count.
    #[inline(always)]
    pub(super) fn plane_of_weight(&self) -> &[f32] {
        self.weight.plane(0, self.len)
    }
    /// g of a class, voxel by voxel; only with a dense target.
    #[inline(always)]
    pub(super) fn plane_of_dense(&self, class: usize) -> &[f32] {
        self.dense.plane(class, self.len)
    }
    /// C.
    #[inline(always)]
    pub(super) fn classes(&self) -> usize {
        self.classes
    }
    /// The most voxels that a block holds.
    #[inline(always)]
    pub(super) fn stride(&self) -> usize {
        stride(self.classes)
    }

    /// Loads which voxels count, and the target.
    #[inline(always)]
    pub(super) fn load_target<S: Simd>(&mut self, simd: S, sources: &Sources<'_>, range: Range) {
        let problem = &self.head.problem;
        let voxels = problem.shape.voxels() as usize;
        let first = range.sample * voxels + range.start;
        self.len = range.len.next_multiple_of(LANES);
        self.labels[range.len..self.len].fill(IGNORED);
        let labels = &mut self.labels[..range.len];
        match problem.target {
            Target::Labels(_) => {
                let limit = self.classes.max(2) as i32;
                sources.target.prefetch_after(first, range.len);
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
                if self.head.own_class {
                    self.own_map(simd);
                }
            }
            _ => {}
        }
        for (number, (map, source)) in self.head.maps.iter().zip(&sources.made).enumerate() {
            let Some(source) = source else { continue };
            let planes = map.planes(self.classes);
            for made in 0..planes {
                let plane = self.made.plane_mut(number * self.classes + map.first_class + made, self.len);
                let first = (range.sample * planes + made) * voxels + range.start;
                let (values, rest) = plane.split_at_mut(range.len);
                source.read_f32(first, values);
                rest.fill(0.0);
            }
            if self.head.own_class && !map.input.is_shared() {
                self.own_made(simd, number);
            }
        }
    }

    /// Sets the values of voxels that do not count to 0, whatever they held; NaN times weight 0 would be NaN.
    #[inline(always)]
    fn clear_dropped(&mut self, planes: impl Fn(&mut Self) -> &mut Planes) {
        let len = self.len;
        if self.all_kept() {
            return;
        }
        let mut values = std::mem::take(planes(self));
        for plane in 0..values.count() {
            for (x, &label) in values.plane_mut(plane, len).iter_mut().zip(&self.labels) {
                *x = if label >= 0 { *x } else { 0.0 };
            }
        }
        *planes(self) = values;
    }

    /// Makes the target of this class an array, for programs that read it.
    #[inline(always)]
    pub(super) fn select<S: Simd>(&mut self, simd: S, class: usize) {
        for column in 0..self.columns() {
            let g = self.truth(simd, column).g(class);
            self.g.store(0, column, g);
        }
    }

    /// Loads the prediction and turns it into what the pass reads: p, and ln p, q, ln q where asked.
    #[inline(always)]
    pub(super) fn load_prediction<S: Simd>(&mut self, simd: S, sources: &Sources<'_>, range: Range) {
        let problem = &self.head.problem;
        let mut z = std::mem::take(&mut self.z);
        let direct = problem.layout == Layout::Planar && sources.prediction.dtype() == DType::F32;
        // Whole vectors of kept voxels need no copy.
        let in_place = direct && self.classes <= DIRECT_CLASSES && self.all_kept();
        if !in_place {
            load_planes(&sources.prediction, range, self.head, &mut self.mixed, &mut z);
            self.z = z;
            self.clear_dropped(|block| &mut block.z);
            z = std::mem::take(&mut self.z);
        }
        if self.classes <= DIRECT_CLASSES {
            let (voxels, classes) = (problem.shape.voxels() as usize, self.classes);
            let mut planes: [&[[f32; LANES]]; DIRECT_CLASSES] = [&[]; DIRECT_CLASSES];
            for (class, plane) in planes[..classes].iter_mut().enumerate() {
                let first = (range.sample * classes + class) * voxels + range.start;
                *plane =
                    if in_place { sources.prediction.f32s(first, range.len).as_chunks().0 } else { z.arrays(class) };
            }
            self.activate(simd, Slices(&planes));
        } else {
            self.activate(simd, &z);
        }
        self.z = z;
    }

    #[inline(always)]
    fn activate<S: Simd, Z: Logits>(&mut self, simd: S, z: Z) {
        match self.head.problem.activation {
            Activation::None => self.probabilities(simd, z),
            Activation::Sigmoid => self.sigmoid(simd, z),
            Activation::Softmax if !Z::FEW || self.has_top() || self.reads.ln_q => self.softmax(simd, z),
            Activation::Softmax => {
                few_classes!(
                    self.classes,
                    C => in_a_function!(simd, self.softmax_of_few::<S, C>(simd, z)),
                    self.softmax(simd, z)
                )
            }
        }
    }

    #[inline(always)]
    fn probabilities<S: Simd>(&mut self, simd: S, z: impl Logits) {
        let (half, floor) = (f32x16::splat(simd, 0.5), f32x16::splat(simd, PROBABILITY_FLOOR as f32));
        let floored_ln = |x: f32x16<S>| math::ln_lanes(simd, x.simd_lt(floor).select(floor, x));
        for class in 0..self.classes {
            for column in 0..self.columns() {
                let p = z.load(simd, class, column);
                let q = f32x16::splat(simd, 1.0) - p;
                self.p.store(class, column, p);
                if self.reads.ln_p {
                    self.ln_p.store(class, column, floored_ln(p));
                }
                if self.reads.q || self.reads.ln_q {
                    self.q.store(class, column, q);
                }
                if self.reads.ln_q {
                    let near = math::ln_1p_lanes(simd, -p);
                    self.ln_q.store(class, column, p.abs().simd_lt(half).select(near, floored_ln(q)));
                }
            }
        }
    }

    #[inline(always)]
    fn sigmoid<S: Simd>(&mut self, simd: S, z: impl Logits) {
        let (zero, one) = (f32x16::splat(simd, 0.0), f32x16::splat(simd, 1.0));
        let logs = self.reads.ln_p || self.reads.ln_q;
        for class in 0..self.classes {
            for column in 0..self.columns() {
                let z = z.load(simd, class, column);
                let e = math::exp_of_negative(simd, -z.abs());
                let large = one / (one + e);
                let small = e * large;
                let positive = z.simd_ge(zero);
                self.p.store(class, column, positive.select(large, small));
                self.q.store(class, column, positive.select(small, large));
                if logs {
                    // ln p = min(z, 0) − ln(1 + e^−|z|), and ln q the same of −z; NaN passes both comparisons.
                    let tail = math::ln_1p_lanes(simd, e);
                    let finite = |x: f32x16<S>| math::finite_ln(simd, x - tail);
                    if self.reads.ln_p {
                        self.ln_p.store(class, column, finite(z.simd_lt(zero).select(z, zero)));
                    }
                    if self.reads.ln_q {
                        self.ln_q.store(class, column, finite(z.simd_gt(zero).select(-z, zero)));
                    }
                }
            }
        }
    }

    /// Column by column, so that the classes of sixteen voxels stay in registers and the nearest cache: largest logit,
    /// exponentials and their sum, then what the pass reads.
    #[inline(always)]
    fn softmax<S: Simd>(&mut self, simd: S, z: impl Logits) {
        let (classes, own) = (self.classes, self.head.own_class);
        let (zero, one) = (f32x16::splat(simd, 0.0), f32x16::splat(simd, 1.0));
        let every_ln_p = self.reads.ln_p && !own;
        let has_top = self.has_top();
        let exact_rest = own || has_top || self.reads.ln_p_anywhere;
        let q = !self.q.is_empty();
        for column in 0..self.columns() {
            if self.reads.ln_q {
                self.without_largest(simd, column, z);
            }
            // A NaN may win or lose here: the exponential of its own class is NaN all the same, and so is the sum.
            let mut largest = z.load(simd, 0, column);
            for class in 1..classes {
                largest = largest.max(z.load(simd, class, column));
            }
            // The largest classes are counted, the others summed: 1 + others would lose a small sum, and with it ln p and
            // 1 − p of a class that is nearly certain.
            let (mut others, mut ties) = (zero, zero);
            let (mut own_shifted, mut own_e) = (zero, zero);
            let mut top = i32x16::splat(simd, 0);
            let labels = classes_at(simd, &self.labels, column);
            for class in 0..classes {
                let shifted = z.load(simd, class, column) - largest;
                let e = math::exp_of_negative(simd, shifted);
                self.p.store(class, column, e);
                if exact_rest {
                    let is_largest = shifted.simd_eq(zero);
                    if has_top {
                        let is_first = is_largest & ties.simd_eq(zero);
                        top = is_first.select(i32x16::splat(simd, class as i32), top);
                    }
                    others += is_largest.select(zero, e);
                    ties += is_largest.select(one, zero);
                } else {
                    others += e;
                }
                if every_ln_p {
                    self.ln_p.store(class, column, shifted);
                }
                if own {
                    let is_own = labels.simd_eq(i32x16::splat(simd, class as i32));
                    own_shifted = is_own.select(shifted, own_shifted);
                    own_e = is_own.select(e, own_e);
                }
            }
            let sum = others + ties;
            let share = one / sum;
            let rest = others + (ties - one);
            if self.reads.ln_p {
                let ln_sum = ln_of_sum(simd, rest, sum, share);
                if own {
                    self.own.store(Own::LnP as usize, column, math::finite_ln(simd, own_shifted - ln_sum));
                } else {
                    for class in 0..classes {
                        let ln_p = self.ln_p.load(simd, class, column) - ln_sum;
                        self.ln_p.store(class, column, math::finite_ln(simd, ln_p));
                    }
                }
            }
            if has_top {
                top.store_slice(&mut self.top[column * LANES..][..LANES]);
                self.q_top.store(0, column, rest * share);
            }
            if own {
                let p = own_e * share;
                let q = own_shifted.simd_eq(zero).select(rest * share, one - p);
                self.own.store(Own::P as usize, column, p);
                self.own.store(Own::Q as usize, column, q);
            }
            for class in 0..classes {
                let p = self.p.load(simd, class, column) * share;
                self.p.store(class, column, p);
                if q {
                    let is_top = top.simd_eq(i32x16::splat(simd, class as i32));
                    self.q.store(class, column, is_top.select(rest * share, one - p));
                }
            }
            if self.reads.ln_q {
                self.complete_ln_q(simd, column);
            }
        }
    }

    /// [`Block::softmax`] of few classes, where pixel terms look at no class but the voxel's own.
    ///
    /// The number of classes is known to the compiler, so that a column stays in registers.
    #[inline(always)]
    fn softmax_of_few<S: Simd, const C: usize>(&mut self, simd: S, z: impl Logits) {
        let z: [&[[f32; LANES]]; C] = array::from_fn(|class| &z.plane(class)[..self.columns()]);
        self.exponentials(simd, z);
        if self.head.own_class && (self.reads.p || self.reads.q || !self.by_share) {
            self.own_shares::<S, C>(simd);
        }
        if self.head.own_class && self.reads.ln_p {
            self.own_ln_p(simd, z);
        }
        if !self.by_share {
            for class in 0..C {
                for column in 0..self.columns() {
                    self.p.store(class, column, self.p.load(simd, class, column) * self.share(simd, column));
                }
            }
        }
    }

    /// e^(z − largest z) of each class in place of p, its sum without the largest class, and what makes it p.
    #[inline(always)]
    fn exponentials<S: Simd, const C: usize>(&mut self, simd: S, z: [&[[f32; LANES]]; C]) {
        let (zero, one) = (f32x16::splat(simd, 0.0), f32x16::splat(simd, 1.0));
        let columns = self.columns();
        let p: [_; C] = self.p.each_mut(columns);
        let [largests] = self.largest.each_mut(columns);
        let [rests] = self.rest_sum.each_mut(columns);
        let [shares] = self.share.each_mut(columns);
        for column in 0..columns {
            let mut e = [zero; C];
            for class in 0..C {
                prefetch(z[class].as_ptr().wrapping_add(column + columns));
                e[class] = f32x16::load_array_ref(simd, &z[class][column]);
            }
            // A NaN may win or lose here: the exponential of its own class is NaN all the same, and so is the sum.
            let mut largest = e[0];
            for z in &e[1..] {
                largest = largest.max(*z);
            }
            largest.store_array(&mut largests[column]);
            for class in 0..C {
                e[class] = math::exp_of_negative(simd, e[class] - largest);
                e[class].store_array(&mut p[class][column]);
            }
            // The least of each pair of what is known and what comes: all but one of the largest, which is 1. That 1 would
            // take from a small sum its digits, and with them ln p and 1 − p of a class that is nearly certain.
            let (mut rest, mut sum, mut top) = (zero, e[0], e[0]);
            for &e in &e[1..] {
                rest += top.min(e);
                top = top.max(e);
                sum += e;
            }
            rest.store_array(&mut rests[column]);
            (one / sum).store_array(&mut shares[column]);
        }
    }

    /// p and 1 − p of the own class.
    #[inline(always)]
    fn own_shares<S: Simd, const C: usize>(&mut self, simd: S) {
        let mut own_planes = std::mem::take(&mut self.own);
        let columns = self.columns();
        let few = self.few::<C>(0..columns);
        let [own_p, _, own_q] = own_planes.each_mut(columns);
        for column in 0..columns {
            let own = few.own(simd, column);
            let mut own_e = f32x16::splat(simd, 0.0);
            for (class, own) in own.into_iter().enumerate() {
                own_e = own.select(few.e(simd, class, column), own_e);
            }
            (own_e * few.share(simd, column)).store_array(&mut own_p[column]);
            few.own_q(simd, column, own_e).store_array(&mut own_q[column]);
        }
        self.own = own_planes;
    }

    /// ln p of the own class.
    #[inline(always)]
    fn own_ln_p<S: Simd, const C: usize>(&mut self, simd: S, z: [&[[f32; LANES]]; C]) {
        let one = f32x16::splat(simd, 1.0);
        let mut own_planes = std::mem::take(&mut self.own);
        let columns = self.columns();
        let few = self.few::<C>(0..columns);
        let largests = self.largest.part(0, 0..columns);
        let [_, own_ln_p] = own_planes.each_mut(columns);
        for column in 0..columns {
            let own = few.own(simd, column);
            let largest = largests.load(simd, column);
            let mut own_z = largest;
            for (own, z) in own.into_iter().zip(z) {
                own_z = own.select(f32x16::load_array_ref(simd, &z[column]), own_z);
            }
            let rest = few.rest_sum(simd, column);
            let ln_p = (own_z - largest) - ln_of_sum(simd, rest, one + rest, few.share(simd, column));
            math::finite_ln(simd, ln_p).store_array(&mut own_ln_p[column]);
        }
        self.own = own_planes;
    }

    /// φ of each voxel's own class.
    #[inline(always)]
    fn own_map<S: Simd>(&mut self, simd: S) {
        for column in 0..self.columns() {
            let of_own = self.of_own_class(simd, column, &self.map, 0);
            self.own.store(Own::Map as usize, column, of_own);
        }
    }

    /// A made map of each voxel's own class.
    #[inline(always)]
    fn own_made<S: Simd>(&mut self, simd: S, number: usize) {
        for column in 0..self.columns() {
            let of_own = self.of_own_class(simd, column, &self.made, number * self.classes);
            self.own.store(Own::Made as usize + number, column, of_own);
        }
    }

    /// Of planes with one for each class from `first` on, that of each voxel's own class.
    #[inline(always)]
    fn of_own_class<S: Simd>(&self, simd: S, column: usize, planes: &Planes, first: usize) -> f32x16<S> {
        let mut of_own = f32x16::splat(simd, 0.0);
        for class in 0..self.classes {
            of_own = self.truth(simd, column).is_own(class).select(planes.load(simd, first + class, column), of_own);
        }
        of_own
    }

    /// Softmax over all classes but the largest, from the logits; ln q of the largest goes to its plane.
    ///
    /// For the largest class 1 − p cancels; ln q is the log-sum-exp of the others less that of all.
    #[inline(always)]
    fn without_largest<S: Simd>(&mut self, simd: S, column: usize, z: impl Logits) {
        let (zero, lowest) = (f32x16::splat(simd, 0.0), f32x16::splat(simd, f32::NEG_INFINITY));
        let (mut largest, mut second) = (z.load(simd, 0, column), lowest);
        let mut top = i32x16::splat(simd, 0);
        for class in 1..self.classes {
            let z = z.load(simd, class, column);
            let wins = z.simd_gt(largest);
            second = wins.select(largest, second.max(z));
            largest = wins.select(z, largest);
            top = wins.select(i32x16::splat(simd, class as i32), top);
        }
        top.store_slice(&mut self.top[column * LANES..][..LANES]);
        // Where all others are −∞, any finite shift gives them the share 0.
        second = second.simd_eq(lowest).select(zero, second);
        let mut total = zero;
        for class in 0..self.classes {
            let e = math::exp_of_negative(simd, z.load(simd, class, column) - second);
            let e = self.is_top(simd, class, column).select(zero, e);
            total += e;
            self.rest.store(class, column, e);
        }
        // ln of the others' share relative to the largest logit, r: ln q = r − ln(1 + e^r).
        let ratio = (second - largest) + math::ln_lanes(simd, total);
        let tail = math::ln_1p_lanes(simd, math::exp_of_negative(simd, -ratio.abs()));
        let ln_q = math::finite_ln(simd, ratio.simd_gt(zero).select(zero, ratio) - tail);
        for class in 0..self.classes {
            let share = self.rest.load(simd, class, column) / total;
            self.rest.store(class, column, total.simd_eq(zero).select(zero, share));
            let kept = self.ln_q.load(simd, class, column);
            self.ln_q.store(class, column, self.is_top(simd, class, column).select(ln_q, kept));
        }
    }

    /// ln q, and an exact q of the largest class, once p is known.
    #[inline(always)]
    fn complete_ln_q<S: Simd>(&mut self, simd: S, column: usize) {
        for class in 0..self.classes {
            let top = self.is_top(simd, class, column);
            let (q, ln_q) = (self.q.load(simd, class, column), self.ln_q.load(simd, class, column));
            // No class but the largest has p above ½.
            let from_q = math::ln_1p_lanes(simd, -self.p.load(simd, class, column));
            self.q.store(class, column, top.select(math::exp_of_negative(simd, ln_q), q));
            self.ln_q.store(class, column, top.select(ln_q, from_q));
        }
    }
}

/// ln(1 + rest), where `sum` is 1 + rest and `share` 1/sum: what the rounded sum has lost of the rest comes back as the
/// first term of the series.
#[inline(always)]
fn ln_of_sum<S: Simd>(simd: S, rest: f32x16<S>, sum: f32x16<S>, share: f32x16<S>) -> f32x16<S> {
    math::ln_of_normal(simd, sum) + (rest - (sum - 1.0)) * share
}

/// The prediction of a block, a plane for each class.
trait Logits: Copy {
    /// Whether there can be few classes: what is compiled for them need not be compiled twice.
    const FEW: bool;

    /// At least the vectors of the block.
    fn plane(&self, class: usize) -> &[[f32; LANES]];

    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, class: usize, column: usize) -> f32x16<S> {
        f32x16::load_array_ref(simd, &self.plane(class)[column])
    }
}

impl Logits for &Planes {
    const FEW: bool = false;

    #[inline(always)]
    fn plane(&self, class: usize) -> &[[f32; LANES]] {
        self.arrays(class)
    }
}

/// Planes anywhere: the caller's, which are read where they lie, or those of the block.
#[derive(Clone, Copy)]
struct Slices<'a>(&'a [&'a [[f32; LANES]]]);

impl Logits for Slices<'_> {
    const FEW: bool = true;

    #[inline(always)]
    fn plane(&self, class: usize) -> &[[f32; LANES]] {
        self.0[class]
    }
}

/// Columns of a block of few classes; see [`Block::few`].
pub(super) struct Few<'a, const C: usize> {
    e: [Vectors<'a>; C],
    share: Vectors<'a>,
    rest_sum: Vectors<'a>,
    weight: Vectors<'a>,
    labels: &'a [[i32; LANES]],
    all_kept: bool,
}

impl<const C: usize> Few<'_, C> {
    /// e^(z − largest z) of a class.
    #[inline(always)]
    pub(super) fn e<S: Simd>(&self, simd: S, class: usize, column: usize) -> f32x16<S> {
        self.e[class].load(simd, column)
    }
    /// p of the largest class.
    #[inline(always)]
    pub(super) fn share<S: Simd>(&self, simd: S, column: usize) -> f32x16<S> {
        self.share.load(simd, column)
    }
    /// m of every voxel; 0 where it does not count.
    #[inline(always)]
    pub(super) fn weight<S: Simd>(&self, simd: S, column: usize) -> f32x16<S> {
        self.weight.load(simd, column)
    }
    /// The sum of e without that of the largest class.
    #[inline(always)]
    fn rest_sum<S: Simd>(&self, simd: S, column: usize) -> f32x16<S> {
        self.rest_sum.load(simd, column)
    }
    /// Where each class is the voxel's own.
    #[inline(always)]
    pub(super) fn own<S: Simd>(&self, simd: S, column: usize) -> [mask32x16<S>; C] {
        let labels = i32x16::load_array_ref(simd, &self.labels[column]);
        array::from_fn(|class| labels.simd_eq(i32x16::splat(simd, label_of(class, C))))
    }
    /// 1 − p of the voxel's own class, whose e is `own_e`.
    #[inline(always)]
    pub(super) fn own_q<S: Simd>(&self, simd: S, column: usize, own_e: f32x16<S>) -> f32x16<S> {
        let (one, share) = (f32x16::splat(simd, 1.0), self.share(simd, column));
        own_e.simd_eq(one).select(self.rest_sum(simd, column) * share, one - own_e * share)
    }
    /// As [`Block::weigh`], for all classes of a column.
    #[inline(always)]
    pub(super) fn weigh<S: Simd>(&self, simd: S, column: usize, x: &mut [f32x16<S>; C]) {
        let weight = self.weight(simd, column);
        x.iter_mut().for_each(|x| *x *= weight);
        if !self.all_kept {
            let (zero, none) = (f32x16::splat(simd, 0.0), i32x16::splat(simd, 0));
            let kept = i32x16::load_array_ref(simd, &self.labels[column]).simd_ge(none);
            x.iter_mut().for_each(|x| *x = kept.select(*x, zero));
        }
    }
}

/// Whether p is a product where it is read: after softmax of few classes with labels, where no pixel term looks at another
/// class than the voxel's own.
pub(super) fn by_share(head: &Head) -> bool {
    let problem = &head.problem;
    let few = few_classes!(problem.shape.classes(), _C => true, false);
    let labels = matches!(problem.target, Target::Labels(_));
    let cost = head.moments.contains(&Moment::Cost);
    few && problem.activation == Activation::Softmax && labels && !has_top(head) && !cost
}

/// See [`Block::has_top`].
pub(super) fn has_top(head: &Head) -> bool {
    let pixel_terms = !head.pixels.values.outputs().is_empty();
    head.problem.activation == Activation::Softmax && !head.own_class && pixel_terms
}

/// The target of one class by column. A type and not a closure: what must be compiled for an instruction set has to be
/// inlined whatever its size, which closures are not.
pub(super) trait ClassTruth<S: Simd>: Copy {
    /// g of sixteen voxels.
    fn g(self, simd: S, column: usize) -> f32x16<S>;
}

impl<S: Simd> ClassTruth<S> for Vectors<'_> {
    #[inline(always)]
    fn g(self, simd: S, column: usize) -> f32x16<S> {
        self.load(simd, column)
    }
}

/// Where one class is the voxel's own, with labels.
#[derive(Clone, Copy)]
pub(super) struct OwnClass<'a> {
    labels: &'a [[i32; LANES]],
    label: i32,
}

impl OwnClass<'_> {
    #[inline(always)]
    pub(super) fn mask<S: Simd>(self, simd: S, column: usize) -> mask32x16<S> {
        i32x16::load_array_ref(simd, &self.labels[column]).simd_eq(i32x16::splat(simd, self.label))
    }
}

impl<S: Simd> ClassTruth<S> for OwnClass<'_> {
    #[inline(always)]
    fn g(self, simd: S, column: usize) -> f32x16<S> {
        self.mask(simd, column).select(f32x16::splat(simd, 1.0), f32x16::splat(simd, 0.0))
    }
}

/// Compiles an expression for labels and for values: `$truth` is the [`ClassTruth`] of a class.
macro_rules! with_truth {
    ($block:expr, $class:expr, |$truth:ident| $body:expr) => {
        if $block.is_dense() {
            let $truth = $block.dense($class);
            $body
        } else {
            let $truth = $block.own_class($class);
            $body
        }
    };
}
pub(super) use with_truth;

/// The target of sixteen voxels: labels, or one value per class.
#[derive(Clone, Copy)]
pub(super) struct Truth<'a, S: Simd> {
    simd: S,
    labels: i32x16<S>,
    classes: usize,
    dense: Option<&'a Planes>,
    column: usize,
}

impl<S: Simd> Truth<'_, S> {
    /// Where `class` is the voxel's own, with labels.
    #[inline(always)]
    pub(super) fn is_own(&self, class: usize) -> mask32x16<S> {
        self.labels.simd_eq(i32x16::splat(self.simd, label_of(class, self.classes)))
    }
    /// g of a class.
    #[inline(always)]
    pub(super) fn g(&self, class: usize) -> f32x16<S> {
        match self.dense {
            Some(planes) => planes.load(self.simd, class, self.column),
            None => self.is_own(class).select(f32x16::splat(self.simd, 1.0), f32x16::splat(self.simd, 0.0)),
        }
    }
    /// The entry of each voxel's own class; any where the voxel does not count.
    #[inline(always)]
    pub(super) fn pick(&self, by_class: &[f32]) -> f32x16<S> {
        let labels = self.labels.to_array();
        f32x16::from_fn(self.simd, |lane| by_class[labels[lane].max(0) as usize])
    }
}

/// The label that means `class`: with one class, label 1 is the class and 0 is not.
#[inline(always)]
fn label_of(class: usize, classes: usize) -> i32 {
    if classes == 1 { 1 } else { class as i32 }
}

/// Sixteen classes.
#[inline(always)]
fn classes_at<S: Simd>(simd: S, classes: &[i32], column: usize) -> i32x16<S> {
    i32x16::from_slice(simd, &classes[column * LANES..][..LANES])
}

/// Most classes whose planes are listed, and may be read straight from the caller's buffer.
const DIRECT_CLASSES: usize = 16;

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
                source.prefetch_after(first, range.len);
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
