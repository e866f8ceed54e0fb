//! Sums, losses, coefficients and gradient, each from what the stage before gave: where one is wrong, the others say so.

use super::buffers::{Loaded, result, submit};
use super::common::against_cpu::{SPECS, check_stages, dense_cases};
use super::common::{Case, example};
use super::memory::MAPS;
use super::{evaluate, variants};
use segfuse::wgpu::{Call, Device};
use segfuse::{DType, Layout};

fn check(device: &Device, case: &Case) {
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let called = evaluate(&executor, case);
    let stages = pollster::block_on(executor.stages()).expect("the device is there").remove(0);
    let name = format!("{}, {:?}, {:?}", case.objective, case.problem, device.variant());
    check_stages(&name, case, &called, &stages);
}

#[test]
fn of_labels() {
    let device = device_or_return!();
    for (turn, spec) in SPECS.into_iter().enumerate() {
        for (shape, layout) in
            [([2, 3, 5001], Layout::Planar), ([1, 3, 2048], Layout::Planar), ([3, 3, 700], Layout::Interleaved)]
        {
            let dtype = [DType::F32, DType::F16, DType::BF16][turn % 3];
            check(device, &example(spec, &shape, dtype, layout, turn as u64 + 1));
        }
    }
}

/// The kernels of devices with less.
#[test]
fn of_every_variant() {
    let device = device_or_return!();
    for device in variants(device) {
        for (spec, dtype) in [("dice + focal(form=binary)", DType::F16), ("ce", DType::F16), ("mcc", DType::BF16)] {
            for (classes, voxels, layout) in [
                (3, 4100, Layout::Planar),
                (3, 4101, Layout::Planar),
                (40, 300, Layout::Interleaved),
                (40, 301, Layout::Planar),
            ] {
                check(&device, &example(spec, &[2, classes, voxels], dtype, layout, 3));
            }
        }
    }
}

#[test]
fn of_dense_targets() {
    let device = device_or_return!();
    dense_cases().iter().for_each(|case| check(device, case));
}

/// The stages one by one, each in an encoder of its own: the bits of a whole call of two passes.
#[test]
fn one_by_one() {
    let device = device_or_return!();
    for (turn, spec) in SPECS.into_iter().chain([MAPS, "boundary"]).enumerate() {
        let layout = [Layout::Planar, Layout::Interleaved][turn % 2];
        let case = example(spec, &[2, 3, 25, 36], DType::F32, layout, turn as u64 + 20);
        let executor = device.prepare_split(&case.plan()).expect("the device takes the plan");
        let (whole, split) = (Loaded::new(device, &case, 0xaa), Loaded::new(device, &case, 0x55));
        submit(device, |encoder| whole.encode(&executor, encoder, &Call::default()));
        let want = (whole.gradient(device, &executor, DType::F32), result(device, &executor, executor.result()));
        executor.fill_workspace(u32::MAX);
        let buffers = [split.buffers(true)];
        submit(device, |encoder| executor.encode_reduce(encoder, &buffers).expect("the buffers fit"));
        submit(device, |encoder| executor.encode_finish(encoder, &Call::default()).expect("a split plan"));
        submit(device, |encoder| executor.encode_gradient(encoder, &buffers).expect("the buffers fit"));
        assert!(split.gradient(device, &executor, DType::F32) == want.0, "{spec}");
        assert!(result(device, &executor, executor.result()) == want.1, "{spec}");
    }
}

/// Of tiles that are reduced one after the other: a gradient reads the maps of its own tile, not those of the last that was reduced.
#[test]
fn gradients_of_tiles_read_their_own_maps() {
    let device = device_or_return!();
    let tiles = [71, 72].map(|seed| example(MAPS, &[1, 3, 20, 30], DType::F32, Layout::Planar, seed));
    let executor = device.prepare_split(&tiles[0].plan()).expect("the device takes the plan");
    let loaded = tiles.each_ref().map(|tile| Loaded::new(device, tile, 0xaa));
    let gradient_of_first = |before_finish: &[usize], after_finish: &[usize]| {
        submit(device, |encoder| {
            let reduce = |encoder: &mut _, tiles: &[usize]| {
                for &tile in tiles {
                    executor.encode_reduce(encoder, &[loaded[tile].buffers(true)]).expect("the buffers fit");
                }
            };
            reduce(encoder, before_finish);
            executor.encode_finish(encoder, &Call::default()).expect("a split plan");
            reduce(encoder, after_finish);
            executor.encode_gradient(encoder, &[loaded[0].buffers(true)]).expect("the buffers fit");
        });
        loaded[0].gradient(device, &executor, DType::F32)
    };
    // The coefficients are of the same sums; the tile that was reduced last is another.
    assert!(gradient_of_first(&[0, 1], &[]) == gradient_of_first(&[1], &[0]));
}
