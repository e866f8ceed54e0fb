//! Sums of the WGSL backend where single precision alone would be lost, by the stages of a split call.
//!
//! With `SEGFUSE_LARGE` set, 2²⁸ + 5 voxels; 2²² + 5 otherwise.
#![cfg(feature = "wgpu")]

mod common;

use segfuse::spec::Moment;
use segfuse::wgpu::{Buffers, Call};
use segfuse::{Activation, DType, Objective, Plan, Problem, Shape};
use wgpu::{BufferUsages, CommandEncoderDescriptor, MapMode, PollType};

/// A prime, so that the cycle meets every lane, thread and row.
const CYCLE: usize = 251;

/// What the moments must keep.
const RELATIVE: f64 = 1e-6;

#[test]
fn moments_of_a_huge_volume() {
    let Some(device) = common::wgpu_device() else { return };
    let voxels: usize = if std::env::var_os("SEGFUSE_LARGE").is_some() { (1 << 28) + 5 } else { (1 << 22) + 5 };
    // Of no short binary fraction, and once all alike, which rounds the same way at every addition.
    for value in [|k: usize| (k + 1) as f32 / 253.0, |_| 0.7f32] {
        let problem = Problem::new(Shape::new(1, 1, [voxels]).expect("a valid shape"))
            .prediction(DType::F32, Activation::None)
            .dense(DType::U8);
        let objective: Objective = "dice(squared=true) + jaccard".parse().expect("a valid spec");
        let plan = Plan::new(&objective, &problem).expect("a valid plan");
        let executor = device.prepare_split(&plan).expect("a device that takes it");
        let truth = |k: usize| u8::from(k.is_multiple_of(3));
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let upload = |bytes: &[u8]| {
            let buffer = device.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.len().next_multiple_of(4) as u64,
                usage,
                mapped_at_creation: false,
            });
            let mut padded = bytes.to_vec();
            padded.resize(bytes.len().next_multiple_of(4), 0);
            device.queue().write_buffer(&buffer, 0, &padded);
            device.queue().submit([]);
            buffer
        };
        let prediction: Vec<f32> = (0..voxels).map(|i| value(i % CYCLE)).collect();
        let prediction = upload(bytemuck::cast_slice(&prediction));
        let target = upload(&(0..voxels).map(|i| truth(i % CYCLE)).collect::<Vec<u8>>());
        let mut encoder = device.device().create_command_encoder(&CommandEncoderDescriptor::default());
        let buffers = Buffers::new(prediction.slice(..), target.slice(..), None);
        executor.encode_reduce(&mut encoder, &[buffers]).expect("the buffers fit");
        executor.encode_finish(&mut encoder, &Call::default()).expect("a split executor");
        let moments = executor.moments(0);
        let copy = device.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: moments.size(),
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        encoder.copy_buffer_to_buffer(moments.buffer(), moments.offset(), &copy, 0, moments.size());
        let started = std::time::Instant::now();
        device.queue().submit([encoder.finish()]);
        copy.map_async(MapMode::Read, .., |mapped| mapped.expect("a buffer that can be mapped"));
        device.device().poll(PollType::wait_indefinitely()).expect("the device goes on");
        println!("{voxels} voxels in {:?}", started.elapsed());
        let got: Vec<f64> = bytemuck::pod_collect_to_vec(&copy.get_mapped_range(..).expect("mapped"));

        // In doubles, a cycle at a time: exact to far below the bound.
        let sum = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
            let full = (voxels / CYCLE) as f64;
            (0..CYCLE)
                .map(|k| {
                    let times = full + f64::from(u8::from(k < voxels % CYCLE));
                    times * term(f64::from(value(k)), f64::from(truth(k)))
                })
                .sum()
        };
        for (&moment, &got) in plan.heads()[0].moments().iter().zip(&got) {
            let (want, exact) = match moment {
                Moment::N => (voxels as f64, true),
                Moment::G | Moment::GG => (sum(&|_, g| g), true),
                Moment::P => (sum(&|p, _| p), false),
                Moment::PG => (sum(&|p, g| p * g), false),
                Moment::PP => (sum(&|p, _| p * p), false),
                other => panic!("{other:?} is not read by these losses"),
            };
            let error = (got - want).abs() / want;
            println!("{moment:?}: {got}, relative error {error:e}");
            assert!(if exact { got == want } else { error <= RELATIVE }, "{moment:?}: {got}, want {want}");
        }
        let [.., valid, invalid] = got[..] else { panic!("a row ends with two counts") };
        assert_eq!((valid, invalid), (voxels as f64, 0.0));
    }
}
