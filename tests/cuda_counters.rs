//! What the CUDA kernels do, counted by the software driver: bytes, sectors, conflicts of banks, launches, instructions.
#![cfg(feature = "cuda")]

#[path = "common/mod.rs"]
mod common;

use common::{Case, example, variable};
use segfuse::distance::{Distances, Kind, Source};
use segfuse::{DType, Gradient, Layout, Shape, SliceMut};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bytes used per byte of the sectors that are moved, at least.
const EFFICIENCY: f64 = 0.95;
/// Bytes of sectors that the warps of a block read for each class beside its inputs: five coefficients of the class and of all, each in
/// a sector of its own.
const COEFFICIENT_BYTES: u64 = 8 * 5 * 32;
/// How often the bytes of the inputs are asked for, at most: members of a team read labels and weights together.
const TOGETHER: f64 = 1.25;
/// Bytes of sums, recipe and interpreter that one block reads, and bytes that it writes, beside inputs and gradient, at most.
const READ_BESIDE: u64 = 4096;
const WRITTEN_BESIDE: u64 = 2048;
/// Passes over the banks that conflicts cost, per instruction of a warp, at most. All of them are of the tree that ends a run of sums,
/// which weighs most in problems as small as these; without sums there are none.
const CONFLICTS: f64 = 0.025;
/// The same where a team does not divide the classes of an interleaved layout, whose places in shared memory then meet in twos.
const CONFLICTS_OF_UNEVEN_TEAMS: f64 = 0.025;
/// Instructions per element may rise by this share of what is recorded.
const RISE: f64 = 0.05;

struct Measured {
    name: String,
    /// By kernel.
    counters: BTreeMap<String, softcuda::Counters>,
    launches: Vec<String>,
    prediction_bytes: u64,
    voxel_bytes: u64,
    gradient_bytes: u64,
    elements: u64,
    samples: u64,
    classes: u64,
    /// A team that does not divide the classes of an interleaved layout.
    uneven: bool,
}

/// Loss and gradient of one problem; `None` where there is no software driver to count.
fn measured(spec: &str, shape: &[usize], dtype: DType, layout: Layout) -> Option<Measured> {
    let device = common::cuda_device()?;
    let Ok(Some(driver)) = softcuda::install() else { return None };
    let case: Case = example(spec, shape, dtype, layout, 1);
    let executor = device.prepare(&case.plan()).expect("the device takes the plan");
    let host = case.host();
    let mut gradient = Gradient::zeros(case.problem.gradient_dtype(), case.prediction.len()).expect("a float type");
    let mut slices: [SliceMut<'_>; 1] = [gradient.as_slice_mut()];
    driver.reset();
    executor.evaluate_into(&[host.inputs()], &mut slices, None).unwrap_or_else(|e| panic!("{spec} of {shape:?}: {e}"));
    driver.assert_no_reports();
    let mut counters: BTreeMap<String, softcuda::Counters> = BTreeMap::new();
    let mut launches = Vec::new();
    for launch in driver.launches() {
        // `reduce_planar_4x4` is `reduce` in one shape.
        let kernel = launch.kernel.split("_planar").next().and_then(|name| name.split("_interleaved").next());
        let kernel = kernel.unwrap_or_default().to_string();
        counters.entry(kernel.clone()).or_default().add(&launch.counters);
        launches.push(kernel);
    }
    let elements = case.problem.shape().elements();
    let voxels = case.problem.shape().all_voxels();
    Some(Measured {
        name: format!("{spec}, {shape:?}, {dtype}, {layout:?}"),
        counters,
        launches,
        prediction_bytes: elements * dtype.size(),
        // A label and a weight.
        voxel_bytes: voxels * (1 + 4),
        gradient_bytes: elements * dtype.size(),
        elements,
        samples: shape[0] as u64,
        classes: shape[1] as u64,
        uneven: shape[1] > 16 && !shape[1].is_multiple_of(2) && layout == Layout::Interleaved,
    })
}

/// Planes and rows that begin on sectors: the two layouts, every way of sharing classes out.
fn aligned() -> impl Iterator<Item = Measured> {
    let cases: [(&str, [usize; 3], DType, Layout); 17] = [
        ("dice", [2, 1, 8192], DType::F32, Layout::Planar),
        ("dice + ce", [2, 2, 8192], DType::F32, Layout::Planar),
        ("dice + ce", [2, 4, 8192], DType::F32, Layout::Planar),
        ("dice + ce", [1, 4, 8192], DType::F16, Layout::Planar),
        ("tversky", [1, 14, 4096], DType::F16, Layout::Planar),
        ("dice + ce", [1, 80, 1024], DType::F16, Layout::Planar),
        ("dice + ce", [1, 150, 1024], DType::F32, Layout::Planar),
        ("dice + ce", [1, 160, 1024], DType::F32, Layout::Planar),
        ("dice + ce", [2, 4, 8192], DType::F32, Layout::Interleaved),
        ("dice + ce", [1, 5, 8192], DType::F32, Layout::Interleaved),
        ("dice + ce", [1, 8, 4096], DType::F32, Layout::Interleaved),
        ("dice + ce", [1, 12, 4096], DType::F32, Layout::Interleaved),
        ("dice + ce", [1, 14, 4096], DType::F16, Layout::Interleaved),
        ("dice + ce", [1, 16, 4096], DType::F32, Layout::Interleaved),
        ("dice + ce", [1, 19, 4096], DType::F32, Layout::Interleaved),
        ("dice + ce", [1, 20, 4096], DType::F32, Layout::Interleaved),
        ("dice + ce", [1, 40, 2048], DType::F32, Layout::Interleaved),
    ];
    cases.into_iter().filter_map(|(spec, shape, dtype, layout)| measured(spec, &shape, dtype, layout))
}

#[test]
fn launches_are_three() {
    for m in aligned() {
        assert_eq!(m.launches, ["reduce", "finish", "gradient"], "{}", m.name);
        assert_eq!(m.counters["reduce"].local_requests, 0, "{}", m.name);
    }
    if let Some(m) = one_pass() {
        assert_eq!(m.launches, ["reduce", "finish", "one_pass", "finish"], "a census, and one pass for all else");
    }
}

/// A cross-entropy, whose gradient needs no sum over the prediction.
fn one_pass() -> Option<Measured> {
    measured("ce", &[2, 4, 4096], DType::F32, Layout::Planar)
}

/// Problems of one row per sample, which one block takes.
fn small() -> impl Iterator<Item = Measured> {
    let cases = [
        ("dice + ce", [1, 4, 1024], Layout::Planar),
        ("ce", [2, 2, 512], Layout::Planar),
        ("dice + ce", [1, 4, 256], Layout::Interleaved),
    ];
    cases.into_iter().filter_map(|(spec, shape, layout)| measured(spec, &shape, DType::F32, layout))
}

/// A small problem is one launch, which reads its inputs twice and writes the gradient once.
#[test]
fn a_small_problem_is_one_launch() {
    for m in small() {
        assert_eq!(m.launches, ["one_block"], "{}", m.name);
        let counters = &m.counters["one_block"];
        assert_eq!((counters.blocks, counters.local_requests), (1, 0), "{}", m.name);
        let inputs = 2 * (m.prediction_bytes + m.voxel_bytes);
        let beside = m.samples * m.classes * COEFFICIENT_BYTES + READ_BESIDE;
        let sectors = 32 * counters.load_sectors;
        let most = (inputs as f64 / EFFICIENCY) as u64 + beside;
        assert!((inputs..=most).contains(&sectors), "{}: sectors of {sectors} bytes for {inputs}", m.name);
        let written = m.gradient_bytes..=m.gradient_bytes + WRITTEN_BESIDE;
        assert!(written.contains(&counters.store_bytes), "{}: {} written", m.name, counters.store_bytes);
    }
}

/// In the sectors that warps ask for, nothing is read twice.
#[test]
fn every_byte_is_read_once_and_once_more() {
    for m in aligned() {
        let least = m.prediction_bytes + m.voxel_bytes;
        let most = (least as f64 / EFFICIENCY) as u64;
        let asked_for = m.counters["reduce"].load_bytes;
        let together = (least as f64 * TOGETHER) as u64;
        assert!((least..=together).contains(&asked_for), "{}: {asked_for} of {least}", m.name);
        for kernel in ["reduce", "gradient"] {
            let counters = &m.counters[kernel];
            let coefficients = if kernel == "gradient" { counters.blocks * m.classes * COEFFICIENT_BYTES } else { 0 };
            let sectors = 32 * counters.load_sectors;
            assert!(
                (least..=most + coefficients).contains(&sectors),
                "{}, {kernel}: sectors of {sectors} bytes for {least}",
                m.name
            );
        }
        let written = &m.counters["gradient"];
        assert_eq!(written.store_bytes, m.gradient_bytes, "{}", m.name);
        assert!(written.store_efficiency() >= EFFICIENCY, "{}: {:.3}", m.name, written.store_efficiency());
    }
}

#[test]
fn banks_do_not_conflict() {
    for m in aligned() {
        for (kernel, counters) in &m.counters {
            if kernel == "finish" {
                continue;
            }
            let (passes, ideal) = (counters.shared_wavefronts, counters.shared_wavefronts_ideal);
            let lost = (passes - ideal) as f64 / counters.warp_instructions as f64;
            println!("{lost:.4}  {kernel}: {}", m.name);
            let most = match (m.uneven, kernel.as_str()) {
                (true, _) => CONFLICTS_OF_UNEVEN_TEAMS,
                (false, "gradient") => 0.0,
                (false, _) => CONFLICTS,
            };
            assert!(lost <= most, "{}, {kernel}: {passes} passes, {ideal} without conflicts: {lost:.3}", m.name);
            assert_eq!(counters.local_requests, 0, "{}, {kernel}", m.name);
        }
    }
}

/// Bytes of a binary volume of u8 per voxel that three separable passes read and write at least: 1 + 4, 4 + 4 and 4 + 4.
const DISTANCE_BYTES: [[f64; 2]; 3] = [[1.0, 4.0], [4.0, 4.0], [4.0, 4.0]];
/// How many times the caches give a square of a line to the block that has the line, at most.
const LINE_READS: f64 = 6.0;

/// Of one map of all labels: those of u8 are read in every pass, to see where they change.
const MULTI_LABEL_BYTES: [[f64; 2]; 3] = [[1.0, 4.0], [5.0, 4.0], [5.0, 4.0]];
/// Extents of a volume and the launches that make the map of a ball in it, of this kind; `None` where there is no software driver.
fn distances_of_a_ball(kind: Kind) -> Option<([usize; 3], Vec<softcuda::Launch>)> {
    let device = common::cuda_device()?;
    let Ok(Some(driver)) = softcuda::install() else { return None };
    let extents = [64, 64, 128];
    // The ball alone, or both labels.
    let shape = Shape::new(1, if kind == Kind::MultiLabel { 2 } else { 1 }, extents).expect("a shape");
    let ball = |voxel: usize| {
        let place = [voxel / (64 * 128), voxel / 128 % 64, voxel % 128];
        let off = place.iter().zip([40.0, 30.0, 70.0]).map(|(&x, middle)| (x as f64 - middle).powi(2));
        u8::from(off.sum::<f64>() < 400.0)
    };
    let labels: Vec<u8> = (0..shape.voxels() as usize).map(ball).collect();
    let maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(kind);
    let mut values = vec![0.0f32; labels.len()];
    driver.reset();
    device.distances(&maps, &labels, &mut values).expect("the device makes the maps");
    driver.assert_no_reports();
    Some((extents, driver.launches()))
}

/// What the transform moves: every pass writes each voxel once, reads whole sectors, and the first reads each label once. A block of the
/// others reads its lines from memory once and then from the caches, which these counters do not tell apart.
#[test]
fn distances_move_what_three_passes_must() {
    for (kind, bytes) in [(Kind::TwoSided, DISTANCE_BYTES), (Kind::MultiLabel, MULTI_LABEL_BYTES)] {
        let Some((extents, launches)) = distances_of_a_ball(kind) else { return };
        let kernels: Vec<&str> = launches.iter().map(|launch| launch.kernel.as_str()).collect();
        assert_eq!(kernels, ["distance_rows", "distance_lines", "distance_lines"]);
        distances_move(&launches, extents.iter().product::<usize>() as f64, bytes);
    }
}

fn distances_move(launches: &[softcuda::Launch], voxels: f64, bytes: [[f64; 2]; 3]) {
    for (launch, [read, written]) in launches.iter().zip(bytes) {
        let counters = &launch.counters;
        let [loads, stores] = [counters.load_sectors, counters.store_sectors].map(|n| 32.0 * n as f64 / voxels);
        println!("{}: sectors of {loads:.2} and {stores:.2} bytes per voxel", launch.kernel);
        assert_eq!(counters.store_bytes as f64, written * voxels, "{}", launch.kernel);
        assert!(counters.store_efficiency() >= EFFICIENCY, "{}: {:.3}", launch.kernel, counters.store_efficiency());
        assert!(counters.load_efficiency() >= EFFICIENCY, "{}: {:.3}", launch.kernel, counters.load_efficiency());
        let most = if launch.kernel == "distance_rows" { 1.0 } else { LINE_READS };
        assert!(loads <= most * read / EFFICIENCY, "{}: sectors of {loads:.2} bytes per voxel", launch.kernel);
        assert_eq!(counters.local_requests, 0, "{}", launch.kernel);
        let conflicts = (counters.shared_wavefronts - counters.shared_wavefronts_ideal) as f64;
        assert!(conflicts <= CONFLICTS * counters.warp_instructions as f64, "{}: {conflicts}", launch.kernel);
    }
}

/// Losses that read the same map have it made once; the map of the prediction is another.
#[test]
fn maps_are_made_once() {
    let passes = |spec: &str| {
        let m = measured(spec, &[1, 2, 8, 16, 32], DType::F32, Layout::Planar)?;
        Some(["distance_rows", "distance_lines"].map(|kernel| m.launches.iter().filter(|name| *name == kernel).count()))
    };
    let Some(one) = passes("boundary") else { return };
    assert_eq!(one, [1, 2], "rows, and lines along two axes");
    assert_eq!(passes("dice + 0.01*boundary"), Some(one));
    assert_eq!(passes("dice + 0.01*boundary + hausdorff_dt(one_sided=true) + distance_ce"), Some(one));
    assert_eq!(passes("0.01*boundary + hausdorff_dt + log_hausdorff_dt"), Some([2, 4]));
}

/// Instructions of threads per element, as recorded in `kernels/instructions.txt`; `SEGFUSE_RECORD=1` writes it.
#[test]
fn instructions_do_not_rise() {
    let mut lines = Vec::new();
    for m in aligned().chain(one_pass()).chain(small()) {
        for kernel in ["reduce", "gradient", "one_pass", "one_block"] {
            if !m.counters.contains_key(kernel) {
                continue;
            }
            let each = m.counters[kernel].thread_instructions as f64 / m.elements as f64;
            lines.push((format!("{kernel}: {}", m.name), each));
        }
    }
    for (kind, what) in [(Kind::TwoSided, "a ball"), (Kind::MultiLabel, "labels in one map")] {
        let Some((extents, launches)) = distances_of_a_ball(kind) else { break };
        let voxels = extents.iter().product::<usize>() as f64;
        for (launch, axis) in launches.iter().zip(["x", "y", "z"]) {
            let each = launch.counters.thread_instructions as f64 / voxels;
            lines.push((format!("{} along {axis}: {what}, {extents:?}, u8", launch.kernel), each));
        }
    }
    if lines.is_empty() {
        return;
    }
    let path: PathBuf = common::package().join("kernels/instructions.txt");
    if variable("SEGFUSE_RECORD").is_some() {
        let text: String = lines.iter().map(|(name, each)| format!("{each:7.2}  {name}\n")).collect();
        std::fs::write(&path, text).expect("the record can be written");
        return;
    }
    let record = std::fs::read_to_string(&path).expect("the record is there");
    let known: BTreeMap<&str, f64> = record
        .lines()
        .filter_map(|line| line.trim_start().split_once("  "))
        .map(|(each, name)| (name, each.parse().expect("a number")))
        .collect();
    for (name, each) in lines {
        let known = known.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not recorded"));
        assert!(each <= known * (1.0 + RISE), "{name}: {each:.2} instructions per element, recorded are {known:.2}");
    }
}
