//! Losses of the caller's own, and values that only such losses or such data bring out: infinities and NaN beside what
//! does not count, sums of another plan, pools without a voxel.
#![cfg(feature = "cpu")]

mod common;

use common::{Bench, Case, GRADIENT_ABSOLUTE, GRADIENT_RELATIVE, LOSS_ABSOLUTE, LOSS_RELATIVE, Settings};
use segfuse::cpu::Device;
use segfuse::loss::Term;
use segfuse::spec::{
    Erosions, Formula, Graph, Moments, Op, Program, ProgramError, Real, Scope, Voxel, VoxelInput, lower,
};
use segfuse::{
    Activation, DType, Error, Evaluation, Inputs, Map, MomentTable, Objective, Plan, Problem, Reduction, Schedule,
    Shape, Target,
};

on_each_device!(
    a_census_reads_the_map_of_the_own_class,
    exp_log_leaves_out_overflowing_powers_where_the_target_is_zero,
    lanes_and_voxels_that_do_not_count_add_nothing,
    a_voxel_that_does_not_count_has_gradient_zero_beside_anything,
    a_left_out_channel_may_hold_nan,
    a_pool_without_a_kept_voxel_is_worth_nothing,
    a_size_that_is_nan_is_the_least,
    label_0_of_one_class_costs_nothing,
    a_term_that_hard_targets_make_one_of_the_target_alone,
);

/// A formula without parameters: its scope, pixel terms and inner terms.
macro_rules! formula {
    ($(#[$doc:meta])* $name:ident, $scope:ident, |$v:ident| $pixel:expr, |$m:ident| $inner:expr) => {
        $(#[$doc])*
        struct $name;
        impl Formula for $name {
            fn scope(&self) -> Scope {
                Scope::$scope
            }
            fn pixel<R: Real>(&self, $v: &Voxel<R>) -> Vec<R> {
                $pixel
            }
            fn inner<R: Real>(&self, $m: &Moments<R>) -> Vec<R> {
                $inner
            }
        }
    };
}

formula!(
    /// Σφ·(−ln p) / Σφ over the voxels' own classes.
    MapMean,
    Ratio,
    |v| vec![-(v.g() * v.map() * v.ln_p()), v.g() * v.map()],
    |m| vec![m.pixel(0), m.pixel(1)]
);
formula!(
    /// Σ(−ln P) / ΣN: a mean over voxels whose slope reads the prediction of its own sample.
    LogMass,
    Ratio,
    |_v| vec![],
    |m| vec![-m.p().ln(), m.n()]
);
formula!(
    /// Cross-entropy by the logarithm of the probability, −∞ where p is 0.
    PlainCe,
    Ratio,
    |v| vec![-(v.g() * v.p().ln())],
    |m| vec![m.pixel(0), m.g()]
);
formula!(
    /// Cross-entropy by ln p: the value reads ln p, its slope 1 reads nothing.
    StableCe,
    Ratio,
    |v| vec![-(v.g() * v.ln_p())],
    |m| vec![m.pixel(0), m.n()]
);
formula!(
    /// The mean of p/φ, infinite where φ is 0.
    OverMap,
    Group,
    |v| vec![v.p() / v.map()],
    |m| vec![m.pixel(0) / m.n()]
);
formula!(
    /// P in units of the smallest class that is there.
    OverLeast,
    Group,
    |_v| vec![],
    |m| vec![m.p() / m.g_min()]
);
formula!(
    /// Reads the cost of a class without saying what confusions cost.
    CostWithoutMatrix,
    Group,
    |_v| vec![],
    |m| vec![m.cost()]
);

/// 1 − Σ_c I/N, which is 1 and not 0 where nothing is summed.
struct OneMinusHits;

impl Formula for OneMinusHits {
    fn scope(&self) -> Scope {
        Scope::Pool
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pg().over(m.n(), R::lit(0.0))]
    }
    fn outer<R: Real>(&self, terms: &[R]) -> R {
        terms[0].complement()
    }
}

fn objective(spec: &str) -> Objective {
    spec.parse().unwrap_or_else(|e| panic!("{spec}: {e}"))
}

fn custom(formula: impl Formula) -> Objective {
    Term::custom("custom", formula).into()
}

fn plan(objective: &Objective, problem: &Problem) -> Plan {
    Plan::new(objective, problem).unwrap_or_else(|e| panic!("{objective}: {e}"))
}

fn problem(samples: usize, classes: usize, voxels: usize) -> Problem {
    Problem::new(Shape::new(samples, classes, [voxels]).expect("a valid shape"))
}

/// Logits from −4 to 4 without a pattern.
fn logits(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 8192.0 - 4.0).collect()
}

/// The labels 0 to `classes` − 1 in turn.
fn labels(count: usize, classes: usize) -> Vec<u8> {
    (0..count).map(|i| (i % classes) as u8).collect()
}

/// Loss and gradient in one call.
fn fused(bench: &Bench, plan: &Plan, inputs: Inputs<'_>, grad_output: Option<&[f64]>) -> (Evaluation, Vec<f32>) {
    let elements = plan.heads()[0].problem().shape().elements() as usize;
    let mut gradient = vec![9.0f32; elements];
    let evaluation = bench.runtime.forward_backward(plan, &[inputs], &mut [(&mut gradient).into()], grad_output);
    (evaluation.expect("the buffers fit"), gradient)
}

/// Loss and gradient by reduce, finish, gradient on the CPU.
fn staged(plan: &Plan, inputs: Inputs<'_>) -> (Evaluation, Vec<f32>) {
    let mut gradient = vec![9.0f32; plan.heads()[0].problem().shape().elements() as usize];
    let executor = Device::new().prepare(plan);
    let table = executor.reduce(0, &inputs).expect("the buffers fit");
    let (evaluation, coefficients) = executor.finish(&[table]).expect("the plan's own table");
    executor.gradient(0, &inputs, &coefficients[0], &mut (&mut gradient).into(), None).expect("the buffers fit");
    (evaluation, gradient)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[track_caller]
fn assert_loss(got: f64, want: f64) {
    assert!((got - want).abs() <= LOSS_RELATIVE * want.abs() + LOSS_ABSOLUTE, "loss {got}, want {want}");
}

#[track_caller]
fn assert_gradient(got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let allowed = GRADIENT_RELATIVE * largest + GRADIENT_ABSOLUTE;
        assert!((f64::from(got) - want).abs() <= allowed, "gradient {i}: {got}, want {want}, largest {largest}");
    }
}

/// ln softmax of one sample `[C, V]`, in double precision.
fn log_softmax(z: &[f64], classes: usize) -> Vec<f64> {
    let voxels = z.len() / classes;
    let total = |i: usize| (0..classes).map(|c| z[c * voxels + i].exp()).sum::<f64>().ln();
    z.iter().enumerate().map(|(k, x)| x - total(k % voxels)).collect()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// The gradient of `loss` by central differences in double precision.
fn differences(z: &[f32], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    let mut z: Vec<f64> = z.iter().map(|&x| x.into()).collect();
    (0..z.len())
        .map(|k| {
            let mut at = |delta: f64| {
                let kept = std::mem::replace(&mut z[k], 0.0);
                z[k] = kept + delta;
                let value = loss(&z);
                z[k] = kept;
                value
            };
            (at(step) - at(-step)) / (2.0 * step)
        })
        .collect()
}

fn wide(z: &[f32]) -> Vec<f64> {
    z.iter().map(|&x| x.into()).collect()
}

/// The denominator is a sum over the target and the map of the voxel's own class, taken before the prediction is read:
/// the map of another class there would scale the gradient, and leave the loss right.
fn a_census_reads_the_map_of_the_own_class(bench: &Bench) {
    let classes = 3;
    for (voxels, kind) in [(16, Map::PerClass), (37, Map::PerClass), (37, Map::Shared)] {
        let (z, labels) = (logits(classes * voxels), labels(voxels, classes));
        let maps = if kind == Map::PerClass { classes } else { 1 };
        let map: Vec<f32> = (0..maps * voxels).map(|i| 1.0 + (i * i % 7) as f32 + (i / voxels) as f32).collect();
        let plan = plan(&custom(MapMean), &problem(1, classes, voxels).map(kind));
        let schedule = plan.heads()[0].schedule();
        assert_eq!(schedule, Schedule::OnePass { census: true });
        let inputs = Inputs::new(&z, &labels).map(&map);
        let loss = |z: &[f64]| {
            let ln_p = log_softmax(z, classes);
            let (mut top, mut bottom) = (0.0, 0.0);
            for (i, &label) in labels.iter().enumerate() {
                let own = usize::from(label) * voxels + i;
                let weight = f64::from(map[own % map.len()]);
                top -= weight * ln_p[own];
                bottom += weight;
            }
            top / bottom
        };
        let (evaluation, gradient) = fused(bench, &plan, inputs, None);
        assert_loss(evaluation.loss(), loss(&wide(&z)));
        assert_gradient(&gradient, &differences(&z, loss));
        if bench.is_cpu() {
            let by_stages = staged(&plan, inputs);
            assert_eq!((evaluation, bits(&gradient)), (by_stages.0, bits(&by_stages.1)), "V = {voxels}, {kind:?}");
        }
    }
}

/// Where the first samples get their gradient before the others are reduced, the −ln P of those is infinite, and must not
/// reach the coefficients of the first. A mean over all samples may need two passes; values per sample never do.
#[test]
fn a_chunk_does_not_read_the_samples_to_come() {
    let (samples, voxels) = (3, 1 << 21);
    let (z, labels) = (logits(samples * voxels), labels(samples * voxels, 2));
    for (reduction, all) in
        [(Reduction::Mean, (samples * voxels) as f64), (Reduction::Sum, 1.0), (Reduction::None, voxels as f64)]
    {
        let plan = plan(&custom(LogMass), &problem(samples, 1, voxels).reduction(reduction));
        let schedule = plan.heads()[0].schedule();
        let chunked = matches!(schedule, Schedule::Chunked { .. });
        assert!(chunked || reduction == Reduction::Mean, "{reduction:?}: {schedule:?}");
        let (evaluation, gradient) = fused(common::cpu(), &plan, Inputs::new(&z, &labels), None);
        assert!(gradient.iter().all(|x| x.is_finite()), "{reduction:?}");
        let by_stages = staged(&plan, Inputs::new(&z, &labels));
        assert!(bits(&gradient) == bits(&by_stages.1), "{reduction:?}");
        assert_eq!(evaluation, by_stages.0, "{reduction:?}");

        let mut loss = 0.0;
        for (z, gradient) in z.chunks(voxels).zip(gradient.chunks(voxels)) {
            let p: Vec<f64> = z.iter().map(|&x| sigmoid(x.into())).collect();
            let mass: f64 = p.iter().sum();
            loss -= mass.ln() / all;
            for (&got, p) in gradient.iter().zip(p) {
                let want = -p * (1.0 - p) / mass / all;
                assert!((f64::from(got) - want).abs() <= GRADIENT_RELATIVE * want.abs(), "{got}, want {want}");
            }
        }
        assert_loss(evaluation.loss(), loss);
    }
}

/// A power of the logarithm of a hopeless class overflows; where g = 0 it is not part of the loss.
fn exp_log_leaves_out_overflowing_powers_where_the_target_is_zero(bench: &Bench) {
    let cases = [
        ("exp_log(gamma_ce=3)", Activation::Sigmoid, -1e14),
        ("exp_log(gamma_ce=3)", Activation::Softmax, -1e14),
        ("exp_log(gamma_ce=1.5)", Activation::Softmax, f64::NEG_INFINITY),
        ("exp_log(gamma_ce=1)", Activation::Softmax, f64::NEG_INFINITY),
    ];
    for (spec, activation, hopeless) in cases {
        for voxels in [4, 19] {
            let labels = Settings::of_labels(&[1, 3, voxels], activation);
            let settings = Settings { target: Target::Dense(DType::F32), ..labels };
            let mut prediction: Vec<f64> = logits(3 * voxels).into_iter().map(f64::from).collect();
            prediction[..voxels].fill(hopeless);
            let target = (0..3 * voxels).map(|k| if k / voxels == 1 + k % 2 { 1.0 } else { 0.0 }).collect();
            let case = Case::new(objective(spec), &settings, prediction, target, None, None, None);
            let outcome = case.run(&bench.runtime);
            let (terms, reference) = case.reference();
            let want = segfuse_reference::loss(&terms, &reference)[0];
            assert!(want.is_finite(), "{spec}, {activation:?}");
            assert_loss(outcome.losses[0], want);
            assert!(outcome.gradient.iter().all(|x| x.is_finite()), "{spec}, {activation:?}: {:?}", outcome.gradient);
        }
    }
}

/// Ten voxels leave lanes of a vector without a voxel. What a pixel term makes of their zeros, here ln 0 and x/0, is not
/// part of any sum; nor is what it makes of a voxel that does not count.
fn lanes_and_voxels_that_do_not_count_add_nothing(bench: &Bench) {
    let (classes, voxels) = (2, 10);
    for ignored in [None, Some(3)] {
        let (mut z, mut labels) = (logits(classes * voxels), labels(voxels, classes));
        if let Some(i) = ignored {
            labels[i] = 255;
        }
        let loss = |z: &[f64]| {
            let ln_p = log_softmax(z, classes);
            let kept = || labels.iter().enumerate().filter(|(_, label)| **label != 255);
            -kept().map(|(i, &label)| ln_p[usize::from(label) * voxels + i]).sum::<f64>() / kept().count() as f64
        };
        let (want, slopes) = (loss(&wide(&z)), differences(&z, loss));
        if let Some(i) = ignored {
            z[i] = f32::NAN;
        }
        let plan = plan(&custom(PlainCe), &problem(1, classes, voxels).ignore_label(255));
        let (evaluation, gradient) = fused(bench, &plan, Inputs::new(&z, &labels), None);
        assert_loss(evaluation.loss(), want);
        assert_gradient(&gradient, &slopes);
    }

    let voxels = 5;
    for dropped in [None, Some(2)] {
        let (z, labels) = (logits(voxels), labels(voxels, 2));
        let mut map: Vec<f32> = (0..voxels).map(|i| 1.0 + i as f32).collect();
        let mut mask = vec![1u8; voxels];
        if let Some(i) = dropped {
            (map[i], mask[i]) = (0.0, 0);
        }
        let kept: f64 = mask.iter().map(|&m| f64::from(m)).sum();
        let value = |z: &[f64]| {
            let all = z.iter().zip(&map).zip(&mask).filter(|(_, m)| **m != 0);
            all.map(|((&z, &map), _)| sigmoid(z) / f64::from(map)).sum::<f64>() / kept
        };
        let plan = plan(&custom(OverMap), &problem(1, 1, voxels).map(Map::Shared).mask());
        let (evaluation, gradient) = fused(bench, &plan, Inputs::new(&z, &labels).map(&map).mask(&mask), None);
        assert_loss(evaluation.loss(), value(&wide(&z)));
        assert_gradient(&gradient, &differences(&z, value));
    }
}

/// Voxel 1 is ignored: its gradient is 0 whatever the rest of the gradient became, and not 0·NaN or 0·∞.
fn a_voxel_that_does_not_count_has_gradient_zero_beside_anything(bench: &Bench) {
    let (classes, voxels) = (2, 19);
    let mut labels = labels(voxels, classes);
    labels[1] = 255;
    for spec in ["dice", "generalized_dice", "ce", "bce"] {
        for activation in [Activation::Softmax, Activation::Sigmoid] {
            if spec == "ce" && activation == Activation::Sigmoid {
                continue;
            }
            let problem = problem(1, classes, voxels).prediction(DType::F32, activation).ignore_label(255);
            let plan = plan(&objective(spec), &problem);
            for (poisoned, grad_output) in
                [(true, 1.0), (false, 1e40), (false, 1e300), (false, f64::INFINITY), (false, f64::NAN), (true, 1e300)]
            {
                let mut z = logits(classes * voxels);
                if poisoned {
                    z[0] = f32::NAN;
                }
                let (_, gradient) = fused(bench, &plan, Inputs::new(&z, &labels), Some(&[grad_output]));
                for c in 0..classes {
                    let got = gradient[c * voxels + 1];
                    assert!(got == 0.0, "{spec}, {activation:?}, NaN {poisoned}, times {grad_output}: {got}");
                }
                assert!(!poisoned || gradient[0].is_nan(), "{spec}, {activation:?}: a NaN must show");
            }
        }
    }
}

/// The channels of a sigmoid are independent: one that is left out may hold anything.
fn a_left_out_channel_may_hold_nan(bench: &Bench) {
    let voxels = 19;
    let mut z = logits(2 * voxels);
    let labels = labels(voxels, 2);
    let problem = problem(1, 2, voxels).prediction(DType::F32, Activation::Sigmoid);
    for spec in ["bce(background=false)", "dice(background=false)", "focal(class_weights=[0, 1])"] {
        let plan = plan(&objective(spec), &problem);
        let (clean, slopes) = fused(bench, &plan, Inputs::new(&z, &labels), None);
        let kept = z[0];
        z[0] = f32::NAN;
        let (evaluation, gradient) = fused(bench, &plan, Inputs::new(&z, &labels), None);
        z[0] = kept;
        assert!(evaluation.loss().is_finite(), "{spec}");
        assert_eq!(evaluation.loss(), clean.loss(), "{spec}");
        assert!(gradient[..voxels].iter().all(|&x| x == 0.0), "{spec}: {:?}", &gradient[..voxels]);
        assert_eq!(gradient[voxels..], slopes[voxels..], "{spec}");
    }
}

/// Without the matrix the cost would be a sum that nobody makes.
#[test]
fn a_cost_needs_a_matrix() {
    let error = Plan::new(&custom(CostWithoutMatrix), &problem(1, 2, 4)).expect_err("no matrix");
    assert!(matches!(&error, Error::Unsuitable { loss, .. } if loss == "custom"), "{error:?}");
}

/// As many moments are not the same moments. Tiles of one objective differ in their voxels alone.
/// Σm·E/N alone, without a slope, by as many erosions.
struct Eroded(Option<Erosions>);
impl Formula for Eroded {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn pixel<R: Real>(&self, v: &Voxel<R>) -> Vec<R> {
        vec![v.made(VoxelInput::ErodedError)]
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pixel(0).over(m.n(), R::lit(0.0))]
    }
    fn erosions(&self) -> Option<Erosions> {
        self.0
    }
}

#[test]
fn erosions_need_a_number_that_can_be() {
    let of = |erosions| Plan::new(&Term::custom("eroded", Eroded(erosions)).into(), &problem(1, 2, 4));
    assert!(of(Some(Erosions { alpha: 0.0, count: 1 })).is_ok());
    let wrong = [(2.0, 0), (2.0, 101), (-1.0, 3), (f64::NAN, 3)].map(|(alpha, count)| Some(Erosions { alpha, count }));
    for erosions in wrong.into_iter().chain([None]) {
        let error = of(erosions).expect_err("no such erosions");
        assert!(matches!(&error, Error::Unsuitable { loss, .. } if loss == "eroded"), "{error:?}");
    }
}

/// The library's loss without class 0 beside a value that reads class 0 too: both maps are of every class.
#[test]
fn eroded_errors_of_other_classes_beside_each_other() {
    let (classes, voxels) = (3, 30);
    let by = Erosions { alpha: 2.0, count: 3 };
    let alone: Objective = "hausdorff_erosion(iterations=3, background=false)".parse().expect("a valid spec");
    let both = alone.clone() + Term::custom("eroded", Eroded(Some(by)));
    let problem = problem(2, classes, voxels);
    // Mistakes side by side, so that something is left of them.
    let z: Vec<f32> = (0..2 * classes * voxels).map(|i| if i / voxels % classes == 1 { 3.0 } else { -3.0 }).collect();
    let labels: Vec<u8> = (0..2 * voxels).map(|i| if i % voxels < 11 { 2 } else { (i % 5 == 0).into() }).collect();
    let gradient = |objective: &Objective| {
        let plan = Plan::new(objective, &problem).expect("a valid plan");
        let inputs = [Inputs::new(&z, &labels)];
        let mut gradient = vec![0.0f32; z.len()];
        let executor = Device::new().prepare(&plan);
        executor.forward_backward(&inputs, &mut [(&mut gradient[..]).into()], None).expect("inputs of the plan");
        gradient
    };
    let expected = gradient(&alone);
    assert!(expected.iter().any(|slope| *slope != 0.0));
    // The value has no slope of its own.
    assert_eq!(gradient(&both), expected);
}

#[test]
fn tables_and_coefficients_of_another_objective_are_refused() {
    let (classes, voxels) = (3, 8);
    let (z, labels) = (logits(classes * voxels), labels(voxels, classes));
    let inputs = Inputs::new(&z, &labels);
    let refused = |result: Result<(), Error>, what: &str| {
        assert!(matches!(result, Err(Error::OtherPlan { .. })), "{what}: {result:?}");
    };
    for (own, other) in [("ce", "focal"), ("focal(gamma=2)", "focal(gamma=3)"), ("bce", "focal(form=binary)")] {
        let what = format!("{own} and {other}");
        let executor = |spec: &str| Device::new().prepare(&plan(&objective(spec), &problem(1, classes, voxels)));
        let (own, other) = (executor(own), executor(other));
        let mut table = own.reduce(0, &inputs).expect("the buffers fit");
        let foreign = other.reduce(0, &inputs).expect("the buffers fit");
        assert_eq!(table.values().len(), foreign.values().len(), "{what}: else their sizes tell them apart");

        let before = table.clone();
        refused(table.merge(&foreign), &what);
        assert_eq!(table, before, "{what}: nothing is added");
        refused(own.finish(std::slice::from_ref(&foreign)).map(|_| ()), &what);
        let (_, coefficients) = other.finish(&[foreign]).expect("its own table");
        let mut gradient = vec![9.0f32; z.len()];
        refused(own.gradient(0, &inputs, &coefficients[0], &mut (&mut gradient).into(), None), &what);
        assert!(gradient.iter().all(|&x| x == 9.0), "{what}: nothing is written");
    }

    let mut merged: Option<MomentTable> = None;
    for voxels in [8, 5] {
        let plan = plan(&objective("dice + ce"), &problem(1, classes, voxels));
        let z = logits(classes * voxels);
        let table = Device::new().prepare(&plan).reduce(0, &Inputs::new(&z, &labels[..voxels]));
        let table = table.expect("the buffers fit");
        match &mut merged {
            None => merged = Some(table),
            Some(merged) => merged.merge(&table).expect("the same moments, other voxels"),
        }
    }
    assert_eq!(merged.expect("two tables").valid_voxels, 13);
}

/// A compound whose halves are grouped in different ways has no groups; half of them would be a wrong report.
#[test]
fn groups_are_reported_where_they_exist() {
    let (samples, classes, voxels) = (2, 3, 16);
    let (z, labels) = (logits(samples * classes * voxels), labels(samples * voxels, classes));
    let groups = |spec: &str| {
        let plan = plan(&objective(spec), &problem(samples, classes, voxels));
        fused(common::cpu(), &plan, Inputs::new(&z, &labels), None).0.heads[0].terms[0].groups.clone()
    };
    for spec in ["unified_focal", "exp_log"] {
        assert!(groups(spec).is_empty(), "{spec}: {:?}", groups(spec));
    }
    for (spec, background) in [("dice", true), ("dice(background=false)", false)] {
        let groups = groups(spec);
        assert_eq!(groups.len(), samples, "{spec}");
        for pool in groups {
            let shown: Vec<bool> = pool.iter().map(Option::is_some).collect();
            assert_eq!(shown, [background, true, true], "{spec}");
        }
    }
}

/// The one pass makes values and slopes together, the last stage slopes alone: what the values need beside must not change
/// a bit of the slopes.
#[test]
fn one_pass_gives_the_bits_of_the_stages() {
    let (samples, classes, voxels) = (2, 3, 4001);
    let (z, labels) = (logits(samples * classes * voxels), labels(samples * voxels, classes));
    for activation in [Activation::Softmax, Activation::Sigmoid] {
        let problem = problem(samples, classes, voxels).prediction(DType::F32, activation);
        let binary = [objective("bce"), objective("focal(form=binary)")];
        let objectives = [custom(StableCe), objective("focal")].into_iter().chain(binary);
        for objective in objectives.chain((activation == Activation::Softmax).then(|| objective("ce"))) {
            let plan = plan(&objective, &problem);
            let schedule = plan.heads()[0].schedule();
            assert!(matches!(schedule, Schedule::OnePass { .. }), "{objective}: {schedule:?}");
            let (evaluation, gradient) = fused(common::cpu(), &plan, Inputs::new(&z, &labels), None);
            let by_stages = staged(&plan, Inputs::new(&z, &labels));
            assert_eq!(evaluation, by_stages.0, "{objective}");
            let differ = gradient.iter().zip(&by_stages.1).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(differ, 0, "{objective}, {activation:?}: of {}", z.len());
        }
    }
}

/// An index beyond the inputs would be read out of bounds by whatever runs the program.
#[test]
fn a_program_reads_no_input_it_does_not_have() {
    let mut graph = Graph::default();
    let (inside, beyond) = (graph.push(Op::Input(1)), graph.push(Op::Input(9)));
    let sum = graph.push(Op::Add(inside, beyond));
    assert!(Program::compile(&graph, 2, &[inside]).is_ok(), "what no output needs is left out");
    assert!(Program::compile(&graph, 10, &[beyond, sum]).is_ok());
    let error = |output| Program::compile(&graph, 2, &[output]).expect_err("slot 9 of 2");
    assert_eq!(error(beyond), ProgramError::Output { index: 0 });
    assert_eq!(error(sum), ProgramError::Malformed { index: 0 });
}

/// Shader text has no notation for what single precision cannot hold.
#[test]
fn constants_beyond_single_precision_are_refused_by_shader_text() {
    for constant in [1e39, -1e39, f64::INFINITY, f64::NAN] {
        let mut graph = Graph::default();
        let (x, literal) = (graph.push(Op::Input(0)), graph.lit(constant));
        let product = graph.push(Op::Mul(x, literal));
        let text = |output| lower(&graph, &[output], &|i| format!("i{i}"), &|k| format!("o{k}"));
        for output in [product, literal] {
            let error = text(output).expect_err("no such constant");
            assert!(matches!(error, ProgramError::Literal { .. }), "{constant}: {error:?}");
        }
        assert!(text(x).is_ok(), "what no output needs is left out");
    }
}

/// Whichever classes come before and after it.
fn a_size_that_is_nan_is_the_least(bench: &Bench) {
    let (classes, voxels) = (3, 4);
    let z = logits(classes * voxels);
    let problem = problem(1, classes, voxels).dense(DType::F32).reduction(Reduction::None);
    let plan = plan(&custom(OverLeast), &problem);
    for poisoned in 0..classes {
        let mut target = vec![1.0f32; classes * voxels];
        assert!(fused(bench, &plan, Inputs::new(&z, &target), None).0.loss().is_finite());
        target[poisoned * voxels] = f32::NAN;
        let (evaluation, _) = fused(bench, &plan, Inputs::new(&z, &target), None);
        assert!(evaluation.losses[0].is_nan(), "class {poisoned}: {:?}", evaluation.losses);
    }
}

/// `outer` of no terms is 1 here, but a pool in which no voxel counts has value 0 and moves nothing.
fn a_pool_without_a_kept_voxel_is_worth_nothing(bench: &Bench) {
    let (classes, voxels) = (2, 10);
    let z = logits(2 * classes * voxels);
    let mut labels = labels(2 * voxels, classes);
    labels[..voxels].fill(255);
    let both = problem(2, classes, voxels).ignore_label(255);
    let formula = || custom(OneMinusHits);

    // Alone.
    let alone = plan(&formula(), &problem(1, classes, voxels).ignore_label(255));
    let (evaluation, gradient) = fused(bench, &alone, Inputs::new(&z[..classes * voxels], &labels[..voxels]), None);
    assert_eq!(evaluation.losses, [0.0]);
    assert!(gradient.iter().all(|&x| x == 0.0), "{gradient:?}");

    // Beside a pool that counts, which the mean over pools divides by 2.
    let own: Vec<f64> = log_softmax(&wide(&z[classes * voxels..]), classes).iter().map(|x| x.exp()).collect();
    let hits: f64 = (0..voxels).map(|i| own[usize::from(labels[voxels + i]) * voxels + i]).sum();
    let value = 1.0 - hits / voxels as f64;
    let each = plan(&formula(), &both.clone().reduction(Reduction::None));
    let (evaluation, _) = fused(bench, &each, Inputs::new(&z, &labels), None);
    assert_eq!(evaluation.losses[0], 0.0);
    assert_loss(evaluation.losses[1], value);
    let (evaluation, gradient) = fused(bench, &plan(&formula(), &both), Inputs::new(&z, &labels), None);
    assert_loss(evaluation.loss(), value / 2.0);
    let (dropped, kept) = gradient.split_at(classes * voxels);
    assert!(dropped.iter().all(|&x| x == 0.0), "{dropped:?}");
    assert!(kept.iter().any(|&x| x != 0.0));
}

/// D of one class whose own distance is 1, not 0 as in any sensible matrix.
struct CostOfOne;
impl Formula for CostOfOne {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.cost() / m.n()]
    }
    fn cost_matrix(&self, classes: usize) -> Option<Vec<f64>> {
        Some(vec![1.0; classes * classes])
    }
}

/// With one class, label 0 is none, and neither its cost nor its slope.
fn label_0_of_one_class_costs_nothing(bench: &Bench) {
    let (z, labels) = ([0.5f32, -1.0, 2.0, 0.0, 0.25], [0u8, 1, 0, 1, 1]);
    let plan = plan(&custom(CostOfOne), &problem(1, 1, 5));
    let (evaluation, gradient) = fused(bench, &plan, Inputs::new(&z, &labels), None);
    let each: Vec<f64> = wide(&z).into_iter().map(sigmoid).collect();
    let counts = |i: usize| f64::from(labels[i]);
    assert_loss(evaluation.loss(), each.iter().enumerate().map(|(i, p)| counts(i) * p).sum::<f64>() / 5.0);
    let slopes: Vec<f64> = each.iter().enumerate().map(|(i, p)| counts(i) * p * (1.0 - p) / 5.0).collect();
    assert_gradient(&gradient, &slopes);
}

formula!(
    /// Reads the prediction only where g is neither 0 nor 1.
    SoftPartsOnly,
    Group,
    |v| vec![(v.g() - v.g() * v.g()) * v.p() + v.g() * v.map()],
    |m| vec![m.pixel(0) / m.n()]
);

/// With labels such a term is Σg·φ: the census that counts the voxels must not take it for one of its own.
fn a_term_that_hard_targets_make_one_of_the_target_alone(bench: &Bench) {
    let (classes, voxels) = (2, 21);
    let (z, labels) = (logits(classes * voxels), labels(voxels, classes));
    let map: Vec<f32> = (0..voxels).map(|i| i as f32 / 8.0 - 1.0).collect();
    let plan = plan(&custom(SoftPartsOnly), &problem(1, classes, voxels).map(Map::Shared));
    let (evaluation, gradient) = fused(bench, &plan, Inputs::new(&z, &labels).map(&map), None);
    let total: f64 = map.iter().map(|&x| f64::from(x)).sum();
    assert_loss(evaluation.loss(), total / voxels as f64 / classes as f64);
    assert!(gradient.iter().all(|&x| x == 0.0), "{gradient:?}");
}
