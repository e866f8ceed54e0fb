//! Buffers, sums and coefficients of a call against the plan, before anything is computed; the same on every backend.

use crate::dtype::{DType, SliceMut};
use crate::error::Error;
use crate::evaluation::Inputs;
use crate::moments::{Coefficients, MomentTable};
use crate::plan::{Head, Plan};
use crate::problem::Target;

pub(crate) fn heads(plan: &Plan, got: usize) -> Result<(), Error> {
    let need = plan.heads().len();
    if need == got { Ok(()) } else { Err(Error::OtherPlan { what: "heads", need, got }) }
}

pub(crate) fn head(plan: &Plan, index: usize) -> Result<&Head, Error> {
    let heads = plan.heads();
    heads.get(index).ok_or(Error::OtherPlan { what: "head numbers", need: heads.len() - 1, got: index })
}

pub(crate) fn grad_output(plan: &Plan, values: Option<&[f64]>) -> Result<(), Error> {
    match values {
        Some(values) if values.len() != plan.losses() => {
            Err(Error::BufferLength { role: "grad_output", need: plan.losses() as u64, got: values.len() as u64 })
        }
        _ => Ok(()),
    }
}

/// A buffer against the type and the number of elements that the plan expects.
pub(crate) fn expect(
    role: &'static str,
    dtype: DType,
    elements: u64,
    got_dtype: DType,
    got: usize,
) -> Result<(), Error> {
    if got_dtype != dtype {
        return Err(Error::BufferType { role, need: dtype, got: got_dtype });
    }
    if got as u64 != elements {
        return Err(Error::BufferLength { role, need: elements, got: got as u64 });
    }
    Ok(())
}

/// Whether a buffer is there exactly where the plan expects one; gives the elements that it must have.
pub(crate) fn wanted(role: &'static str, elements: Option<u64>, given: bool) -> Result<Option<u64>, Error> {
    match (elements, given) {
        (Some(_), false) => Err(Error::BufferMissing { role }),
        (None, true) => Err(Error::BufferUnexpected { role }),
        (elements, _) => Ok(elements),
    }
}

/// The inputs of a head.
#[cfg_attr(
    not(any(feature = "cuda", feature = "wgpu")),
    allow(dead_code, reason = "the CPU backend checks its own views")
)]
pub(crate) fn inputs(head: &Head, inputs: &Inputs<'_>) -> Result<(), Error> {
    let problem = &head.problem;
    let voxels = problem.shape.all_voxels();
    let prediction = inputs.prediction;
    expect("the prediction", problem.prediction, problem.shape.elements(), prediction.dtype(), prediction.len())?;
    let (Target::Labels(dtype) | Target::Dense(dtype)) = problem.target;
    expect("the target", dtype, problem.target_elements(), inputs.target.dtype(), inputs.target.len())?;
    for (role, dtype, elements, got) in [
        ("the mask", DType::U8, problem.mask.then_some(voxels), inputs.mask.map(<[u8]>::len)),
        ("the voxel weights", DType::F32, problem.weights.then_some(voxels), inputs.weights.map(<[f32]>::len)),
        ("the map", DType::F32, problem.map_elements(), inputs.map.map(<[f32]>::len)),
    ] {
        if let (Some(need), Some(got)) = (wanted(role, elements, got.is_some())?, got) {
            expect(role, dtype, need, dtype, got)?;
        }
    }
    Ok(())
}

#[cfg_attr(not(any(feature = "cpu", feature = "wgpu")), allow(dead_code, reason = "a backend's gradient"))]
pub(crate) fn gradient(head: &Head, gradient: &SliceMut<'_>) -> Result<(), Error> {
    let problem = &head.problem;
    expect("the gradient", problem.gradient_dtype(), problem.shape.elements(), gradient.dtype(), gradient.len())
}

pub(crate) fn table(head: &Head, table: &MomentTable) -> Result<(), Error> {
    let hard = if head.problem.hard_counts { head.groups() } else { 0 };
    if (head.fingerprint, hard) == (table.fingerprint, table.hard_counts.len()) {
        return Ok(());
    }
    Err(Error::OtherPlan { what: "moments", need: head.groups() * head.moments.len(), got: table.values.len() })
}

pub(crate) fn coefficients(head: &Head, coefficients: &Coefficients) -> Result<(), Error> {
    if head.fingerprint == coefficients.fingerprint {
        return Ok(());
    }
    let need = head.groups() * head.slope_count();
    Err(Error::OtherPlan { what: "coefficients", need, got: coefficients.values.len() })
}
