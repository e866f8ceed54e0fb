//! Buffers against the plan, before anything is computed.

use super::InPlaceInputs;
use super::block::Sources;
use super::view::Source;
use crate::dtype::DType;
use crate::error::Error;
use crate::plan::Head;
use crate::problem::Target;
use crate::validate;

pub(super) use crate::validate::{coefficients, grad_output, gradient, head, heads};

fn expect(role: &'static str, dtype: DType, elements: u64, got: &Source<'_>) -> Result<(), Error> {
    validate::expect(role, dtype, elements, got.dtype(), got.len())
}

fn optional<'a>(
    role: &'static str,
    dtype: DType,
    elements: Option<u64>,
    got: Option<Source<'a>>,
) -> Result<Option<Source<'a>>, Error> {
    match (validate::wanted(role, elements, got.is_some())?, got) {
        (Some(elements), Some(source)) => expect(role, dtype, elements, &source).map(|()| Some(source)),
        _ => Ok(None),
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
        made: Default::default(),
    })
}
