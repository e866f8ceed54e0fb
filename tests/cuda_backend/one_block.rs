//! Small problems, which are one launch: the bits of the stages launched one by one.

use super::common::against_cpu::{SPECS, bits, dense_cases};
use super::common::{Case, assert_no_faults, example};
use super::evaluate;
use super::memory::MAPS;
use segfuse::cuda::{Device, Executor, Preparation, inspect};
use segfuse::{DType, Evaluation, Layout, Plan, Problem, Reduction};

/// Every shape of the kernel, with rounds that are full and such as are not, with samples that have a row each.
const SHAPES: [([usize; 3], Layout); 15] = [
    ([1, 1, 1], Layout::Planar),
    ([1, 1, 1024], Layout::Planar),
    ([2, 1, 400], Layout::Planar),
    ([1, 1, 2048], Layout::Planar),
    ([2, 2, 516], Layout::Planar),
    ([1, 3, 1024], Layout::Planar),
    ([2, 4, 512], Layout::Planar),
    ([1, 1, 257], Layout::Planar),
    ([2, 3, 255], Layout::Planar),
    ([1, 2, 511], Layout::Interleaved),
    ([2, 4, 130], Layout::Interleaved),
    ([1, 3, 300], Layout::Interleaved),
    ([1, 5, 77], Layout::Interleaved),
    ([2, 6, 256], Layout::Interleaved),
    ([1, 8, 256], Layout::Interleaved),
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (turn, (shape, layout)) in SHAPES.into_iter().enumerate() {
        for (number, spec) in SPECS.into_iter().enumerate() {
            let one_class = shape[1] == 1;
            if one_class && ["ce", "kappa", "poly1", "wasserstein"].iter().any(|name| spec.contains(name)) {
                continue;
            }
            let dtype = [DType::F32, DType::F16, DType::BF16][(turn + number) % 3];
            let mut case = example(spec, &shape, dtype, layout, (10 * turn + number) as u64);
            if !spec.contains("batch") {
                let reduction = [Reduction::Mean, Reduction::None, Reduction::Sum][number % 3];
                case.problem = case.problem.reduction(reduction);
            }
            cases.push(case);
        }
        cases.push(example("bce", &shape, DType::F32, layout, turn as u64));
        cases.push(example("dice + focal + boundary", &shape, DType::F32, layout, turn as u64));
    }
    cases.push(example(MAPS, &[2, 3, 5, 6, 7], DType::F32, Layout::Planar, 1));
    cases.push(example(MAPS, &[1, 3, 9, 13], DType::F16, Layout::Interleaved, 2));
    cases.extend(dense_cases());
    // A cost matrix wants threads of one voxel, and so four times the rows.
    cases.retain(|case| inspect::is_one_block(&case.plan()));
    assert!(cases.len() > 100, "{} cases", cases.len());
    cases
}

/// What holds the stages of one block apart is its barriers alone, so threads of it are looked at too.
fn look_at_threads() {
    if let Ok(Some(driver)) = softcuda::install() {
        driver.configure(&softcuda::Settings { check_block_races: true, ..driver.settings() });
    }
}

fn in_stages(device: &Device, plan: &Plan, in_place: bool) -> Executor {
    let preparation = Preparation { in_place, one_block: false, ..Preparation::default() };
    device.prepare_as(plan, preparation).expect("the device takes the plan")
}

/// The kernels of the last call that are no maps, where the software driver has counted them.
fn launched(from: impl FnOnce()) -> Option<Vec<String>> {
    let Ok(Some(driver)) = softcuda::install() else {
        from();
        return None;
    };
    driver.reset();
    from();
    let kernels = driver.launches().into_iter().map(|launch| launch.kernel);
    Some(kernels.filter(|kernel| !kernel.starts_with("distance")).collect())
}

fn assert_one_launch(kernels: Option<Vec<String>>, name: &str) {
    if let Some(kernels) = kernels {
        assert!(kernels.len() == 1 && kernels[0].starts_with("one_block_"), "{name}: {kernels:?}");
    }
}

#[test]
fn gives_the_bits_of_stages_in_one_launch() {
    let device = device_or_return!();
    for case in cases() {
        let (plan, name) = (case.plan(), format!("{}, {:?}", case.objective, case.problem));
        look_at_threads();
        let want = evaluate(&in_stages(device, &plan, false), &case);
        let executor = device.prepare(&plan).expect("the device takes the plan");
        for word in [0, u32::MAX] {
            executor.fill_workspace(word).expect("the device works");
            let mut got = None;
            assert_one_launch(launched(|| got = Some(evaluate(&executor, &case))), &name);
            let (evaluation, gradient) = got.expect("it was evaluated");
            assert_eq!(evaluation, want.0, "{name}");
            assert!(bits(&gradient) == bits(&want.1), "{name}");
        }
        let mut forward = None;
        assert_one_launch(
            launched(|| forward = Some(executor.evaluate_forward(&[case.host().inputs()]).expect("the buffers fit"))),
            &name,
        );
        assert_eq!(forward.map(|evaluation: Evaluation| evaluation.losses), Some(want.0.losses), "{name}");
        assert_no_faults();
    }
}

#[test]
fn in_place() {
    let device = device_or_return!();
    for case in
        cases().iter().filter(|case| case.problem.gradient_dtype() == case.problem.prediction_dtype()).step_by(3)
    {
        let (plan, name) = (case.plan(), format!("{}, {:?}", case.objective, case.problem));
        look_at_threads();
        let want = evaluate(&in_stages(device, &plan, true), case);
        let executor = device.prepare_in_place(&plan).expect("of one type");
        let mut got = None;
        assert_one_launch(launched(|| got = Some(evaluate(&executor, case))), &name);
        assert!(got == Some(want), "{name}");
        assert_no_faults();
    }
}

/// Under shuffled orders of warps, each from a workspace in which what a stage reads too early is a NaN.
#[test]
fn in_any_order_of_warps() {
    let device = device_or_return!();
    let Ok(Some(driver)) = softcuda::install() else {
        println!("skipped: the order of warps is the device's own");
        return;
    };
    for case in cases().into_iter().step_by(9) {
        look_at_threads();
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let want = evaluate(&executor, &case);
        for seed in 1..=8 {
            driver.configure(&softcuda::Settings { schedule_seed: seed, ..driver.settings() });
            executor.fill_workspace(u32::MAX).expect("the device works");
            assert!(evaluate(&executor, &case) == want, "{}, seed {seed}", case.objective);
        }
        driver.configure(&softcuda::Settings { schedule_seed: 0, ..driver.settings() });
        assert_no_faults();
    }
}

/// One launch a head, of those that are small.
#[test]
fn of_several_heads() {
    let device = device_or_return!();
    let cases = [
        example("ce + dice", &[2, 3, 300], DType::F32, Layout::Planar, 51),
        example("ce + dice", &[2, 3, 900], DType::F16, Layout::Interleaved, 52),
        example("ce + dice", &[2, 3, 77], DType::F16, Layout::Interleaved, 53),
    ];
    let heads: Vec<(f64, Problem)> = cases.iter().map(|case| (0.5, case.problem.clone())).collect();
    let plan = Plan::with_heads(&cases[0].objective, &heads).expect("a valid plan");
    let hosts: Vec<_> = cases.iter().map(Case::host).collect();
    let inputs: Vec<_> = hosts.iter().map(|host| host.inputs()).collect();
    let want = in_stages(device, &plan, false).evaluate(&inputs).expect("the buffers fit");
    let executor = device.prepare(&plan).expect("the device takes the plan");
    let mut got = None;
    let kernels = launched(|| got = Some(executor.evaluate(&inputs).expect("the buffers fit")));
    assert!(got == Some(want));
    if let Some(kernels) = kernels {
        let stems: Vec<&str> = kernels.iter().filter_map(|kernel| kernel.split("_interleaved").next()).collect();
        assert_eq!(stems, ["one_block_planar_4x4", "reduce", "finish", "gradient", "one_block"]);
    }
    assert_no_faults();
}

/// What is larger, or would want teams or more registers, is launched in stages.
#[test]
fn only_of_what_is_small() {
    let of = |shape: [usize; 3], layout| {
        let case = example("dice + bce", &shape, DType::F32, layout, 1);
        inspect::is_one_block(&case.plan())
    };
    for (shape, layout) in SHAPES {
        assert!(of(shape, layout), "{shape:?}, {layout:?}");
    }
    for (shape, layout) in [
        ([1, 4, 1028], Layout::Planar),
        ([3, 1, 4], Layout::Planar),
        ([1, 1, 513], Layout::Planar),
        ([1, 8, 64], Layout::Planar),
        ([1, 40, 7], Layout::Planar),
        ([1, 16, 7], Layout::Interleaved),
        ([2, 8, 257], Layout::Interleaved),
    ] {
        assert!(!of(shape, layout), "{shape:?}, {layout:?}");
    }
}
