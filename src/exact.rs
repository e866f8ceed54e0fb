//! Plans in double precision: one voxel after the other, on one thread, with nothing rounded to single precision.
//!
//! This is the slow path for predictions of f64: numerical checks of gradients ask for it, and so does who wants to know what
//! single precision costs. It runs the same plan, its recorded programs and the same finish step as every backend.
//!
//! The types that the problem declares for the prediction, a dense target and the gradient do not matter here: all three are
//! f64. Layout, activation, labels, mask, weights, map and reduction do.

mod maps;

use crate::dtype::Slice;
use crate::error::Error;
use crate::evaluation::{Evaluation, HardCounts};
use crate::finish;
use crate::moments::{Coefficients, MomentTable};
use crate::numeric::PROBABILITY_FLOOR;
use crate::plan::{Head, Plan};
use crate::problem::{Activation, Layout, Map, Target as TargetKind};
use crate::spec::{Moment, Program, VoxelInput};
use crate::validate;
use maps::Maps;

/// The buffers of one head. Shapes and layouts are those of [`crate::Inputs`].
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    prediction: &'a [f64],
    target: Target<'a>,
    mask: Option<&'a [u8]>,
    weights: Option<&'a [f64]>,
    map: Option<&'a [f64]>,
}

/// What the target is.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Labels `[N, V]`: u8, i16, i32 or i64.
    Labels(Slice<'a>),
    /// One value per voxel and class.
    Dense(&'a [f64]),
}

impl<'a> Inputs<'a> {
    /// Prediction and target.
    pub fn new(prediction: &'a [f64], target: Target<'a>) -> Inputs<'a> {
        Inputs { prediction, target, mask: None, weights: None, map: None }
    }
    /// The keep-mask: voxels with 0 do not count.
    pub fn mask(mut self, mask: &'a [u8]) -> Inputs<'a> {
        self.mask = Some(mask);
        self
    }
    /// The voxel weights.
    pub fn weights(mut self, weights: &'a [f64]) -> Inputs<'a> {
        self.weights = Some(weights);
        self
    }
    /// The map φ.
    pub fn map(mut self, map: &'a [f64]) -> Inputs<'a> {
        self.map = Some(map);
        self
    }

    /// Whether the buffers are those that the problem of the head declares.
    fn check(&self, head: &Head) -> Result<(), Error> {
        let problem = &head.problem;
        let voxels = problem.shape.all_voxels();
        length("the prediction", problem.shape.elements(), self.prediction.len())?;
        match (problem.target, self.target) {
            (TargetKind::Labels(dtype), Target::Labels(labels)) => {
                validate::expect("the target", dtype, voxels, labels.dtype(), labels.len())?;
            }
            (TargetKind::Dense(_), Target::Dense(values)) => {
                length("the target", problem.target_elements(), values.len())?;
            }
            (TargetKind::Labels(_), Target::Dense(_)) => {
                return Err(Error::Problem("the plan expects labels, the target given is dense".into()));
            }
            (TargetKind::Dense(_), Target::Labels(_)) => {
                return Err(Error::Problem("the plan expects a dense target, labels were given".into()));
            }
        }
        for (role, elements, got) in [
            ("the mask", problem.mask.then_some(voxels), self.mask.map(<[u8]>::len)),
            ("the voxel weights", problem.weights.then_some(voxels), self.weights.map(<[f64]>::len)),
            ("the map", problem.map_elements(), self.map.map(<[f64]>::len)),
        ] {
            if let (Some(need), Some(got)) = (validate::wanted(role, elements, got.is_some())?, got) {
                length(role, need, got)?;
            }
        }
        Ok(())
    }
}

fn length(role: &'static str, need: u64, got: usize) -> Result<(), Error> {
    if got as u64 == need { Ok(()) } else { Err(Error::BufferLength { role, need, got: got as u64 }) }
}

/// Loss and gradient, one gradient per head.
///
/// # Errors
/// When a buffer does not fit the plan.
pub fn evaluate(plan: &Plan, heads: &[Inputs<'_>]) -> Result<(Evaluation, Vec<Vec<f64>>), Error> {
    validate::heads(plan, heads.len())?;
    let tables: Vec<MomentTable> =
        heads.iter().enumerate().map(|(head, inputs)| reduce(plan, head, inputs)).collect::<Result<_, _>>()?;
    let (evaluation, coefficients) = finish(plan, &tables)?;
    let mut gradients = Vec::new();
    for (head, (inputs, coefficients)) in heads.iter().zip(&coefficients).enumerate() {
        let mut values = vec![0.0; inputs.prediction.len()];
        gradient(plan, head, inputs, coefficients, &mut values, None)?;
        gradients.push(values);
    }
    Ok((evaluation, gradients))
}

/// The sums of one head.
///
/// # Errors
/// When a buffer does not fit the plan.
pub fn reduce(plan: &Plan, head: usize, inputs: &Inputs<'_>) -> Result<MomentTable, Error> {
    let head = validate::head(plan, head)?;
    inputs.check(head)?;
    let (classes, count) = (head.problem.shape.classes(), head.moments.len());
    let mut table = MomentTable::zeros(head);
    let (mut voxel, maps) = (Voxel::new(head), Maps::make(head, inputs));
    for sample in 0..head.problem.shape.samples() {
        for index in 0..head.problem.shape.voxels() as usize {
            match voxel.load(inputs, sample, index) {
                Counts::Kept => table.valid_voxels += 1,
                Counts::Invalid => {
                    table.invalid_labels += 1;
                    continue;
                }
                Counts::Ignored => continue,
            }
            voxel.load_made(&maps, sample, index);
            let rows = &mut table.values[sample * classes * count..][..classes * count];
            voxel.add_moments(rows);
            if head.problem.hard_counts {
                voxel.count_hard(&mut table.hard_counts[sample * classes..][..classes]);
            }
        }
    }
    Ok(table)
}

/// Sums to loss and coefficients. `tables` has one table per head.
///
/// # Errors
/// [`Error::OtherPlan`] when a table has another size than the plan's.
pub fn finish(plan: &Plan, tables: &[MomentTable]) -> Result<(Evaluation, Vec<Coefficients>), Error> {
    finish::finish_plan(plan, tables)
}

/// The gradient of one head from its coefficients.
///
/// `grad_output` is ∂(what is minimised)/∂loss, one number per loss of the plan; 1 where it is `None`.
///
/// # Errors
/// When a buffer or the coefficients do not fit the plan; nothing is written then.
pub fn gradient(
    plan: &Plan,
    head: usize,
    inputs: &Inputs<'_>,
    coefficients: &Coefficients,
    gradient: &mut [f64],
    grad_output: Option<&[f64]>,
) -> Result<(), Error> {
    validate::grad_output(plan, grad_output)?;
    let head = validate::head(plan, head)?;
    inputs.check(head)?;
    validate::coefficients(head, coefficients)?;
    length("the gradient", head.problem.shape.elements(), gradient.len())?;
    let (mut voxel, maps) = (Voxel::new(head), Maps::make(head, inputs));
    for sample in 0..head.problem.shape.samples() {
        let scale = grad_output.map_or(1.0, |values| if values.len() == 1 { values[0] } else { values[sample] });
        let slopes: Vec<Slopes> = (0..head.problem.shape.classes())
            .map(|class| Slopes::new(head, coefficients.group(sample, class), scale))
            .collect();
        for index in 0..head.problem.shape.voxels() as usize {
            let kept = matches!(voxel.load(inputs, sample, index), Counts::Kept);
            if kept {
                voxel.load_made(&maps, sample, index);
                voxel.differentiate(&slopes);
            }
            for class in 0..slopes.len() {
                gradient[voxel.place(sample, class, index)] = if kept { voxel.dz[class] * voxel.weight } else { 0.0 };
            }
        }
    }
    Ok(())
}

/// Coefficients of one class of one sample.
struct Slopes {
    /// ∂L/∂P, ∂L/∂I, 2·∂L/∂PP
    affine: [f64; 3],
    cost: f64,
    pixel: Vec<f64>,
}

impl Slopes {
    fn new(head: &Head, coefficients: &[f64], scale: f64) -> Slopes {
        let mut slopes = Slopes { affine: [0.0; 3], cost: 0.0, pixel: vec![0.0; head.pixels.values.outputs().len()] };
        for (&moment, &c) in head.moments[head.target_moments..].iter().zip(coefficients) {
            let c = c * scale;
            match moment {
                Moment::P => slopes.affine[0] = c,
                Moment::PG => slopes.affine[1] = c,
                Moment::PP => slopes.affine[2] = 2.0 * c,
                Moment::Cost => slopes.cost = c,
                Moment::Pixel(k) => slopes.pixel[k as usize] = c,
                Moment::N | Moment::G | Moment::GG => unreachable!("sums over the target have no slope"),
            }
        }
        slopes
    }
    fn is_zero(&self) -> bool {
        self.affine == [0.0; 3] && self.cost == 0.0 && self.pixel.iter().all(|c| *c == 0.0)
    }
}

enum Counts {
    Kept,
    Ignored,
    Invalid,
}

/// One voxel of all classes.
struct Voxel<'h> {
    head: &'h Head,
    weight: f64,
    /// The class of a label.
    own: usize,
    /// The first of the largest classes.
    top: usize,
    z: Vec<f64>,
    p: Vec<f64>,
    ln_p: Vec<f64>,
    q: Vec<f64>,
    ln_q: Vec<f64>,
    g: Vec<f64>,
    map: Vec<f64>,
    /// The made maps of each class, in the order of [`VoxelInput::MADE`]; 0 where the plan has none.
    made: Vec<[f64; VoxelInput::MADE.len()]>,
    /// Softmax over all classes but `top`.
    rest: Vec<f64>,
    dz: Vec<f64>,
    registers: Vec<f64>,
    outputs: Vec<f64>,
    inputs: Vec<f64>,
}

impl<'h> Voxel<'h> {
    fn new(head: &'h Head) -> Voxel<'h> {
        let zeros = || vec![0.0; head.problem.shape.classes()];
        Voxel {
            head,
            weight: 0.0,
            own: 0,
            top: 0,
            z: zeros(),
            p: zeros(),
            ln_p: zeros(),
            q: zeros(),
            ln_q: zeros(),
            g: zeros(),
            map: zeros(),
            made: vec![Default::default(); head.problem.shape.classes()],
            rest: zeros(),
            dz: zeros(),
            registers: Vec::new(),
            outputs: Vec::new(),
            inputs: Vec::new(),
        }
    }

    /// Where a value per voxel and class lies.
    fn place(&self, sample: usize, class: usize, index: usize) -> usize {
        let (classes, voxels) = (self.head.problem.shape.classes(), self.head.problem.shape.voxels() as usize);
        match self.head.problem.layout {
            Layout::Planar => (sample * classes + class) * voxels + index,
            Layout::Interleaved => (sample * voxels + index) * classes + class,
        }
    }

    fn load(&mut self, inputs: &Inputs<'_>, sample: usize, index: usize) -> Counts {
        let problem = &self.head.problem;
        let (classes, at) = (problem.shape.classes(), sample * problem.shape.voxels() as usize + index);
        if inputs.mask.is_some_and(|mask| mask[at] == 0) {
            return Counts::Ignored;
        }
        match inputs.target {
            Target::Labels(labels) => {
                let label = label(labels, at);
                if problem.ignore_label == Some(label) {
                    return Counts::Ignored;
                }
                if !(0..classes.max(2) as i64).contains(&label) {
                    return Counts::Invalid;
                }
                self.own = label as usize;
                for (class, g) in self.g.iter_mut().enumerate() {
                    // With one class, label 1 is the class and 0 is not.
                    let own = if classes == 1 { 1 } else { class };
                    *g = f64::from(u8::from(own == self.own));
                }
            }
            Target::Dense(values) => {
                for class in 0..classes {
                    self.g[class] = values[self.place(sample, class, index)];
                }
            }
        }
        self.weight = inputs.weights.map_or(1.0, |weights| weights[at]);
        for class in 0..classes {
            let place = self.place(sample, class, index);
            self.z[class] = inputs.prediction[place];
            self.map[class] = match (problem.map, inputs.map) {
                (Some(Map::Shared), Some(map)) => map[at],
                (Some(Map::PerClass), Some(map)) => map[place],
                _ => 0.0,
            };
        }
        match problem.activation {
            Activation::None => self.probabilities(),
            Activation::Sigmoid => self.sigmoid(),
            Activation::Softmax => self.softmax(),
        }
        Counts::Kept
    }

    fn load_made(&mut self, maps: &Maps, sample: usize, index: usize) {
        for (number, map) in self.head.maps.iter().enumerate() {
            let place = map.input as usize - VoxelInput::MADE[0] as usize;
            for (class, made) in self.made.iter_mut().enumerate() {
                made[place] = maps.at(self.head, number, sample, class, index);
            }
        }
    }

    fn probabilities(&mut self) {
        // A NaN is kept.
        let floored_ln = |x: f64| if x < PROBABILITY_FLOOR { PROBABILITY_FLOOR.ln() } else { x.ln() };
        for (class, &p) in self.z.iter().enumerate() {
            let q = 1.0 - p;
            self.p[class] = p;
            self.ln_p[class] = floored_ln(p);
            self.q[class] = q;
            self.ln_q[class] = if p.abs() < 0.5 { (-p).ln_1p() } else { floored_ln(q) };
        }
    }

    fn sigmoid(&mut self) {
        for (class, &z) in self.z.iter().enumerate() {
            let e = (-z.abs()).exp();
            let large = 1.0 / (1.0 + e);
            let small = e * large;
            (self.p[class], self.q[class]) = if z >= 0.0 { (large, small) } else { (small, large) };
            let tail = e.ln_1p();
            self.ln_p[class] = finite_ln(if z < 0.0 { z } else { 0.0 } - tail);
            self.ln_q[class] = finite_ln(if z > 0.0 { -z } else { 0.0 } - tail);
        }
    }

    fn softmax(&mut self) {
        let largest = |z: &[f64], skip: Option<usize>| {
            let mut best = usize::from(skip == Some(0));
            for class in 0..z.len() {
                if Some(class) != skip && z[class] > z[best] {
                    best = class;
                }
            }
            best
        };
        let top = largest(&self.z, None);
        self.top = top;
        let (z_top, z_second) = (self.z[top], self.z[largest(&self.z, Some(top))]);
        for (p, z) in self.p.iter_mut().zip(&self.z) {
            *p = (z - z_top).exp();
        }
        let others: f64 = (0..self.p.len()).filter(|&class| class != top).map(|class| self.p[class]).sum();
        // A NaN anywhere is one in the sum.
        let share = 1.0 / (self.p[top] + others);
        let ln_sum = others.ln_1p();
        let mut rest_sum = 0.0;
        for class in 0..self.p.len() {
            self.rest[class] = if class == top { 0.0 } else { (self.z[class] - z_second).exp() };
            rest_sum += self.rest[class];
        }
        for class in 0..self.p.len() {
            self.p[class] *= share;
            self.rest[class] /= rest_sum;
            self.ln_p[class] = finite_ln(self.z[class] - z_top - ln_sum);
            if class == top {
                self.ln_q[class] = finite_ln(z_second - z_top + rest_sum.ln() - ln_sum);
                self.q[class] = others * share;
            } else {
                self.q[class] = 1.0 - self.p[class];
                self.ln_q[class] = (-self.p[class]).ln_1p();
            }
        }
    }

    /// Runs a program on one class; coefficients of the pixel terms follow the voxel's slots.
    fn run(&mut self, program: &Program, class: usize, coefficients: &[f64]) {
        self.inputs.clear();
        self.inputs.extend(VoxelInput::ALL.map(|slot| match slot {
            VoxelInput::P => self.p[class],
            VoxelInput::LnP => self.ln_p[class],
            VoxelInput::Q => self.q[class],
            VoxelInput::LnQ => self.ln_q[class],
            VoxelInput::G => self.g[class],
            VoxelInput::Map => self.map[class],
            made => self.made[class][made as usize - VoxelInput::MADE[0] as usize],
        }));
        self.inputs.extend(coefficients);
        self.outputs.resize(program.outputs().len(), 0.0);
        program.run(&self.inputs, &mut self.registers, &mut self.outputs);
    }

    /// Σ_c M\[class, c\]·p_c.
    fn expected_cost(&self, class: usize) -> f64 {
        let matrix = self.head.cost_matrix.as_ref().expect("a cost moment comes with a matrix");
        self.p.iter().zip(&matrix[class * self.p.len()..]).map(|(p, m)| p * m).sum()
    }

    /// Adds this voxel to the moments `[C, moments]` of its sample.
    fn add_moments(&mut self, rows: &mut [f64]) {
        let head = self.head;
        let has_pixels = !head.pixels.values.outputs().is_empty();
        for (class, row) in rows.chunks_exact_mut(head.moments.len()).enumerate() {
            let own = !head.own_class || class == self.own;
            if has_pixels && own {
                self.run(&head.pixels.values, class, &[]);
            }
            let (p, g) = (self.p[class], self.g[class]);
            for (sum, moment) in row.iter_mut().zip(&head.moments) {
                let value = match moment {
                    Moment::N => 1.0,
                    Moment::G => g,
                    Moment::GG => g * g,
                    Moment::P => p,
                    Moment::PG => p * g,
                    Moment::PP => p * p,
                    Moment::Cost => g * self.expected_cost(class),
                    Moment::Pixel(k) if own => self.outputs[*k as usize],
                    Moment::Pixel(_) => continue,
                };
                *sum += self.weight * value;
            }
        }
    }

    fn count_hard(&self, counts: &mut [HardCounts]) {
        // The lowest class on a tie.
        let winner = (0..self.p.len()).fold(0, |best, class| if self.p[class] > self.p[best] { class } else { best });
        let argmax = self.head.problem.hard_is_argmax();
        for (class, counts) in counts.iter_mut().enumerate() {
            let predicted = if argmax { class == winner } else { self.p[class] > 0.5 };
            let actual = self.g[class] > 0.5;
            counts.true_positives += u64::from(predicted && actual);
            counts.false_positives += u64::from(predicted && !actual);
            counts.false_negatives += u64::from(!predicted && actual);
        }
    }

    /// ∂L/∂z of every class, without the voxel's weight.
    fn differentiate(&mut self, slopes: &[Slopes]) {
        let head = self.head;
        let classes = slopes.len();
        let activation = head.problem.activation;
        let softmax = activation == Activation::Softmax;
        let affine = |voxel: &Self, class: usize| {
            let [by_p, by_pg, by_pp] = slopes[class].affine;
            by_p + by_pg * voxel.g[class] + by_pp * voxel.p[class]
        };
        // Softmax does not feel what all slopes have in common; less that of the largest class, nothing cancels.
        let shift = if softmax { affine(self, self.top) } else { 0.0 };
        let mut by_ln_q = vec![0.0; classes];
        for class in 0..classes {
            let mut by_p = affine(self, class) - shift;
            if let Some(matrix) = &head.cost_matrix {
                by_p += (0..classes).map(|k| slopes[k].cost * self.g[k] * matrix[k * classes + class]).sum::<f64>();
            }
            let mut e = match activation {
                Activation::None => by_p,
                Activation::Sigmoid => by_p * self.p[class] * self.q[class],
                Activation::Softmax => by_p * self.p[class],
            };
            if !head.own_class && !slopes[class].pixel.is_empty() {
                self.run(&head.pixels.slopes, class, &slopes[class].pixel);
                e += self.outputs[0];
                by_ln_q[class] = self.outputs[1];
            }
            self.dz[class] = e;
        }
        if !softmax {
            for (dz, slopes) in self.dz.iter_mut().zip(slopes) {
                // A class that is left out: its own values do not matter, not even a NaN.
                *dz = if slopes.is_zero() && head.cost_matrix.is_none() { 0.0 } else { *dz };
            }
            return;
        }
        let top = self.top;
        let e_top = self.dz[top];
        let others: f64 = (0..classes).filter(|&class| class != top).map(|class| self.dz[class]).sum();
        for class in 0..classes {
            let p = self.p[class];
            self.dz[class] =
                if class == top { e_top * self.q[top] - p * others } else { self.dz[class] - p * (others + e_top) };
        }
        // ∂ln q_c/∂z_c = −p_c and ∂ln q_c/∂z_k = p_c·p_k/q_c; where c is the largest class, p_k/q_c is `rest`.
        for (class, &b) in by_ln_q.iter().enumerate().filter(|(_, b)| **b != 0.0) {
            let bp = b * self.p[class];
            for other in 0..classes {
                self.dz[other] += if other == class {
                    -bp
                } else if class == top {
                    bp * self.rest[other]
                } else {
                    bp * self.p[other] / self.q[class]
                };
            }
        }
        if head.own_class && !slopes[self.own].pixel.is_empty() {
            let own = self.own;
            self.run(&head.pixels.slopes, own, &[]);
            let x: f64 = slopes[own].pixel.iter().zip(&self.outputs).map(|(c, slope)| c * slope).sum();
            for class in 0..classes {
                self.dz[class] += x * if class == own { self.q[own] } else { -self.p[class] };
            }
        }
    }
}

fn label(labels: Slice<'_>, at: usize) -> i64 {
    match labels {
        Slice::U8(x) => x[at].into(),
        Slice::I16(x) => x[at].into(),
        Slice::I32(x) => x[at].into(),
        Slice::I64(x) => x[at],
        Slice::F32(_) | Slice::F16(_) | Slice::BF16(_) => unreachable!("validated: labels are integers"),
    }
}

/// A logarithm that can be multiplied by 0.
fn finite_ln(x: f64) -> f64 {
    if x < f64::MIN { f64::MIN } else { x }
}
