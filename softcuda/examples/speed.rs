//! How fast the interpreter is: `cargo run -p softcuda --example speed`. Instructions of threads per second, with all checkers and with
//! none.

use cudarc::driver::{result, sys};
use softcuda::Settings;
use std::ffi::CString;
use std::time::Instant;

const KERNELS: &str = include_str!("../tests/kernels/kernels.ptx");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let driver = softcuda::install()?.ok_or("the environment asks for the system's driver")?;
    result::init()?;
    let mut context = std::ptr::null_mut();
    let text = CString::new(KERNELS)?;
    // SAFETY: the pointer is to a variable, and the text ends in a zero.
    let module = unsafe {
        sys::cuCtxCreate_v2(&mut context, 0, 0).result()?;
        result::module::load_data(text.as_ptr().cast())?
    };
    let quads = 1u64 << 20;
    // SAFETY: kernels get the arrays that they are written for.
    unsafe {
        let memory = result::malloc_sync(16 * quads as usize)?;
        result::memset_d8_sync(memory, 0, 16 * quads as usize)?;
        let output = result::malloc_sync(1 << 20)?;
        let (iterations, stream) = (20_000u64, std::ptr::null_mut());
        for (name, grid, parameters) in
            [("work", 4, [output, iterations, 0]), ("block_sum", 64, [memory, output, quads])]
        {
            let function = result::module::get_function(module, CString::new(name)?)?;
            for checks in [true, false] {
                let (check_initialised, check_races, check_synchronisation) = (checks, checks, checks);
                driver.configure(&Settings {
                    check_initialised,
                    check_races,
                    check_synchronisation,
                    ..Settings::default()
                });
                driver.reset();
                let mut pointers: Vec<*mut std::ffi::c_void> =
                    parameters.iter().map(|value| std::ptr::from_ref(value).cast_mut().cast()).collect();
                let start = Instant::now();
                result::launch_kernel(function, (grid, 1, 1), (256, 1, 1), 0, stream, &mut pointers)?;
                result::stream::synchronize(stream)?;
                let (seconds, (counters, _)) = (start.elapsed().as_secs_f64(), driver.counters(name));
                let rate = counters.thread_instructions as f64 / seconds / 1e9;
                let bytes = counters.load_bytes as f64 / seconds / 1e9;
                println!("{name:10} checks {checks:5}: {rate:.2} G thread-instructions/s, {bytes:.2} GB/s loaded");
                driver.assert_no_reports();
            }
        }
    }
    Ok(())
}
