//! What is written, and what is not; and that nothing but the inputs shapes the result.

use super::buffers::{Guarded, Loaded, result, submit};
use super::common::{Case, example};
use super::{bits, evaluate, variants};
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::wgpu::{Call, Device};
use segfuse::{Activation, DType, Layout, Objective, Plan, Problem, Shape};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;

/// Shapes with and without vectors of four, with words that two classes and two samples share, with teams of threads.
const SHAPES: [([usize; 3], Layout); 6] = [
    ([2, 3, 1028], Layout::Planar),
    ([2, 3, 1021], Layout::Planar),
    ([3, 3, 333], Layout::Interleaved),
    ([1, 1, 2047], Layout::Planar),
    ([3, 40, 67], Layout::Planar),
    ([1, 40, 67], Layout::Interleaved),
];
const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Every map that a plan can make.
pub(crate) const MAPS: &str = "boundary + hausdorff_dt + distance_ce + shape_aware_ce + distance_ce(map=unet)";

fn cases() -> Vec<Case> {
    // With maps that the plan makes, of target and prediction; first, so that whoever takes every so-many-th takes one.
    let mut cases = vec![
        example(MAPS, &[2, 3, 6, 7, 8], DType::F32, Layout::Planar, 46),
        example(MAPS, &[2, 3, 9, 13], DType::F16, Layout::Interleaved, 47),
        example("boundary", &[3, 1, 61], DType::F32, Layout::Planar, 48),
    ];
    cases[1].problem = cases[1].problem.clone().spacing([0.7, 2.0]);
    for (turn, (shape, layout)) in SHAPES.into_iter().enumerate() {
        for dtype in DTYPES {
            // One pass and two.
            for spec in [["bce", "focal"][usize::from(shape[1] > 1)], "dice + bce"] {
                cases.push(example(spec, &shape, dtype, layout, turn as u64 + 40));
            }
        }
    }
    cases
}

/// Whatever gradient buffer and guards hold, the gradient is written whole, and nothing beside it; the inputs stay as they
/// are. The same bits as by host slices.
#[test]
fn gradients_are_written_whole_and_nothing_else() {
    let device = device_or_return!();
    for case in cases() {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let (evaluation, by_slices) = evaluate(&executor, &case);
        for fill in [0xaa, 0x55] {
            let loaded = Loaded::new(device, &case, fill);
            submit(device, |encoder| loaded.encode(&executor, encoder, &Call::default()));
            let gradient = loaded.gradient(device, &executor, case.problem.gradient_dtype());
            assert!(gradient == by_slices, "{}, {:?}, fill {fill:#x}", case.objective, case.problem);
            assert_eq!(result(device, &executor, executor.result())[..1], evaluation.losses);
        }
    }
}

/// The gradient over the prediction: the same bits, in buffers of the caller and by host slices.
#[test]
fn in_place_gives_the_same_bits() {
    let device = device_or_return!();
    for device in variants(device) {
        for case in cases() {
            let name = format!("{}, {:?}, {:?}", case.objective, case.problem, device.variant());
            let plan = case.plan();
            let apart = evaluate(&device.prepare(&plan).expect("the device takes the plan"), &case);
            let executor = device.prepare_in_place(&plan).expect("of one type");
            let (evaluation, gradient) = evaluate(&executor, &case);
            assert_eq!(evaluation, apart.0, "{name}");
            assert!(bits(&gradient) == bits(&apart.1), "{name}");
            let loaded = Loaded::new(&device, &case, 0xaa);
            submit(&device, |encoder| loaded.encode(&executor, encoder, &Call::default()));
            let gradient = loaded.gradient(&device, &executor, case.problem.gradient_dtype());
            assert!(bits(&gradient) == bits(&apart.1), "{name}");
        }
    }
}

/// Two heads, of which one is a census and one pass, and one two passes.
fn two_heads() -> (Vec<Case>, Plan) {
    let cases = vec![
        example("ce + dice", &[2, 3, 900], DType::F32, Layout::Planar, 51),
        example("ce + dice", &[2, 3, 77], DType::F16, Layout::Interleaved, 52),
    ];
    let heads: Vec<(f64, Problem)> = [1.0, 0.5].into_iter().zip(cases.iter().map(|c| c.problem.clone())).collect();
    let plan = Plan::with_heads(&cases[0].objective, &heads).expect("a valid plan");
    (cases, plan)
}

/// Words that are NaN as single numbers and as doubles, and such as are neither.
#[test]
fn what_the_workspace_holds_does_not_matter() {
    let device = device_or_return!();
    for case in cases().into_iter().step_by(5) {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let first = evaluate(&executor, &case);
        for word in [u32::MAX, 0x7fc0_0000, 0x4141_4141, 0] {
            executor.fill_workspace(word);
            let again = evaluate(&executor, &case);
            assert!(again == first, "{}, {:?}, {word:#x}", case.objective, case.problem);
        }
    }
    let (cases, plan) = two_heads();
    let executor = device.prepare(&plan).expect("the device takes the plan");
    let hosts: Vec<_> = cases.iter().map(Case::host).collect();
    let inputs: Vec<_> = hosts.iter().map(|host| host.inputs()).collect();
    let first = executor.evaluate(&inputs).expect("the buffers fit");
    for word in [u32::MAX, 0x4141_4141] {
        executor.fill_workspace(word);
        assert!(executor.evaluate(&inputs).expect("the buffers fit") == first, "two heads, {word:#x}");
        executor.fill_workspace(word);
        assert_eq!(executor.forward(&inputs).expect("the buffers fit").losses, first.0.losses, "two heads, {word:#x}");
    }
}

/// Calls that follow each other in one encoder share the workspace; each has its own result.
#[test]
fn two_calls_in_one_encoder() {
    let device = device_or_return!();
    for (spec, layout) in [
        ("dice + bce", Layout::Planar),
        ("focal", Layout::Interleaved),
        ("balanced_ce", Layout::Planar),
        (MAPS, Layout::Planar),
    ] {
        let cases = [61, 62].map(|seed| example(spec, &[2, 3, 30, 50], DType::F16, layout, seed));
        let executor = device.prepare(&cases[0].plan()).expect("the device takes the plan");
        let alone = cases.each_ref().map(|case| evaluate(&executor, case));
        assert!(alone[0].0.losses != alone[1].0.losses, "else nothing tells them apart");
        let loaded = cases.each_ref().map(|case| Loaded::new(device, case, 0xaa));
        let results = [0, 1].map(|_| Guarded::new(device, &vec![0xaa; executor.result_layout().bytes as usize], 0xaa));
        submit(device, |encoder| {
            for (loaded, result) in loaded.iter().zip(&results) {
                loaded.encode(&executor, encoder, &Call { result: Some(result.slice()), ..Call::default() });
            }
        });
        for ((loaded, result), (evaluation, gradient)) in loaded.iter().zip(&results).zip(&alone) {
            assert!(&loaded.gradient(device, &executor, DType::F16) == gradient, "{spec}");
            let layout = executor.result_layout();
            let contents = result.contents(device);
            let doubles: Vec<f64> = bytemuck::pod_collect_to_vec(&contents[layout.doubles_at as usize..]);
            assert_eq!(doubles[..1], evaluation.losses, "{spec}");
            let single = f32::from_le_bytes(contents[..4].try_into().expect("four bytes"));
            assert_eq!(single, evaluation.losses[0] as f32, "{spec}");
        }
    }
}

/// `grad_output` scales the gradient, on the device as by slices, sample by sample.
#[test]
fn grad_output_on_the_device() {
    let device = device_or_return!();
    let mut case = example("dice + bce", &[3, 3, 500], DType::F32, Layout::Planar, 63);
    case.problem = case.problem.reduction(segfuse::Reduction::None);
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let factors = [0.5f32, -2.0, 0.0];
    let buffer = Guarded::new(device, bytemuck::cast_slice(&factors), 0xaa);
    let (plain, scaled) = (Loaded::new(device, &case, 0xaa), Loaded::new(device, &case, 0xaa));
    submit(device, |encoder| {
        plain.encode(&executor, encoder, &Call::default());
        scaled.encode(&executor, encoder, &Call { grad_output: Some(buffer.slice()), ..Call::default() });
    });
    let of = |loaded: &Loaded| loaded.gradient(device, &executor, DType::F32).to_f32();
    let (plain, scaled) = (of(&plain), of(&scaled));
    for (i, (a, b)) in plain.iter().zip(&scaled).enumerate() {
        // Powers of two: exact.
        assert_eq!(a * factors[i / 1500], *b, "element {i}");
    }
    assert!(plain.iter().any(|x| *x != 0.0));
}

/// A number for all bits of a case.
fn fingerprint(device: &Device, case: &Case) -> u64 {
    let (evaluation, gradient) = evaluate(&device.prepare(&case.plan()).expect("the device takes the plan"), case);
    let mut hasher = DefaultHasher::new();
    evaluation.losses.iter().for_each(|loss| loss.to_bits().hash(&mut hasher));
    bits(&gradient).hash(&mut hasher);
    hasher.finish()
}

/// Set for the process that [`another_process_gives_the_same_bits`] starts.
const CHILD: &str = "SEGFUSE_TEST_CHILD";

fn some() -> Vec<Case> {
    cases().into_iter().step_by(7).collect()
}

/// In the child: the fingerprints, the last case first.
#[test]
fn fingerprints_of_a_child() {
    if super::common::variable(CHILD).is_none() {
        return;
    }
    let device = device_or_return!();
    let backwards: Vec<String> = some().iter().rev().map(|case| fingerprint(device, case).to_string()).collect();
    println!("\nfingerprints {}", backwards.join(" "));
}

#[test]
fn another_process_gives_the_same_bits() {
    let device = device_or_return!();
    let own: Vec<String> = some().iter().map(|case| fingerprint(device, case).to_string()).collect();
    let again: Vec<String> = some().iter().map(|case| fingerprint(device, case).to_string()).collect();
    assert_eq!(own, again, "in one process");
    let out = Command::new(std::env::current_exe().expect("a program has a path"))
        .args(["--exact", "memory::fingerprints_of_a_child", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("a test can be started");
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("fingerprints ")).unwrap_or_else(|| panic!("{text}"));
    let mut other: Vec<&str> = line.split(' ').collect();
    other.reverse();
    assert_eq!(own, other, "in another process, backwards");
}

/// A map that the classes share begins with the classes that it is made of: no plane of class 0 is made beside it.
#[test]
fn planes_that_nothing_reads_are_not_made() {
    let device = device_or_return!();
    let bytes = |background: bool| {
        let spec = format!("hausdorff_dt(background={background}) + distance_ce(map=unet)");
        let plan = example(&spec, &[2, 3, 40, 50], DType::F32, Layout::Planar, 49).plan();
        device.prepare(&plan).expect("the device takes the plan").workspace_bytes()
    };
    // Of target and prediction.
    let planes = 2 * 4 * 2 * 40 * 50;
    assert!(bytes(true) >= bytes(false) + planes, "{} and {}", bytes(true), bytes(false));
}

/// Bytes of device memory for each voxel and map in flight.
const MAP_BYTES: u64 = 8;

/// Of every kind, source, type and layout: the planes, bits and tables of distance maps beside source and maps, and in groups no more than
/// their budget. The workspace is what the allocator of the device is asked for.
#[test]
fn distance_maps_take_eight_bytes_per_voxel_in_flight() {
    let device = device_or_return!();
    // With an allocator of its own, as other tests run beside this one.
    let number = Device::adapters().iter().position(|adapter| *adapter == device.info()).expect("it is there");
    let device = Device::open(number).expect("it opened before");
    let allocated = || Some(device.device().generate_allocator_report()?.total_allocated_bytes);
    let prediction = |hard| Source::Prediction(DType::F32, Activation::Softmax, hard);
    let sources =
        [Source::Labels(DType::U8), Source::Dense(DType::F16), prediction(Hard::Argmax), prediction(Hard::Above(0.2))];
    for extents in [&[64, 64, 64][..], &[70, 33, 41], &[2, 200, 200], &[200, 200, 2], &[300, 200], &[100_000]] {
        let (samples, classes) = (2, 3);
        let shape = Shape::new(samples, classes, extents).expect("a shape");
        let kinds = [Kind::Inside, Kind::MultiLabel, Kind::Signed];
        for (kind, source) in kinds.into_iter().flat_map(|kind| sources.map(|s| (kind, s))) {
            let exclusive = matches!(source, Source::Labels(_) | Source::Prediction(_, _, Hard::Argmax));
            if kind == Kind::MultiLabel && !exclusive {
                continue;
            }
            for (dtype, layout) in [DType::F32, DType::F16]
                .into_iter()
                .flat_map(|dtype| [Layout::Planar, Layout::Interleaved].map(|layout| (dtype, layout)))
            {
                let distances = Distances::new(&shape, source).kind(kind).dtype(dtype).layout(layout);
                let all = distances.elements();
                let before = allocated();
                let executor = device.prepare_distances(&distances).expect("the device takes the settings");
                let stated = executor.workspace_bytes();
                // One map has the bits of four sets to itself, 8 bytes in rows of two voxels, beside 6 of squares and tables.
                let narrow = if kind == Kind::MultiLabel && extents.last() == Some(&2) { 6 } else { 0 };
                let most = (MAP_BYTES + narrow) * all;
                assert!(stated <= most, "{distances:?}: {} bytes each", stated as f64 / all as f64);
                if let (Some(before), Some(after)) = (before, allocated()) {
                    // Beside it uniforms, and what is staged to fill buffers.
                    let aside = (after - before).saturating_sub(stated);
                    assert!(aside <= 256 << 10, "{distances:?}: {aside} bytes more than {stated}");
                }
                // Some planes at a time, one at least.
                let budget = (MAP_BYTES + narrow) * shape.voxels() * 2;
                let grouped = device.prepare_distances(&distances.memory_budget(budget)).expect("as before");
                // One transform for all maps is one group.
                let least =
                    if kind == Kind::Inside && exclusive { MAP_BYTES * shape.voxels() * classes as u64 } else { 0 };
                let (stated, most) = (grouped.workspace_bytes(), budget.max(least));
                assert!(stated <= most, "{stated} bytes, a budget of {budget}");
            }
        }
    }
}

/// The maps of a plan and what they are made in, together: of several planes 8 bytes per voxel and map, of one alone the bits and tables
/// beside two planes too.
#[test]
fn made_maps_take_eight_bytes_per_voxel() {
    let device = device_or_return!();
    for spec in ["boundary", "hausdorff_dt", "boundary + hausdorff_dt + shape_aware_ce"] {
        let objective: Objective = spec.parse().expect("a valid spec");
        for (samples, classes) in [(1, 1), (2, 1), (1, 2), (2, 4)] {
            let shape = Shape::new(samples, classes, [48, 48, 48]).expect("a shape");
            let plan = |objective| Plan::new(objective, &Problem::new(shape.clone())).expect("a valid plan");
            let bytes = |plan| device.prepare(plan).expect("the device takes the plan").workspace_bytes();
            let (plan, without) = (plan(&objective), plan(&"dice".parse().expect("a valid spec")));
            let made = bytes(&plan) - bytes(&without);
            let maps = plan.heads()[0].maps();
            let first = maps.iter().map(|map| map.first_class).min().expect("it reads maps");
            let planes = (maps.len() * samples * (classes - first)) as u64;
            let each = made as f64 / (planes * shape.voxels()) as f64;
            println!("{spec}, {samples} × {classes}: {each} bytes");
            let most = if planes == 1 { 9.25 } else { MAP_BYTES as f64 + 0.05 };
            assert!(each <= most, "{spec}, {samples} × {classes}: {each} bytes");
        }
    }
}
