//! Modules, their functions and variables.

use super::api;
use super::pointer::{In, Out};
use crate::driver::*;
use cudarc::driver::sys::{CUfunction_attribute as Attribute, CUjit_option as JitOption, CUresult};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Registers of a thread, as functions report them: the interpreter has as many as a kernel names.
const REGISTERS: c_int = 64;

fn load(to: Out<usize>, image: In<c_char>) -> Result<(), (CUresult, String)> {
    let plain = |error: CUresult| (error, String::new());
    let context = {
        let mut tables = tables();
        tables.usable().and_then(|context| tables.forbid_in_capture().map(|()| context)).map_err(plain)?
    };
    let text = image.text().map_err(plain)?;
    if !text.trim_start().starts_with(['.', '/']) {
        return Err((CUresult::CUDA_ERROR_INVALID_IMAGE, "only PTX text can be loaded".into()));
    }
    let module = load_module(context, &text)?;
    let mut tables = tables();
    let handle = tables.handle();
    tables.modules.insert(handle, Arc::new(module));
    to.put(handle).map_err(plain)
}

/// The buffers that a caller gives for the compiler's logs, among its options.
fn put_log(log: &str, count: c_uint, options: In<c_uint>, values: In<usize>) -> Answer {
    let (mut buffer, mut room) = (0usize, None);
    for index in 0..count as usize {
        let (option, value) = (options.get(index)?, values.get(index)?);
        if option == JitOption::CU_JIT_ERROR_LOG_BUFFER as u32 {
            buffer = value;
        } else if option == JitOption::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as u32 {
            room = Some((index, value as u32 as usize));
        }
    }
    if let Some((index, room)) = room {
        let used = Out::<c_char>::from_pointer(buffer as *mut c_void).put_text(log, room);
        values.out().at(index).put_if_wanted(used);
    }
    Ok(())
}

fn function(handle: usize) -> Answer<Arc<Function>> {
    tables().functions.get(&handle).cloned().ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
}

fn set_attribute(handle: usize, number: u32, value: c_int) -> Answer {
    let function = function(handle)?;
    if number == Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as u32 {
        let most = SHARED_MOST.saturating_sub(function.program.dynamic_base() as u32);
        if value < 0 || value as u32 > most {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        function.dynamic_shared_most.store(value as u32, Ordering::Relaxed);
    }
    Ok(())
}

fn attribute(handle: usize, number: u32) -> Answer<c_int> {
    use Attribute::*;
    let function = function(handle)?;
    let program = &function.program;
    let is = |attribute: Attribute| number == attribute as u32;
    Ok(if is(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK) {
        match program.max_threads.iter().product() {
            0 => THREADS_MOST as c_int,
            threads => threads as c_int,
        }
    } else if is(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES) {
        program.shared_bytes as c_int
    } else if is(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES) {
        program.local_bytes as c_int
    } else if is(CU_FUNC_ATTRIBUTE_NUM_REGS) {
        REGISTERS
    } else if is(CU_FUNC_ATTRIBUTE_PTX_VERSION) {
        (10 * function.version.0 + function.version.1) as c_int
    } else if is(CU_FUNC_ATTRIBUTE_BINARY_VERSION) {
        settings().compute_capability as c_int
    } else if is(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        function.dynamic_shared_most.load(Ordering::Relaxed) as c_int
    } else {
        0
    })
}

fn load_data(to: Out<usize>, image: In<c_char>, count: c_uint, options: In<c_uint>, values: In<usize>) -> Answer {
    match load(to, image) {
        Ok(()) => {
            keep_log("");
            put_log("", count, options, values)
        }
        Err((error, log)) => {
            keep_log(&log);
            put_log(&log, count, options, values)?;
            Err(error)
        }
    }
}

api! {
    fn cuModuleLoadData(to: Out<usize>, image: In<c_char>) {
        load_data(to, image, 0, In::null(), In::null())
    }
    fn cuModuleLoadDataEx(to: Out<usize>, image: In<c_char>, count: c_uint, options: In<c_uint>, values: In<usize>) {
        load_data(to, image, count, options, values)
    }
    fn cuModuleLoad(to: Out<usize>, path: In<c_char>) {
        let text = std::fs::read_to_string(path.text()?).map_err(|_| CUresult::CUDA_ERROR_FILE_NOT_FOUND)?;
        let text = std::ffi::CString::new(text).map_err(|_| CUresult::CUDA_ERROR_INVALID_IMAGE)?;
        load_data(to, In::from_pointer(text.as_ptr().cast()), 0, In::null(), In::null())
    }
    fn cuModuleUnload(handle: usize) {
        let mut tables = tables();
        tables.forbid_in_capture()?;
        let module = tables.modules.remove(&handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        tables.functions.retain(|_, function| function.module != handle);
        for (address, _) in module.variables.values() {
            state().memory.free(*address);
        }
        Ok(())
    }
    fn cuModuleGetFunction(to: Out<usize>, handle: usize, name: In<c_char>) {
        let name = name.text()?;
        let mut tables = tables();
        let module = tables.modules.get(&handle).cloned().ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        let program = module.programs.get(&name).ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?;
        let known = tables.functions.iter().find(|(_, known)| known.module == handle && Arc::ptr_eq(&known.program, program));
        if let Some((known, _)) = known {
            return to.put(*known);
        }
        let function = tables.handle();
        tables.functions.insert(function, Arc::new(Function::new(handle, &module, program)));
        to.put(function)
    }
    fn cuModuleGetGlobal_v2(address: Out<u64>, bytes: Out<usize>, handle: usize, name: In<c_char>) {
        let name = name.text()?;
        let tables = tables();
        let module = tables.modules.get(&handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        let (at, size) = module.variables.get(&name).ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?;
        address.put_if_wanted(*at);
        bytes.put_if_wanted(*size);
        Ok(())
    }
    fn cuFuncSetAttribute(handle: usize, number: c_uint, value: c_int) {
        set_attribute(handle, number, value)
    }
    fn cuFuncGetAttribute(value: Out<c_int>, number: c_uint, handle: usize) {
        value.put(attribute(handle, number)?)
    }
    fn cuFuncGetModule(module: Out<usize>, handle: usize) {
        module.put(function(handle)?.module)
    }
    fn cuFuncSetCacheConfig(handle: usize, _config: c_uint) {
        function(handle).map(drop)
    }
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<c_int>, handle: usize, threads: c_int, shared: usize) {
        blocks.put(function(handle)?.occupancy(threads.max(0) as u32, shared) as c_int)
    }
    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<c_int>,
        handle: usize,
        threads: c_int,
        shared: usize,
        _flags: c_uint,
    ) {
        blocks.put(function(handle)?.occupancy(threads.max(0) as u32, shared) as c_int)
    }
    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, handle: usize, blocks: c_int, _threads: c_int) {
        let function = function(handle)?;
        let each = SHARED_MULTIPROCESSOR as usize / blocks.max(1) as usize;
        bytes.put(each.min(SHARED_MOST as usize).saturating_sub(1024 + function.program.dynamic_base()))
    }
}
