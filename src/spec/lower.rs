//! Lowering of a recorded graph to WGSL.

use super::{Graph, Id, Op, ProgramError};
use std::fmt::Write;

/// The statements that compute `outputs` in WGSL over `real`, which the kernel defines as `f32` or `vec4<f32>`: one local constant per
/// operation, ending with the assignments of the outputs.
///
/// `input` names the value of an input slot, `output` the place of the k-th output. The text relies on the language's `abs`
/// and `sqrt`, and on `ln`, `exponential`, `power` and `is_nan` of `kernels/wgsl/math.wgsl`, whose accuracy is known.
///
/// # Errors
/// [`ProgramError::Literal`] for a constant that is not finite in single precision.
pub fn lower(
    graph: &Graph,
    outputs: &[Id],
    input: &dyn Fn(u8) -> String,
    output: &dyn Fn(usize) -> String,
) -> Result<String, ProgramError> {
    let (graph, outputs) = &graph.without_slopes(outputs);
    let ops = graph.ops();
    let live = live(graph, outputs)?;
    let name = |id: Id| match ops[id as usize] {
        Op::Input(slot) => input(slot),
        Op::Literal(bits) => literal(f64::from_bits(bits)),
        _ => format!("t{id}"),
    };
    let mut text = String::new();
    for (id, &op) in ops.iter().enumerate() {
        if !live[id] {
            continue;
        }
        let value = match op {
            Op::Input(_) | Op::Literal(_) | Op::WithSlope(..) => continue,
            Op::Add(a, b) => format!("{} + {}", name(a), name(b)),
            Op::Sub(a, b) => format!("{} - {}", name(a), name(b)),
            Op::Mul(a, b) => format!("{} * {}", name(a), name(b)),
            Op::Div(a, b) => format!("{} / {}", name(a), name(b)),
            Op::Neg(a) => format!("-({})", name(a)),
            Op::Ln(a) => format!("ln({})", name(a)),
            Op::Exp(a) => format!("exponential({})", name(a)),
            Op::Sqrt(a) => format!("sqrt({})", name(a)),
            Op::Abs(a) => format!("abs({})", name(a)),
            Op::Pow(a, b) => format!("power({}, {})", name(a), name(b)),
            // Comparisons instead of the built-in max and min: those drop a NaN.
            Op::Max(a, b) => first_wins(">=", &name(a), &name(b)),
            Op::Min(a, b) => first_wins("<=", &name(a), &name(b)),
            Op::Select(c, a, b) => {
                let (zero, c) = (literal(0.0), name(c));
                format!("select(select({c}, {}, {c} <= {zero}), {}, {c} > {zero})", name(b), name(a))
            }
        };
        writeln!(text, "    let t{id} = {value};").expect("writing to a string");
    }
    for (k, &id) in outputs.iter().enumerate() {
        writeln!(text, "    {} = {};", output(k), name(id)).expect("writing to a string");
    }
    Ok(text)
}

/// Which operations the outputs depend on.
///
/// # Errors
/// [`ProgramError::Literal`] when one of them is a constant that is not finite in single precision.
pub(super) fn live(graph: &Graph, outputs: &[Id]) -> Result<Vec<bool>, ProgramError> {
    let ops = graph.ops();
    let mut live = vec![false; ops.len()];
    for &id in outputs {
        live[id as usize] = true;
    }
    for (id, op) in ops.iter().enumerate().rev() {
        if live[id] {
            op.operands().for_each(|operand| live[operand as usize] = true);
        }
    }
    for (id, op) in ops.iter().enumerate() {
        if let (true, Op::Literal(bits)) = (live[id], op)
            && !(f64::from_bits(*bits) as f32).is_finite()
        {
            return Err(ProgramError::Literal { value: f64::from_bits(*bits).to_string() });
        }
    }
    Ok(live)
}

/// `a` by the comparison, or because it is NaN; else `b`.
fn first_wins(comparison: &str, a: &str, b: &str) -> String {
    format!("select({b}, {a}, ({a} {comparison} {b}) | is_nan({a}))")
}

fn literal(x: f64) -> String {
    format!("real({:?})", x as f32)
}
