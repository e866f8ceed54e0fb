//! Sums over more voxels than 31 bits count, streamed in tiles, and distance maps of so many.
//!
//! With `SEGFUSE_LARGE` set, 2³¹ + 5 voxels and a map of 2³¹ + 2²⁰ (in 12 GB of memory); 2²⁷ + 5 and 2²² + 2¹⁴ otherwise.
#![cfg(feature = "cpu")]

use half::f16;
use rayon::prelude::*;
use segfuse::cpu::Device;
use segfuse::distance::{Distances, Kind, Source};
use segfuse::spec::Moment;
use segfuse::{Activation, DType, Inputs, MomentTable, Objective, Plan, Problem, Shape};

/// A prime, so that the cycle meets every lane, vector and block of a tile.
const CYCLE: u64 = 251;
/// Whole cycles, about 2²².
const TILE: u64 = CYCLE * 16_711;

fn plan(voxels: u64) -> Plan {
    let problem = Problem::new(Shape::new(1, 1, [voxels as usize]).expect("a valid shape"))
        .prediction(DType::F16, Activation::None)
        .dense(DType::U8)
        .hard_counts();
    let objective: Objective = "dice(squared=true) + jaccard".parse().expect("a valid spec");
    Plan::new(&objective, &problem).expect("a valid plan")
}

/// p in 256ths and g of a voxel.
fn voxel(i: u64) -> (u64, u64) {
    let k = i % CYCLE;
    (k + 2, u64::from(k.is_multiple_of(3)))
}

#[test]
fn sums_of_a_huge_volume_are_exact() {
    let voxels: u64 = if std::env::var_os("SEGFUSE_LARGE").is_some() { (1 << 31) + 5 } else { (1 << 27) + 5 };
    let prediction: Vec<f16> = (0..TILE).map(|i| f16::from_f64(voxel(i).0 as f64 / 256.0)).collect();
    let target: Vec<u8> = (0..TILE).map(|i| voxel(i).1 as u8).collect();
    let device = Device::new();
    let whole = device.prepare(&plan(TILE));
    let head = |plan: &Plan| plan.heads()[0].moments().to_vec();
    let moments = head(&plan(TILE));
    let started = std::time::Instant::now();
    let mut table = MomentTable::zeros(&plan(TILE).heads()[0]);
    let inputs = Inputs::new(&prediction, &target);
    for _ in 0..voxels / TILE {
        table.merge(&whole.reduce(0, &inputs).expect("a tile")).expect("the same moments");
    }
    let rest = voxels % TILE;
    let inputs = Inputs::new(&prediction[..rest as usize], &target[..rest as usize]);
    table.merge(&device.prepare(&plan(rest)).reduce(0, &inputs).expect("a tile")).expect("the same moments");
    println!("{voxels} voxels in {:?}", started.elapsed());

    // Exact sums in integers: p in 256ths, p² in 65536ths.
    let (mut p, mut g, mut pg, mut pp) = (0u128, 0u128, 0u128, 0u128);
    let (mut counts, full) = ([0u64; 3], voxels / CYCLE);
    for k in 0..CYCLE {
        let times = full + u64::from(k < voxels % CYCLE);
        let (x, y) = voxel(k);
        p += u128::from(times * x);
        g += u128::from(times * y);
        pg += u128::from(times * x * y);
        pp += u128::from(times * x * x);
        match (x > 128, y == 1) {
            (true, true) => counts[0] += times,
            (true, false) => counts[1] += times,
            (false, true) => counts[2] += times,
            (false, false) => {}
        }
    }
    for (&moment, &got) in moments.iter().zip(table.values()) {
        let (want, exact) = match moment {
            Moment::N => (voxels as f64, true),
            Moment::G | Moment::GG => (g as f64, true),
            Moment::P => (p as f64 / 256.0, false),
            Moment::PG => (pg as f64 / 256.0, false),
            Moment::PP => (pp as f64 / 65536.0, false),
            other => panic!("{other:?} is not read by these losses"),
        };
        let error = (got - want).abs() / want;
        println!("{moment:?}: {got}, relative error {error:e}");
        assert!(if exact { got == want } else { error <= 1e-6 }, "{moment:?}: {got}, want {want}");
    }
    assert_eq!(table.valid_voxels, voxels);
    let hard = table.hard_counts[0];
    assert_eq!([hard.true_positives, hard.false_positives, hard.false_negatives], counts);
}

/// Single voxels at both ends of a volume, the last of them beyond 31 bits: which of them is nearer, and how far it is, is known of each voxel.
#[test]
fn distances_of_a_huge_volume_are_exact() {
    let (depth, edge) = if std::env::var_os("SEGFUSE_LARGE").is_some() { (2049, 1024) } else { (257, 128) };
    let slice = edge * edge;
    let mut labels = vec![0u8; depth * slice];
    let ends = [[0, 0, 0], [depth - 1, edge - 1, edge - 1], [depth - 2, 0, edge / 2]];
    for [z, y, x] in ends {
        labels[z * slice + y * edge + x] = 1;
    }
    let shape = Shape::new(1, 2, [depth, edge, edge]).expect("a valid shape");
    let maps = Distances::new(&shape, Source::Labels(DType::U8)).squared(true);
    let square = |a: usize, b: usize| a.abs_diff(b).pow(2);
    // The map of a class and that of all labels are the same.
    for maps in [maps.clone().kind(Kind::TwoSided).classes([1]), maps.kind(Kind::MultiLabel)] {
        let started = std::time::Instant::now();
        let squares = maps.compute(&labels).expect("there is memory");
        println!("{} voxels in {:?}, {} bytes of workspace", labels.len(), started.elapsed(), maps.workspace_bytes());
        squares.par_chunks_exact(slice).enumerate().for_each(|(z, squares)| {
            for (index, &got) in squares.iter().enumerate() {
                let (y, x) = (index / edge, index % edge);
                let to = ends.map(|end| square(end[0], z) + square(end[1], y) + square(end[2], x));
                // A voxel of the class is one step from the others.
                let want = to.into_iter().min().unwrap_or_default().max(1);
                assert_eq!(got, want as f32, "at {z}, {y}, {x}");
            }
        });
    }
}

/// One value everywhere rounds the same way at every addition of a partial sum: the worst a sum can meet.
#[test]
fn a_constant_prediction_sums_to_a_millionth() {
    let voxels = 3 * 1024;
    let problem = Problem::new(Shape::new(1, 1, [voxels]).expect("a valid shape"))
        .prediction(DType::F32, Activation::None)
        .dense(DType::U8);
    let objective: Objective = "jaccard".parse().expect("a valid spec");
    let plan = Plan::new(&objective, &problem).expect("a valid plan");
    let executor = Device::new().prepare(&plan);
    let index = plan.heads()[0].moments().iter().position(|&m| m == Moment::P).expect("jaccard reads P");
    let target = vec![0u8; voxels];
    let mut worst = (0.0, 0.0);
    for k in 0..4000 {
        let p = f32::from_bits(0.5f32.to_bits() + k * 2097);
        let table = executor.reduce(0, &Inputs::new(&vec![p; voxels], &target)).expect("it fits");
        let want = f64::from(p) * voxels as f64;
        let error = (table.values()[index] - want).abs() / want;
        worst = if error > worst.0 { (error, p) } else { worst };
    }
    println!("largest relative error {:e} at {}", worst.0, worst.1);
    assert!(worst.0 <= 1e-6, "P of a constant {} is off by {:e}", worst.1, worst.0);
}
