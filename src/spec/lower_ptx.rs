//! Lowering of a recorded graph to PTX: straight-line single precision, rounded as IEEE says, NaN kept.

use super::lower::live;
use super::{Graph, Id, Op, ProgramError};
use std::fmt::Write;

/// What [`lower_ptx`] makes of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ptx {
    /// Instructions, one a line. They write to `$f0`, `$f1`, … (f32) and `$p0`, … (predicates), each once, and read those and
    /// the inputs by their names.
    pub(crate) text: String,
    /// How many registers of either kind there are.
    pub(crate) registers: usize,
    /// See `registers`.
    pub(crate) predicates: usize,
    /// For each output a register, an input or a literal.
    pub(crate) outputs: Vec<String>,
}

/// The instructions that compute `outputs`. `input` names the value of an input slot.
///
/// exp, ln and pow are written out: a few units in the last place off, by `ex2.approx` with the rounding of its argument made
/// good, and by `lg2.approx` away from 1 and a series near it, as in `kernels/cuda/math.cuh`.
///
/// # Errors
/// [`ProgramError::Literal`] for a constant that is not finite in single precision.
pub(crate) fn lower_ptx(graph: &Graph, outputs: &[Id], input: &dyn Fn(u8) -> String) -> Result<Ptx, ProgramError> {
    let (graph, outputs) = &graph.without_slopes(outputs);
    let live = live(graph, outputs)?;
    let mut names: Vec<String> = Vec::with_capacity(live.len());
    let mut ptx = Ptx::default();
    for (&op, live) in graph.ops().iter().zip(live) {
        let name = |id: Id| names[id as usize].as_str();
        let value = match op {
            _ if !live => String::new(),
            Op::WithSlope(..) => unreachable!("a graph without slopes"),
            Op::Input(slot) => input(slot),
            Op::Literal(bits) => literal(f64::from_bits(bits) as f32),
            Op::Add(a, b) => ptx.value("add.rn.f32", &[name(a), name(b)]),
            Op::Sub(a, b) => ptx.value("sub.rn.f32", &[name(a), name(b)]),
            Op::Mul(a, b) => ptx.value("mul.rn.f32", &[name(a), name(b)]),
            Op::Div(a, b) => ptx.value("div.rn.f32", &[name(a), name(b)]),
            Op::Neg(a) => ptx.value("neg.f32", &[name(a)]),
            Op::Abs(a) => ptx.value("abs.f32", &[name(a)]),
            Op::Sqrt(a) => ptx.value("sqrt.rn.f32", &[name(a)]),
            Op::Ln(a) => ptx.ln(name(a)),
            Op::Exp(a) => ptx.exp(name(a)),
            Op::Pow(a, b) => {
                // 0 to the power of 0 is 1, and y·ln 0 would be NaN.
                let log = ptx.ln(name(a));
                let product = ptx.value("mul.rn.f32", &[name(b), &log]);
                let power = ptx.exp(&product);
                ptx.choose(&format!("setp.eq.f32 $, {}, {ZERO}", name(b)), &literal(1.0), &power)
            }
            // Not max.f32 and min.f32: those drop a NaN. Unordered is true, and takes a NaN that is the first.
            Op::Max(a, b) => ptx.first_or_second("ge", name(a), name(b)),
            Op::Min(a, b) => ptx.first_or_second("le", name(a), name(b)),
            Op::Select(c, a, b) => {
                let below = ptx.choose(&format!("setp.le.f32 $, {}, {ZERO}", name(c)), name(b), name(c));
                ptx.choose(&format!("setp.gt.f32 $, {}, {ZERO}", name(c)), name(a), &below)
            }
        };
        names.push(value);
    }
    ptx.outputs = outputs.iter().map(|&id| names[id as usize].clone()).collect();
    Ok(ptx)
}

const ZERO: &str = "0f00000000";

/// A number as PTX writes it.
pub(crate) fn literal(x: f32) -> String {
    format!("0f{:08X}", x.to_bits())
}

impl Ptx {
    fn line(&mut self, instruction: &str, to: &str, from: &[&str]) {
        writeln!(self.text, "{instruction} {to}, {};", from.join(", ")).expect("writing to a string");
    }
    fn value(&mut self, instruction: &str, from: &[&str]) -> String {
        let to = format!("$f{}", self.registers);
        self.registers += 1;
        self.line(instruction, &to, from);
        to
    }
    /// `yes` where a comparison, with `$` for the predicate it sets, holds.
    fn choose(&mut self, comparison: &str, yes: &str, no: &str) -> String {
        let predicate = format!("$p{}", self.predicates);
        self.predicates += 1;
        writeln!(self.text, "{};", comparison.replacen('$', &predicate, 1)).expect("writing to a string");
        self.value("selp.f32", &[yes, no, &predicate])
    }
    /// `a` where `a` compares so with `b` or is NaN, else `b`.
    fn first_or_second(&mut self, comparison: &str, a: &str, b: &str) -> String {
        let other = self.choose(&format!("setp.{comparison}.f32 $, {a}, {b}"), a, b);
        self.choose(&format!("setp.nan.f32 $, {a}, {a}"), a, &other)
    }
    fn fma(&mut self, a: &str, b: &str, c: &str) -> String {
        self.value("fma.rn.f32", &[a, b, c])
    }
    /// eˣ: ∞ from 88.73 on, 0 below −87.34.
    fn exp(&mut self, x: &str) -> String {
        let t = self.value("mul.rn.f32", &[x, &literal(std::f32::consts::LOG2_E)]);
        let rest = self.fma(&t, &literal(-std::f32::consts::LN_2), x);
        // ±∞ leave NaN, of which min makes a number; a NaN that x was is in t as well.
        let rest = self.value("min.f32", &[&rest, &literal(1.0)]);
        let y = self.value("ex2.approx.ftz.f32", &[&t]);
        let z = self.fma(&y, &rest, &y);
        // ∞ times what is left below 0 would be −∞.
        self.choose(&format!("setp.eq.f32 $, {y}, {}", literal(f32::INFINITY)), &y, &z)
    }
    /// ln x: −∞ at ±0, NaN below 0.
    fn ln(&mut self, x: &str) -> String {
        let past = self.value("sub.rn.f32", &[x, &literal(1.0)]);
        let near = self.ln_1p(&past);
        let log = self.value("lg2.approx.f32", &[x]);
        let far = self.value("mul.rn.f32", &[&log, &literal(std::f32::consts::LN_2)]);
        let distance = self.value("abs.f32", &[&past]);
        self.choose(&format!("setp.le.f32 $, {distance}, {}", literal(0.5)), &near, &far)
    }
    /// ln(1 + x) for x from −½ to 1, by 2·atanh(x/(2 + x)).
    fn ln_1p(&mut self, x: &str) -> String {
        let denominator = self.value("add.rn.f32", &[x, &literal(2.0)]);
        let reciprocal = self.value("rcp.approx.ftz.f32", &[&denominator]);
        let s = self.value("mul.rn.f32", &[x, &reciprocal]);
        let t = self.value("mul.rn.f32", &[&s, &s]);
        let mut y = literal(1.0 / 13.0);
        for k in [11.0, 9.0, 7.0, 5.0, 3.0] {
            y = self.fma(&y, &t, &literal(1.0 / k));
        }
        let y = self.value("mul.rn.f32", &[&y, &t]);
        let half = self.fma(&s, &y, &s);
        self.value("add.rn.f32", &[&half, &half])
    }
}
