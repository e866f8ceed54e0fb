//! Sizes at the edges of lanes, rounds, runs and rows, and numbers of classes around those at which a thread keeps fewer.

use super::common::{Case, example, variable};
use super::{agree, evaluate, on_cpu, variants};
use segfuse::wgpu::{Device, Variant};
use segfuse::{DType, Layout};

/// Lanes of a workgroup; with vectors, four times as many; and with the least rounds of a run, eight times that.
const VOXELS: [usize; 28] = [
    1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1020, 1023, 1024, 1025, 1028, 2047, 2048, 2049, 4097,
    8188, 8192, 8196,
];

fn check(device: &Device, case: &Case) {
    let got = evaluate(&device.prepare(&case.plan()).expect("the device takes the plan"), case);
    agree(&got, &on_cpu(case), case)
        .unwrap_or_else(|e| panic!("{}, {:?}, {:?}: {e}", case.objective, case.problem, device.variant()));
}

fn spec(classes: usize) -> &'static str {
    if classes == 1 { "dice + bce" } else { "dice + ce" }
}

/// One to three samples; the types and layouts in turn.
fn few_classes(device: &Device, classes: &[usize]) {
    for &classes in classes {
        for (turn, voxels) in VOXELS.into_iter().enumerate() {
            let layout = [Layout::Planar, Layout::Interleaved][turn / 2 % 2];
            let dtype = [DType::F32, DType::F16, DType::BF16][turn % 3];
            check(device, &example(spec(classes), &[1 + turn % 3, classes, voxels], dtype, layout, turn as u64));
        }
    }
}

#[test]
fn of_few_classes() {
    few_classes(device_or_return!(), &[1, 2, 3, 4, 5]);
}

/// The same through workgroup memory, with halves by bits.
#[test]
fn of_few_classes_without_features() {
    let device = device_or_return!();
    let device = device.with_variant(Variant { subgroups: false, f16: false, ..device.variant() });
    few_classes(&device, &[1, 3]);
}

/// From 19 classes or so, threads share a voxel.
#[test]
fn of_many_classes() {
    let device = device_or_return!();
    for classes in [14, 19, 32, 33, 150, 256, 300] {
        for (turn, voxels) in [1, 2, 3, 5, 16, 31, 32, 33, 63, 127, 128, 129, 257].into_iter().enumerate() {
            let layout = [Layout::Planar, Layout::Interleaved][(turn + classes) % 2];
            let dtype = [DType::F32, DType::F16][turn / 2 % 2];
            check(device, &example("dice + ce", &[1 + turn % 3, classes, voxels], dtype, layout, turn as u64));
        }
    }
}

/// Rows of several runs, runs of the most rounds, and the last of each not full.
#[test]
fn of_many_voxels() {
    let device = device_or_return!();
    for (shape, layout) in [
        ([1, 300, 4641], Layout::Planar),
        ([3, 150, 3001], Layout::Interleaved),
        ([1, 1, (1 << 22) + 4], Layout::Planar),
        ([2, 2, (1 << 20) + 1], Layout::Planar),
        ([1, 3, (1 << 19) + 3], Layout::Interleaved),
        ([2100, 2, 33], Layout::Planar),
    ] {
        check(device, &example(spec(shape[1]), &shape, DType::F32, layout, 5));
    }
}

/// All features and none, at every size of a vector and its neighbours. With `SEGFUSE_TEST_FULL`, as many classes again.
#[test]
fn of_every_variant() {
    let device = device_or_return!();
    let classes: &[usize] = if variable("SEGFUSE_TEST_FULL").is_some() { &[1, 2, 4, 19, 40] } else { &[2, 40] };
    for device in variants(device) {
        for &classes in classes {
            for (turn, voxels) in [3, 4, 1023, 1024, 1025].into_iter().enumerate() {
                let layout = [Layout::Planar, Layout::Interleaved][turn / 2 % 2];
                check(&device, &example(spec(classes), &[2, classes, voxels], DType::F16, layout, 7));
            }
        }
    }
}
