//! Which instructions of PTX files does the driver not know? `cargo run -p softcuda --example ptx_check -- a.ptx b.ptx`

use cudarc::driver::{result, sys};
use std::ffi::CString;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let driver = softcuda::install()?.ok_or("the environment asks for the system's driver")?;
    // Whatever the version and the target: only the instructions matter.
    driver.configure(&softcuda::Settings { driver_version: 13020, compute_capability: 999, ..Default::default() });
    result::init()?;
    let mut context = std::ptr::null_mut();
    // SAFETY: the pointer is to a variable.
    unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) }.result()?;
    let mut refused = 0;
    for path in std::env::args().skip(1) {
        let text = CString::new(std::fs::read_to_string(&path)?)?;
        // SAFETY: the text ends in a zero.
        match unsafe { result::module::load_data(text.as_ptr().cast()) } {
            Ok(_) => println!("{path}: every instruction is known"),
            Err(error) => {
                println!("{path}: {error:?}\n{}", driver.module_log());
                refused += 1;
            }
        }
    }
    if refused > 0 { Err(format!("{refused} files").into()) } else { Ok(()) }
}
