//! Partial rows against a sum on the host.

use super::gpu::{Binding, Gpu, kernel};
use super::{Random, doubles, words};

/// The sum in the order of the kernel: threads, then a tree.
fn ordered_sum(values: &[f64]) -> f64 {
    let mut sums = [0.0; 64];
    for (index, value) in values.iter().enumerate() {
        sums[index % 64] += value;
    }
    for half in [32, 16, 8, 4, 2, 1] {
        for thread in 0..half {
            sums[thread] += sums[thread + half];
        }
    }
    sums[0]
}

#[test]
fn partial_rows_are_added_in_a_fixed_order() {
    let Some(gpu) = Gpu::get() else { return };
    let pipeline = gpu.pipeline(&kernel("combine"), "combine", &[]);
    let mut random = Random(7);
    for partials in [1, 2, 63, 64, 65, 257, 5000] {
        let (samples, row) = (3, 7);
        let rows: Vec<f64> = (0..samples * partials * row)
            .map(|_| random.between(-1.0, 1.0) * (random.between(-40.0, 40.0)).exp2())
            .collect();
        let (partials_at, moments_at) = (5, 5 + 2 * rows.len() + 3);
        let mut workspace = vec![0xdead_beef; moments_at + 2 * samples * row + 1];
        workspace[partials_at..partials_at + 2 * rows.len()].copy_from_slice(&words(&rows));
        // In two calls, as where a grid is too large, each with workgroups too many.
        for (first_slot, first_sample, grid) in [(0, 0, (4, 3)), (4, 0, (5, 2)), (4, 2, (3, 4))] {
            let params =
                [partials_at, partials, row, moments_at, first_slot, first_sample, samples, 0].map(|x| x as u32);
            let bindings = [Binding::Out(&workspace), Binding::Uniform(&params)];
            workspace = gpu.run(&pipeline, &bindings, grid).remove(0);
        }
        let got = doubles(&workspace[moments_at..moments_at + 2 * samples * row]);
        for sample in 0..samples {
            for slot in 0..row {
                let values: Vec<f64> =
                    (0..partials).map(|partial| rows[(sample * partials + partial) * row + slot]).collect();
                let got = got[sample * row + slot];
                assert_eq!(got.to_bits(), ordered_sum(&values).to_bits(), "{partials} rows");
                let size: f64 = values.iter().map(|x| x.abs()).sum();
                assert!((got - values.iter().sum::<f64>()).abs() <= 1e-15 * size * partials as f64);
            }
        }
        assert_eq!(&workspace[..5], [0xdead_beef; 5], "in front of the partial rows");
        assert_eq!(workspace[moments_at - 1], 0xdead_beef, "in front of the moments");
        assert_eq!(workspace.last(), Some(&0xdead_beef), "behind the moments");
    }
}

/// As many ones as 32 bits cannot count, and a little more in each row: nothing of either is lost.
#[test]
fn partial_sums_beyond_32_bits_are_exact() {
    let Some(gpu) = Gpu::get() else { return };
    let pipeline = gpu.pipeline(&kernel("combine"), "combine", &[]);
    let partials = 1 << 16;
    let rows = vec![65_536.0 + 1.0 / 1024.0; partials];
    let mut workspace = words(&rows);
    workspace.extend([0; 2]);
    let params = [0, partials as u32, 1, 2 * partials as u32, 0, 0, 1, 0];
    workspace = gpu.run(&pipeline, &[Binding::Out(&workspace), Binding::Uniform(&params)], (1, 1)).remove(0);
    assert_eq!(doubles(&workspace[2 * partials..]), [(1u64 << 32) as f64 + 64.0]);
}
