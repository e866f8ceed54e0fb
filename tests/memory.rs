//! A call allocates next to nothing beside its inputs and its gradient, and a call for distance maps what it says.
//!
//! One test, alone in its process: the allocator counts for everybody.
#![cfg(feature = "cpu")]

use segfuse::cpu::{Device, InPlaceInputs};
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::{Activation, DType, Error, Inputs, Layout as Axes, Objective, Plan, Problem, Shape, Slice, SliceMut};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Larger pieces are not there.
static LARGEST: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: every call is passed on to the system's allocator as it is, or refused; only the sizes are noted. `realloc` and
// `alloc_zeroed` come from the trait's defaults, which call these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LARGEST.load(Relaxed) {
            return std::ptr::null_mut();
        }
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that are allocated at once while `work` runs, beyond those before it.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed) - before
}

const LIMIT: usize = 4 << 20;
/// Bytes per voxel and class of a made map, the work of its transform included.
const MAP_BYTES: usize = 8;

#[test]
fn calls_allocate_little() {
    losses();
    distance_maps();
    without_memory();
}

/// Whatever a distance map needs memory for, not to have it is an error, and no end of the process.
fn without_memory() {
    let shape = Shape::new(1, 3, [40, 200, 300]).expect("a shape");
    let (voxels, elements) = (shape.voxels() as usize, shape.elements() as usize);
    let labels: Vec<u8> = (0..voxels).map(|i| (i / 50 % 3) as u8).collect();
    let logits: Vec<f32> = (0..elements).map(|i| (i * 7 / 64 % 29) as f32).collect();
    let (mut f32s, mut f16s) = (vec![0.0f32; elements], vec![half::f16::ZERO; elements]);
    let with_pieces_to = |largest: usize, work: &mut dyn FnMut() -> Result<(), Error>| {
        LARGEST.store(largest, Relaxed);
        let result = work();
        LARGEST.store(usize::MAX, Relaxed);
        result
    };
    let missing = |result: Result<(), Error>| assert!(matches!(result, Err(Error::DeviceMemory { .. })), "{result:?}");
    for kind in [Kind::Inside, Kind::Signed, Kind::MultiLabel] {
        let of = |source| Distances::new(&shape, source).kind(kind);
        let maps = of(Source::Labels(DType::U8));
        let count = maps.elements() as usize;
        // Of scratch memory no piece is as large as a map of 9.6 MB; the largest holds 16 slices of one.
        for largest in (13..16).map(|bits| 1 << bits) {
            missing(with_pieces_to(largest, &mut || maps.compute_into(&labels, &mut f32s[..count])));
        }
        with_pieces_to(4 << 20, &mut || maps.compute_into(&labels, &mut f32s[..count])).expect("it fits");
        missing(with_pieces_to(4 << 20, &mut || maps.compute(&labels).map(drop)));
        // The bits fit, a block of slices does not.
        missing(with_pieces_to(2 << 20, &mut || maps.compute_into(&labels, &mut f32s[..count])));
        let argmax = of(Source::Prediction(DType::F32, Activation::Softmax, Hard::Argmax)).dtype(DType::F16);
        for largest in [1 << 13, 1 << 16, 1 << 20] {
            missing(with_pieces_to(largest, &mut || argmax.compute_into(&logits, &mut f16s[..count])));
        }
    }
    let objective: Objective = "hausdorff_dt + shape_aware_ce".parse().expect("a valid spec");
    let plan = Plan::new(&objective, &Problem::new(shape)).expect("a valid plan");
    let executor = Device::with_threads(2).expect("two threads").prepare(&plan);
    f32s.fill(7.0);
    // Classes, contours, maps.
    for largest in [1 << 20, 6 << 20, 12 << 20] {
        missing(with_pieces_to(largest, &mut || {
            let mut slices: [SliceMut<'_>; 1] = [(&mut f32s).into()];
            executor.forward_backward(&[Inputs::new(&logits, &labels)], &mut slices, None).map(drop)
        }));
        assert!(f32s.iter().all(|x| *x == 7.0), "nothing was written");
    }
}

/// Bytes of rayon's queues and of lists as long as the samples.
const ASIDE: usize = 16 << 10;
/// Bytes of the scratch memory of a thread, with values of up to forty classes.
const SCRATCH: usize = 3 << 20;

fn distance_maps() {
    for (extents, classes) in [
        (&[64, 64, 64][..], 5),
        (&[300, 200], 3),
        (&[1, 100_000], 2),
        (&[20, 9, 500], 40),
        (&[400, 100, 2], 3),
        (&[400, 100, 17], 3),
    ] {
        let shape = Shape::new(2, classes, extents).expect("a shape");
        let elements = shape.elements() as usize;
        let labels: Vec<u8> = (0..shape.all_voxels() as usize).map(|i| (i / 50 % classes) as u8).collect();
        let logits: Vec<f32> = (0..elements).map(|i| (i * 7 / 64 % 29) as f32).collect();
        let (mut f32s, mut f16s) = (vec![0.0f32; elements], vec![half::f16::ZERO; elements]);
        let prediction = |hard| Source::Prediction(DType::F32, Activation::Softmax, hard);
        for kind in [Kind::Inside, Kind::Signed, Kind::MultiLabel] {
            for source in [Source::Labels(DType::U8), prediction(Hard::Argmax), prediction(Hard::Above(0.2))] {
                if kind == Kind::MultiLabel && source == prediction(Hard::Above(0.2)) {
                    continue;
                }
                for (axes, dtype, budget) in [
                    (Axes::Planar, DType::F32, 1 << 30),
                    (Axes::Interleaved, DType::F32, 1 << 30),
                    (Axes::Interleaved, DType::F32, 3 << 20),
                    (Axes::Planar, DType::F16, 1),
                ] {
                    let maps =
                        Distances::new(&shape, source).kind(kind).layout(axes).dtype(dtype).memory_budget(budget);
                    let elements = maps.elements() as usize;
                    let taken = peak(|| {
                        let source: Slice<'_> =
                            if source == Source::Labels(DType::U8) { (&labels).into() } else { (&logits).into() };
                        match dtype {
                            DType::F32 => maps.compute_into(source, &mut f32s[..elements]),
                            _ => maps.compute_into(source, &mut f16s[..elements]),
                        }
                        .expect("it fits");
                    });
                    let said = maps.workspace_bytes() as usize;
                    assert!(taken <= said + ASIDE, "{maps:?}: {taken} bytes taken, {said} said");
                    // Bits alone, or planes of f32 beside them.
                    let each = if (axes, dtype) == (Axes::Planar, DType::F32) { 3 } else { 8 };
                    assert!(said <= each * elements + SCRATCH * rayon::current_num_threads(), "{maps:?}: {said} bytes");
                }
            }
        }
    }
}

fn losses() {
    let device = Device::with_threads(2).expect("two threads");
    let shapes = [
        Shape::new(2, 4, [96, 96, 96]),
        Shape::new(1, 150, [256, 256]),
        Shape::new(16, 1, [512, 512]),
        Shape::new(64, 2, [1 << 14]),
    ];
    // One pass, sums alone, and everything that needs planes: logarithms of both sides.
    let specs = [
        "ce",
        "dice",
        "dice + bce + focal(form=binary)",
        "generalized_dice + wasserstein_dice",
        "boundary",
        "hausdorff_dt(background=true)",
        "boundary + hausdorff_dt + shape_aware_ce + distance_ce",
        "hausdorff_erosion",
    ];
    for shape in shapes {
        let shape = shape.expect("a valid shape");
        let (elements, voxels, classes) = (shape.elements() as usize, shape.all_voxels() as usize, shape.classes());
        let mut prediction: Vec<f32> = (0..elements).map(|i| (i % 37) as f32 * 0.25 - 4.0).collect();
        let target: Vec<u8> = (0..voxels).map(|i| (i / 5 % classes.max(2)) as u8).collect();
        let mut gradient = vec![0.0f32; elements];
        for spec in specs {
            if classes == 1 && spec == "ce" {
                continue;
            }
            let objective: Objective = spec.parse().expect("a valid spec");
            let plan = Plan::new(&objective, &Problem::new(shape.clone()).hard_counts()).expect("a valid plan");
            let executor = device.prepare(&plan);
            let mut call = || {
                let mut slices: [SliceMut<'_>; 1] = [(&mut gradient).into()];
                executor.forward_backward(&[Inputs::new(&prediction, &target)], &mut slices, None).expect("it fits");
            };
            // The first call starts threads.
            call();
            let out_of_place = peak(call);
            let in_place = peak(|| {
                let mut slices: [SliceMut<'_>; 1] = [(&mut prediction).into()];
                executor.forward_backward_in_place(&mut slices, &[InPlaceInputs::new(&target)], None).expect("it fits");
            });
            println!("{shape:?} {spec}: {out_of_place} bytes, in place {in_place}");
            let maps = plan.heads()[0].maps();
            let limit = LIMIT + maps.len() * MAP_BYTES * elements;
            let stated = plan.explain().workspace_bytes as usize;
            let made: usize = maps.iter().map(|map| 4 * elements * (classes - map.first_class) / classes).sum();
            assert!(stated >= made);
            assert!(
                out_of_place <= limit && in_place <= limit,
                "{shape:?} {spec}: {out_of_place}, in place {in_place}"
            );
            let stated = executor.workspace_bytes() as usize;
            assert!(out_of_place <= stated + LIMIT, "{shape:?} {spec}: {out_of_place} taken, {stated} stated");
            assert!(stated <= limit, "{shape:?} {spec}: {stated} stated");
        }
    }
}
