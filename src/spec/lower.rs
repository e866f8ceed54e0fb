//! Lowering of a recorded graph to shader text.

use super::{Graph, Id, Op, ProgramError};
use std::fmt::Write;

/// The language of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// CUDA C++, single precision.
    Cuda,
    /// WGSL over `real`, which the kernel defines as `f32` or `vec4<f32>`.
    Wgsl,
}

/// The statements that compute `outputs`, one local constant per operation, ending with the assignments of the outputs.
///
/// `input` names the value of an input slot, `output` the place of the k-th output. The text relies on the language's `abs`
/// and `sqrt`; for CUDA on its `logf`, `expf` and `powf`, for WGSL on `ln`, `exponential`, `power` and `is_nan` of
/// `kernels/wgsl/math.wgsl`, whose accuracy is known.
///
/// # Errors
/// [`ProgramError::Literal`] for a constant that is not finite in single precision.
pub fn lower(
    graph: &Graph,
    outputs: &[Id],
    language: Language,
    input: &dyn Fn(u8) -> String,
    output: &dyn Fn(usize) -> String,
) -> Result<String, ProgramError> {
    let ops = graph.ops();
    let live = live(graph, outputs)?;
    let name = |id: Id| match ops[id as usize] {
        Op::Input(slot) => input(slot),
        Op::Literal(bits) => literal(f64::from_bits(bits), language),
        _ => format!("t{id}"),
    };
    let cuda = language == Language::Cuda;
    let declare = if cuda { "const float" } else { "let" };
    let call = |cuda_name: &str, wgsl_name: &str, arguments: &[Id]| {
        let arguments: Vec<String> = arguments.iter().map(|&a| name(a)).collect();
        format!("{}({})", if cuda { cuda_name } else { wgsl_name }, arguments.join(", "))
    };
    let mut text = String::new();
    for (id, &op) in ops.iter().enumerate() {
        if !live[id] {
            continue;
        }
        let value = match op {
            Op::Input(_) | Op::Literal(_) => continue,
            Op::Add(a, b) => format!("{} + {}", name(a), name(b)),
            Op::Sub(a, b) => format!("{} - {}", name(a), name(b)),
            Op::Mul(a, b) => format!("{} * {}", name(a), name(b)),
            Op::Div(a, b) => format!("{} / {}", name(a), name(b)),
            Op::Neg(a) => format!("-({})", name(a)),
            Op::Ln(a) => call("logf", "ln", &[a]),
            Op::Exp(a) => call("expf", "exponential", &[a]),
            Op::Sqrt(a) => call("sqrtf", "sqrt", &[a]),
            Op::Abs(a) => call("fabsf", "abs", &[a]),
            Op::Pow(a, b) => call("powf", "power", &[a, b]),
            // Comparisons instead of the built-in max and min: those drop a NaN.
            Op::Max(a, b) => choose(cuda, &first_wins(cuda, ">=", &name(a), &name(b)), &name(a), &name(b)),
            Op::Min(a, b) => choose(cuda, &first_wins(cuda, "<=", &name(a), &name(b)), &name(a), &name(b)),
            Op::Select(c, a, b) => {
                let below = choose(cuda, &format!("{} <= {}", name(c), literal(0.0, language)), &name(b), &name(c));
                choose(cuda, &format!("{} > {}", name(c), literal(0.0, language)), &name(a), &below)
            }
        };
        writeln!(text, "    {declare} t{id} = {value};").expect("writing to a string");
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

/// Whether `a` is to be taken: by the comparison, or because it is NaN.
fn first_wins(cuda: bool, comparison: &str, a: &str, b: &str) -> String {
    if cuda { format!("{a} {comparison} {b} || {a} != {a}") } else { format!("({a} {comparison} {b}) | is_nan({a})") }
}

fn choose(cuda: bool, condition: &str, yes: &str, no: &str) -> String {
    if cuda { format!("({condition} ? {yes} : {no})") } else { format!("select({no}, {yes}, {condition})") }
}

fn literal(x: f64, language: Language) -> String {
    let text = format!("{:?}", x as f32);
    match language {
        Language::Wgsl => format!("real({text})"),
        Language::Cuda if x < 0.0 => format!("({text}f)"),
        Language::Cuda => format!("{text}f"),
    }
}
