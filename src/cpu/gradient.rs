//! The gradient of a block, from the coefficients of its sums.

use super::block::{Block, Range};
use super::interpret::ArrayProgram;
use super::planes::{LANES, Planes};
use super::view::Target;
use crate::dtype::DType;
use crate::plan::Head;
use crate::problem::{Activation, Layout};
use crate::spec::{Moment, Operand, VoxelInput};
use fearless_simd::{f32x16, prelude::*};

/// Coefficients of one sample in the order the loops want them, per class.
#[derive(Debug)]
pub(super) struct Slopes {
    /// ∂L/∂P, ∂L/∂I, 2·∂L/∂PP
    affine: Vec<[f32; 3]>,
    /// ∂L/∂D
    cost: Vec<f32>,
    /// ∂L/∂X of each pixel term
    pixel: Vec<Vec<f32>>,
    has_cost: bool,
}

impl Slopes {
    pub(super) fn new(head: &Head) -> Slopes {
        let classes = head.problem.shape.classes();
        let pixels = head.pixels.values.outputs().len();
        Slopes {
            affine: vec![[0.0; 3]; classes],
            cost: vec![0.0; classes],
            pixel: vec![vec![0.0; pixels]; classes],
            has_cost: head.moments.contains(&Moment::Cost),
        }
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
                Moment::Pixel(k) => self.pixel[class][k as usize] = c as f32,
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
    /// u = b·p/q of each class, b = ∂L/∂ln q; softmax with ln q only.
    complement: Planes,
    /// Per voxel: Σe; Σu; b·p of the largest class.
    sum: Planes,
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
        let direct = !interleaved && head.problem.gradient_dtype() == DType::F32;
        Scratch {
            e: Planes::new(classes, stride),
            complement: Planes::new(if reads_ln_q(head) { classes } else { 0 }, stride),
            sum: Planes::new(1, stride),
            complement_sum: Planes::new(1, stride),
            top: Planes::new(1, stride),
            coefficients: Planes::new(head.pixels.values.outputs().len(), stride),
            out: Planes::new(if direct { 0 } else { classes }, stride),
            mixed: vec![0.0; if interleaved { classes * stride } else { 0 }],
        }
    }
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
    let (classes, columns) = (head.problem.shape.classes(), block.columns());
    let pixel_terms = head.pixels.values.outputs().len();
    let zero = f32x16::splat(simd, 0.0);
    for column in 0..columns {
        scratch.sum.store(0, column, zero);
        scratch.complement_sum.store(0, column, zero);
    }
    if slopes.has_cost {
        cost_slopes(simd, head, block, slopes, scratch);
    }
    if head.own_class {
        pixels.run(simd, columns, |slot| block.own_input(slot));
    }
    for class in 0..classes {
        local(simd, head, block, slopes, pixels, scratch, class);
        if pixel_terms > 0 && !head.own_class {
            add_pixel_slopes(simd, block, slopes, pixels, scratch, class);
        }
    }
    let direct = head.problem.layout == Layout::Planar && target.dtype() == DType::F32;
    for class in 0..classes {
        if !scratch.complement.is_empty() {
            add_complement_slopes(simd, block, scratch, class);
        }
        if direct {
            let first = (range.sample * classes + class) * head.problem.shape.voxels() as usize + range.start;
            // SAFETY: the caller's promise; the slice is gone before the next one is made.
            let into = unsafe { target.f32s(first, range.len) };
            let (whole, rest) = into.as_chunks_mut::<LANES>();
            for (column, into) in whole.iter_mut().enumerate() {
                last_step(simd, head, block, scratch, class, column).store_array(into);
            }
            if !rest.is_empty() {
                let last = last_step(simd, head, block, scratch, class, columns - 1).to_array();
                rest.copy_from_slice(&last[..rest.len()]);
            }
        } else {
            for column in 0..columns {
                let x = last_step(simd, head, block, scratch, class, column);
                scratch.out.store(class, column, x);
            }
        }
    }
    if !direct {
        // SAFETY: the caller's promise is passed on; the planes of a block are apart from those of any other.
        unsafe { store(head, scratch, target, range) };
    }
}

/// The part of the sums P, I, PP and D, times the slope of the activation, and of the pixel terms of the own class.
#[inline(always)]
fn local<S: Simd>(
    simd: S,
    head: &Head,
    block: &Block<'_>,
    slopes: &Slopes,
    pixels: &ArrayProgram<'_>,
    scratch: &mut Scratch,
    class: usize,
) {
    let [by_p, by_pg, by_pp] = slopes.affine[class];
    let activation = head.problem.activation;
    let columns = block.columns();
    let own = |k: usize| pixels.output(k, columns, |slot| block.own_input(slot));
    let first_own = head.own_class.then(|| (own(0), f32x16::splat(simd, slopes.pixel[class][0])));
    for column in 0..columns {
        let (p, g) = (block.p(class).load(simd, column), block.target(simd, class, column));
        let mut e = p * by_pp + g * by_pg + by_p;
        if slopes.has_cost {
            e += scratch.e.load(simd, class, column);
        }
        match activation {
            Activation::None => {}
            Activation::Sigmoid => e *= p * block.q(class).load(simd, column),
            Activation::Softmax => e *= p,
        }
        if let Some((x, c)) = first_own {
            let mut x = x.load(simd, column) * c;
            for k in 1..slopes.pixel[class].len() {
                x += own(k).load(simd, column) * slopes.pixel[class][k];
            }
            e += x * g;
        }
        scratch.e.store(class, column, e);
        if activation == Activation::Softmax {
            scratch.sum.store(0, column, scratch.sum.load(simd, 0, column) + e);
        }
    }
}

/// The part of pixel terms that look at every class.
#[inline(always)]
fn add_pixel_slopes<S: Simd>(
    simd: S,
    block: &mut Block<'_>,
    slopes: &Slopes,
    pixels: &mut ArrayProgram<'_>,
    scratch: &mut Scratch,
    class: usize,
) {
    let columns = block.columns();
    for (k, &c) in slopes.pixel[class].iter().enumerate() {
        for column in 0..columns {
            scratch.coefficients.store(k, column, f32x16::splat(simd, c));
        }
    }
    block.select(simd, class);
    let block = &*block;
    let coefficients = &scratch.coefficients;
    let input = |slot: u8| match slot.checked_sub(VoxelInput::ALL.len() as u8) {
        None => block.input(slot, class),
        Some(k) => coefficients.vectors(k as usize, columns),
    };
    pixels.run(simd, columns, input);
    let x = pixels.output(0, columns, input);
    for column in 0..columns {
        let x = x.load(simd, column);
        scratch.e.store(class, column, scratch.e.load(simd, class, column) + x);
        scratch.sum.store(0, column, scratch.sum.load(simd, 0, column) + x);
    }
    if scratch.complement.is_empty() {
        return;
    }
    let b = pixels.output(1, columns, input);
    let zero = f32x16::splat(simd, 0.0);
    for column in 0..columns {
        let top = block.is_top(simd, class, column);
        let bp = b.load(simd, column) * block.p(class).load(simd, column);
        let u = top.select(zero, bp / block.q(class).load(simd, column));
        scratch.complement.store(class, column, u);
        scratch.complement_sum.store(0, column, scratch.complement_sum.load(simd, 0, column) + u);
        scratch.top.store(0, column, top.select(bp, scratch.top.load(simd, 0, column)));
    }
}

/// Adds the slopes by ln q of all classes to ∂L/∂z of this one.
///
/// ∂ln q_c/∂z_c = −p_c and ∂ln q_c/∂z_k = p_c·p_k/q_c; where c is the largest class, p_k/q_c is `rest`.
#[inline(always)]
fn add_complement_slopes<S: Simd>(simd: S, block: &Block<'_>, scratch: &mut Scratch, class: usize) {
    for column in 0..block.columns() {
        let at = |planes: &Planes, plane: usize| planes.load(simd, plane, column);
        let (u, of_top) = (at(&scratch.complement, class), at(&scratch.top, 0));
        let own = block.is_top(simd, class, column).select(of_top, u * block.q(class).load(simd, column));
        let others = block.p(class).load(simd, column) * (at(&scratch.complement_sum, 0) - u)
            + of_top * block.rest(class).load(simd, column);
        let e = at(&scratch.e, class) + (others - own);
        scratch.e.store(class, column, e);
    }
}

/// ∂L/∂z of a class, times the voxel weight: for softmax e − p·Σe.
#[inline(always)]
fn last_step<S: Simd>(
    simd: S,
    head: &Head,
    block: &Block<'_>,
    scratch: &Scratch,
    class: usize,
    column: usize,
) -> f32x16<S> {
    let (e, w) = (scratch.e.load(simd, class, column), block.weight().load(simd, column));
    if head.problem.activation == Activation::Softmax {
        (e - block.p(class).load(simd, column) * scratch.sum.load(simd, 0, column)) * w
    } else {
        e * w
    }
}

/// ∂L/∂p_c = Σ_k ∂L/∂D_k·g_k·M\[k, c\], in place of what `e` held.
#[inline(always)]
fn cost_slopes<S: Simd>(simd: S, head: &Head, block: &Block<'_>, slopes: &Slopes, scratch: &mut Scratch) {
    let matrix = head.cost_matrix.as_ref().expect("a cost moment comes with a matrix");
    let classes = head.problem.shape.classes();
    for column in 0..block.columns() {
        for class in 0..classes {
            let mut e = f32x16::splat(simd, 0.0);
            for other in 0..classes {
                let m = slopes.cost[other] * matrix[other * classes + class] as f32;
                e += block.target(simd, other, column) * m;
            }
            scratch.e.store(class, column, e);
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
