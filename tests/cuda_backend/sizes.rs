//! Sizes at the edges of lanes, rounds, runs and rows, and numbers of classes around those at which a thread keeps fewer.

use super::common::against_cpu::{agree, on_cpu};
use super::common::{Case, assert_no_faults, example, variable};
use super::evaluate;
use segfuse::cuda::Device;
use segfuse::{DType, Layout};

/// Lanes of a warp and of a block; with four voxels a thread, four times as many; and with the least rounds of a run, so many
/// times that.
const VOXELS: [usize; 28] = [
    1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1020, 1023, 1024, 1025, 1028, 2047,
    4095, 4096, 4100,
];

fn check(device: &Device, case: &Case) {
    let got = evaluate(&device.prepare(&case.plan()).expect("the device takes the plan"), case);
    agree(&got, &on_cpu(case), case).unwrap_or_else(|e| panic!("{}, {:?}: {e}", case.objective, case.problem));
    assert_no_faults();
}

fn spec(classes: usize) -> &'static str {
    if classes == 1 { "dice + bce" } else { "dice + ce" }
}

/// One to three samples; the types and layouts in turn, or all of them with `SEGFUSE_TEST_FULL`.
fn each(device: &Device, classes: &[usize], voxels: &[usize]) {
    let full = variable("SEGFUSE_TEST_FULL").is_some();
    for &classes in classes {
        for (turn, &voxels) in voxels.iter().enumerate() {
            for (l, layout) in [Layout::Planar, Layout::Interleaved].into_iter().enumerate() {
                for (d, dtype) in [DType::F32, DType::F16, DType::BF16].into_iter().enumerate() {
                    if full || ((turn / 2 + classes) % 2 == l && turn % 3 == d) {
                        let shape = [1 + turn % 3, classes, voxels];
                        check(device, &example(spec(classes), &shape, dtype, layout, turn as u64));
                    }
                }
            }
        }
    }
}

#[test]
fn of_few_classes() {
    each(device_or_return!(), &[1, 2, 3, 4, 5, 8], &VOXELS);
}

/// Beyond those that a thread keeps, threads of a warp share a voxel, then those of a block.
#[test]
fn of_many_classes() {
    let voxels = [1, 2, 3, 5, 16, 31, 32, 33, 63, 129, 257];
    each(device_or_return!(), &[14, 16, 17, 32, 33, 150, 256, 300], &voxels);
}

/// Rows of several runs, runs of the most rounds, the last of each not full; more rows than one block of the finish step adds;
/// more samples than it has parts for.
#[test]
fn of_many_voxels() {
    let device = device_or_return!();
    for (shape, layout) in [
        ([1, 1, (1 << 20) + 4], Layout::Planar),
        ([2, 2, (1 << 17) + 1], Layout::Planar),
        ([1, 3, (1 << 17) + 3], Layout::Interleaved),
        ([1, 300, 1641], Layout::Planar),
        ([2100, 2, 33], Layout::Planar),
    ] {
        check(device, &example(spec(shape[1]), &shape, DType::F32, layout, 5));
    }
}

/// Groups by the hundred, a recipe that does not fit shared memory, programs of many registers.
#[test]
fn of_long_objectives() {
    let device = device_or_return!();
    let spec = "dice + 0.5*tversky(alpha=0.3, beta=0.7) + 0.25*kappa + mcc + generalized_dice + focal_tversky + exp_log + unified_focal \
                + log_cosh_dice + power_jaccard + sensitivity_specificity + combo + soft_dice(batch=true)";
    for (samples, classes) in [(1, 2), (70, 3), (2, 150)] {
        check(device, &example(spec, &[samples, classes, 40], DType::F32, Layout::Planar, 6));
    }
}
