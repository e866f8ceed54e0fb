//! Bindings made small on purpose: buffers are bound in windows, of samples or of voxels, and nothing changes.

use super::buffers::{Loaded, submit};
use super::common::{Case, example};
use super::memory::MAPS;
use super::{bits, evaluate};
use segfuse::wgpu::{Call, Device, Variant};
use segfuse::{DType, Error, Layout, Map, Problem, Target};

/// The same device with bindings of this many bytes.
fn with_bindings(device: &Device, binding: u64) -> Device {
    device.with_variant(Variant { binding, ..device.variant() })
}

/// Rows and rounds follow from the shape, so that windows change no bit; a row here is shorter than any of these bindings.
fn check(device: &Device, case: &Case, binding: u64) {
    let plan = case.plan();
    let whole = evaluate(&device.prepare(&plan).expect("the device takes the plan"), case);
    let small = with_bindings(device, binding);
    let name = format!("{}, {:?}, {binding} bytes", case.objective, case.problem);
    let executor = small.prepare(&plan).unwrap_or_else(|e| panic!("{name}: {e}"));
    let windowed = evaluate(&executor, case);
    assert_eq!(windowed.0, whole.0, "{name}");
    assert!(bits(&windowed.1) == bits(&whole.1), "{name}");
    // Windows of buffers that begin somewhere in a larger one, and in place.
    let loaded = Loaded::new(&small, case, 0xaa);
    submit(&small, |encoder| loaded.encode(&executor, encoder, &Call::default()));
    let gradient = loaded.gradient(&small, &executor, case.problem.gradient_dtype());
    assert!(bits(&gradient) == bits(&whole.1), "{name}");
    let executor = small.prepare_in_place(&plan).expect("of one type");
    let windowed = evaluate(&executor, case);
    assert_eq!(windowed.0, whole.0, "{name}, in place");
    assert!(bits(&windowed.1) == bits(&whole.1), "{name}, in place");
}

/// One sample at a time, two at a time with one left over; halves whose words belong to two samples.
#[test]
fn of_samples() {
    let device = device_or_return!();
    for (shape, layout) in
        [([5, 3, 2001], Layout::Planar), ([5, 3, 2000], Layout::Planar), ([5, 3, 2001], Layout::Interleaved)]
    {
        for (spec, dtype) in [("dice + bce", DType::F32), ("dice + bce", DType::F16), ("focal", DType::BF16)] {
            let case = example(spec, &shape, dtype, layout, 71);
            let sample = 3 * 2001 * dtype.size().max(4);
            for binding in [sample + 2048, 2 * sample + 2048] {
                check(device, &case, binding);
            }
        }
    }
}

/// Maps are made of one sample after the other, and of two at a time with one left over.
#[test]
fn of_made_maps() {
    let device = device_or_return!();
    for (shape, layout) in [(&[5, 3, 7, 8, 9][..], Layout::Planar), (&[3, 3, 21, 23], Layout::Interleaved)] {
        let case = example(MAPS, shape, DType::F32, layout, 76);
        // The made maps of a sample are bound together.
        let planes: usize =
            case.plan().heads()[0].maps().iter().map(|map| if map.input.is_shared() { 1 } else { 3 }).sum();
        let sample = (4 * planes * shape[2..].iter().product::<usize>()) as u64;
        for binding in [sample + 4096, 2 * sample + 4096] {
            check(device, &case, binding);
        }
    }
}

/// Ranges of voxels of one sample, where the classes of a voxel lie side by side or there is one.
#[test]
fn of_voxels() {
    let device = device_or_return!();
    // The sums of 40 classes need a larger workspace.
    for (shape, layout, binding) in [
        ([2, 3, 40_001], Layout::Interleaved, 100_000),
        ([2, 1, 120_001], Layout::Planar, 100_000),
        ([1, 1, 120_000], Layout::Planar, 100_000),
        ([2, 40, 3001], Layout::Interleaved, 150_000),
    ] {
        for (spec, dtype) in [("dice + bce", DType::F32), ("bce", DType::F16)] {
            check(device, &example(spec, &shape, dtype, layout, 72), binding);
        }
    }
}

/// A window has every buffer: mask, weights and a map of each class.
#[test]
fn of_every_buffer() {
    let device = device_or_return!();
    for (layout, voxels) in [(Layout::Interleaved, 20_001), (Layout::Planar, 2001)] {
        let mut case = example("dice + boundary", &[3, 3, voxels], DType::F16, layout, 73);
        let elements = case.prediction.len();
        case.problem = case.problem.clone().mask().map(Map::PerClass);
        case.mask = Some((0..3 * voxels).map(|i| u8::from(i % 7 != 0)).collect());
        case.map = Some((0..elements).map(|i| (i % 11) as f64 / 4.0 - 1.0).collect());
        case.map_kind = Some(Map::PerClass);
        check(device, &case, 60_000);
    }
}

/// Ranges of the planes of one sample, gathered: prediction, dense target, map and gradient.
#[test]
fn of_gathered_planes() {
    let device = device_or_return!();
    for (spec, dtype) in [("dice + bce", DType::F32), ("dice + ce", DType::F16), ("ce", DType::BF16)] {
        check(device, &example(spec, &[2, 3, 40_002], dtype, Layout::Planar, 74), 100_000);
    }
    let mut case = example("dice + boundary + bce", &[2, 3, 40_000], DType::F32, Layout::Planar, 75);
    let elements = case.prediction.len();
    let shape = case.problem.shape().clone();
    case.problem = Problem::new(shape).mask().map(Map::PerClass).dense(DType::U8);
    (case.weights, case.ignore_label) = (None, None);
    case.target_kind = Target::Dense(DType::U8);
    case.target = (0..elements).map(|i| f64::from(u8::from(i % 5 == 0))).collect();
    case.mask = Some((0..2 * 40_000).map(|i| u8::from(i % 7 != 0)).collect());
    case.map = Some((0..elements).map(|i| (i % 11) as f64 / 4.0 - 1.0).collect());
    case.map_kind = Some(Map::PerClass);
    check(device, &case, 100_000);
}

/// What no window can hold is refused with a type: a workspace beyond a binding, and planes that no copy can gather.
#[test]
fn beyond_any_window() {
    let device = device_or_return!();
    let case = example("dice", &[1, 3, 20_001], DType::F32, Layout::Planar, 74);
    match with_bindings(device, 64).prepare(&case.plan()) {
        Err(Error::DeviceLimit { what: "bytes of workspace in one storage binding", got: 64, .. }) => {}
        other => panic!("{:?}", other.map(|_| ())),
    }
    // Copies are of whole words.
    let odd = example("dice", &[1, 3, 40_001], DType::F16, Layout::Planar, 74);
    match with_bindings(device, 100_000).prepare(&odd.plan()) {
        Err(Error::Problem(reason)) if reason.contains("multiples of 4 bytes") => {}
        other => panic!("{:?}", other.map(|_| ())),
    }
}
