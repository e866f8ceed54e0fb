//! What is written, and what is not; and that nothing but the inputs shapes the result.

use super::buffers::{Guarded, Loaded, Results, stream};
use super::common::against_cpu::bits;
use super::common::{Case, assert_no_faults, example, lasting};
use super::evaluate;
use cudarc::driver::sys;
use segfuse::cuda::{Buffers, Call, Preparation, Workspace};
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::{Activation, DType, Error, Layout, Plan, Problem, Shape};

/// Shapes with and without vectors of four, with words that two classes and two samples share, with teams of threads; and such as
/// one block takes whole.
const SHAPES: [([usize; 3], Layout); 8] = [
    ([2, 3, 1028], Layout::Planar),
    ([2, 3, 1021], Layout::Planar),
    ([3, 3, 333], Layout::Interleaved),
    ([1, 1, 2047], Layout::Planar),
    ([3, 40, 67], Layout::Planar),
    ([1, 40, 67], Layout::Interleaved),
    ([2, 4, 300], Layout::Planar),
    ([1, 3, 255], Layout::Interleaved),
];
const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// Every map that a plan can make.
pub(crate) const MAPS: &str = "boundary + hausdorff_dt + distance_ce + shape_aware_ce + distance_ce(map=unet)";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (turn, (shape, layout)) in SHAPES.into_iter().enumerate() {
        for dtype in DTYPES {
            // One pass and two.
            for spec in [["bce", "focal"][usize::from(shape[1] > 1)], "dice + bce"] {
                cases.push(example(spec, &shape, dtype, layout, turn as u64 + 40));
            }
        }
    }
    // With maps that the plan makes, of target and prediction; first, so that whoever takes every so-many-th takes one.
    let mut made = vec![
        example(MAPS, &[2, 3, 6, 7, 8], DType::F32, Layout::Planar, 46),
        example(MAPS, &[2, 3, 9, 13], DType::F16, Layout::Interleaved, 47),
        example("boundary", &[3, 1, 61], DType::F32, Layout::Planar, 48),
    ];
    made[1].problem = made[1].problem.clone().spacing([0.7, 2.0]);
    made.extend(cases);
    made
}

/// Whatever gradient buffer and guards hold, the gradient is written whole, and nothing beside it; the inputs stay as they
/// are. The same bits as by host slices.
#[test]
fn gradients_are_written_whole_and_nothing_else() {
    let device = device_or_return!();
    let stream = stream(device);
    for case in cases() {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let (evaluation, by_slices) = evaluate(&executor, &case);
        for fill in [0xaa, 0x55] {
            let loaded = Loaded::new(&stream, &case, fill);
            let result = Results::new(&stream, &executor);
            loaded.launch(&executor, &Call { result: Some(result.address()), ..Call::default() });
            let gradient = loaded.gradient(&executor, case.problem.gradient_dtype());
            assert!(gradient == by_slices, "{}, {:?}, fill {fill:#x}", case.objective, case.problem);
            assert_eq!(result.numbers(&executor)[..1], evaluation.losses);
        }
        assert_no_faults();
    }
}

/// Maps that are made a plane or a sample at a time are those of all together, bit for bit.
#[test]
fn budgets_of_maps_give_the_same_bits() {
    let device = device_or_return!();
    for spec in [MAPS, "hausdorff_erosion"] {
        for (shape, layout) in [(&[5, 3, 6, 7, 8][..], Layout::Planar), (&[3, 4, 9, 13], Layout::Interleaved)] {
            let case = match spec {
                MAPS => example(spec, shape, DType::F32, layout, 49),
                _ => lasting(spec, &[shape[0], 2, 9, 14, 15], 49),
            };
            let plan = case.plan();
            let prepared = |memory_budget| {
                let preparation = Preparation { memory_budget, ..Preparation::default() };
                device.prepare_as(&plan, preparation).expect("the device takes the plan")
            };
            let whole = device.prepare(&plan).expect("the device takes the plan");
            let want = evaluate(&whole, &case);
            let voxels = case.problem.shape().voxels();
            // One at a time, of which not all erosions are kept, and two samples of objects, of 36 bytes per voxel, with one left over.
            let some = [1, 2 * 36 * voxels].map(prepared);
            assert!(some[0].workspace_bytes() < whole.workspace_bytes(), "{spec}, {shape:?}");
            for executor in some {
                executor.fill_workspace(u32::MAX).expect("the device works");
                assert!(evaluate(&executor, &case) == want, "{spec}, {shape:?}");
            }
            assert_no_faults();
        }
    }
}

/// The gradient over the prediction: the same bits, in buffers of the caller and by host slices.
#[test]
fn in_place_gives_the_same_bits() {
    let device = device_or_return!();
    let stream = stream(device);
    for case in cases() {
        let name = format!("{}, {:?}", case.objective, case.problem);
        let plan = case.plan();
        let apart = evaluate(&device.prepare(&plan).expect("the device takes the plan"), &case);
        let executor = device.prepare_in_place(&plan).expect("of one type");
        let (evaluation, gradient) = evaluate(&executor, &case);
        assert_eq!(evaluation, apart.0, "{name}");
        assert!(bits(&gradient) == bits(&apart.1), "{name}");
        let loaded = Loaded::new(&stream, &case, 0xaa);
        loaded.launch(&executor, &Call::default());
        let gradient = loaded.gradient(&executor, case.problem.gradient_dtype());
        assert!(bits(&gradient) == bits(&apart.1), "{name}");
        // Said twice, it is the same.
        let loaded = Loaded::new(&stream, &case, 0xaa);
        let mut buffers = loaded.buffers(false);
        buffers.gradient = Some(buffers.prediction);
        // SAFETY: the buffers are those of the case, and live until the stream was waited for.
        unsafe { executor.forward_backward(&[buffers], &Call::default(), &*stream) }.expect("the same buffer");
        assert!(bits(&loaded.gradient(&executor, case.problem.gradient_dtype())) == bits(&apart.1), "{name}");
        assert_no_faults();
    }
}

/// Two heads, of which one is a census and one pass, and one two passes.
fn two_heads() -> (Vec<Case>, Plan) {
    let cases = vec![
        example("ce + dice", &[2, 3, 900], DType::F32, Layout::Planar, 51),
        example("ce + dice", &[2, 3, 77], DType::F16, Layout::Interleaved, 52),
    ];
    let heads: Vec<(f64, Problem)> = [1.0, 0.5].into_iter().zip(cases.iter().map(|c| c.problem.clone())).collect();
    let plan = Plan::with_heads(&cases[0].objective, &heads).expect("a valid plan");
    (cases, plan)
}

/// Words that are NaN as single numbers and as doubles, and such as are neither.
#[test]
fn what_the_workspace_holds_does_not_matter() {
    let device = device_or_return!();
    for case in cases().into_iter().step_by(5) {
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let first = evaluate(&executor, &case);
        for word in [u32::MAX, 0x7fc0_0000, 0x4141_4141, 0] {
            executor.fill_workspace(word).expect("the device works");
            let again = evaluate(&executor, &case);
            assert!(again == first, "{}, {:?}, {word:#x}", case.objective, case.problem);
        }
        assert_no_faults();
    }
    let (cases, plan) = two_heads();
    let executor = device.prepare(&plan).expect("the device takes the plan");
    let hosts: Vec<_> = cases.iter().map(Case::host).collect();
    let inputs: Vec<_> = hosts.iter().map(|host| host.inputs()).collect();
    let first = executor.evaluate(&inputs).expect("the buffers fit");
    for word in [u32::MAX, 0x4141_4141] {
        executor.fill_workspace(word).expect("the device works");
        assert!(executor.evaluate(&inputs).expect("the buffers fit") == first, "two heads, {word:#x}");
        executor.fill_workspace(word).expect("the device works");
        let forward = executor.evaluate_forward(&inputs).expect("the buffers fit");
        assert_eq!(forward.losses, first.0.losses, "two heads, {word:#x}");
    }
    assert_no_faults();
}

/// A workspace of the caller, guarded and as large as the executor says: the same bits, and nothing beyond it.
#[test]
fn a_workspace_of_the_caller() {
    let device = device_or_return!();
    let stream = stream(device);
    for case in cases().into_iter().step_by(3) {
        let plan = case.plan();
        let want = evaluate(&device.prepare(&plan).expect("the device takes the plan"), &case);
        let preparation = Preparation { workspace: false, ..Preparation::default() };
        let executor = device.prepare_as(&plan, preparation).expect("the device takes the plan");
        assert!(executor.device_bytes() < 64 << 10, "{} bytes of recipes", executor.device_bytes());
        let memory = Guarded::new(&stream, &vec![0xff; executor.workspace_bytes() as usize], 0x77);
        let workspace = Some(Workspace { address: memory.address(), bytes: executor.workspace_bytes() });
        let loaded = Loaded::new(&stream, &case, 0xaa);
        loaded.launch(&executor, &Call { workspace, ..Call::default() });
        assert!(loaded.gradient(&executor, case.problem.gradient_dtype()) == want.1, "{}", case.objective);
        let at = (executor.result(workspace).expect("there is a workspace") - memory.address()) as usize;
        let layout = executor.result_layout();
        let loss = &memory.contents()[at + layout.doubles_at as usize..][..8];
        assert_eq!(f64::from_le_bytes(loss.try_into().expect("eight bytes")), want.0.losses[0]);
        assert_no_faults();
    }
}

/// Few bytes beyond inputs and gradient, whatever the size.
#[test]
fn the_workspace_is_small() {
    let device = device_or_return!();
    for shape in [
        vec![1, 1, 1],
        vec![2, 4, 96, 96, 96],
        vec![16, 2, 512, 512],
        vec![1, 1, 1 << 20, 1 << 10],
        vec![1, 256, 256, 256],
    ] {
        let shape = Shape::new(shape[0], shape[1], &shape[2..]).expect("a shape");
        let plan = Plan::new(&"dice + bce".parse().expect("a spec"), &Problem::new(shape.clone())).expect("a plan");
        let executor = device.prepare(&plan).expect("the device takes the plan");
        assert!(executor.device_bytes() <= 4 << 20, "{shape:?}: {} bytes", executor.device_bytes());
    }
}

/// `grad_output` scales the gradient, sample by sample.
#[test]
fn grad_output_on_the_device() {
    let device = device_or_return!();
    let stream = stream(device);
    for spec in ["dice + bce", "focal", "balanced_ce"] {
        let mut case = example(spec, &[3, 3, 500], DType::F32, Layout::Planar, 63);
        case.problem = case.problem.reduction(segfuse::Reduction::None);
        let executor = device.prepare(&case.plan()).expect("the device takes the plan");
        let factors = [0.5f32, -2.0, 0.0];
        let buffer = Guarded::new(&stream, bytemuck::cast_slice(&factors), 0xaa);
        let [plain, scaled] = [None, Some(buffer.address())].map(|grad_output| {
            let loaded = Loaded::new(&stream, &case, 0xaa);
            loaded.launch(&executor, &Call { grad_output, ..Call::default() });
            loaded.gradient(&executor, DType::F32).to_f32()
        });
        for (i, (a, b)) in plain.iter().zip(&scaled).enumerate() {
            // Powers of two: exact.
            assert_eq!(a * factors[i / 1500], *b, "element {i}");
        }
        assert!(plain.iter().any(|x| *x != 0.0));
        assert_no_faults();
    }
}

/// Managed memory is any context's, whichever made it; memory that is not is refused there, see `errors::of_another_context`.
#[test]
fn managed_memory_of_another_context() {
    use cudarc::driver::{CudaContext, result};
    let device = device_or_return!();
    let case = example("dice + ce", &[2, 3, 40], DType::F32, Layout::Planar, 65);
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let want = evaluate(&executor, &case);
    let stream = stream(device);
    let loaded = Loaded::new(&stream, &case, 0xaa);
    let other = CudaContext::new_non_primary(device.ordinal() as usize, 0).expect("a second context can be made");
    let host = case.host();
    let bytes = host.prediction.bytes();
    other.bind_to_thread().expect("a context can be current");
    // SAFETY: a context is current; the whole of it is written before anything reads it.
    let prediction = unsafe {
        let address = result::malloc_managed(bytes.len(), sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL)
            .expect("managed memory can be made");
        result::memcpy_htod_sync(address, bytes).expect("the device works");
        address
    };
    let buffers = Buffers { prediction, ..loaded.buffers(true) };
    // SAFETY: the buffers are those of the case, and live until the stream was waited for.
    unsafe { executor.forward_backward(&[buffers], &Call::default(), &*stream) }.expect("the buffers fit");
    assert!(loaded.gradient(&executor, DType::F32) == want.1);
    other.bind_to_thread().expect("a context can be current");
    // SAFETY: made above, and its last reader was waited for.
    unsafe { result::free_sync(prediction) }.expect("it is there");
    assert_no_faults();
}

/// Two pieces of memory that are mapped one after the other, as allocators do whose memory grows; what follows them is reserved alone.
struct Mapped {
    address: u64,
    /// Bytes of a piece.
    piece: usize,
    handles: Vec<u64>,
}

impl Mapped {
    fn new(ordinal: i32) -> Mapped {
        // SAFETY: zeros are values of every field.
        let (mut properties, mut access): (sys::CUmemAllocationProp, sys::CUmemAccessDesc) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        properties.type_ = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
        properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
        properties.location.id = ordinal;
        access.location = properties.location;
        access.flags = sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        let option = sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
        let (mut piece, mut address, mut handles) = (0, 0, Vec::new());
        let done = |result: sys::CUresult| assert_eq!(result, sys::CUresult::CUDA_SUCCESS);
        // SAFETY: a context is current; each call is given places for what it returns, and what those before it returned.
        unsafe {
            done(sys::cuMemGetAllocationGranularity(&mut piece, &properties, option));
            done(sys::cuMemAddressReserve(&mut address, 3 * piece, 0, 0, 0));
            for number in 0..2 {
                let mut handle = 0;
                done(sys::cuMemCreate(&mut handle, piece, &properties, 0));
                done(sys::cuMemMap(address + (number * piece) as u64, piece, 0, handle, 0));
                handles.push(handle);
            }
            for number in 0..2 {
                done(sys::cuMemSetAccess(address + (number * piece) as u64, piece, &access, 1));
            }
        }
        Mapped { address, piece, handles }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped, made and reserved once; the test has waited for what uses it.
        unsafe {
            for (number, handle) in self.handles.iter().enumerate() {
                sys::cuMemUnmap(self.address + (number * self.piece) as u64, self.piece);
                sys::cuMemRelease(*handle);
            }
            sys::cuMemAddressFree(self.address, 3 * self.piece);
        }
    }
}

/// A buffer that lies in two mappings is one buffer; where the second ends, so does the memory.
#[test]
fn buffers_across_mappings() {
    let device = device_or_return!();
    let case = example("dice + ce", &[2, 3, 40], DType::F32, Layout::Planar, 64);
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let want = evaluate(&executor, &case);
    let stream = stream(device);
    stream.context().bind_to_thread().expect("a context can be current");
    let loaded = Loaded::new(&stream, &case, 0xaa);
    let mapped = Mapped::new(device.ordinal());
    let host = case.host();
    let bytes = host.prediction.bytes();
    let half = bytes.len() / 2;
    let prediction = mapped.address + (mapped.piece - half) as u64;
    for (at, part) in [(0, &bytes[..half]), (half, &bytes[half..])] {
        // SAFETY: so many bytes are mapped there, and readable here.
        let copied = unsafe { sys::cuMemcpyHtoD_v2(prediction + at as u64, part.as_ptr().cast(), part.len()) };
        assert_eq!(copied, sys::CUresult::CUDA_SUCCESS);
    }
    let buffers = Buffers { prediction, ..loaded.buffers(true) };
    // SAFETY: the buffers are those of the case, and live until the stream was waited for.
    unsafe { executor.forward_backward(&[buffers], &Call::default(), &*stream) }.expect("the buffers fit");
    assert!(loaded.gradient(&executor, DType::F32) == want.1);
    if !matches!(softcuda::install(), Ok(Some(_))) {
        println!("skipped: of reserved addresses drivers do not tell which are mapped");
        return;
    }
    let prediction = mapped.address + (2 * mapped.piece - half) as u64;
    // SAFETY: refused before anything is launched.
    let error = unsafe { executor.forward(&[Buffers { prediction, ..buffers }], &Call::default(), &*stream) };
    assert!(
        matches!(error, Err(Error::BufferBytes { role: "the prediction", need, got }) if (need, got) == (480 * 2, 480)),
        "{error:?}"
    );
    assert_no_faults();
}

/// Bytes of a workspace for each voxel and map in flight.
const MAP_BYTES: u64 = 8;

/// Of every kind, source, type and layout: the planes of distance maps beside source and maps, with the sides of predictions; and in groups.
#[test]
fn distance_maps_take_eight_bytes_per_voxel_in_flight() {
    let device = device_or_return!();
    let prediction = |hard| Source::Prediction(DType::F32, Activation::Softmax, hard);
    let sources = [Source::Labels(DType::U8), prediction(Hard::Argmax), prediction(Hard::Above(0.2))];
    for extents in [&[64, 64, 64][..], &[2, 200, 200], &[300, 200], &[100_000]] {
        let shape = Shape::new(2, 3, extents).expect("a shape");
        let kinds = [Kind::Inside, Kind::MultiLabel, Kind::Signed];
        for (kind, source) in kinds.into_iter().flat_map(|kind| sources.map(|s| (kind, s))) {
            if kind == Kind::MultiLabel && source == prediction(Hard::Above(0.2)) {
                continue;
            }
            for (dtype, layout) in
                [(DType::F32, Layout::Planar), (DType::F32, Layout::Interleaved), (DType::F16, Layout::Planar)]
            {
                // All maps, one of them alone, and one at a time.
                let all = Distances::new(&shape, source).kind(kind).dtype(dtype).layout(layout);
                let (one, at_a_time) = (all.clone().classes([1]), all.clone().memory_budget(1));
                // One transform for all maps is made at a time, or one per map.
                let shared = kind == Kind::Inside && source != prediction(Hard::Above(0.2));
                let of_one = if shared { 3 } else { 1 } * shape.voxels();
                // The labels of a prediction are needed to the end, when there are two planes beside them.
                let labels = kind == Kind::MultiLabel && dtype == DType::F16 && source == prediction(Hard::Argmax);
                let labels = if labels { DType::I16.size() } else { 0 };
                for (distances, maps) in [(&all, all.elements()), (&one, one.elements()), (&at_a_time, of_one)] {
                    let executor = device.prepare_distances_without_workspace(distances).expect("it is taken");
                    let (stated, most) = (executor.workspace_bytes(), (MAP_BYTES + labels) * maps);
                    assert!(stated <= most, "{distances:?}: {stated} bytes, {most} at most");
                }
            }
        }
    }
}
