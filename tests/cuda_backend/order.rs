//! That the order in which blocks, streams and threads come changes nothing; and calls that are captured.

use super::buffers::{Guarded, Loaded, Results, stream};
use super::common::{Case, against_cpu, assert_no_faults, example};
use super::evaluate;
use super::memory::cases;
use cudarc::driver::result;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use segfuse::cuda::{Call, Workspace};
use segfuse::{DType, Layout};

/// An image of one object whose rows hang together by a voxel, at alternate ends or at one: the trees of many blocks are joined.
fn winding(joined_at: fn(usize) -> usize) -> Case {
    const EXTENTS: [usize; 2] = [61, 67];
    let mut case = example("distance_ce(map=unet)", &[2, 1, EXTENTS[0], EXTENTS[1]], DType::F32, Layout::Planar, 16);
    let [height, width] = EXTENTS;
    for (index, label) in case.target.iter_mut().enumerate() {
        let (row, x) = (index / width % height, index % width);
        // Every other row, and what joins it to the next; at last a second object, away from the first.
        let is_joined = row % 2 == 0 || x == joined_at(row);
        *label = f64::from(u8::from(if row + 4 < height { is_joined } else { row + 1 == height && x % 9 < 5 }));
    }
    case
}

/// Plans of every schedule, with rows by the dozen; objects of more than eight blocks.
fn larger() -> Vec<Case> {
    vec![
        example("ce", &[2, 3, 20_000], DType::F32, Layout::Planar, 11),
        example("bce", &[3, 1, 20_001], DType::F32, Layout::Planar, 12),
        example("dice(batch=true) + kappa", &[3, 2, 9_000], DType::F16, Layout::Interleaved, 13),
        example("mcc + poly1", &[1, 40, 3_000], DType::F32, Layout::Planar, 14),
        winding(|row| if row % 4 == 1 { 66 } else { 0 }),
        winding(|_| 33),
    ]
}

/// The same bits under shuffled orders of blocks and warps, several blocks at once.
#[test]
fn of_blocks() {
    let device = device_or_return!();
    let Ok(Some(driver)) = softcuda::install() else {
        println!("skipped: the order of blocks is the device's own");
        return;
    };
    for case in larger() {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let first = evaluate(&executor, &case);
        against_cpu::agree(&first, &against_cpu::on_cpu(&case), &case).expect("as the CPU");
        for seed in 1..=8 {
            driver.configure(&softcuda::Settings { schedule_seed: seed, ..driver.settings() });
            executor.fill_workspace(0x4141_4141).expect("the device works");
            assert!(evaluate(&executor, &case) == first, "{}, seed {seed}", case.objective);
        }
        driver.configure(&softcuda::Settings { schedule_seed: 0, ..driver.settings() });
        assert_no_faults();
    }
}

/// The sums of chunks of samples are those of all samples together, up to the order in which rows are cut.
#[test]
fn of_chunks() {
    let device = device_or_return!();
    // Beyond half of any cache that the software driver states, and of most others.
    let case = example("dice + tversky", &[9, 1, 1 << 20], DType::F32, Layout::Planar, 15);
    let schedule = case.plan().heads()[0].schedule();
    assert!(matches!(schedule, segfuse::Schedule::Chunked { .. }), "{schedule:?}");
    let chunked = evaluate(&device.prepare(&case.plan()).expect("the device takes the plan"), &case);
    against_cpu::agree(&chunked, &against_cpu::on_cpu(&case), &case).expect("as the CPU");
    assert_no_faults();
}

/// Calls on several streams at once, each with a workspace of its own, from one executor.
#[test]
fn of_streams() {
    let device = device_or_return!();
    for case in cases().into_iter().step_by(4) {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let want = evaluate(&executor, &case);
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let stream = stream(device);
                let workspace = Guarded::new(&stream, &vec![0xff; executor.workspace_bytes() as usize], 0x77);
                let result = Results::new(&stream, &executor);
                (Loaded::new(&stream, &case, 0xaa), workspace, result)
            })
            .collect();
        for (loaded, workspace, result) in &calls {
            let workspace = Workspace { address: workspace.address(), bytes: executor.workspace_bytes() };
            let result = Some(result.address());
            loaded.launch(&executor, &Call { workspace: Some(workspace), result, ..Call::default() });
        }
        for (loaded, workspace, result) in &calls {
            assert!(loaded.gradient(&executor, case.problem.gradient_dtype()) == want.1, "{}", case.objective);
            assert_eq!(result.numbers(&executor)[..1], want.0.losses, "{}", case.objective);
            workspace.contents();
        }
    }
    assert_no_faults();
}

/// One executor in several threads, by host slices and on streams; each thread has another current context, or none.
#[test]
fn of_threads() {
    let device = device_or_return!();
    let case = example("dice + ce", &[2, 3, 1_500], DType::F32, Layout::Planar, 16);
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let want = evaluate(&executor, &case);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    assert!(evaluate(&executor, &case) == want);
                }
                let stream = stream(device);
                let memory = Guarded::new(&stream, &vec![0xff; executor.workspace_bytes() as usize], 0x77);
                let workspace = Workspace { address: memory.address(), bytes: executor.workspace_bytes() };
                let loaded = Loaded::new(&stream, &case, 0xaa);
                loaded.launch(&executor, &Call { workspace: Some(workspace), ..Call::default() });
                assert!(loaded.gradient(&executor, DType::F32) == want.1);
                assert_no_faults();
            });
        }
    });
}

/// A call is captured while nothing runs, and each replay gives the bits of a call on what the buffers then hold.
#[test]
fn captured_and_replayed() {
    let device = device_or_return!();
    let mut all = cases().into_iter().step_by(3).collect::<Vec<_>>();
    all.extend(larger().into_iter().take(2));
    for case in all {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let want = evaluate(&executor, &case);
        let stream = stream(device);
        // Events that cudarc records for its slices would be of the capture.
        // SAFETY: one stream alone uses the slices of this test.
        unsafe { stream.context().disable_event_tracking() };
        let loaded = Loaded::new(&stream, &case, 0xaa);
        let result = Results::new(&stream, &executor);
        let (address, buffers) = (result.address(), [loaded.buffers(true)]);
        executor.fill_workspace(u32::MAX).expect("the device works");
        stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .expect("nothing is captured yet");
        let call = Call { result: Some(address), ..Call::default() };
        // SAFETY: the buffers are those of the case, and live until the replays are done.
        unsafe { executor.forward_backward(&buffers, &call, &*stream) }.expect("a call can be captured");
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags).expect("only launches were captured").expect("and there were some");
        let poison = loaded.gradient.contents();
        assert!(poison.iter().all(|&byte| byte == 0xaa), "a capture runs nothing");
        for _ in 0..3 {
            executor.fill_workspace(0x4141_4141).expect("the device works");
            graph.launch().expect("the graph runs");
            assert!(loaded.gradient(&executor, case.problem.gradient_dtype()) == want.1, "{}", case.objective);
            assert_eq!(result.numbers(&executor)[..1], want.0.losses);
        }
        assert_no_faults();
    }
}

/// While a stream is captured in the mode that forbids every thread to allocate, other threads prepare, evaluate and drop plans, and
/// the capture stays whole. Where the stream is one that the default stream waits for, they prepare and drop.
#[test]
fn beside_a_capture() {
    let device = device_or_return!();
    // The capture would forbid the tests beside this one what they do: so in a process of its own.
    const CHILD: &str = "SEGFUSE_TEST_CAPTURES";
    if super::common::variable(CHILD).is_none() {
        let out = std::process::Command::new(std::env::current_exe().expect("a program has a path"))
            .args(["--exact", "order::beside_a_capture", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("a test can be started");
        assert!(
            out.status.success(),
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        return;
    }
    let case = example("dice + ce", &[2, 3, 1_500], DType::F32, Layout::Planar, 17);
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let want = evaluate(&executor, &case);
    let stream = stream(device);
    // SAFETY: one stream alone uses the slices of this test.
    unsafe { stream.context().disable_event_tracking() };
    let loaded = Loaded::new(&stream, &case, 0xaa);
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).expect("nothing is captured yet");
    loaded.launch(&executor, &Call::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let other = example("mcc + focal", &[1, 5, 700], DType::F16, Layout::Interleaved, 18);
            let executor = device.prepare(&other.plan()).expect("the device takes the plan");
            evaluate(&executor, &other);
        });
    });
    let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).expect("nothing spoilt the capture").expect("and there were launches");
    graph.launch().expect("the graph runs");
    assert!(loaded.gradient(&executor, DType::F32) == want.1);

    let blocking = result::stream::create(result::stream::StreamKind::Default).expect("a stream can be made");
    // SAFETY: the stream was made above, and nothing of it is captured yet.
    unsafe { result::stream::begin_capture(blocking, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL) }
        .expect("a stream can be captured");
    let buffers = loaded.buffers(true);
    // SAFETY: the buffers are those of the case; what is captured is never run.
    unsafe { executor.forward_backward(&[buffers], &Call::default(), blocking) }.expect("a call can be captured");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let other = example("mcc + kappa", &[1, 5, 700], DType::F16, Layout::Interleaved, 19);
            device.prepare(&other.plan()).expect("the device takes the plan");
        });
    });
    // SAFETY: the stream is captured, and ends with the test.
    unsafe {
        let graph = result::stream::end_capture(blocking).expect("nothing spoilt the capture");
        result::graph::destroy(graph).expect("the graph is there");
        result::stream::destroy(blocking).expect("the stream is there");
    }
    assert_no_faults();
}
