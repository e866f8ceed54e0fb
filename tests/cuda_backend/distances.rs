//! Distance maps by address and stream: what is written and what is not, whatever the workspace holds; captured; and what can be wrong.

use super::buffers::{Guarded, stream};
use super::common::random::Numbers;
use super::common::{Data, assert_no_faults, distances};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use segfuse::cuda::{Stream, Workspace};
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::{Activation, DType, Error, Layout, Shape};

/// Settings, bytes of a source, and bytes of a value, for every way to make maps: rows alone, one and two passes over lines, in the maps and beside them, with
/// sides of predictions, one transform for all classes, in groups.
fn cases() -> Vec<(Distances, Vec<u8>, usize)> {
    let mut random = Numbers(17);
    let mut cases = Vec::new();
    for extents in [&[1500][..], &[33, 40], &[9, 17, 35]] {
        let shape = Shape::new(2, 3, extents).expect("a shape");
        let labels: Vec<u8> = (0..shape.all_voxels()).map(|_| random.below(4) as u8).collect();
        let logits: Vec<f32> = (0..shape.elements()).map(|_| random.below(9) as f32 - 4.0).collect();
        let logits = bytemuck::cast_slice(&logits).to_vec();
        let of_labels = Distances::new(&shape, Source::Labels(DType::U8));
        let of = |hard| Distances::new(&shape, Source::Prediction(DType::F32, Activation::Softmax, hard));
        cases.push((of_labels.clone(), labels.clone(), 4));
        cases.push((of_labels.clone().kind(Kind::Inside), labels.clone(), 4));
        cases.push((of_labels.clone().kind(Kind::MultiLabel).classes([2, 0]), labels.clone(), 4));
        cases.push((of_labels.clone().kind(Kind::MultiLabel).dtype(DType::F16), labels.clone(), 2));
        cases.push((of_labels.clone().kind(Kind::Signed).dtype(DType::F16).classes([2, 0]), labels.clone(), 2));
        cases.push((of_labels.kind(Kind::Difference).layout(Layout::Interleaved).memory_budget(1), labels, 4));
        cases.push((of(Hard::Argmax).kind(Kind::Outside), logits.clone(), 4));
        cases.push((of(Hard::Argmax).kind(Kind::MultiLabel).memory_budget(1), logits.clone(), 4));
        cases.push((of(Hard::Argmax).dtype(DType::F16).memory_budget(1), logits.clone(), 2));
        cases.push((of(Hard::Above(0.3)).memory_budget(1), logits, 4));
    }
    cases
}

#[test]
fn maps_are_written_whole_and_nothing_else() {
    let device = device_or_return!();
    let stream = stream(device);
    for (settings, source, value) in cases() {
        let executor = device.prepare_distances_without_workspace(&settings).expect("the device takes the settings");
        let source = Guarded::new(&stream, &source, 0x11);
        let bytes = settings.elements() as usize * value;
        let mut first: Option<Vec<u8>> = None;
        for fill in [0xaa, 0x41, 0xff] {
            let maps = Guarded::new(&stream, &vec![fill; bytes], !fill);
            let memory = Guarded::new(&stream, &vec![fill; executor.workspace_bytes() as usize], 0x77);
            let workspace = Workspace { address: memory.address(), bytes: executor.workspace_bytes() };
            // SAFETY: the buffers are of the settings, and live until their contents were read.
            unsafe { executor.run(source.address(), maps.address(), Some(workspace), &*stream) }.expect("it fits");
            let contents = maps.contents();
            memory.contents();
            assert!(first.get_or_insert_with(|| contents.clone()) == &contents, "{settings:?}, {fill:#x}");
        }
        assert_no_faults();
    }
}

#[test]
fn maps_of_a_graph() {
    let device = device_or_return!();
    for (settings, source, value) in cases() {
        let executor = device.prepare_distances(&settings).expect("the device takes the settings");
        let stream = stream(device);
        // SAFETY: one stream alone uses the slices of this test.
        unsafe { stream.context().disable_event_tracking() };
        let source = Guarded::new(&stream, &source, 0x11);
        let bytes = settings.elements() as usize * value;
        let [called, replayed] = [0xaa, 0x55].map(|fill| Guarded::new(&stream, &vec![fill; bytes], 0x33));
        // SAFETY: the buffers are of the settings, and live until the replays are done.
        unsafe { executor.run(source.address(), called.address(), None, &*stream) }.expect("it fits");
        let want = called.contents();
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).expect("nothing is captured");
        // SAFETY: as above.
        unsafe { executor.run(source.address(), replayed.address(), None, &*stream) }.expect("it can be captured");
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags).expect("only launches were captured").expect("and there were some");
        for _ in 0..2 {
            executor.fill_workspace(0x4141_4141).expect("the device works");
            graph.launch().expect("the graph runs");
            assert!(replayed.contents() == want, "{settings:?}");
        }
        assert_no_faults();
    }
}

#[test]
fn what_can_be_wrong_with_an_address() {
    let device = device_or_return!();
    let stream = stream(device);
    let shape = Shape::new(1, 2, [5, 6, 7]).expect("a shape");
    let settings = Distances::new(&shape, Source::Labels(DType::I16));
    let executor = device.prepare_distances(&settings).expect("the device takes the settings");
    let source = Guarded::new(&stream, &[0; 2 * 210], 0x11);
    let maps = Guarded::new(&stream, &[0; 4 * 420], 0x11);
    let error = |source: u64, maps: u64, workspace: Option<Workspace>| {
        // SAFETY: nothing is launched with what is wrong.
        unsafe { executor.run(source, maps, workspace, Stream::DEFAULT) }.expect_err("it does not fit")
    };
    let [source, maps] = [source.address(), maps.address()];
    assert!(matches!(error(0, maps, None), Error::BufferNull { role: "the source of the distance maps" }));
    assert!(matches!(error(source, 0, None), Error::BufferNull { role: "the distance maps" }));
    assert!(matches!(error(source + 1, maps, None), Error::BufferAlignment { need: 2, .. }));
    assert!(matches!(error(source, maps + 2, None), Error::BufferAlignment { need: 4, .. }));
    assert!(matches!(error(maps, maps, None), Error::Overlapping { role: "the distance maps", .. }));
    assert!(matches!(error(source, maps + (1 << 20), None), Error::BufferBytes { .. } | Error::BufferForeign { .. }));
    let need = executor.workspace_bytes();
    assert!(need > 0);
    let short = Workspace { address: maps, bytes: need - 1 };
    assert!(matches!(error(source, maps, Some(short)), Error::BufferBytes { role: "the workspace", .. }));
    let own = Workspace { address: maps, bytes: need };
    assert!(matches!(error(source, maps, Some(own)), Error::Overlapping { .. } | Error::BufferBytes { .. }));
    let without = device.prepare_distances_without_workspace(&settings).expect("the device takes the settings");
    // SAFETY: as above.
    let missing = unsafe { without.run(source, maps, None, Stream::DEFAULT) };
    assert!(matches!(missing, Err(Error::BufferMissing { role: "the workspace" })));
    assert_no_faults();
}

/// Lines whose tables are too long for shared memory.
#[test]
fn lines_of_any_length() {
    let device = device_or_return!();
    for extents in [[20_000, 2], [2, 20_000]] {
        let shape = Shape::new(1, 1, extents).expect("a shape");
        let mut labels = vec![0u8; 40_000];
        for at in [3, 7_001, 39_000] {
            labels[at] = 1;
        }
        let settings = Distances::new(&shape, Source::Labels(DType::U8)).kind(Kind::Signed);
        let mut maps = vec![0.0f32; 40_000];
        device.distances(&settings, &labels, &mut maps).expect("it fits");
        assert!(maps == settings.compute(&labels).expect("it fits"), "{extents:?}");
        assert_no_faults();
    }
}

/// See [`common::distances`].
#[test]
fn are_those_of_the_cpu() {
    let device = device_or_return!();
    distances::are_those_of_the_cpu(&|maps, source, values| device.distances(maps, source, values));
    assert_no_faults();
}

/// See [`common::distances`].
#[test]
fn maps_of_one_class() {
    let device = device_or_return!();
    distances::of_one_class(&|maps, source, values| device.distances(maps, source, values));
    assert_no_faults();
}

/// See [`common::distances`].
#[test]
fn rows_that_change_at_seams() {
    let device = device_or_return!();
    distances::rows_that_change_at_seams(&|maps, source, values| device.distances(maps, source, values));
    assert_no_faults();
}

/// Where source and maps are not aligned to four of their numbers the maps are the same.
#[test]
fn whatever_the_alignment() {
    let device = device_or_return!();
    let stream = stream(device);
    let mut random = Numbers(31);
    // Squares of the first of three passes lie in the maps.
    let shape = Shape::new(2, 2, [3, 5, 64]).expect("a shape");
    for dtype in [DType::U8, DType::I16, DType::I32, DType::I64, DType::F32, DType::F16, DType::BF16] {
        let (source, numbers) = match dtype {
            DType::F32 | DType::F16 | DType::BF16 => (Source::Dense(dtype), shape.elements()),
            _ => (Source::Labels(dtype), shape.all_voxels()),
        };
        let data = Data::of(dtype, &(0..numbers).map(|_| random.below(2) as f64).collect::<Vec<_>>());
        let settings = Distances::new(&shape, source);
        let want = distances::on_cpu(&settings, DType::F32, &data);
        let executor = device.prepare_distances(&settings).expect("the device takes the settings");
        for (off_source, off_maps) in [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (0, 2), (1, 3)] {
            let source = Guarded::shifted(&stream, data.bytes(), 0x11, off_source * dtype.size() as usize);
            let maps = Guarded::shifted(&stream, &vec![0; want.len()], 0x22, 4 * off_maps);
            // SAFETY: the buffers are of the settings, and live until their contents were read.
            unsafe { executor.run(source.address(), maps.address(), None, &*stream) }.expect("it fits");
            assert!(maps.contents() == want, "{dtype:?}, {off_source} and {off_maps} numbers off");
        }
    }
    assert_no_faults();
}

/// See [`common::distances`].
#[test]
fn are_those_of_the_cpu_with_any_spacing() {
    let device = device_or_return!();
    distances::are_those_of_the_cpu_with_any_spacing(&|maps, source, values| device.distances(maps, source, values));
    assert_no_faults();
}

/// See [`common::distances`].
#[test]
fn squares_beyond_what_is_exact() {
    let device = device_or_return!();
    distances::squares_beyond_what_is_exact(&|maps, source, values| device.distances(maps, source, values));
    assert_no_faults();
}
