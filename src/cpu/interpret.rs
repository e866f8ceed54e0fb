//! The bytecode of pixel terms over arrays: one instruction at a time, a block of voxels each.

use super::math;
use super::planes::Planes;
use crate::spec::{Opcode, Operand, Program};

/// A program with its registers and literals laid out as arrays of one block.
#[derive(Debug)]
pub(super) struct ArrayProgram<'p> {
    program: &'p Program,
    /// Registers, then literals.
    arrays: Planes,
}

impl<'p> ArrayProgram<'p> {
    pub(super) fn new(program: &'p Program, stride: usize) -> ArrayProgram<'p> {
        let mut arrays = Planes::new(program.registers() + program.literals().len(), stride);
        for (k, &literal) in program.literals().iter().enumerate() {
            arrays.plane_mut(program.registers() + k, stride).fill(literal as f32);
        }
        ArrayProgram { program, arrays }
    }

    /// Computes `len` voxels; `input` gives the array of an input slot.
    #[inline(always)]
    pub(super) fn run<'i>(&mut self, len: usize, input: impl Fn(u8) -> &'i [f32]) {
        let stride = self.arrays.pitch();
        for i in self.program.instructions() {
            // The target is no operand of its own instruction (checked when a program is made), so the three parts of the
            // register file are apart.
            let target_start = i.target as usize * stride;
            let (before, rest) = self.arrays.split_at_mut(target_start);
            let (target, after) = rest.split_at_mut(stride);
            let literals = self.program.registers() * stride;
            let operand = |operand: Operand| -> &[f32] {
                let start = match operand {
                    Operand::Input(slot) => return &input(slot)[..len],
                    Operand::Register(r) => r as usize * stride,
                    Operand::Literal(k) => literals + k as usize * stride,
                };
                if start < target_start {
                    &before[start..start + len]
                } else {
                    &after[start - target_start - stride..][..len]
                }
            };
            let target = &mut target[..len];
            let [a, b, c] = i.operands;
            match i.opcode {
                Opcode::Add => binary(target, operand(a), operand(b), |a, b| a + b),
                Opcode::Sub => binary(target, operand(a), operand(b), |a, b| a - b),
                Opcode::Mul => binary(target, operand(a), operand(b), |a, b| a * b),
                Opcode::Div => binary(target, operand(a), operand(b), |a, b| a / b),
                Opcode::Max => binary(target, operand(a), operand(b), |a, b| if a >= b || a.is_nan() { a } else { b }),
                Opcode::Min => binary(target, operand(a), operand(b), |a, b| if a <= b || a.is_nan() { a } else { b }),
                Opcode::Pow => binary(target, operand(a), operand(b), |a, b| math::exp(b * math::ln(a))),
                Opcode::Neg => unary(target, operand(a), |a| -a),
                Opcode::Ln => unary(target, operand(a), math::ln),
                Opcode::Exp => unary(target, operand(a), math::exp),
                Opcode::Sqrt => unary(target, operand(a), f32::sqrt),
                Opcode::Abs => unary(target, operand(a), f32::abs),
                Opcode::Select => {
                    let (a, b, c) = (operand(a), operand(b), operand(c));
                    for i in 0..len {
                        let otherwise = if a[i] <= 0.0 { c[i] } else { a[i] };
                        target[i] = if a[i] > 0.0 { b[i] } else { otherwise };
                    }
                }
            }
        }
    }

    /// The array of output `k` after [`ArrayProgram::run`].
    #[inline(always)]
    pub(super) fn output<'a>(&'a self, k: usize, len: usize, input: impl Fn(u8) -> &'a [f32]) -> &'a [f32] {
        let start = match self.program.outputs()[k] {
            Operand::Input(slot) => return &input(slot)[..len],
            Operand::Register(r) => r as usize,
            Operand::Literal(l) => self.program.registers() + l as usize,
        };
        self.arrays.plane(start, len)
    }
}

#[inline(always)]
fn unary(target: &mut [f32], a: &[f32], f: impl Fn(f32) -> f32) {
    for (t, &a) in target.iter_mut().zip(a) {
        *t = f(a);
    }
}

#[inline(always)]
fn binary(target: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    for ((t, &a), &b) in target.iter_mut().zip(a).zip(b) {
        *t = f(a, b);
    }
}
