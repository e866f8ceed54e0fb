//! Any sizes, types and options: a plan or an error, and totals that are sums.
#![no_main]

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use segfuse::loss::{Absent, ENTRIES};
use segfuse::{
    Activation, CLASSES_MAX, DType, ELEMENTS_MAX, Layout, Map, Objective, Plan, Problem, Reduction, SPATIAL_MAX, Shape,
};

#[derive(Debug)]
struct Case {
    spec: String,
    heads: Vec<(f64, Problem)>,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Case> {
        let names = (0..u.int_in_range(1..=5)?).map(|_| Ok(u.choose(ENTRIES)?.name)).collect::<Result<Vec<_>>>()?;
        let heads = (0..u.int_in_range(0..=2)?).map(|_| Ok((u.arbitrary()?, problem(u)?))).collect::<Result<_>>()?;
        Ok(Case { spec: names.join(" + "), heads })
    }
}

/// A number of any magnitude up to `max`; often `max` itself.
fn size(u: &mut Unstructured<'_>, max: usize) -> Result<usize> {
    if u.ratio(1, 4)? {
        return Ok(max);
    }
    Ok((u.arbitrary::<usize>()? >> u.int_in_range(0..=63)?).clamp(1, max))
}

fn problem(u: &mut Unstructured<'_>) -> Result<Problem> {
    const TYPES: [DType; 7] = [DType::F32, DType::F16, DType::BF16, DType::U8, DType::I16, DType::I32, DType::I64];
    // Whatever the numbers, a shape or an error.
    let _ = Shape::new(u.arbitrary()?, u.arbitrary()?, u.arbitrary::<Vec<usize>>()?);
    // Then one that fits, as large as a shape may be.
    let mut room = ELEMENTS_MAX as usize;
    let mut extent = |u: &mut Unstructured<'_>, max: usize| -> Result<usize> {
        let extent = size(u, room.min(max))?;
        room /= extent;
        Ok(extent)
    };
    let (samples, classes) = (extent(u, u32::MAX as usize)?, extent(u, CLASSES_MAX)?);
    let spatial = (0..u.int_in_range(1..=SPATIAL_MAX)?).map(|_| extent(u, usize::MAX)).collect::<Result<Vec<_>>>()?;
    let shape = Shape::new(samples, classes, spatial).expect("at most ELEMENTS_MAX elements");
    let mut problem = Problem::new(shape)
        .prediction(*u.choose(&TYPES)?, *u.choose(&[Activation::None, Activation::Sigmoid, Activation::Softmax])?)
        .layout(*u.choose(&[Layout::Planar, Layout::Interleaved])?)
        .reduction(*u.choose(&[Reduction::Mean, Reduction::Sum, Reduction::None])?)
        .absent(*u.choose(&[Absent::Count, Absent::Skip, Absent::Zero])?)
        .batch(u.arbitrary()?)
        .background(u.arbitrary()?);
    let dtype = *u.choose(&TYPES)?;
    problem = if u.arbitrary()? { problem.labels(dtype) } else { problem.dense(dtype) };
    if u.arbitrary()? {
        problem = problem.gradient(*u.choose(&TYPES)?);
    }
    if u.arbitrary()? {
        problem = problem.mask();
    }
    if u.arbitrary()? {
        problem = problem.weights();
    }
    if u.arbitrary()? {
        problem = problem.map(*u.choose(&[Map::Shared, Map::PerClass])?);
    }
    if u.ratio(1, 4)? {
        let spacing: Vec<f64> = u.arbitrary()?;
        problem = problem.spacing(spacing);
    }
    if u.ratio(1, 4)? {
        problem = problem.ignore_label(u.arbitrary()?);
    }
    if u.ratio(1, 4)? {
        let weights: Vec<f64> = u.arbitrary()?;
        problem = problem.class_weights(weights);
    }
    Ok(problem)
}

fuzz_target!(|case: Case| {
    let objective: Objective = case.spec.parse().expect("names of losses");
    let Ok(plan) = Plan::with_heads(&objective, &case.heads) else { return };
    let explanation = plan.explain();
    let stages = explanation.heads.iter().flat_map(|head| &head.stages);
    let total: u128 = stages.map(|stage| u128::from(stage.bytes_read) + u128::from(stage.bytes_written)).sum();
    assert_eq!(u128::from(explanation.total_bytes), total, "{explanation}");
    assert!(explanation.forward_bytes <= explanation.total_bytes, "{explanation}");
    for (head, explained) in plan.heads().iter().zip(&explanation.heads) {
        let shape = head.problem().shape();
        let elements: u128 = explained.shape.iter().map(|&extent| extent as u128).product();
        assert_eq!(u128::from(shape.elements()), elements);
        // Each pass over a prediction reads all of it.
        let prediction = elements * u128::from(head.problem().prediction_dtype().size());
        let passes = explained.stages.iter().filter(|stage| !matches!(stage.name, "distance" | "census" | "finish"));
        assert!(passes.into_iter().all(|stage| u128::from(stage.bytes_read) >= prediction), "{explanation}");
    }
});
