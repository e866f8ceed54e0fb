//! Buffers against the plan, before anything is computed.

use super::InPlaceInputs;
use super::block::Sources;
use super::view::Source;
use crate::dtype::{DType, SliceMut};
use crate::error::Error;
use crate::moments::{Coefficients, MomentTable};
use crate::plan::{Head, Plan};
use crate::problem::Target;

pub(super) fn heads(plan: &Plan, got: usize) -> Result<(), Error> {
    let need = plan.heads().len();
    if need == got { Ok(()) } else { Err(Error::OtherPlan { what: "heads", need, got }) }
}

pub(super) fn grad_output(plan: &Plan, values: Option<&[f64]>) -> Result<(), Error> {
    match values {
        Some(values) if values.len() != plan.losses() => {
            Err(Error::BufferLength { role: "grad_output", need: plan.losses() as u64, got: values.len() as u64 })
        }
        _ => Ok(()),
    }
}

fn expect(role: &'static str, dtype: DType, elements: u64, got: &Source<'_>) -> Result<(), Error> {
    if got.dtype() != dtype {
        return Err(Error::BufferType { role, need: dtype, got: got.dtype() });
    }
    if got.len() as u64 != elements {
        return Err(Error::BufferLength { role, need: elements, got: got.len() as u64 });
    }
    Ok(())
}

fn optional<'a>(
    role: &'static str,
    dtype: DType,
    elements: Option<u64>,
    got: Option<Source<'a>>,
) -> Result<Option<Source<'a>>, Error> {
    match (elements, got) {
        (Some(elements), Some(source)) => expect(role, dtype, elements, &source).map(|()| Some(source)),
        (None, None) => Ok(None),
        (Some(_), None) => Err(Error::BufferMissing { role }),
        (None, Some(_)) => Err(Error::BufferUnexpected { role }),
    }
}

/// The buffers of a head, checked.
pub(super) fn sources<'a>(
    head: &Head,
    prediction: Source<'a>,
    inputs: &InPlaceInputs<'a>,
) -> Result<Sources<'a>, Error> {
    let problem = &head.problem;
    let voxels = problem.shape.all_voxels();
    expect("the prediction", problem.prediction, problem.shape.elements(), &prediction)?;
    let (Target::Labels(dtype) | Target::Dense(dtype)) = problem.target;
    let target = inputs.target.into();
    expect("the target", dtype, problem.target_elements(), &target)?;
    Ok(Sources {
        prediction,
        target,
        mask: optional("the mask", DType::U8, problem.mask.then_some(voxels), inputs.mask.map(Source::from))?,
        weights: optional(
            "the voxel weights",
            DType::F32,
            problem.weights.then_some(voxels),
            inputs.weights.map(Source::from),
        )?,
        map: optional("the map", DType::F32, problem.map_elements(), inputs.map.map(Source::from))?,
    })
}

pub(super) fn gradient(head: &Head, gradient: &SliceMut<'_>) -> Result<(), Error> {
    let (need, got) = (head.problem.gradient_dtype(), gradient.dtype());
    if need != got {
        return Err(Error::BufferType { role: "the gradient", need, got });
    }
    let (need, got) = (head.problem.shape.elements(), gradient.len() as u64);
    if need != got { Err(Error::BufferLength { role: "the gradient", need, got }) } else { Ok(()) }
}

pub(super) fn table(head: &Head, table: &MomentTable) -> Result<(), Error> {
    let hard = if head.problem.hard_counts { head.groups() } else { 0 };
    if (head.fingerprint, hard) == (table.fingerprint, table.hard_counts.len()) {
        return Ok(());
    }
    Err(Error::OtherPlan { what: "moments", need: head.groups() * head.moments.len(), got: table.values.len() })
}

pub(super) fn coefficients(head: &Head, coefficients: &Coefficients) -> Result<(), Error> {
    if head.fingerprint == coefficients.fingerprint {
        return Ok(());
    }
    let need = head.groups() * head.slope_count();
    Err(Error::OtherPlan { what: "coefficients", need, got: coefficients.values.len() })
}
