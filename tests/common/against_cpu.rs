//! A GPU against the CPU backend: whole calls, and stage by stage.

use super::random::Numbers;
use super::{Case, Settings};
use segfuse::spec::Moment;
use segfuse::{
    Activation, Coefficients, DType, Evaluation, Gradient, Layout, Map, MomentTable, Reduction, SliceMut, Target,
};

/// |sum − sum of the CPU| as a part of it. Both backends form the terms by the same polynomials (2 ulp, 1.2e-7 each) but divide
/// differently: Vulkan allows a division 2.5 ulp. Terms of one sign, of which a lane adds at most 64 in single precision and a
/// tree 256 more: their rounding goes as the root of that, about 5e-7 at the worst.
const MOMENT_RELATIVE: f64 = 1e-6;
/// The finish step is in doubles on both sides, of the same operations in another order.
const DOUBLE_RELATIVE: f64 = 1e-12;
/// A coefficient is such a double in single precision: the two may round to neighbours.
const COEFFICIENT_RELATIVE: f64 = f32::EPSILON as f64;

pub fn bits(gradient: &Gradient) -> Vec<u8> {
    gradient.as_slice().as_bytes().to_vec()
}

/// Loss and gradient on the CPU.
pub fn on_cpu(case: &Case) -> (Evaluation, Gradient) {
    let host = case.host();
    let mut gradient = Gradient::zeros(case.problem.gradient_dtype(), case.prediction.len()).expect("a float type");
    let evaluation = {
        let mut slices: [SliceMut<'_>; 1] = [gradient.as_slice_mut()];
        let executor = segfuse::cpu::Device::new().prepare(&case.plan());
        executor.forward_backward(&[host.inputs()], &mut slices, None).expect("the buffers fit")
    };
    (evaluation, gradient)
}

/// Whether two losses and gradients agree within the tolerances of the vectors; a gradient of 16 bits may round to the next
/// number on one side.
pub fn agree(got: &(Evaluation, Gradient), want: &(Evaluation, Gradient), case: &Case) -> Result<(), String> {
    for (a, b) in got.0.losses.iter().zip(&want.0.losses) {
        if (a - b).abs() > super::LOSS_RELATIVE * b.abs() + super::LOSS_ABSOLUTE {
            return Err(format!("loss {a}, want {b}"));
        }
    }
    let (a, b) = (&got.0.heads[0], &want.0.heads[0]);
    if (a.valid_voxels, a.invalid_labels, &a.hard_counts) != (b.valid_voxels, b.invalid_labels, &b.hard_counts) {
        return Err(format!("counts {a:?}, want {b:?}"));
    }
    gradients_agree(&got.1, &want.1, case)
}

/// See [`agree`].
pub fn gradients_agree(got: &Gradient, want: &Gradient, case: &Case) -> Result<(), String> {
    let (got, want) = (got.to_f32(), want.to_f32());
    let largest = want.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
    let (relative, step) = super::rounding(case.problem.gradient_dtype());
    for (i, (&a, &b)) in got.iter().zip(&want).enumerate() {
        let (a, b) = (f64::from(a), f64::from(b));
        let allowed = super::GRADIENT_RELATIVE * largest + super::GRADIENT_ABSOLUTE + 2.0 * (relative * b.abs() + step);
        if (a - b).abs() > allowed || a.is_nan() != b.is_nan() {
            return Err(format!("gradient {i}: {a}, want {b}, largest {largest}"));
        }
    }
    Ok(())
}

/// Checks each stage of a call against what the CPU makes of the stage before: its losses and gradient, and its sums and
/// coefficients.
pub fn check_stages(
    name: &str,
    case: &Case,
    (evaluation, gradient): &(Evaluation, Gradient),
    (table, coefficients): &(MomentTable, Coefficients),
) {
    let (plan, host) = (case.plan(), case.host());

    // Sums.
    let cpu = segfuse::cpu::Device::new().prepare(&plan);
    let want = cpu.reduce(0, &host.inputs()).expect("the buffers fit");
    let moments = plan.heads()[0].moments();
    for (i, (&got, &want)) in table.values().iter().zip(want.values()).enumerate() {
        let moment = moments[i % moments.len()];
        // Whole numbers below 2^24 have no rounding.
        let whole = matches!(moment, Moment::N | Moment::G | Moment::GG)
            && case.weights.is_none()
            && matches!(case.target_kind, Target::Labels(_));
        let allowed = if whole { 0.0 } else { MOMENT_RELATIVE * want.abs() };
        assert!((got - want).abs() <= allowed, "{name}: {moment:?} of group {}: {got}, want {want}", i / moments.len());
    }
    assert_eq!(table.values().len(), want.values().len());
    assert_eq!((table.valid_voxels, table.invalid_labels), (want.valid_voxels, want.invalid_labels), "{name}");
    assert_eq!(table.hard_counts, want.hard_counts, "{name}");

    // Losses, terms and coefficients, from the device's own sums.
    let (finished, wanted) = cpu.finish(std::slice::from_ref(table)).expect("the plan's own sums");
    let double = |got: f64, want: f64, what: &str| {
        assert!((got - want).abs() <= DOUBLE_RELATIVE * want.abs(), "{name}: {what}: {got}, want {want}");
    };
    assert_eq!(evaluation.losses.len(), finished.losses.len());
    evaluation.losses.iter().zip(&finished.losses).for_each(|(&a, &b)| double(a, b, "loss"));
    let (terms, finished) = (&evaluation.heads[0].terms, &finished.heads[0].terms);
    assert_eq!(terms.len(), finished.len());
    for (got, want) in terms.iter().zip(finished) {
        assert_eq!((&got.name, got.weight, &got.groups), (&want.name, want.weight, &want.groups), "{name}");
        assert_eq!(got.values.len(), want.values.len());
        got.values.iter().zip(&want.values).for_each(|(&a, &b)| double(a, b, &got.name));
    }
    assert_eq!(coefficients.values().len(), wanted[0].values().len());
    for (i, (&got, &want)) in coefficients.values().iter().zip(wanted[0].values()).enumerate() {
        let allowed = COEFFICIENT_RELATIVE * want.abs() + f64::from(f32::MIN_POSITIVE);
        assert!((got - want).abs() <= allowed, "{name}: coefficient {i}: {got}, want {want}");
    }

    // The gradient, from the device's own coefficients.
    let mut slopes = Gradient::zeros(case.problem.gradient_dtype(), case.prediction.len()).expect("a float type");
    cpu.gradient(0, &host.inputs(), coefficients, &mut slopes.as_slice_mut(), None).expect("the buffers fit");
    gradients_agree(gradient, &slopes, case).unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Plans of one pass with and without a census, of two passes, of every scope; pooled and not.
pub const SPECS: [&str; 8] = [
    "ce",
    "focal + 0.5*bce",
    "dice + focal(form=binary)",
    "generalized_dice(absent=skip) + wasserstein_dice",
    "mcc(batch=true) + poly1",
    "unified_focal + exp_log",
    "jaccard(squared=true, background=false) + weighted_ce",
    "kappa + balanced_ce + soft_dice(batch=true)",
];

/// Values per class, every reduction, all buffers.
pub fn dense_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let r = &mut Numbers(9);
    for (turn, spec) in
        ["dice + bce", "tversky + boundary", "focal + distance_ce", "wasserstein_dice"].into_iter().enumerate()
    {
        for (reduction, voxels) in [(Reduction::Mean, 1028), (Reduction::Sum, 1027), (Reduction::None, 515)] {
            let (samples, classes) = (2, 4);
            let dtype = [DType::F32, DType::F16, DType::BF16][turn % 3];
            let settings = Settings {
                shape: vec![samples, classes, voxels],
                dtype,
                activation: Activation::Softmax,
                layout: if turn % 2 == 0 { Layout::Planar } else { Layout::Interleaved },
                target: Target::Dense(if spec.contains("wasserstein") { DType::U8 } else { dtype }),
                ignore_label: None,
                class_weights: Some(vec![0.5, 1.0, 2.0, 0.25]),
                reduction,
                gradient: DType::F32,
            };
            let elements = samples * classes * voxels;
            let prediction = (0..elements).map(|_| r.between(-4.0, 4.0)).collect();
            let target = (0..elements).map(|i| f64::from(u8::from(i % 5 == 0)) * r.unit().ceil()).collect();
            let mask = Some((0..samples * voxels).map(|_| u8::from(r.chance(0.9))).collect());
            let weights = Some((0..samples * voxels).map(|_| r.unit() as f32).collect());
            // Of one sign, so that no sum cancels.
            let map = Some((Map::PerClass, (0..elements).map(|_| r.unit()).collect()));
            let objective = spec.parse().expect("a valid spec");
            cases.push(Case::new(objective, &settings, prediction, target, mask, weights, map));
        }
    }
    cases
}
