//! Everything that a caller with addresses of its own can hand in wrongly, and drivers that cannot or no longer.

use super::buffers::{Guarded, Loaded, stream};
use super::common::{Case, assert_no_faults, example};
use super::evaluate;
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaContext, CudaStream};
use segfuse::cuda::{Buffers, Call, Device, Executor, Preparation, Workspace};
use segfuse::{DType, Error, Inputs, Layout, Map, Plan, Problem, Shape};
use softcuda::{Driver, Failure, Settings};
use std::sync::Arc;

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

/// A prepared case, its buffers, and a check that a call is refused before anything is launched.
struct Fixture {
    executor: Executor,
    loaded: Loaded,
    stream: Arc<CudaStream>,
}

impl Fixture {
    fn new(device: &Device, case: &Case) -> Fixture {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let stream = stream(device);
        Fixture { executor, loaded: Loaded::new(&stream, case, POISON), stream }
    }

    fn good(&self) -> Buffers {
        self.loaded.buffers(true)
    }

    /// The error of a call; the gradient is as it was.
    fn error(&self, heads: &[Buffers], call: &Call) -> Error {
        // SAFETY: what is wrong with the call is found before anything is launched.
        let error = unsafe { self.executor.forward_backward(heads, call, &*self.stream) }.expect_err("a bad call");
        let gradient = self.loaded.gradient.contents();
        assert!(gradient.iter().all(|&byte| byte == POISON), "{error:?}: the gradient was written");
        error
    }
}

#[test]
fn of_addresses() {
    let device = device_or_return!();
    let f = Fixture::new(device, &case());
    let good = f.good();
    let call = Call::default();
    assert_error!(f.error(&[], &call), Error::OtherPlan { what: "heads", need: 1, got: 0 });
    assert_error!(f.error(&[good, good], &call), Error::OtherPlan { what: "heads", need: 1, got: 2 });

    // Missing, unexpected, null.
    assert_error!(f.error(&[Buffers { mask: None, ..good }], &call), Error::BufferMissing { role: "the mask" });
    assert_error!(f.error(&[Buffers { gradient: None, ..good }], &call), Error::BufferMissing { role: "the gradient" });
    assert_error!(f.error(&[Buffers { prediction: 0, ..good }], &call), Error::BufferNull { role: "the prediction" });
    assert_error!(
        f.error(&[Buffers { weights: Some(0), ..good }], &call),
        Error::BufferNull { role: "the voxel weights" }
    );
    let plain = Fixture::new(device, &example("ce", &[2, 3, 40], DType::F32, Layout::Planar, 82));
    let mask = Buffers { mask: good.mask, ..plain.good() };
    assert_error!(plain.error(&[mask], &call), Error::BufferUnexpected { role: "the mask" });

    // Misaligned: to the element, and to what a thread reads at once.
    for (shift, need) in [(1, 16), (4, 16), (8, 16)] {
        let prediction = good.prediction + shift;
        assert_error!(f.error(&[Buffers { prediction, ..good }], &call),
            Error::BufferAlignment { role: "the prediction", need: n, address } if *n == need && *address == prediction as usize);
    }
    let gradient = Some(good.gradient.expect("given") + 2);
    assert_error!(f.error(&[Buffers { gradient, ..good }], &call), Error::BufferAlignment { role: "the gradient", .. });
    let odd = Fixture::new(device, &example("ce", &[2, 3, 41], DType::F32, Layout::Planar, 83));
    let prediction = odd.good().prediction + 2;
    assert_error!(
        odd.error(&[Buffers { prediction, ..odd.good() }], &call),
        Error::BufferAlignment { role: "the prediction", need: 4, .. }
    );

    // Too short, where the driver knows: the guards behind are 256 bytes, a class and a sample are more.
    let short = Guarded::new(&f.stream, &[POISON; 480], POISON);
    assert_error!(
        f.error(&[Buffers { prediction: short.address(), ..good }], &call),
        Error::BufferBytes { role: "the prediction", need: 960, got: 736 }
    );

    // No address of a device, where it does not reach all memory of the host.
    let pageable = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS;
    if f.stream.context().attribute(pageable).expect("the device is there") == 0 {
        let host = vec![0f32; 1 << 12];
        let address = (host.as_ptr() as u64).next_multiple_of(16);
        assert_error!(f.error(&[Buffers { prediction: address, ..good }], &call),
            Error::BufferForeign { role: "the prediction", address: a } if *a == address);
    }

    // Shared.
    let gradient = Some(good.prediction);
    assert_error!(
        f.error(&[Buffers { gradient, ..good }], &call),
        Error::Overlapping { role: "the gradient", other: "the prediction" }
    );
    let result = Some(good.prediction);
    assert_error!(
        f.error(&[good], &Call { result, ..call }),
        Error::Overlapping { role: "the result", other: "the prediction" }
    );
    let result = Some(f.executor.result(None).expect("a workspace"));
    assert_error!(
        f.error(&[good], &Call { result, ..call }),
        Error::Overlapping { role: "the workspace", other: "the result" }
    );
    // One input for two roles is no fault.
    let shared = Buffers { weights: good.map, ..good };
    // SAFETY: the buffers are those of the case, one of them twice, and live until the stream was waited for.
    unsafe { f.executor.forward_backward(&[shared], &call, &*f.stream) }.expect("read twice, written never");
    f.stream.synchronize().expect("the device works");
    assert_no_faults();
}

#[test]
fn of_what_a_call_is_given() {
    let device = device_or_return!();
    let f = Fixture::new(device, &case());
    let good = [f.good()];
    let small = Guarded::new(&f.stream, &[0; 16], 0);
    assert_error!(
        f.error(&good, &Call { grad_output: Some(small.address() + 2), ..Call::default() }),
        Error::BufferAlignment { role: "grad_output", need: 4, .. }
    );
    assert_error!(
        f.error(&good, &Call { grad_output: Some(0), ..Call::default() }),
        Error::BufferNull { role: "grad_output" }
    );
    assert_error!(
        f.error(&good, &Call { result: Some(small.address() + 4), ..Call::default() }),
        Error::BufferAlignment { role: "the result", need: 8, .. }
    );
    let bytes = f.executor.workspace_bytes();
    let memory = Guarded::new(&f.stream, &vec![0; bytes as usize], 0);
    for (address, given) in [(memory.address(), bytes - 1), (memory.address(), 0)] {
        let workspace = Some(Workspace { address, bytes: given });
        assert_error!(f.error(&good, &Call { workspace, ..Call::default() }),
            Error::BufferBytes { role: "the workspace", need, got } if (*need, *got) == (bytes, given));
    }
    let workspace = Some(Workspace { address: memory.address() + 4, bytes });
    assert_error!(
        f.error(&good, &Call { workspace, ..Call::default() }),
        Error::BufferAlignment { role: "the workspace", need: 16, .. }
    );
    // More than the allocation has behind the address.
    let workspace = Some(Workspace { address: small.address(), bytes });
    assert_error!(
        f.error(&good, &Call { workspace, ..Call::default() }),
        Error::BufferBytes { role: "the workspace", .. }
    );
    let none = Preparation { workspace: false, ..Preparation::default() };
    let bare = device.prepare_as(&case().plan(), none).expect("the device takes the plan");
    // SAFETY: refused before anything is launched.
    let error =
        unsafe { bare.forward_backward(&good, &Call::default(), &*f.stream) }.expect_err("there is no workspace");
    assert_error!(error, Error::BufferMissing { role: "the workspace" });
    let host = case();
    assert_error!(
        bare.evaluate(&[host.host().inputs()]).expect_err("there is no workspace"),
        Error::BufferMissing { role: "the workspace" }
    );
}

#[test]
fn of_stages_that_are_not_split() {
    let device = device_or_return!();
    let f = Fixture::new(device, &example("ce", &[2, 3, 40], DType::F32, Layout::Planar, 84));
    // SAFETY: refused before anything is launched.
    unsafe {
        assert_error!(
            f.executor.reduce(&[f.good()], &Call::default(), &*f.stream).expect_err("whole"),
            Error::Problem(_)
        );
        assert_error!(f.executor.finish(&Call::default(), &*f.stream).expect_err("whole"), Error::Problem(_));
        assert_error!(
            f.executor.gradient(&[f.good()], &Call::default(), &*f.stream).expect_err("whole"),
            Error::Problem(_)
        );
    }
    assert_error!(f.executor.moments(1, None).expect_err("one head"), Error::OtherPlan { need: 1, got: 1, .. });
}

#[test]
fn of_plans() {
    let device = device_or_return!();
    let problem = Problem::new(Shape::new(1, 3, [8]).expect("a shape"))
        .prediction(DType::F16, segfuse::Activation::Softmax)
        .gradient(DType::F32);
    let plan = Plan::new(&"ce".parse().expect("a spec"), &problem).expect("a plan");
    assert_error!(
        device.prepare_in_place(&plan).expect_err("of two types"),
        Error::BufferType { role: "a gradient in place", need: DType::F16, got: DType::F32 }
    );
    let executor = device.prepare(&plan).expect("the device takes the plan");
    let (short, labels) = (vec![half::f16::ZERO; 23], vec![0u8; 8]);
    assert_error!(
        executor.evaluate(&[Inputs::new(&short, &labels)]).expect_err("too short"),
        Error::BufferLength { role: "the prediction", need: 24, got: 23 }
    );
}

#[test]
fn of_devices() {
    let device = device_or_return!();
    assert_error!(Device::new(4096).expect_err("not as many"),
        Error::UnknownDevice { name, available } if name == "cuda:4096" && available[0] == "cuda:0");
    // SAFETY: null is refused.
    let error = unsafe { Device::from_context(std::ptr::null_mut::<u8>()) }.expect_err("null");
    assert_error!(error, Error::BufferNull { role: "the context" });
    // Nothing is current in a new thread.
    std::thread::scope(|scope| {
        // SAFETY: there is no context to outlive.
        let error = scope.spawn(|| unsafe { Device::from_current_context() }.expect_err("nothing is current")).join();
        assert_error!(error.expect("the thread ends"), Error::Device { .. });
    });
    // The primary context by its handle, and as what is current.
    // SAFETY: `device` keeps it.
    let same = unsafe { Device::from_context(device.context()) }.expect("a context");
    assert_eq!((same.ordinal(), same.context()), (device.ordinal(), device.context()));
    let context = CudaContext::new(device.ordinal() as usize).expect("the device is there");
    context.bind_to_thread().expect("a context can be current");
    // SAFETY: as above.
    let current = unsafe { Device::from_current_context() }.expect("a context is current");
    assert_eq!(current.context(), device.context());
    let case = example("dice", &[1, 2, 40], DType::F32, Layout::Planar, 85);
    let [a, b] = [device, &current].map(|device| evaluate(&device.prepare(&case.plan()).expect("prepared"), &case));
    assert!(a == b);
}

/// Buffers and streams of another context of the same device.
#[test]
fn of_another_context() {
    let device = device_or_return!();
    let f = Fixture::new(device, &case());
    let Ok(other) = CudaContext::new_non_primary(device.ordinal() as usize, 0) else {
        panic!("a second context can be made");
    };
    let strange = other.new_stream().expect("a stream can be made");
    // SAFETY: refused before anything is launched.
    let error =
        unsafe { f.executor.forward_backward(&[f.good()], &Call::default(), &*strange) }.expect_err("a strange stream");
    assert_error!(error, Error::OtherContext { role: "the stream" });
    let elsewhere = Loaded::new(&strange, &case(), POISON);
    let prediction = elsewhere.prediction.address();
    assert_error!(
        f.error(&[Buffers { prediction, ..f.good() }], &Call::default()),
        Error::OtherContext { role: "the prediction" } | Error::BufferForeign { role: "the prediction", .. }
    );
    // A device of that context takes them, whatever is current.
    // SAFETY: `other` lives until the end of the test.
    let there = unsafe { Device::from_context(other.cu_ctx()) }.expect("a context");
    let executor = there.prepare(&case().plan()).expect("the device takes the plan");
    elsewhere.launch(&executor, &Call::default());
    let want = evaluate(&f.executor, &case()).1;
    assert!(elsewhere.gradient(&executor, DType::F32) == want);
    assert_no_faults();
}

/// The software driver, where it is the one; with what it does when told.
fn software() -> Option<&'static Driver> {
    let driver = softcuda::install().ok().flatten();
    if driver.is_none() {
        println!("skipped: the system's driver does not fail on purpose");
    }
    driver
}

#[test]
fn of_a_full_device() {
    let (device, Some(driver)) = (device_or_return!(), software()) else { return };
    let case = case();
    driver.fail_next(Failure::Allocation, 0);
    assert_error!(
        device.prepare(&case.plan()).expect_err("nothing left"),
        Error::DeviceMemory { what: "the recipes of a plan" }
    );
    driver.fail_next(Failure::Allocation, 1);
    assert_error!(
        device.prepare(&case.plan()).expect_err("nothing left"),
        Error::DeviceMemory { what: "the workspace" }
    );
    let executor = device.prepare(&case.plan()).expect("there is memory again");
    let want = evaluate(&executor, &case);
    driver.fail_next(Failure::Allocation, 2);
    assert_error!(
        executor.evaluate(&[case.host().inputs()]).expect_err("nothing left"),
        Error::DeviceMemory { what: "the mask" }
    );
    // What was allocated before was freed, and the device works on.
    assert!(evaluate(&executor, &case) == want);
}

#[test]
fn of_a_refused_kernel() {
    let (device, Some(driver)) = (device_or_return!(), software()) else { return };
    // Kernels that no other test asks for are not loaded yet.
    let case = example("dice + 0.125*focal(gamma=1.71875)", &[1, 5, 40], DType::BF16, Layout::Planar, 86);
    driver.fail_next(Failure::Module, 0);
    assert_error!(device.prepare(&case.plan()).expect_err("refused"),
        Error::Ptx { ptx, driver: 12_000.., reason, .. } if ptx == "8.0" && reason.contains("INVALID_PTX"));
    device.prepare(&case.plan()).expect("taken the second time");
}

/// A launch that is refused leaves the context usable, and says so.
#[test]
fn of_a_refused_launch() {
    let (device, Some(driver)) = (device_or_return!(), software()) else { return };
    let f = Fixture::new(device, &case());
    let want = evaluate(&f.executor, &case());
    driver.fail_next(Failure::Launch, 0);
    let error = f.error(&[f.good()], &Call::default());
    assert_error!(error, Error::Launch { usable: true, .. });
    assert!(evaluate(&f.executor, &case()) == want);
}

/// What a process without a driver, or with an old one, is told; in one of its own, as a driver is found once.
#[test]
fn of_drivers() {
    const CHILD: &str = "SEGFUSE_TEST_CHILD";
    match super::common::variable(CHILD).as_deref() {
        Some("none") => {
            // A machine with a driver of its own has a device instead.
            if let Err(error) = Device::new(0) {
                assert_error!(error, Error::DriverMissing { .. } | Error::UnknownDevice { .. } | Error::Device { .. });
            }
        }
        Some("old") => {
            let driver = softcuda::install().expect("the software driver").expect("is not the system's");
            driver.configure(&Settings { driver_version: 11_080, ..driver.settings() });
            assert_error!(Device::new(0).expect_err("too old"), Error::DriverVersion { need: 12_000, got: 11_080 });
        }
        Some("lost") => {
            let driver = softcuda::install().expect("the software driver").expect("is not the system's");
            let device = Device::new(0).expect("the device");
            let case = case();
            let executor = device.prepare(&case.plan()).expect("the device takes the plan");
            driver.fail_next(Failure::Execution, 0);
            let error = executor.evaluate(&[case.host().inputs()]).expect_err("a kernel failed");
            assert_error!(error, Error::DeviceLost { .. } | Error::Launch { usable: false, .. });
            let error = executor.evaluate(&[case.host().inputs()]).expect_err("and the context with it");
            assert_error!(error, Error::DeviceLost { .. } | Error::Launch { usable: false, .. });
        }
        Some(other) => panic!("{CHILD}={other}"),
        None => {
            if device_or_none().is_none() || software().is_none() {
                return;
            }
            for child in ["none", "old", "lost"] {
                let out = std::process::Command::new(std::env::current_exe().expect("a program has a path"))
                    .args(["--exact", "errors::of_drivers", "--nocapture"])
                    .env(CHILD, child)
                    .output()
                    .expect("a test can be started");
                let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
                assert!(out.status.success(), "{child}: {text}");
            }
        }
    }
}

fn device_or_none() -> Option<&'static Device> {
    super::common::cuda_device()
}
