//! The same bits every time: with any number of threads, in place, and through the stages one by one. `tests/wgpu` has the
//! like for that backend, except for what both can do by host slices.
#![cfg(feature = "cpu")]

mod common;

use common::{Bench, Case, Data, example as case, lasting};
use segfuse::cpu::{Device, InPlaceInputs};
use segfuse::{DType, Evaluation, Gradient, Inputs, Layout, MomentTable, Plan, Problem, Schedule, Shape, SliceMut};

/// Loss and gradient of a case on a device.
fn run(device: &Device, case: &Case) -> (Evaluation, Gradient) {
    let host = case.host();
    let mut gradient = Gradient::zeros(case.problem.gradient_dtype(), case.prediction.len()).expect("a float type");
    let mut slices: [SliceMut<'_>; 1] = [gradient.as_slice_mut()];
    let evaluation = device.prepare(&case.plan()).forward_backward(&[host.inputs()], &mut slices, None);
    (evaluation.expect("the buffers fit"), gradient)
}

/// The same through the runtime.
fn call(bench: &Bench, case: &Case) -> (Evaluation, Gradient) {
    let host = case.host();
    let (evaluation, mut gradients) = bench.runtime.evaluate(&case.plan(), &[host.inputs()]).expect("the buffers fit");
    (evaluation, gradients.pop().expect("one head"))
}

on_each_device!(repetition_changes_nothing, heads_are_a_weighted_sum_of_plans, concurrent_calls);

/// Plans of every schedule, with samples of several units.
fn cases() -> Vec<Case> {
    let planar = |spec, shape: &[usize]| case(spec, shape, DType::F32, Layout::Planar, 11);
    let cases = vec![
        planar("ce", &[2, 3, 70_000]),
        planar("bce", &[3, 1, 70_001]),
        planar("dice + focal(form=binary)", &[1, 4, 70_000]),
        planar("dice(batch=true)", &[3, 2, 33_000]),
        planar("generalized_dice(absent=skip) + wasserstein_dice", &[2, 3, 70_000]),
        // More than the 16 MiB that are taken at once.
        planar("dice", &[8, 2, 200_000]),
        case("mcc + poly1", &[2, 17, 20_000], DType::F16, Layout::Interleaved, 12),
        // Made maps, whose transforms and means are shared out too.
        planar(
            "hausdorff_dt + 0.1*boundary + distance_ce + shape_aware_ce + distance_ce(map=unet)",
            &[2, 3, 50, 40, 36],
        ),
        lasting("hausdorff_erosion", &[1, 2, 50, 40, 36], 11),
    ];
    let schedules: Vec<Schedule> = cases.iter().map(|c| c.plan().heads()[0].schedule()).collect();
    assert!(schedules.iter().any(|s| matches!(s, Schedule::OnePass { .. })), "{schedules:?}");
    assert!(schedules.iter().any(|s| matches!(s, Schedule::Chunked { .. })), "{schedules:?}");
    assert!(schedules.contains(&Schedule::TwoPass), "{schedules:?}");
    cases
}

#[test]
fn erosions_of_a_lasting_case_last() {
    let losses = ["hausdorff_erosion(iterations=9)", "hausdorff_erosion"]
        .map(|spec| run(&Device::new(), &lasting(spec, &[1, 2, 50, 40, 36], 11)).0.loss());
    assert!(losses[1] > losses[0], "{losses:?}");
}

#[test]
fn threads_and_repetition_change_nothing() {
    let devices = [1, 2, 3, 8].map(|threads| Device::with_threads(threads).expect("threads"));
    for case in cases() {
        let first = run(&devices[0], &case);
        for device in devices.iter().chain([&Device::new(), &devices[3]]) {
            assert!(run(device, &case) == first, "{} on {}", case.objective, device.description());
        }
    }
}

fn repetition_changes_nothing(bench: &Bench) {
    for case in &cases() {
        let first = call(bench, case);
        for _ in 0..2 {
            assert!(call(bench, case) == first, "{}", case.objective);
        }
    }
}

#[test]
fn in_place_gives_the_same_bits() {
    let device = Device::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for layout in [Layout::Planar, Layout::Interleaved] {
            for (spec, shape) in [
                ("hausdorff_dt + shape_aware_ce", [2, 3, 5_001]),
                ("ce", [2, 3, 5_001]),
                ("dice + bce", [2, 5, 2_003]),
                ("jaccard + focal", [1, 1, 70_000]),
                ("dice", [9, 2, 200_000]),
            ] {
                if shape[0] == 9 && layout == Layout::Interleaved {
                    continue; // chunks, once a type
                }
                let case = case(spec, &shape, dtype, layout, 13);
                let (evaluation, gradient) = run(&device, &case);
                let mut host = case.host();
                let inputs = InPlaceInputs::new(host.target.slice()).weights(host.weights.expect("there are weights"));
                let mut slices: [SliceMut<'_>; 1] = [host.prediction.slice_mut()];
                let executor = device.prepare(&case.plan());
                let here = executor.forward_backward_in_place(&mut slices, &[inputs], None).expect("the buffers fit");
                assert_eq!(here, evaluation);
                let same = match (&host.prediction, &gradient) {
                    (Data::F32(a), Gradient::F32(b)) => a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()),
                    (Data::F16(a), Gradient::F16(b)) => a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()),
                    (Data::BF16(a), Gradient::BF16(b)) => a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()),
                    _ => false,
                };
                assert!(same, "{spec} {dtype} {layout:?}");
            }
        }
    }
}

/// reduce, finish, gradient by hand.
fn stages(device: &Device, case: &Case) -> (Evaluation, Gradient) {
    let (plan, host) = (case.plan(), case.host());
    let executor = device.prepare(&plan);
    let table = executor.reduce(0, &host.inputs()).expect("the buffers fit");
    let (evaluation, coefficients) = executor.finish(&[table]).expect("the plan's own table");
    let mut gradient = Gradient::zeros(case.problem.gradient_dtype(), case.prediction.len()).expect("a float type");
    executor
        .gradient(0, &host.inputs(), &coefficients[0], &mut gradient.as_slice_mut(), None)
        .expect("the buffers fit");
    (evaluation, gradient)
}

#[test]
fn the_stages_by_hand_give_the_same_bits() {
    let device = Device::new();
    for case in cases() {
        assert!(stages(&device, &case) == run(&device, &case), "{}", case.objective);
    }
}

/// Two tiles of a volume: their merged moments finish to the loss of the whole, and each tile gets its own gradient.
#[test]
fn tiles_equal_the_whole() {
    let device = Device::new();
    let (classes, voxels, cut) = (3, 40_000, 17_003);
    for spec in ["dice + ce", "generalized_dice + mcc", "exp_log + balanced_ce", "unified_focal(symmetric=true)"] {
        let whole = case(spec, &[1, classes, voxels], DType::F32, Layout::Planar, 14);
        let (evaluation, gradient) = run(&device, &whole);
        let executor = device.prepare(&whole.plan());
        let table = executor.reduce(0, &whole.host().inputs()).expect("the buffers fit");

        let tile = |range: std::ops::Range<usize>| {
            let mut tile = whole.clone();
            let shape = Shape::new(1, classes, [range.len()]).expect("a valid shape");
            tile.problem = Problem::new(shape).ignore_label(255).weights().hard_counts();
            tile.prediction =
                (0..classes).flat_map(|c| whole.prediction[c * voxels..][range.clone()].to_vec()).collect();
            tile.target = whole.target[range.clone()].to_vec();
            tile.weights = whole.weights.as_ref().map(|w| w[range.clone()].to_vec());
            tile
        };
        let tiles = [tile(0..cut), tile(cut..voxels)];
        let reduce = |tile: &Case| device.prepare(&tile.plan()).reduce(0, &tile.host().inputs()).expect("a tile");
        let mut merged = MomentTable::zeros(&tiles[0].plan().heads()[0]);
        tiles.iter().for_each(|tile| merged.merge(&reduce(tile)).expect("the same moments"));
        for (a, b) in merged.values().iter().zip(table.values()) {
            // Blocks are cut elsewhere, so their single-precision sums differ a little.
            assert!((a - b).abs() <= 1e-6 * b.abs(), "{spec}: {a} and {b}");
        }
        assert_eq!(merged.hard_counts, table.hard_counts);
        assert_eq!((merged.valid_voxels, merged.invalid_labels), (table.valid_voxels, table.invalid_labels));

        // From the same moments, the same loss and gradient, tile by tile.
        let finisher = device.prepare(&tiles[0].plan());
        let (finished, coefficients) = finisher.finish(&[table]).expect("the same moments");
        assert!((finished.loss() - evaluation.loss()).abs() <= 1e-12 * evaluation.loss().abs(), "{spec}");
        let gradient = gradient.to_f32();
        for (tile, start) in tiles.iter().zip([0, cut]) {
            let mut part = vec![0.0f32; tile.prediction.len()];
            let executor = device.prepare(&tile.plan());
            let inputs = tile.host();
            executor.gradient(0, &inputs.inputs(), &coefficients[0], &mut (&mut part).into(), None).expect("a tile");
            let len = part.len() / classes;
            for c in 0..classes {
                assert_eq!(part[c * len..][..len], gradient[c * voxels + start..][..len], "{spec}, class {c}");
            }
        }
    }
}

/// Σ over heads of weight × loss, as in deep supervision.
fn heads_are_a_weighted_sum_of_plans(bench: &Bench) {
    let shapes: [[usize; 4]; 3] = [[2, 3, 40, 50], [2, 3, 20, 25], [2, 3, 10, 12]];
    let weights = [1.0, 0.5, -0.25];
    for spec in ["dice + ce", "mcc(batch=true)", "bce"] {
        let cases: Vec<Case> =
            shapes.iter().zip(20..).map(|(s, seed)| case(spec, s, DType::F32, Layout::Planar, seed)).collect();
        let heads: Vec<(f64, Problem)> = weights.into_iter().zip(cases.iter().map(|c| c.problem.clone())).collect();
        let plan = Plan::with_heads(&cases[0].objective, &heads).expect("a valid plan");
        let hosts: Vec<_> = cases.iter().map(Case::host).collect();
        let inputs: Vec<Inputs<'_>> = hosts.iter().map(|h| h.inputs()).collect();
        let mut buffers: Vec<Vec<f32>> = cases.iter().map(|c| vec![9.0; c.prediction.len()]).collect();
        let mut slices: Vec<SliceMut<'_>> = buffers.iter_mut().map(SliceMut::from).collect();
        let all = bench.runtime.forward_backward(&plan, &inputs, &mut slices, Some(&[2.0])).expect("the buffers fit");
        let mut sum = 0.0;
        for ((case, weight), buffer) in cases.iter().zip(weights).zip(&buffers) {
            let (one, gradient) = call(bench, case);
            sum += weight * one.loss();
            for (a, b) in buffer.iter().zip(gradient.to_f32()) {
                let want = 2.0 * weight * f64::from(b);
                assert!((f64::from(*a) - want).abs() <= 1e-6 * want.abs() + 1e-9, "{spec}: {a}, want {want}");
            }
        }
        assert!((all.loss() - sum).abs() <= 1e-12, "{spec}: {} and {sum}", all.loss());
        assert_eq!(all.heads.len(), 3);
    }
}

/// A device is shared by threads.
fn concurrent_calls(bench: &Bench) {
    let case = case("dice + ce", &[2, 3, 9_000], DType::F32, Layout::Planar, 15);
    let first = call(bench, &case);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| call(bench, &case))).collect();
        calls.into_iter().for_each(|call| assert!(call.join().expect("no panic") == first));
    });
}

/// A pool is shared by threads.
#[test]
fn concurrent_calls_of_one_pool() {
    let case = case("dice + ce", &[2, 3, 9_000], DType::F32, Layout::Planar, 15);
    let device = Device::with_threads(2).expect("threads");
    let first = run(&device, &case);
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| run(&device, &case))).collect();
        calls.into_iter().for_each(|call| assert!(call.join().expect("no panic") == first));
    });
}
