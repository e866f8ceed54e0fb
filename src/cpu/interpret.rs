//! The bytecode of pixel terms over arrays: one instruction at a time, a block of voxels each.

use super::math;
use super::planes::{Planes, Vectors};
use crate::spec::{Opcode, Operand, Program};
use fearless_simd::{f32x16, prelude::*};

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

    /// Computes `columns` vectors of voxels; `input` gives the array of an input slot.
    #[inline(always)]
    pub(super) fn run<'i, S: Simd>(&mut self, simd: S, columns: usize, input: impl Fn(u8) -> Vectors<'i>) {
        let mut arrays = std::mem::take(&mut self.arrays);
        for i in self.program.instructions() {
            // An operand is an input, or a plane of the register file; the target is never its own operand.
            let place = |operand: Operand| match operand {
                Operand::Input(slot) => Err(input(slot)),
                Operand::Register(r) => Ok(r as usize),
                Operand::Literal(l) => Ok(self.program.registers() + l as usize),
            };
            let [a, b, c] = i.operands.map(place);
            let load = |arrays: &Planes, place: &Result<usize, Vectors<'i>>, column: usize| match place {
                Ok(plane) => arrays.load(simd, *plane, column),
                Err(input) => input.load(simd, column),
            };
            let target = i.target as usize;
            macro_rules! each {
                (|$x:ident| $value:expr) => {
                    for column in 0..columns {
                        let $x = load(&arrays, &a, column);
                        arrays.store(target, column, $value);
                    }
                };
                (|$x:ident, $y:ident| $value:expr) => {
                    for column in 0..columns {
                        let ($x, $y) = (load(&arrays, &a, column), load(&arrays, &b, column));
                        arrays.store(target, column, $value);
                    }
                };
            }
            let zero = f32x16::splat(simd, 0.0);
            match i.opcode {
                Opcode::Add => each!(|x, y| x + y),
                Opcode::Sub => each!(|x, y| x - y),
                Opcode::Mul => each!(|x, y| x * y),
                Opcode::Div => each!(|x, y| x / y),
                // NaN on either side is kept.
                Opcode::Max => each!(|x, y| (x.simd_ge(y) | x.is_nan()).select(x, y)),
                Opcode::Min => each!(|x, y| (x.simd_le(y) | x.is_nan()).select(x, y)),
                Opcode::Pow => each!(|x, y| {
                    // 0 to the power of 0 is 1, and y·ln 0 would be NaN.
                    let power = math::exp_lanes(simd, y * math::ln_lanes(simd, x));
                    y.simd_eq(zero).select(f32x16::splat(simd, 1.0), power)
                }),
                Opcode::Neg => each!(|x| -x),
                Opcode::Ln => each!(|x| math::ln_lanes(simd, x)),
                Opcode::Exp => each!(|x| math::exp_lanes(simd, x)),
                Opcode::Sqrt => each!(|x| x.sqrt()),
                Opcode::Abs => each!(|x| x.abs()),
                Opcode::Select => {
                    for column in 0..columns {
                        let condition = load(&arrays, &a, column);
                        let (yes, no) = (load(&arrays, &b, column), load(&arrays, &c, column));
                        let otherwise = condition.simd_le(zero).select(no, condition);
                        arrays.store(target, column, condition.simd_gt(zero).select(yes, otherwise));
                    }
                }
            }
        }
        self.arrays = arrays;
    }

    /// The array of output `k` after [`ArrayProgram::run`].
    #[inline(always)]
    pub(super) fn output<'a>(&'a self, k: usize, columns: usize, input: impl Fn(u8) -> Vectors<'a>) -> Vectors<'a> {
        let plane = match self.program.outputs()[k] {
            Operand::Input(slot) => return input(slot),
            Operand::Register(r) => r as usize,
            Operand::Literal(l) => self.program.registers() + l as usize,
        };
        self.arrays.vectors(plane, columns)
    }
}
