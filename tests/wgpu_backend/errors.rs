//! Everything that a caller with buffers of its own can hand in wrongly, and devices that cannot or no longer.

use super::buffers::{Loaded, download, submit};
use super::common::{Case, example, lasting, variable};
use super::evaluate;
use segfuse::wgpu::{Buffers, Call, Device, Executor, Variant};
use segfuse::{DType, Error, Inputs, Layout, Map, Plan, Problem, Shape};
use wgpu::{Buffer, BufferDescriptor, BufferUsages, Features, Limits};

/// What the gradient holds before calls that must not write it.
const POISON: u8 = 0xaa;

macro_rules! assert_error {
    ($got:expr, $pattern:pat $(if $guard:expr)?) => {
        let got = $got;
        assert!(matches!(&got, $pattern $(if $guard)?), "got {got:?}: {got}");
    };
}

/// Two samples, three classes, 40 voxels, and every buffer that a problem can have.
fn case() -> Case {
    let mut case = example("dice + ce", &[2, 3, 40], DType::F32, Layout::Planar, 81);
    case.problem = case.problem.mask().map(Map::Shared);
    case.mask = Some(vec![1; 80]);
    case.map = Some(vec![0.5; 80]);
    case.map_kind = Some(Map::Shared);
    case
}

/// A prepared case, its buffers, and a check that a call is refused before anything is recorded.
struct Fixture {
    device: Device,
    executor: Executor,
    loaded: Loaded,
}

impl Fixture {
    fn new(device: &Device, case: &Case) -> Fixture {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let loaded = Loaded::new(device, case, POISON);
        Fixture { device: device.clone(), executor, loaded }
    }

    fn good(&self) -> Buffers<'_> {
        self.loaded.buffers(true)
    }

    /// The error of a call; whatever else the encoder holds still runs, and the gradient is as it was.
    fn error(&self, heads: &[Buffers<'_>], call: &Call<'_>) -> Error {
        let mut error = None;
        let scope = self.device.device().push_error_scope(wgpu::ErrorFilter::Validation);
        submit(&self.device, |encoder| {
            error = Some(self.executor.encode(encoder, heads, call).expect_err("a bad call"));
        });
        assert!(pollster::block_on(scope.pop()).is_none(), "{error:?}: and the encoder is spoilt");
        let gradient = self.loaded.gradient.contents(&self.device);
        assert!(gradient.iter().all(|&byte| byte == POISON), "{error:?}: the gradient was written");
        error.expect("set above")
    }

    fn of(&self, heads: &[Buffers<'_>]) -> Error {
        self.error(heads, &Call::default())
    }

    fn buffer(&self, bytes: u64, usage: BufferUsages) -> Buffer {
        let label = Some("odd");
        self.device.device().create_buffer(&BufferDescriptor { label, size: bytes, usage, mapped_at_creation: false })
    }
}

#[test]
fn of_buffers() {
    let device = device_or_return!();
    let fixture = Fixture::new(device, &case());
    let good = fixture.good();
    assert_error!(fixture.of(&[]), Error::OtherPlan { what: "heads", need: 1, got: 0 });
    assert_error!(fixture.of(&[good, good]), Error::OtherPlan { what: "heads", need: 1, got: 2 });
    assert_error!(fixture.of(&[Buffers { mask: None, ..good }]), Error::BufferMissing { role: "the mask" });
    assert_error!(fixture.of(&[Buffers { weights: None, ..good }]), Error::BufferMissing { role: "the voxel weights" });
    assert_error!(fixture.of(&[Buffers { map: None, ..good }]), Error::BufferMissing { role: "the map" });
    assert_error!(fixture.of(&[Buffers { gradient: None, ..good }]), Error::BufferMissing { role: "the gradient" });

    // Usage, offset, size: of every role.
    let useless = fixture.buffer(1 << 12, BufferUsages::COPY_DST);
    let useful = fixture.buffer(1 << 12, BufferUsages::STORAGE);
    let alignment = u64::from(device.device().limits().min_storage_buffer_offset_alignment);
    macro_rules! role {
        ($name:literal, $bytes:literal, $field:ident, $wrap:expr) => {
            let with = |slice| Buffers { $field: $wrap(slice), ..good };
            assert_error!(fixture.of(&[with(useless.slice(..))]), Error::BufferUsage { role: $name, need: "STORAGE" });
            let offset = alignment / 2;
            assert_error!(
                fixture.of(&[with(useful.slice(offset..))]),
                Error::BufferOffset { role: $name, need, got } if *need == alignment && *got == offset
            );
            let short = with(useful.slice(alignment..alignment + $bytes - 4));
            assert_error!(
                fixture.of(&[short]),
                Error::BufferBytes { role: $name, need: $bytes, got } if *got == $bytes - 4
            );
        };
    }
    role!("the prediction", 960, prediction, std::convert::identity);
    role!("the target", 80, target, std::convert::identity);
    role!("the mask", 80, mask, Some);
    role!("the voxel weights", 320, weights, Some);
    role!("the map", 320, map, Some);
    role!("the gradient", 960, gradient, Some);

    // One buffer for two roles, of which one is written.
    for (other, buffers) in [
        ("the prediction", Buffers { gradient: Some(good.prediction), ..good }),
        ("the target", Buffers { target: fixture.loaded.gradient.slice(), ..good }),
        ("the mask", Buffers { mask: good.gradient, ..good }),
        ("the voxel weights", Buffers { weights: good.gradient, ..good }),
        ("the map", Buffers { map: good.gradient, ..good }),
    ] {
        assert_error!(
            fixture.of(&[buffers]),
            Error::BufferShared { role: "the gradient", other: got } if *got == other
        );
    }
}

#[test]
fn of_calls() {
    let device = device_or_return!();
    let fixture = Fixture::new(device, &case());
    let good = fixture.good();
    let storage = fixture.buffer(1 << 12, BufferUsages::STORAGE);
    let useless = fixture.buffer(1 << 12, BufferUsages::COPY_DST);
    let alignment = u64::from(device.device().limits().min_storage_buffer_offset_alignment);
    let layout = fixture.executor.result_layout();
    let grad_output = |slice| fixture.error(&[good], &Call { grad_output: Some(slice), ..Call::default() });
    let result = |slice| fixture.error(&[good], &Call { result: Some(slice), ..Call::default() });
    assert_error!(grad_output(useless.slice(..)), Error::BufferUsage { role: "grad_output", .. });
    assert_error!(grad_output(storage.slice(alignment / 2..)), Error::BufferOffset { role: "grad_output", .. });
    assert_error!(result(useless.slice(..)), Error::BufferUsage { role: "the result", .. });
    assert_error!(result(storage.slice(alignment / 2..)), Error::BufferOffset { role: "the result", .. });
    assert_error!(
        result(storage.slice(..layout.bytes - 4)),
        Error::BufferBytes { role: "the result", need, .. } if *need == layout.bytes
    );
    let both = Call { grad_output: Some(storage.slice(..)), result: Some(storage.slice(..)), timestamps: None };
    assert_error!(fixture.error(&[good], &both), Error::BufferShared { role: "the result", other: "grad_output" });

    // One number per loss.
    let mut each = case();
    each.problem = each.problem.reduction(segfuse::Reduction::None);
    let fixture = Fixture::new(device, &each);
    let short = Call { grad_output: Some(storage.slice(..4)), ..Call::default() };
    let error = fixture.error(&[fixture.good()], &short);
    assert_error!(error, Error::BufferBytes { role: "grad_output", need: 8, got: 4 });
}

#[test]
fn of_buffers_that_the_problem_does_not_have() {
    let device = device_or_return!();
    let mut plain = example("dice", &[2, 3, 40], DType::F32, Layout::Planar, 82);
    plain.weights = None;
    plain.problem = Problem::new(Shape::new(2, 3, [40]).expect("a valid shape"));
    let fixture = Fixture::new(device, &plain);
    let (good, other) = (fixture.good(), Loaded::new(device, &case(), POISON));
    let extra = other.buffers(true);
    let unexpected = |buffers, role: &str| {
        assert_error!(fixture.of(&[buffers]), Error::BufferUnexpected { role: got } if *got == role);
    };
    unexpected(Buffers { mask: extra.mask, ..good }, "the mask");
    unexpected(Buffers { weights: extra.weights, ..good }, "the voxel weights");
    unexpected(Buffers { map: extra.map, ..good }, "the map");

    // A call for the loss alone leaves the gradient alone; one in place has none of its own.
    let mut encoder = device.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    fixture.executor.encode_forward(&mut encoder, &[good], &Call::default()).expect("the same buffers serve");
    let in_place = device.prepare_in_place(&plain.plan()).expect("of one type");
    let error = in_place.encode(&mut encoder, &[good], &Call::default()).expect_err("a gradient");
    assert_error!(error, Error::BufferUnexpected { role: "the gradient" });
    let aliased = Buffers { target: good.prediction, gradient: None, ..good };
    let error = in_place.encode(&mut encoder, &[aliased], &Call::default()).expect_err("the target is overwritten");
    assert_error!(error, Error::BufferShared { role: "the gradient", other: "the target" });
    let wide = plain.problem.clone().prediction(DType::F16, segfuse::Activation::Softmax).gradient(DType::F32);
    let plan = Plan::new(&plain.objective, &wide).expect("a valid plan");
    assert_error!(
        device.prepare_in_place(&plan).expect_err("no room"),
        Error::BufferType { role: "a gradient in place", need: DType::F16, got: DType::F32 }
    );
}

/// Slices of the host are checked as those of the CPU backend are.
#[test]
fn of_slices() {
    let device = device_or_return!();
    let case = case();
    let (executor, host) = (device.prepare(&case.plan()).expect("the device takes the plan"), case.host());
    let good = host.inputs();
    let cpu = segfuse::cpu::Device::new().prepare(&case.plan());
    let short = vec![0.5f32; 7];
    let bad = |inputs: &[Inputs<'_>]| {
        let error = executor.forward(inputs).expect_err("bad inputs");
        assert_eq!(error, cpu.forward(inputs).expect_err("bad inputs"));
        assert_eq!(error, executor.evaluate(inputs).expect_err("bad inputs"));
    };
    bad(&[]);
    bad(&[good, good]);
    bad(&[Inputs::new(host.prediction.slice(), host.target.slice())]);
    bad(&[good.map(&short)]);
    bad(&[Inputs::new(&short, host.target.slice())]);
    let mut gradient = vec![7.0f32; 240];
    for grad_output in [&[][..], &[1.0, 1.0]] {
        let error = executor.forward_backward(&[good], &mut [(&mut gradient).into()], Some(grad_output));
        assert_error!(error.expect_err("one loss"), Error::BufferLength { role: "grad_output", need: 1, .. });
    }
    let error = executor.forward_backward(&[good], &mut [(&mut gradient[..239]).into()], None);
    assert_error!(error.expect_err("too short"), Error::BufferLength { role: "the gradient", need: 240, got: 239 });
    assert!(gradient.iter().all(|&x| x == 7.0));
}

/// A device of its own, so that it can be lost or limited; of the adapter that the other tests use.
fn adapter() -> wgpu::Adapter {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let all = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let number = variable("SEGFUSE_TEST_DEVICE").and_then(|name| name.strip_prefix("wgpu:")?.parse().ok()).unwrap_or(0);
    all.into_iter().nth(number).expect("there is an adapter")
}

fn limited(limits: Limits) -> (wgpu::Device, wgpu::Queue) {
    let adapter = adapter();
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & Features::SUBGROUP,
        required_limits: limits,
        ..wgpu::DeviceDescriptor::default()
    };
    pollster::block_on(adapter.request_device(&descriptor)).expect("less than the adapter has")
}

#[test]
fn of_devices_with_too_little() {
    let _ = device_or_return!();
    let least = Limits::defaults();
    for (what, limits) in [
        ("storage buffers per stage", Limits { max_storage_buffers_per_shader_stage: 7, ..least.clone() }),
        ("invocations per workgroup", Limits { max_compute_invocations_per_workgroup: 255, ..least.clone() }),
        ("threads of a workgroup in x", Limits { max_compute_workgroup_size_x: 128, ..least.clone() }),
        ("bytes of workgroup memory", Limits { max_compute_workgroup_storage_size: 16_380, ..least.clone() }),
    ] {
        let (device, queue) = limited(limits);
        assert_error!(
            Device::from_wgpu(device, queue).expect_err(what),
            Error::DeviceLimit { what: got, need, got: has } if *got == what && has < need
        );
    }
    let (device, queue) = limited(least);
    let device = Device::from_wgpu(device, queue).expect("WebGPU's defaults are enough");
    let case = case();
    evaluate(&device.prepare(&case.plan()).expect("they are enough"), &case);
}

/// A buffer beyond what the device allows is refused before it is made; the device is none the worse.
#[test]
fn of_buffers_beyond_the_device() {
    let _ = device_or_return!();
    let small = Limits {
        max_buffer_size: 1 << 20,
        max_storage_buffer_binding_size: 1 << 20,
        max_uniform_buffer_binding_size: 1 << 14,
        ..Limits::defaults()
    };
    let (device, queue) = limited(small);
    let device = Device::from_wgpu(device, queue).expect("enough for small problems");
    let big = example("dice + bce", &[1, 1, 1 << 19], DType::F32, Layout::Planar, 83);
    let executor = device.prepare(&big.plan()).expect("windows of voxels");
    let error = executor.evaluate(&[big.host().inputs()]).expect_err("2 MiB");
    assert_error!(error, Error::DeviceLimit { what: "bytes of one buffer", need: 0x20_0000, got: 0x10_0000 });
    let small = example("dice + bce", &[1, 1, 1 << 10], DType::F32, Layout::Planar, 83);
    evaluate(&device.prepare(&small.plan()).expect("it is small"), &small);
}

/// Where a buffer has no room for what is kept of all erosions, fewer are kept, and no slope is another.
#[test]
fn of_erosions_that_do_not_fit_a_buffer() {
    let device = device_or_return!();
    let case = lasting("hausdorff_erosion", &[1, 1, 30, 32, 33], 84);
    let want = evaluate(&device.prepare(&case.plan()).expect("the device takes the plan"), &case);
    // 126 976 bytes for each that is kept: room for all ten, for seven, five, and not for the four that it takes.
    for (max_buffer_size, fits) in [(2 << 20, true), (7 << 17, true), (5 << 17, true), (3 << 17, false)] {
        let binding = max_buffer_size.min(1 << 20);
        let limits = Limits { max_buffer_size, max_storage_buffer_binding_size: binding, ..Limits::defaults() };
        let (device, queue) = limited(limits);
        let device = Device::from_wgpu(device, queue).expect("enough for small problems");
        match device.prepare(&case.plan()) {
            // Sums over voxels are parted as bindings allow.
            Ok(executor) => {
                let (evaluation, gradient) = evaluate(&executor, &case);
                assert!(fits && gradient == want.1, "{max_buffer_size}");
                assert!((evaluation.loss() / want.0.loss() - 1.0).abs() < 1e-6, "{max_buffer_size}");
            }
            Err(error) => assert!(!fits && matches!(error, Error::DeviceLimit { .. }), "{max_buffer_size}: {error}"),
        }
    }
}

/// A lost device says so, by slices and when it is asked for another plan; another device of the same process works.
#[test]
fn of_a_lost_device() {
    let shared = device_or_return!();
    let case = case();
    let want = evaluate(&shared.prepare(&case.plan()).expect("the device takes the plan"), &case);
    for own in [true, false] {
        let device = if own {
            Device::of_adapter(&adapter()).expect("the adapter has another device")
        } else {
            let (device, queue) = limited(Limits::defaults());
            Device::from_wgpu(device, queue).expect("the defaults are enough")
        };
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        evaluate(&executor, &case);
        device.device().destroy();
        let host = case.host();
        for _ in 0..2 {
            assert_error!(executor.evaluate(&[host.inputs()]).expect_err("lost"), Error::DeviceLost { .. });
            assert_error!(executor.forward(&[host.inputs()]).expect_err("lost"), Error::DeviceLost { .. });
        }
        // Pipelines that are made already, and others.
        assert_error!(device.prepare(&case.plan()).map(|_| ()).expect_err("lost"), Error::DeviceLost { .. });
        let other = example("mcc", &[1, 5, 40], DType::F32, Layout::Planar, 84);
        assert_error!(device.prepare(&other.plan()).map(|_| ()).expect_err("lost"), Error::DeviceLost { .. });
        drop(executor);

        let another = Device::of_adapter(&adapter()).expect("the adapter has another device");
        let got = evaluate(&another.prepare(&case.plan()).expect("the device takes the plan"), &case);
        assert!(got == want, "on another device");
    }
    assert!(evaluate(&shared.prepare(&case.plan()).expect("not lost"), &case) == want);
}

/// A device lost between submission and download.
#[test]
fn of_a_device_lost_while_it_works() {
    let _ = device_or_return!();
    let device = Device::of_adapter(&adapter()).expect("the adapter has another device");
    let case = example("dice + ce", &[2, 3, 60_000], DType::F32, Layout::Planar, 85);
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let loaded = Loaded::new(&device, &case, POISON);
    submit(&device, |encoder| loaded.encode(&executor, encoder, &Call::default()));
    device.device().destroy();
    assert_error!(executor.forward(&[case.host().inputs()]).expect_err("lost"), Error::DeviceLost { .. });
    let shared = device_or_return!();
    let other = Loaded::new(shared, &case, POISON);
    assert_eq!(download(shared, &other.prediction.buffer).len() as u64, other.prediction.buffer.size());
}

/// Heads are computed one after the other: what one writes, no other may read or write.
#[test]
fn of_buffers_that_heads_share() {
    let device = device_or_return!();
    let case = case();
    let heads = [(1.0, case.problem.clone()), (0.5, case.problem.clone())];
    let plan = Plan::with_heads(&case.objective, &heads).expect("a valid plan");
    let (a, b) = (Loaded::new(device, &case, POISON), Loaded::new(device, &case, POISON));
    let (first, second) = (a.buffers(true), b.buffers(true));
    let mut encoder = device.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let executor = device.prepare(&plan).expect("the device takes the plan");
    executor.encode(&mut encoder, &[first, second], &Call::default()).expect("apart");
    let error = executor
        .encode(&mut encoder, &[first, Buffers { gradient: first.gradient, ..second }], &Call::default())
        .expect_err("one gradient of two heads");
    assert_error!(error, Error::BufferShared { role: "the gradient", other: "the gradient" });
    let gradient = first.gradient.expect("of its own");
    let error = executor
        .encode(&mut encoder, &[first, Buffers { prediction: gradient, ..second }], &Call::default())
        .expect_err("read after it was written");
    assert_error!(error, Error::BufferShared { role: "the gradient", other: "the prediction" });
    let call = Call { grad_output: Some(gradient), ..Call::default() };
    let error = executor.encode(&mut encoder, &[first, second], &call).expect_err("read after it was written");
    assert_error!(error, Error::BufferShared { role: "the gradient", other: "grad_output" });
    let call = Call { grad_output: Some(executor.result().slice(..)), ..Call::default() };
    let error = executor.encode(&mut encoder, &[first, second], &call).expect_err("read and written in one pass");
    assert_error!(error, Error::BufferShared { role: "the result", other: "grad_output" });
}

/// Nine buffers are one more than WebGPU has for a kernel.
#[test]
fn of_made_maps_beside_every_other_buffer() {
    let device = device_or_return!();
    let problem = Problem::new(Shape::new(1, 3, [6, 7]).expect("a shape")).mask().weights().map(Map::Shared);
    let objective = "wasserstein_dice + hausdorff_dt + boundary".parse().expect("a valid spec");
    let plan = Plan::new(&objective, &problem).expect("a plan");
    let error = device.prepare(&plan).map(|_| ()).expect_err("nine buffers");
    assert_error!(error, Error::DeviceLimit { what: "storage buffers per stage", need: 9, got: 8 });
}

#[test]
fn of_samples_whose_made_maps_are_beyond_a_binding() {
    let device = device_or_return!();
    let small = device.with_variant(Variant { binding: 4096, ..device.variant() });
    let case = example("boundary + hausdorff_dt", &[1, 2, 40, 50], DType::F32, Layout::Planar, 83);
    let error = small.prepare(&case.plan()).map(|_| ()).expect_err("three maps of 8000 bytes");
    assert_error!(error, Error::DeviceLimit { .. });
}
