//! The gradient of a block, from the coefficients of its sums.

use super::block::{Block, ClassTruth, Range, few_classes, has_top, with_truth};
use super::interpret::ArrayProgram;
use super::passes::in_a_function;
use super::planes::{LANES, Planes};
use super::view::{Target, prefetch};
use crate::dtype::DType;
use crate::plan::Head;
use crate::problem::{Activation, Layout};
use crate::spec::{Moment, Operand, VoxelInput};
use fearless_simd::{f32x16, prelude::*};
use std::array;

/// Coefficients of one sample in the order the loops want them.
#[derive(Debug)]
pub(super) struct Slopes {
    /// ∂L/∂P, ∂L/∂I, 2·∂L/∂PP of each class
    affine: Vec<[f32; 3]>,
    /// ∂L/∂D of each class
    cost: Vec<f32>,
    /// ∂L/∂X of each pixel term, of each class
    pixel: Vec<Vec<f32>>,
}

impl Slopes {
    pub(super) fn new(head: &Head) -> Slopes {
        let classes = head.problem.shape.classes();
        let pixel_terms = head.pixels.values.outputs().len();
        let cost = if head.moments.contains(&Moment::Cost) { classes } else { 0 };
        Slopes { affine: vec![[0.0; 3]; classes], cost: vec![0.0; cost], pixel: vec![vec![0.0; classes]; pixel_terms] }
    }

    /// Whether nothing of a class's own voxels reaches the loss.
    fn is_zero(&self, class: usize) -> bool {
        self.affine[class] == [0.0; 3]
            && self.cost.is_empty()
            && self.pixel.iter().all(|by_class| by_class[class] == 0.0)
    }

    /// Takes the coefficients of a class, times `scale`.
    pub(super) fn set(&mut self, head: &Head, class: usize, coefficients: &[f64], scale: f64) {
        for (&moment, &c) in head.moments[head.target_moments..].iter().zip(coefficients) {
            let c = c * scale;
            match moment {
                Moment::P => self.affine[class][0] = c as f32,
                Moment::PG => self.affine[class][1] = c as f32,
                Moment::PP => self.affine[class][2] = (2.0 * c) as f32,
                Moment::Cost => self.cost[class] = c as f32,
                Moment::Pixel(k) => self.pixel[k as usize][class] = c as f32,
                Moment::N | Moment::G | Moment::GG => unreachable!("sums over the target have no slope"),
            }
        }
    }
}

/// Buffers of the gradient of a block.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The local gradient per class: for softmax e = ∂L/∂ln p, for sigmoid ∂L/∂z, else ∂L/∂p.
    e: Planes,
    /// Σe over the classes, for softmax; without the largest class where [`Block::has_top`].
    sum: Planes,
    /// e of the largest class.
    e_top: Planes,
    /// The slope of the most probable class from P, I and PP; see [`shifts`].
    shift: Planes,
    /// ∂L/∂ln p of the voxel's own class, from pixel terms that look at no other.
    own: Planes,
    /// u = b·p/q of each class, b = ∂L/∂ln q; softmax with ln q only.
    complement: Planes,
    /// Per voxel: Σu; b·p of the largest class.
    complement_sum: Planes,
    top: Planes,
    /// The coefficients of the pixel terms as arrays.
    coefficients: Planes,
    /// The gradient before it is rounded, per class; unused where it is written as it is.
    out: Planes,
    mixed: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(head: &Head, stride: usize) -> Scratch {
        let classes = head.problem.shape.classes();
        let interleaved = head.problem.layout == Layout::Interleaved;
        let complement = reads_ln_q(head);
        let planes = |wanted: bool, count: usize| Planes::new(if wanted { count } else { 0 }, stride);
        Scratch {
            e: planes(true, classes),
            sum: planes(true, 1),
            e_top: planes(has_top(head), 1),
            shift: planes(true, 1),
            own: planes(head.own_class, 1),
            complement: planes(complement, classes),
            complement_sum: planes(complement, 1),
            top: planes(complement, 1),
            coefficients: planes(!head.own_class, head.pixels.values.outputs().len()),
            out: planes(!writes_directly(head), classes),
            mixed: vec![0.0; if interleaved { classes * stride } else { 0 }],
        }
    }
}

/// Whether the gradient is written as it is computed, without a copy of the block.
fn writes_directly(head: &Head) -> bool {
    let problem = &head.problem;
    problem.layout == Layout::Planar && problem.gradient_dtype() == DType::F32
}

/// Whether the gradient has a part by ln q: softmax only, the other activations fold it in.
pub(super) fn reads_ln_q(head: &Head) -> bool {
    let zero = |operand: &Operand| match operand {
        Operand::Literal(l) => head.pixels.slopes.literals()[*l as usize] == 0.0,
        Operand::Register(_) | Operand::Input(_) => false,
    };
    head.problem.activation == Activation::Softmax && !head.own_class && !zero(&head.pixels.slopes.outputs()[1])
}

/// Writes the gradient of a block whose prediction is loaded.
///
/// # Safety
/// As [`Target::write`]: nobody else uses this range of `target`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one block with all that a worker holds for it")]
pub(super) unsafe fn gradient<S: Simd>(
    simd: S,
    head: &Head,
    block: &mut Block<'_>,
    slopes: &Slopes,
    pixels: &mut ArrayProgram<'_>,
    scratch: &mut Scratch,
    target: &Target<'_>,
    range: Range,
) {
    let classes = head.problem.shape.classes();
    let dense_terms = !head.own_class && !slopes.pixel.is_empty();
    if head.own_class {
        own_slopes(simd, block, slopes, pixels, scratch);
    } else if dense_terms {
        pixel_slopes(simd, block, slopes, pixels, scratch);
    }
    if !slopes.cost.is_empty() {
        add_cost_slopes(simd, head, block, slopes, scratch, dense_terms);
    }
    let has_base = dense_terms || !slopes.cost.is_empty();
    if block.by_share() {
        few_classes!(
            classes,
            // SAFETY: the caller's promise.
            C => return in_a_function!(simd, unsafe {
                of_few_classes::<S, C>(simd, head, block, slopes, scratch, target, range)
            }),
            {}
        );
    }
    if head.problem.activation == Activation::Softmax {
        shifts(simd, block, slopes, scratch);
    }
    for class in 0..classes {
        with_truth!(block, class, |truth| local(simd, head, block, slopes, scratch, class, has_base, truth));
    }
    let columns = block.columns();
    if writes_directly(head) {
        let voxels = head.problem.shape.voxels() as usize;
        for class in 0..classes {
            let first = (range.sample * classes + class) * voxels + range.start;
            // SAFETY: the caller's promise; the slice is gone before the next one is made.
            let (whole, rest) = unsafe { target.f32s(first, range.len) }.as_chunks_mut();
            last_step(simd, head, block, slopes, scratch, class, 0, whole);
            if !rest.is_empty() {
                let mut last = [[0.0; LANES]];
                last_step(simd, head, block, slopes, scratch, class, columns - 1, &mut last);
                rest.copy_from_slice(&last[0][..rest.len()]);
            }
        }
    } else {
        let mut out = std::mem::take(&mut scratch.out);
        for class in 0..classes {
            last_step(simd, head, block, slopes, scratch, class, 0, out.vectors_mut(class, columns));
        }
        scratch.out = out;
        // SAFETY: the caller's promise is passed on; the planes of a block are apart from those of any other.
        unsafe { store(head, scratch, target, range) };
    }
}

/// The rest of [`gradient`] with [`Block::by_share`]: what [`shifts`], [`local`] and [`last_step`] do in turn, for sixteen
/// voxels at a time in registers.
///
/// # Safety
/// As [`gradient`].
#[inline(always)]
unsafe fn of_few_classes<S: Simd, const C: usize>(
    simd: S,
    head: &Head,
    block: &Block<'_>,
    slopes: &Slopes,
    scratch: &mut Scratch,
    target: &Target<'_>,
    range: Range,
) {
    let columns = block.columns();
    if !writes_directly(head) {
        let mut out = std::mem::take(&mut scratch.out);
        columns_of_few::<S, C>(simd, head, block, slopes, scratch, 0, out.each_mut(columns));
        scratch.out = out;
        // SAFETY: the caller's promise is passed on; the planes of a block are apart from those of any other.
        return unsafe { store(head, scratch, target, range) };
    }
    let voxels = head.problem.shape.voxels() as usize;
    let mut whole: [&mut [[f32; LANES]]; C] = array::from_fn(|_| Default::default());
    let mut rest: [&mut [f32]; C] = array::from_fn(|_| Default::default());
    for class in 0..C {
        let first = (range.sample * C + class) * voxels + range.start;
        // SAFETY: the caller's promise; the slices of different classes do not overlap.
        (whole[class], rest[class]) = unsafe { target.f32s(first, range.len) }.as_chunks_mut();
    }
    columns_of_few::<S, C>(simd, head, block, slopes, scratch, 0, whole);
    if !rest[0].is_empty() {
        let mut last = [[[0.0; LANES]]; C];
        columns_of_few::<S, C>(simd, head, block, slopes, scratch, columns - 1, last.each_mut().map(|x| &mut x[..]));
        for (rest, [last]) in rest.iter_mut().zip(&last) {
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

/// ∂L/∂z·m of all classes from column `first` on.
#[inline(always)]
fn columns_of_few<S: Simd, const C: usize>(
    simd: S,
    head: &Head,
    block: &Block<'_>,
    slopes: &Slopes,
    scratch: &Scratch,
    first: usize,
    into: [&mut [[f32; LANES]]; C],
) {
    let (zero, one) = (f32x16::splat(simd, 0.0), f32x16::splat(simd, 1.0));
    // ∂L/∂p at p = 0 of the voxel's own class and of any other, and its slope by p.
    let mut affine = [[zero; 3]; C];
    for (affine, &[by_p, by_pg, by_pp]) in affine.iter_mut().zip(&slopes.affine) {
        *affine = [by_p + by_pg, by_p, by_pp].map(|c| f32x16::splat(simd, c));
    }
    let columns = into[0].len();
    let few = block.few::<C>(first..first + columns);
    let own_slopes = head.own_class.then(|| scratch.own.part(0, first..first + columns));
    let into = into.map(|plane| &mut plane[..columns]);
    for column in 0..columns {
        let (own, share) = (few.own(simd, column), few.share(simd, column));
        let (mut p, mut slope) = ([zero; C], [zero; C]);
        let (mut shift, mut own_e) = (zero, zero);
        for class in 0..C {
            prefetch(into[class].as_ptr().wrapping_add(column + columns));
            let e = few.e(simd, class, column);
            p[class] = e * share;
            let [of_own, of_other, by_p] = affine[class];
            slope[class] = p[class].mul_add(by_p, own[class].select(of_own, of_other));
            // Of a largest class.
            shift = e.simd_eq(one).select(slope[class], shift);
            own_e = own[class].select(e, own_e);
        }
        let mut sum = zero;
        for class in 0..C {
            slope[class] -= shift;
            sum = slope[class].mul_add(p[class], sum);
        }
        let (mut own_x, mut own_xq) = (zero, zero);
        if let Some(own_slopes) = own_slopes {
            own_x = own_slopes.load(simd, column);
            own_xq = own_x * few.own_q(simd, column, own_e);
        }
        let mut dz = [zero; C];
        for class in 0..C {
            let of_own = (slope[class] - sum).mul_add(p[class], own_xq);
            let of_other = (slope[class] - (sum + own_x)) * p[class];
            dz[class] = own[class].select(of_own, of_other);
        }
        few.weigh(simd, column, &mut dz);
        for class in 0..C {
            dz[class].store_array(&mut into[class][column]);
        }
    }
}

/// The slope ∂L/∂p of each voxel's most probable class, from the sums P, I and PP.
///
/// The gradient of a softmax does not change when the same number is taken from the slopes of all classes. With this one
/// taken, the class that is nearly certain has slope 0, and e − p·Σe has nothing to cancel.
#[inline(always)]
fn shifts<S: Simd>(simd: S, block: &Block<'_>, slopes: &Slopes, scratch: &mut Scratch) {
    for column in 0..block.columns() {
        let truth = block.truth(simd, column);
        let mut largest = f32x16::splat(simd, -1.0);
        let mut shift = f32x16::splat(simd, 0.0);
        for (class, &coefficients) in slopes.affine.iter().enumerate() {
            let p = block.p_at(simd, class, column);
            let slope = affine(p, truth.g(class), coefficients);
            let wins = p.simd_gt(largest);
            largest = wins.select(p, largest);
            shift = wins.select(slope, shift);
        }
        scratch.shift.store(0, column, shift);
    }
}

/// The local gradient of a class: what the sums P, I and PP give, times the slope of the activation, added to what the cost
/// and the pixel terms have left. For softmax its sum over the classes as well.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one block with all that a worker holds for it")]
fn local<S: Simd>(
    simd: S,
    head: &Head,
    block: &Block<'_>,
    slopes: &Slopes,
    scratch: &mut Scratch,
    class: usize,
    has_base: bool,
    truth: impl ClassTruth<S>,
) {
    let columns = block.columns();
    let coefficients = slopes.affine[class];
    let p = block.p(class);
    let e = scratch.e.vectors_mut(class, columns);
    let sum = scratch.sum.vectors_mut(0, columns);
    let shift = scratch.shift.vectors(0, columns);
    match head.problem.activation {
        Activation::None => {
            for (column, e) in e.iter_mut().enumerate() {
                let p = p.load(simd, column);
                let x = affine(p, truth.g(simd, column), coefficients);
                (x + held(simd, e, has_base)).store_array(e);
            }
        }
        Activation::Sigmoid => {
            let q = block.q(class);
            for (column, e) in e.iter_mut().enumerate() {
                let p = p.load(simd, column);
                let x = affine(p, truth.g(simd, column), coefficients) * (p * q.load(simd, column));
                (x + held(simd, e, has_base)).store_array(e);
            }
        }
        Activation::Softmax if block.has_top() => {
            let e_top = scratch.e_top.vectors_mut(0, columns);
            for column in 0..columns {
                let p = p.load(simd, column);
                let slope = affine(p, truth.g(simd, column), coefficients);
                let x = (slope - shift.load(simd, column)) * p;
                let x = x + held(simd, &e[column], has_base);
                x.store_array(&mut e[column]);
                let (top, zero) = (block.is_top(simd, class, column), f32x16::splat(simd, 0.0));
                let others = held(simd, &sum[column], class > 0);
                (others + top.select(zero, x)).store_array(&mut sum[column]);
                top.select(x, held(simd, &e_top[column], class > 0)).store_array(&mut e_top[column]);
            }
        }
        Activation::Softmax => {
            for column in 0..columns {
                let p = p.load(simd, column);
                let slope = affine(p, truth.g(simd, column), coefficients);
                let x = (slope - shift.load(simd, column)) * p;
                let x = x + held(simd, &e[column], has_base);
                x.store_array(&mut e[column]);
                (x + held(simd, &sum[column], class > 0)).store_array(&mut sum[column]);
            }
        }
    }
}

/// ∂L/∂p from the sums P, I and PP, with the coefficients of [`Slopes`].
#[inline(always)]
fn affine<S: Simd>(p: f32x16<S>, g: f32x16<S>, [by_p, by_pg, by_pp]: [f32; 3]) -> f32x16<S> {
    g * by_pg + by_p + p * by_pp
}

/// What an array holds, or 0.
#[inline(always)]
fn held<S: Simd>(simd: S, array: &[f32; LANES], wanted: bool) -> f32x16<S> {
    if wanted { f32x16::load_array_ref(simd, array) } else { f32x16::splat(simd, 0.0) }
}

/// ∂L/∂z·m of a class from column `first` on: for softmax e − p·Σe.
///
/// The pixel terms of the own class come in by x = ∂L/∂ln p of that class: x·(1 − p) for itself, −x·p for the others. With
/// 1 − p at hand, nothing cancels where p is nearly 1.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one block with all that a worker holds for it")]
fn last_step<S: Simd>(
    simd: S,
    head: &Head,
    block: &Block<'_>,
    slopes: &Slopes,
    scratch: &Scratch,
    class: usize,
    first: usize,
    into: &mut [[f32; LANES]],
) {
    let (columns, ahead) = (block.columns(), into.len());
    let (e, p) = (scratch.e.vectors(class, columns), block.p(class));
    if head.problem.activation != Activation::Softmax {
        if slopes.is_zero(class) {
            // A class that is left out: its own values do not matter, not even a NaN.
            into.fill([0.0; LANES]);
            return;
        }
        for (k, into) in into.iter_mut().enumerate() {
            let column = first + k;
            block.weigh(simd, column, e.load(simd, column)).store_array(into);
        }
        return;
    }
    let sum = scratch.sum.vectors(0, columns);
    if head.own_class {
        let (own_x, own_q, own) = (scratch.own.vectors(0, columns), block.own_q(), block.own_class(class));
        for (k, into) in into.iter_mut().enumerate() {
            let column = first + k;
            prefetch(into.as_ptr().wrapping_add(LANES * ahead));
            let p = p.load(simd, column);
            let share = own.mask(simd, column).select(own_q.load(simd, column), -p);
            let dz = (e.load(simd, column) - p * sum.load(simd, column)) + own_x.load(simd, column) * share;
            block.weigh(simd, column, dz).store_array(into);
        }
    } else if block.has_top() {
        // e − p·Σe of the largest class is e·(1 − p) − p·(Σ of the others), with 1 − p as it is.
        let (q_top, e_top) = (block.q_top(), scratch.e_top.vectors(0, columns));
        let with_ln_q = !scratch.complement.is_empty();
        for (k, into) in into.iter_mut().enumerate() {
            let column = first + k;
            prefetch(into.as_ptr().wrapping_add(LANES * ahead));
            let (e, p, others) = (e.load(simd, column), p.load(simd, column), sum.load(simd, column));
            let of_top = e * q_top.load(simd, column) - p * others;
            let of_other = e - p * (others + e_top.load(simd, column));
            let mut dz = block.is_top(simd, class, column).select(of_top, of_other);
            if with_ln_q {
                dz += complement_slope(simd, block, scratch, class, column);
            }
            block.weigh(simd, column, dz).store_array(into);
        }
    } else {
        for (k, into) in into.iter_mut().enumerate() {
            let column = first + k;
            prefetch(into.as_ptr().wrapping_add(LANES * ahead));
            let dz = e.load(simd, column) - p.load(simd, column) * sum.load(simd, column);
            block.weigh(simd, column, dz).store_array(into);
        }
    }
}

/// x = Σ c_k·∂(term k)/∂ln p of each voxel's own class.
#[inline(always)]
fn own_slopes<S: Simd>(
    simd: S,
    block: &Block<'_>,
    slopes: &Slopes,
    pixels: &mut ArrayProgram<'_>,
    scratch: &mut Scratch,
) {
    let columns = block.columns();
    in_a_function!(simd, pixels.run(simd, columns, |slot| block.own_input(slot)));
    for (k, by_class) in slopes.pixel.iter().enumerate() {
        let x = pixels.output(k, columns, |slot| block.own_input(slot));
        let uniform = by_class.iter().all(|c| *c == by_class[0]);
        for column in 0..columns {
            let c = if uniform { f32x16::splat(simd, by_class[0]) } else { block.truth(simd, column).pick(by_class) };
            let mut x = x.load(simd, column) * c;
            if k > 0 {
                x += scratch.own.load(simd, 0, column);
            }
            scratch.own.store(0, column, x);
        }
    }
}

/// e of pixel terms that look at every class, and the parts by ln q.
#[inline(always)]
fn pixel_slopes<S: Simd>(
    simd: S,
    block: &mut Block<'_>,
    slopes: &Slopes,
    pixels: &mut ArrayProgram<'_>,
    scratch: &mut Scratch,
) {
    let (columns, classes) = (block.columns(), slopes.affine.len());
    let zero = f32x16::splat(simd, 0.0);
    for class in 0..classes {
        for (k, by_class) in slopes.pixel.iter().enumerate() {
            for column in 0..columns {
                scratch.coefficients.store(k, column, f32x16::splat(simd, by_class[class]));
            }
        }
        block.select(simd, class);
        let block = &*block;
        let coefficients = &scratch.coefficients;
        let input = |slot: u8| match slot.checked_sub(VoxelInput::ALL.len() as u8) {
            None => block.input(slot, class),
            Some(k) => coefficients.vectors(k as usize, columns),
        };
        in_a_function!(simd, pixels.run(simd, columns, input));
        let x = pixels.output(0, columns, input);
        for column in 0..columns {
            scratch.e.store(class, column, x.load(simd, column));
        }
        if scratch.complement.is_empty() {
            continue;
        }
        let b = pixels.output(1, columns, input);
        for column in 0..columns {
            let top = block.is_top(simd, class, column);
            let bp = b.load(simd, column) * block.p_at(simd, class, column);
            let u = top.select(zero, bp / block.q_at(simd, class, column));
            let before = if class == 0 { zero } else { scratch.complement_sum.load(simd, 0, column) };
            scratch.complement.store(class, column, u);
            scratch.complement_sum.store(0, column, before + u);
            scratch.top.store(0, column, top.select(bp, scratch.top.load(simd, 0, column)));
        }
    }
}

/// What the slopes by ln q of all classes add to ∂L/∂z of this one.
///
/// ∂ln q_c/∂z_c = −p_c and ∂ln q_c/∂z_k = p_c·p_k/q_c; where c is the largest class, p_k/q_c is `rest`.
#[inline(always)]
fn complement_slope<S: Simd>(simd: S, block: &Block<'_>, scratch: &Scratch, class: usize, column: usize) -> f32x16<S> {
    let (u, of_top) = (scratch.complement.load(simd, class, column), scratch.top.load(simd, 0, column));
    let own = block.is_top(simd, class, column).select(of_top, u * block.q_at(simd, class, column));
    let sum = scratch.complement_sum.load(simd, 0, column);
    block.p_at(simd, class, column) * (sum - u) + of_top * block.rest(simd, class, column) - own
}

/// ∂L/∂p_c = Σ_k ∂L/∂D_k·g_k·M\[k, c\], times the slope of the activation; added to `e`, or in place of it.
#[inline(always)]
fn add_cost_slopes<S: Simd>(
    simd: S,
    head: &Head,
    block: &Block<'_>,
    slopes: &Slopes,
    scratch: &mut Scratch,
    add: bool,
) {
    let matrix = head.cost_matrix.as_ref().expect("a cost moment comes with a matrix");
    let classes = head.problem.shape.classes();
    for column in 0..block.columns() {
        let truth = block.truth(simd, column);
        for class in 0..classes {
            let mut e = f32x16::splat(simd, 0.0);
            for other in 0..classes {
                e += truth.g(other) * (slopes.cost[other] * matrix[other * classes + class] as f32);
            }
            let p = block.p_at(simd, class, column);
            match head.problem.activation {
                Activation::None => {}
                Activation::Sigmoid => e *= p * block.q_at(simd, class, column),
                Activation::Softmax => e *= p,
            }
            let before = if add { scratch.e.load(simd, class, column) } else { f32x16::splat(simd, 0.0) };
            scratch.e.store(class, column, before + e);
        }
    }
}

/// # Safety
/// As [`Target::write`].
#[inline(always)]
unsafe fn store(head: &Head, scratch: &mut Scratch, target: &Target<'_>, range: Range) {
    let (classes, voxels) = (head.problem.shape.classes(), head.problem.shape.voxels() as usize);
    match head.problem.layout {
        Layout::Planar => {
            for class in 0..classes {
                let first = (range.sample * classes + class) * voxels + range.start;
                target.as_source().prefetch_after(first, range.len);
                // SAFETY: the caller's promise.
                unsafe { target.write(first, scratch.out.plane(class, range.len)) };
            }
        }
        Layout::Interleaved => {
            let mixed = &mut scratch.mixed[..range.len * classes];
            for class in 0..classes {
                for (voxel, &x) in mixed.chunks_exact_mut(classes).zip(scratch.out.plane(class, range.len)) {
                    voxel[class] = x;
                }
            }
            // SAFETY: the caller's promise.
            unsafe { target.write((range.sample * voxels + range.start) * classes, mixed) };
        }
    }
}
