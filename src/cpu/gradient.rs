//! The gradient of a block, from the coefficients of its sums.

use super::block::{Block, Range};
use super::interpret::ArrayProgram;
use super::planes::Planes;
use super::view::Target;
use crate::plan::Head;
use crate::problem::{Activation, Layout};
use crate::spec::{Moment, VoxelInput};

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
    /// ∂L/∂p, then e = ∂L/∂ln p, then the gradient, per class.
    e: Planes,
    /// u = b·p/q of each class, b = ∂L/∂ln q; softmax with ln q only.
    complement: Planes,
    /// Per voxel: Σe; Σu; b·p of the largest class.
    sum: Planes,
    complement_sum: Planes,
    top: Planes,
    /// The coefficients of the pixel terms as arrays.
    coefficients: Planes,
    mixed: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(head: &Head, stride: usize) -> Scratch {
        let classes = head.problem.shape.classes();
        let interleaved = head.problem.layout == Layout::Interleaved;
        Scratch {
            e: Planes::new(classes, stride),
            complement: Planes::new(if reads_ln_q(head) { classes } else { 0 }, stride),
            sum: Planes::new(1, stride),
            complement_sum: Planes::new(1, stride),
            top: Planes::new(1, stride),
            coefficients: Planes::new(head.pixels.values.outputs().len(), stride),
            mixed: vec![0.0; if interleaved { classes * stride } else { 0 }],
        }
    }
}

/// Whether the gradient has a part by ln q: softmax only, the other activations fold it in.
pub(super) fn reads_ln_q(head: &Head) -> bool {
    let outputs = head.pixels.slopes.outputs();
    let zero = |k: usize| match outputs[k] {
        crate::spec::Operand::Literal(l) => head.pixels.slopes.literals()[l as usize] == 0.0,
        _ => false,
    };
    head.problem.activation == Activation::Softmax && !zero(1)
}

/// Writes the gradient of a block whose prediction is loaded.
///
/// # Safety
/// As [`Target::write`]: nobody else uses this range of `target`.
#[inline(always)]
pub(super) unsafe fn gradient(
    head: &Head,
    block: &mut Block<'_>,
    slopes: &Slopes,
    pixels: &mut ArrayProgram<'_>,
    scratch: &mut Scratch,
    target: &Target<'_>,
    range: Range,
) {
    let (classes, len) = (head.problem.shape.classes(), block.len());
    let activation = head.problem.activation;
    let with_ln_q = !scratch.complement.is_empty();
    let has_pixels = !head.pixels.values.outputs().is_empty();
    scratch.sum.plane_mut(0, len).fill(0.0);
    scratch.complement_sum.plane_mut(0, len).fill(0.0);
    if slopes.has_cost {
        cost_slopes(head, block, slopes, scratch);
    }
    let voxel_slots = VoxelInput::ALL.len() as u8;
    if has_pixels && head.own_class {
        for k in 0..head.pixels.values.outputs().len() {
            for (c, &label) in scratch.coefficients.plane_mut(k, len).iter_mut().zip(block.labels()) {
                *c = slopes.pixel[label.max(0) as usize][k];
            }
        }
        let coefficients = &scratch.coefficients;
        pixels.run(len, |slot| match slot.checked_sub(voxel_slots) {
            None => block.own_input(slot),
            Some(k) => coefficients.plane(k as usize, len),
        });
    }
    for class in 0..classes {
        block.select(class);
        let e = scratch.e.plane_mut(class, len);
        affine(e, block.p(class), block.g(), slopes.affine[class], slopes.has_cost);
        match activation {
            Activation::None => {}
            Activation::Sigmoid => {
                for ((e, &p), &q) in e.iter_mut().zip(block.p(class)).zip(block.q(class)) {
                    *e *= p * q;
                }
            }
            Activation::Softmax => {
                for (e, &p) in e.iter_mut().zip(block.p(class)) {
                    *e *= p;
                }
            }
        }
        if has_pixels && head.own_class {
            let coefficients = &scratch.coefficients;
            let own = pixels.output(0, len, |slot| match slot.checked_sub(voxel_slots) {
                None => block.own_input(slot),
                Some(k) => coefficients.plane(k as usize, len),
            });
            for ((e, &x), &g) in e.iter_mut().zip(own).zip(block.g()) {
                *e += x * g;
            }
        } else if has_pixels {
            for (k, &c) in slopes.pixel[class].iter().enumerate() {
                scratch.coefficients.plane_mut(k, len).fill(c);
            }
            let coefficients = &scratch.coefficients;
            let input = |slot: u8| match slot.checked_sub(voxel_slots) {
                None => block.input(slot, class),
                Some(k) => coefficients.plane(k as usize, len),
            };
            pixels.run(len, input);
            for (e, &x) in e.iter_mut().zip(pixels.output(0, len, input)) {
                *e += x;
            }
            if with_ln_q {
                let b = pixels.output(1, len, input);
                let u = scratch.complement.plane_mut(class, len);
                let (sum, of_top) = (scratch.complement_sum.plane_mut(0, len), scratch.top.plane_mut(0, len));
                let (p, q, top) = (block.p(class), block.q(class), block.top());
                for i in 0..len {
                    let wins = top[i] == class as i32;
                    u[i] = if wins { 0.0 } else { b[i] * p[i] / q[i] };
                    sum[i] += u[i];
                    of_top[i] = if wins { b[i] * p[i] } else { of_top[i] };
                }
            }
        }
        if activation == Activation::Softmax {
            for (sum, &e) in scratch.sum.plane_mut(0, len).iter_mut().zip(&*e) {
                *sum += e;
            }
        }
    }
    for class in 0..classes {
        let e = scratch.e.plane_mut(class, len);
        let (p, w) = (block.p(class), block.weight());
        if activation == Activation::Softmax {
            for (((e, &p), &sum), &w) in e.iter_mut().zip(p).zip(scratch.sum.plane(0, len)).zip(w) {
                *e = (*e - p * sum) * w;
            }
        } else {
            for (e, &w) in e.iter_mut().zip(w) {
                *e *= w;
            }
        }
        if with_ln_q {
            // ∂ln q_c/∂z_c = −p_c and ∂ln q_c/∂z_k = p_c·p_k/q_c; where c is the largest class, p_k/q_c is `rest`.
            let (q, rest, top) = (block.q(class), block.rest(class), block.top());
            let u = scratch.complement.plane(class, len);
            let (sum, of_top) = (scratch.complement_sum.plane(0, len), scratch.top.plane(0, len));
            for i in 0..len {
                let own = if top[i] == class as i32 { of_top[i] } else { u[i] * q[i] };
                let others = p[i] * (sum[i] - u[i]) + of_top[i] * rest[i];
                e[i] += (others - own) * w[i];
            }
        }
    }
    // SAFETY: the caller's promise is passed on; the planes of a block are apart from those of any other.
    unsafe { store(head, scratch, target, range) };
}

/// e = ∂L/∂p from the sums P, I and PP; added to what is there, or in place of it.
#[inline(always)]
fn affine(e: &mut [f32], p: &[f32], g: &[f32], [by_p, by_pg, by_pp]: [f32; 3], add: bool) {
    if add {
        for ((e, &p), &g) in e.iter_mut().zip(p).zip(g) {
            *e += by_p + by_pg * g + by_pp * p;
        }
    } else {
        for ((e, &p), &g) in e.iter_mut().zip(p).zip(g) {
            *e = by_p + by_pg * g + by_pp * p;
        }
    }
}

/// ∂L/∂p_c = Σ_k ∂L/∂D_k·g_k·M\[k, c\], in place of what `e` held.
#[inline(always)]
fn cost_slopes(head: &Head, block: &mut Block<'_>, slopes: &Slopes, scratch: &mut Scratch) {
    let matrix = head.cost_matrix.as_ref().expect("a cost moment comes with a matrix");
    let (classes, len) = (head.problem.shape.classes(), block.len());
    scratch.e.fill(0.0);
    for class in 0..classes {
        block.select(class);
        for other in 0..classes {
            let m = slopes.cost[class] * matrix[class * classes + other] as f32;
            for (e, &g) in scratch.e.plane_mut(other, len).iter_mut().zip(block.g()) {
                *e += m * g;
            }
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
                unsafe { target.write(first, scratch.e.plane(class, range.len)) };
            }
        }
        Layout::Interleaved => {
            let mixed = &mut scratch.mixed[..range.len * classes];
            for class in 0..classes {
                for (voxel, &x) in mixed.chunks_exact_mut(classes).zip(scratch.e.plane(class, range.len)) {
                    voxel[class] = x;
                }
            }
            // SAFETY: the caller's promise.
            unsafe { target.write((range.sample * voxels + range.start) * classes, mixed) };
        }
    }
}
