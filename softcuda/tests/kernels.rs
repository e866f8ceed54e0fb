//! Kernels as a compiler makes them: results, counters, schedules, threads of the host.

mod common;

use common::*;
use softcuda::{Counters, Driver, Settings};

const KERNELS: &str = include_str!("kernels/kernels.ptx");

/// Values that look random.
fn noise(len: usize, low: f32, high: f32) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        low + (high - low) * (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..len).map(|_| next()).collect()
}

fn counters(driver: &Driver, kernel: &str) -> Counters {
    let (counters, launches) = driver.counters(kernel);
    assert_eq!(launches, 1);
    counters
}

fn assert_near(got: f64, want: f64, tolerance: f64, what: &str) {
    let near = (got - want).abs() <= tolerance * want.abs().max(1.0) || (got.is_nan() && want.is_nan()) || got == want;
    assert!(near, "{what}: got {got}, want {want}");
}

#[test]
fn a_sum_and_what_it_costs() {
    let driver = driver();
    let context = Context::new();
    let function = context.function(KERNELS, "block_sum");
    let x = noise(4 * 10_000, -1.0, 1.0);
    let (input, sums) = (context.upload(&x), context.alloc(4 * 16));
    context.launch(function, 16, 256, &[input, sums, 10_000]).unwrap();
    let sum: f64 = context.download::<f32>(sums, 16).iter().map(|v| *v as f64).sum();
    assert_near(sum, x.iter().map(|v| *v as f64).sum(), 1e-5, "sum");
    driver.assert_no_reports();

    let counters = counters(driver, "block_sum");
    assert_eq!((counters.blocks, counters.load_bytes, counters.load_sectors), (16, 160_000, 5_000));
    assert_eq!(counters.load_efficiency(), 1.0);
    assert_eq!((counters.store_requests, counters.store_bytes, counters.store_sectors), (16, 64, 16));
    assert_eq!(counters.shared_wavefronts, counters.shared_wavefronts_ideal);
    // Five shuffles of each warp, and five of the first.
    assert_eq!((counters.barriers, counters.shuffles), (16, 16 * (8 * 5 + 5)));
    assert!(counters.thread_instructions <= 32 * counters.warp_instructions);
    let launch = &driver.launches()[0];
    assert_eq!((launch.grid, launch.block, launch.from_graph), ([16, 1, 1], [256, 1, 1], false));
    assert_eq!(launch.opcodes.iter().map(|(_, count)| count).sum::<u64>(), counters.warp_instructions);
}

#[test]
fn sectors_of_strided_and_offset_accesses() {
    let text = |stride: u32, offset: u32| {
        kernel(
            2,
            &format!(
                ".reg .b64 %in, %l; .reg .b32 %t, %r; ld.param.u64 %in, [a0]; mov.u32 %t, %tid.x;
mul.wide.u32 %l, %t, {stride}; add.u64 %l, %in, %l; ld.global.u32 %r, [%l+{offset}]; ret;"
            ),
        )
    };
    for (stride, offset, sectors) in
        [(4, 0, 4), (4, 4, 5), (8, 0, 8), (32, 0, 32), (128, 0, 32), (4096, 0, 32), (0, 0, 1)]
    {
        let driver = driver();
        let context = Context::new();
        let function = context.function(&text(stride, offset), "k");
        let input = context.upload(&vec![0u8; 32 * 4096 + 4]);
        context.launch(function, 1, 32, &[input, input]).unwrap();
        let counters = counters(driver, "k");
        assert_eq!(
            (counters.load_requests, counters.load_bytes, counters.load_sectors),
            (1, 128, sectors),
            "{stride} {offset}"
        );
    }
}

#[test]
fn conflicts_of_banks() {
    let x = noise(1024, 0.0, 1.0);
    for (name, conflicts) in [("transpose_conflicts", 31 * 32), ("transpose_padded", 0)] {
        let driver = driver();
        let context = Context::new();
        let function = context.function(KERNELS, name);
        let (input, output) = (context.upload(&x), context.alloc(4096));
        context.launch_with(function, [1, 1, 1], [32, 8, 1], 0, &[input, output]).unwrap();
        let y: Vec<f32> = context.download(output, 1024);
        assert!((0..1024).all(|at| y[at] == x[at % 32 * 32 + at / 32]));
        driver.assert_no_reports();
        let counters = counters(driver, name);
        assert_eq!(counters.shared_wavefronts - counters.shared_wavefronts_ideal, conflicts, "{name}");
        assert_eq!((counters.shared_requests, counters.store_efficiency()), (64, 1.0));
    }
}

#[test]
fn calls_local_arrays_and_switches() {
    let driver = driver();
    let context = Context::new();
    let function = context.function(KERNELS, "control");
    let x: Vec<i32> = (0..500).map(|i| i * 7919 % 1000).collect();
    let (input, output) = (context.upload(&x), context.alloc(2000));
    context.launch(function, 4, 128, &[input, output, 500]).unwrap();
    let polynomial = |x: f32, degree: i32| (0..degree).fold(1f32, |sum, _| sum.mul_add(x, 1.0));
    let want = |x: i32| {
        let mut a: [f32; 16] = std::array::from_fn(|k| k as f32 * 0.5);
        for k in 0..x % 50 {
            a[((k * 7 + x) & 15) as usize] += a[(k & 15) as usize];
        }
        match x & 7 {
            0 => a[(x & 15) as usize],
            1 => polynomial(0.5, x & 3),
            2 => -a[3],
            3 => polynomial(a[1], 2),
            4 => a[5].sqrt(),
            5 => a[0] / 3.0,
            6 => x as f32,
            _ => 1000.0,
        }
    };
    let y: Vec<f32> = context.download(output, 500);
    for (x, y) in x.iter().zip(y) {
        assert_eq!(y, want(*x), "{x}");
    }
    driver.assert_no_reports();
    assert!(counters(driver, "control").divergent_branches > 0);
}

#[test]
fn functions_of_the_library() {
    let driver = driver();
    let context = Context::new();
    let mut x = noise(250, -20.0, 20.0);
    // The slow path of sine reads a table.
    x.extend([0.0, 1e-30, 1e6, 3e10, -1e38]);
    let n = x.len();
    let (input, output) = (context.upload(&x), context.alloc(32 * n));
    context.launch(context.function(KERNELS, "functions"), 2, 128, &[input, output, n as u64]).unwrap();
    let y: Vec<f32> = context.download(output, 8 * n);
    for (x, y) in x.iter().zip(y.chunks(8)) {
        let v = *x as f64;
        let single = |value: f64| value as f32 as f64;
        assert_near(y[0] as f64, single(v.exp()), 1e-6, "exp");
        assert_near(y[1] as f64, v.abs().ln(), 1e-6, "log");
        assert_near(y[2] as f64, v.sin(), 1e-6, "sin");
        assert_near(y[3] as f64, single(v.abs().powf(1.7f32 as f64)), 2e-6, "pow");
        assert_near(y[4] as f64, v.tanh(), 1e-6, "tanh");
        assert_eq!(y[5], x % 0.3, "fmod of {x}");
        assert_near(y[7] as f64, v.abs().ln_1p() + v.cbrt(), 1e-6, "log1p + cbrt");
    }
    let x: Vec<f64> = x.iter().map(|v| *v as f64).collect();
    let (input, output) = (context.upload(&x), context.alloc(32 * n));
    context.launch(context.function(KERNELS, "doubles"), 2, 128, &[input, output, n as u64]).unwrap();
    let y: Vec<f64> = context.download(output, 4 * n);
    for (v, y) in x.iter().zip(y.chunks(4)) {
        assert_near(y[0], v.exp(), 1e-15, "exp");
        assert_near(y[1], v.abs().ln(), 1e-15, "log");
        assert_near(y[2], v.abs().powf(1.7) / (1.0 + v * v), 1e-14, "pow");
        assert_near(y[3], v.abs().sqrt() + v.floor() + v.round_ties_even(), 1e-15, "sqrt, floor, rint");
    }
    driver.assert_no_reports();
}

#[test]
fn atomics_of_several_blocks() {
    let driver = driver();
    for seed in [0, 1, 2] {
        driver.configure(&Settings { schedule_seed: seed, ..Settings::default() });
        let context = Context::new();
        let x: Vec<u32> = (0..3000u32).map(|i| i.wrapping_mul(2_654_435_761) >> 7).collect();
        let (input, counts) = (context.upload(&x), context.upload(&[0u32; 64]));
        context.launch(context.function(KERNELS, "histogram"), 7, 128, &[input, counts, 3000]).unwrap();
        let mut want = [0u32; 64];
        x.iter().for_each(|v| want[*v as usize & 63] += 1);
        assert_eq!(context.download::<u32>(counts, 64), want);

        let x: Vec<f64> = noise(200, 0.0, 100.0).iter().map(|v| *v as f64).collect();
        let input = context.upload(&x);
        let (largest, sum, lock, guarded) =
            (context.upload(&[0u64]), context.upload(&[0f64]), context.upload(&[0u32]), context.upload(&[0u32]));
        context
            .launch(context.function(KERNELS, "atomics"), 4, 64, &[input, largest, sum, lock, guarded, 200])
            .unwrap();
        assert_eq!(f64::from_bits(context.download(largest, 1)[0]), x.iter().copied().fold(0.0, f64::max));
        assert_near(context.download(sum, 1)[0], x.iter().sum(), 1e-14, "sum");
        assert_eq!(context.download::<u32>(guarded, 1), [200u32.div_ceil(7)]);
        driver.assert_no_reports();
    }
}

#[test]
fn the_last_block_in_every_schedule() {
    let driver = driver();
    let context = Context::new();
    let function = context.function(KERNELS, "last_block");
    let x = noise(50_000, -1.0, 1.0);
    let (input, parts, ticket, total) =
        (context.upload(&x), context.alloc(8 * 23), context.upload(&[0u32]), context.alloc(8));
    let mut bits = None;
    for seed in 0..8 {
        driver.configure(&Settings { schedule_seed: seed, ..Settings::default() });
        context.launch(function, 23, 128, &[input, parts, ticket, total, 50_000]).unwrap();
        let total: Vec<u64> = context.download(total, 1);
        assert_eq!(*bits.get_or_insert(total[0]), total[0], "seed {seed}");
        assert_eq!(context.download::<u32>(ticket, 1), [0]);
    }
    assert_near(f64::from_bits(bits.unwrap()), x.iter().map(|v| *v as f64).sum(), 1e-12, "total");
    driver.assert_no_reports();
}

#[test]
fn blocks_that_meet() {
    let driver = driver();
    let launch = |cooperative: bool, grid: u32| {
        let context = Context::new();
        let function = context.function(KERNELS, "meet");
        let (values, gate) = (context.upload(&vec![1u32; grid as usize]), context.upload(&[0u32]));
        let parameters = [values, gate, 3u64];
        let mut pointers: Vec<*mut std::ffi::c_void> =
            parameters.iter().map(|value| std::ptr::from_ref(value) as *mut _).collect();
        // SAFETY: three parameters of at most eight bytes.
        let launched = unsafe {
            if cooperative {
                cudarc::driver::sys::cuLaunchCooperativeKernel(
                    function,
                    grid,
                    1,
                    1,
                    64,
                    1,
                    1,
                    0,
                    std::ptr::null_mut(),
                    pointers.as_mut_ptr(),
                )
                .result()
            } else {
                context.launch(function, grid, 64, &parameters).map_err(cudarc::driver::DriverError)
            }
        };
        launched.map(|()| context.download::<u32>(values, grid as usize)).map_err(|error| error.0)
    };
    for seed in [0, 5] {
        driver.configure(&Settings { schedule_seed: seed, ..Settings::default() });
        assert_eq!(launch(true, 40), Ok(vec![8; 40]));
        driver.assert_no_reports();
    }
    let error = launch(true, 132 * 32 + 1).unwrap_err();
    assert_eq!(error, cudarc::driver::sys::CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    // Without the promise that all blocks run at once, those beyond the resident ones never come.
    driver.configure(&Settings { instruction_limit: 1 << 22, ..Settings::default() });
    assert_eq!(launch(false, 40).unwrap_err(), cudarc::driver::sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT);
}

#[test]
fn threads_of_the_host_change_nothing() {
    let driver = driver();
    let context = Context::new();
    let function = context.function(KERNELS, "work");
    let run = |host_threads: u32, schedule_seed: u64| {
        driver.reset();
        driver.configure(&Settings { host_threads, schedule_seed, ..Settings::default() });
        let output = context.alloc(4 * 64 * 256);
        context.launch(function, 64, 256, &[output, 20]).unwrap();
        driver.assert_no_reports();
        (context.download::<u32>(output, 64 * 256), counters(driver, "work"))
    };
    let one = run(1, 0);
    assert_eq!(one.1.blocks, 64);
    assert_eq!(one, run(3, 0));
    assert_eq!(one, run(1, 99));
}
