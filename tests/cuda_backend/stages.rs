//! Sums, losses, coefficients and gradient, each from what the stage before gave: where one is wrong, the others say so.

use super::buffers::{Loaded, Results, stream};
use super::common::against_cpu::{SPECS, check_stages, dense_cases};
use super::common::{Case, assert_no_faults, example};
use super::evaluate;
use super::memory::MAPS;
use segfuse::cuda::{Call, Device};
use segfuse::{DType, Layout};

fn check(device: &Device, case: &Case) {
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let called = evaluate(&executor, case);
    let stages = executor.stages().expect("the device is there").remove(0);
    check_stages(&format!("{}, {:?}", case.objective, case.problem), case, &called, &stages);
    assert_no_faults();
}

#[test]
fn of_labels() {
    let device = device_or_return!();
    for (turn, spec) in SPECS.into_iter().enumerate() {
        for (shape, layout) in [
            ([2, 3, 5001], Layout::Planar),
            ([1, 3, 2048], Layout::Planar),
            ([3, 3, 700], Layout::Interleaved),
            ([2, 40, 300], Layout::Planar),
        ] {
            let dtype = [DType::F32, DType::F16, DType::BF16][turn % 3];
            check(device, &example(spec, &shape, dtype, layout, turn as u64 + 1));
        }
    }
}

#[test]
fn of_dense_targets() {
    let device = device_or_return!();
    dense_cases().iter().for_each(|case| check(device, case));
}

/// The stages one by one, launched on a stream: the bits of a whole call of two passes.
#[test]
fn one_by_one() {
    let device = device_or_return!();
    for (turn, spec) in SPECS.into_iter().chain([MAPS]).enumerate() {
        let layout = [Layout::Planar, Layout::Interleaved][turn % 2];
        let case = example(spec, &[2, 3, 900], DType::F32, layout, turn as u64 + 20);
        let executor = device.prepare_split(&case.plan()).expect("the device takes the plan");
        let stream = stream(device);
        let (whole, split) = (Loaded::new(&stream, &case, 0xaa), Loaded::new(&stream, &case, 0x55));
        let results = [0, 1].map(|_| Results::new(&stream, &executor));
        let [call, other] = results.each_ref().map(|r| Call { result: Some(r.address()), ..Call::default() });
        whole.launch(&executor, &call);
        let buffers = [split.buffers(true)];
        // SAFETY: the buffers are those of the case, and live until the stream was waited for.
        unsafe {
            executor.reduce(&buffers, &other, &*stream).expect("the buffers fit");
            executor.finish(&other, &*stream).expect("a split plan");
            executor.gradient(&buffers, &other, &*stream).expect("the buffers fit");
        }
        let gradients = [&whole, &split].map(|loaded| loaded.gradient(&executor, DType::F32));
        assert!(gradients[0] == gradients[1], "{spec}");
        assert_eq!(results[0].numbers(&executor), results[1].numbers(&executor), "{spec}");
        assert_no_faults();
    }
}

/// The halves of a volume on two executors, their sums added up as an all-reduce does: loss and gradient of the whole.
#[test]
fn of_a_volume_in_two_parts() {
    use cudarc::driver::result;
    let device = device_or_return!();
    let whole = example("dice(batch=true) + mcc(batch=true)", &[2, 3, 640], DType::F32, Layout::Planar, 31);
    let want = evaluate(&device.prepare_split(&whole.plan()).expect("the device takes the plan"), &whole);
    // With pooled samples a part is one sample of the two.
    let parts = [0, 1].map(|sample| {
        let mut part = example("dice(batch=true) + mcc(batch=true)", &[1, 3, 640], DType::F32, Layout::Planar, 31);
        part.prediction = whole.prediction[sample * 1920..][..1920].to_vec();
        part.target = whole.target[sample * 640..][..640].to_vec();
        part.weights = whole.weights.as_ref().map(|w| w[sample * 640..][..640].to_vec());
        part
    });
    let stream = stream(device);
    let executors = parts.each_ref().map(|part| device.prepare_split(&part.plan()).expect("the device takes the plan"));
    let loaded = parts.each_ref().map(|part| Loaded::new(&stream, part, 0xaa));
    let moments = executors.each_ref().map(|executor| executor.moments(0, None).expect("one head, and a workspace"));
    let call = Call::default();
    // SAFETY: the buffers are those of the cases, and live until the stream was waited for.
    unsafe {
        for (executor, loaded) in executors.iter().zip(&loaded) {
            executor.reduce(&[loaded.buffers(true)], &call, &*stream).expect("the buffers fit");
        }
        stream.synchronize().expect("the device works");
        let mut sums = vec![0.0f64; moments[0].count as usize];
        for part in &moments {
            let mut own = vec![0.0f64; sums.len()];
            result::memcpy_dtoh_sync(&mut own, part.address).expect("the device works");
            sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
        }
        for (executor, (part, loaded)) in executors.iter().zip(moments.iter().zip(&loaded)) {
            result::memcpy_htod_sync(part.address, &sums).expect("the device works");
            executor.finish(&call, &*stream).expect("a split plan");
            executor.gradient(&[loaded.buffers(true)], &call, &*stream).expect("the buffers fit");
        }
    }
    let wanted = want.1.to_f32();
    for (sample, (executor, loaded)) in executors.iter().zip(&loaded).enumerate() {
        let got = loaded.gradient(executor, DType::F32).to_f32();
        let largest = wanted.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        for (a, b) in got.iter().zip(&wanted[sample * 1920..]) {
            assert!((a - b).abs() <= 1e-6 * largest, "sample {sample}: {a}, want {b}");
        }
    }
    assert_no_faults();
}
