//! What the tests share: the driver, a context of each test's own, and launching a kernel of a text.
#![allow(dead_code, reason = "each test binary uses a part")]

use cudarc::driver::{result, sys};
use softcuda::{Driver, Report};
use std::ffi::{CString, c_void};

/// The head of a text that any driver takes.
pub(crate) const HEAD: &str = ".version 8.0\n.target sm_70\n.address_size 64\n";

/// The software driver, with this thread's settings and lists as new.
pub(crate) fn driver() -> &'static Driver {
    let driver =
        softcuda::install().expect("the driver lies beside the tests").expect("these tests are of the software driver");
    driver.configure(&Default::default());
    driver.reset();
    driver
}

/// A context of a test's own, current while it lives: what fails in it disturbs no other test.
pub(crate) struct Context(pub(crate) sys::CUcontext);

impl Context {
    pub(crate) fn new() -> Context {
        result::init().unwrap();
        let mut context = std::ptr::null_mut();
        // SAFETY: the pointer is to a variable.
        unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) }.result().unwrap();
        Context(context)
    }
    pub(crate) fn alloc(&self, bytes: usize) -> u64 {
        // SAFETY: the memory goes with the context.
        unsafe { result::malloc_sync(bytes) }.unwrap()
    }
    pub(crate) fn upload<T: Copy>(&self, values: &[T]) -> u64 {
        let to = self.alloc(size_of_val(values).max(1));
        // SAFETY: as many bytes as the allocation has.
        unsafe { result::memcpy_htod_sync(to, values) }.unwrap();
        to
    }
    pub(crate) fn download<T: Copy + Default>(&self, from: u64, len: usize) -> Vec<T> {
        let mut values = vec![T::default(); len];
        // SAFETY: the vector has room for them.
        unsafe { result::memcpy_dtoh_sync(&mut values, from) }.unwrap();
        values
    }
    pub(crate) fn module(&self, text: &str) -> Result<sys::CUmodule, String> {
        let text = CString::new(text).unwrap();
        // SAFETY: the text ends in a zero.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) };
        module.map_err(|error| format!("{error:?}: {}", driver_now().module_log()))
    }
    pub(crate) fn function(&self, text: &str, name: &str) -> sys::CUfunction {
        let module = self.module(text).unwrap_or_else(|error| panic!("{error}"));
        // SAFETY: the module was just loaded.
        unsafe { result::module::get_function(module, CString::new(name).unwrap()) }.unwrap()
    }
    /// Launches and waits; parameters are eight bytes each, of which kernels take as many as they need.
    pub(crate) fn launch(
        &self,
        function: sys::CUfunction,
        grid: u32,
        block: u32,
        parameters: &[u64],
    ) -> Result<(), sys::CUresult> {
        self.launch_with(function, [grid, 1, 1], [block, 1, 1], 0, parameters)
    }
    pub(crate) fn launch_with(
        &self,
        function: sys::CUfunction,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        parameters: &[u64],
    ) -> Result<(), sys::CUresult> {
        let mut pointers: Vec<*mut c_void> =
            parameters.iter().map(|value| std::ptr::from_ref(value) as *mut c_void).collect();
        let stream = std::ptr::null_mut();
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        // SAFETY: a pointer for each parameter.
        unsafe { result::launch_kernel(function, (gx, gy, gz), (bx, by, bz), shared, stream, &mut pointers) }
            .map_err(|e| e.0)?;
        // SAFETY: the default stream.
        unsafe { result::stream::synchronize(stream) }.map_err(|error| error.0)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and not used afterwards.
        let _ = unsafe { sys::cuCtxDestroy_v2(self.0) };
    }
}

fn driver_now() -> &'static Driver {
    softcuda::install().unwrap().unwrap()
}

/// A module of one kernel with parameters of eight bytes, `a0`, `a1` …
pub(crate) fn kernel(parameters: usize, body: &str) -> String {
    let list: Vec<String> = (0..parameters).map(|at| format!(".param .u64 a{at}")).collect();
    format!("{HEAD}.visible .entry k({})\n{{\n{body}\n}}\n", list.join(", "))
}

/// Runs a kernel of one block over arrays of which the last is written, and returns that.
pub(crate) fn run_on<T: Copy, R: Copy + Default>(
    text: &str,
    threads: u32,
    inputs: &[&[T]],
    results: usize,
) -> (Vec<R>, Vec<Report>) {
    let driver = driver();
    let context = Context::new();
    let function = context.function(text, "k");
    let mut parameters: Vec<u64> = inputs.iter().map(|input| context.upload(input)).collect();
    let output = context.alloc(results * size_of::<R>());
    parameters.push(output);
    let _ = context.launch(function, 1, threads, &parameters);
    let reports = driver.reports();
    (
        if reports.iter().any(|report| report.fault.is_fatal()) {
            Vec::new()
        } else {
            context.download(output, results)
        },
        reports,
    )
}
