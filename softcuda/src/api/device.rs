//! Initialisation, versions, errors and the one device.

use super::api;
use super::pointer::Out;
use crate::control::Settings;
use crate::driver::*;
use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUresult};
use std::ffi::{CString, c_char, c_int, c_uint, c_void};

const NAME: &str = "softcuda";
/// The default pool of asynchronous allocations; there is no other.
const POOL: usize = 0x900;

fn device(ordinal: c_int) -> Answer {
    if !tables().initialised {
        return Err(CUresult::CUDA_ERROR_NOT_INITIALIZED);
    }
    if ordinal == 0 { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_DEVICE) }
}

fn attribute(number: u32, settings: &Settings) -> c_int {
    use Attribute::*;
    const TABLE: &[(Attribute, u32)] = &[
        (CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, THREADS_MOST),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, i32::MAX as u32),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535),
        (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, SHARED_DEFAULT),
        (CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536),
        (CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
        (CU_DEVICE_ATTRIBUTE_MAX_PITCH, i32::MAX as u32),
        (CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536),
        (CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1_980_000),
        (CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1),
        (CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, MULTIPROCESSORS),
        (CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1),
        (CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1),
        (CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 3),
        (CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 2_619_000),
        (CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120),
        (CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, L2_BYTES),
        (CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048),
        (CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1),
        (CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1),
        (CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED, 1),
        (CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED, 1),
        (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, SHARED_MULTIPROCESSOR),
        (CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536),
        (CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1),
        (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, SHARED_MOST),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32),
        (CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE, L2_BYTES / 8 * 5),
        (CU_DEVICE_ATTRIBUTE_MAX_ACCESS_POLICY_WINDOW_SIZE, 128 << 20),
        (CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024),
        (CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
        (CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1),
    ];
    match number {
        major if major == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as u32 => {
            (settings.compute_capability / 10) as c_int
        }
        minor if minor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as u32 => {
            (settings.compute_capability % 10) as c_int
        }
        // Whatever is not listed, the device does not have.
        other => TABLE.iter().find(|(known, _)| *known as u32 == other).map_or(0, |(_, value)| *value as c_int),
    }
}

/// The short word of an error, from the name that the binding gives it.
fn name_of(error: c_uint) -> Option<String> {
    use CUresult::*;
    const KNOWN: &[CUresult] = &[
        CUDA_SUCCESS,
        CUDA_ERROR_INVALID_VALUE,
        CUDA_ERROR_OUT_OF_MEMORY,
        CUDA_ERROR_NOT_INITIALIZED,
        CUDA_ERROR_DEINITIALIZED,
        CUDA_ERROR_NO_DEVICE,
        CUDA_ERROR_INVALID_DEVICE,
        CUDA_ERROR_INVALID_IMAGE,
        CUDA_ERROR_INVALID_CONTEXT,
        CUDA_ERROR_NO_BINARY_FOR_GPU,
        CUDA_ERROR_INVALID_PTX,
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        CUDA_ERROR_FILE_NOT_FOUND,
        CUDA_ERROR_INVALID_HANDLE,
        CUDA_ERROR_ILLEGAL_STATE,
        CUDA_ERROR_NOT_FOUND,
        CUDA_ERROR_NOT_READY,
        CUDA_ERROR_ILLEGAL_ADDRESS,
        CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
        CUDA_ERROR_LAUNCH_TIMEOUT,
        CUDA_ERROR_CONTEXT_IS_DESTROYED,
        CUDA_ERROR_MISALIGNED_ADDRESS,
        CUDA_ERROR_LAUNCH_FAILED,
        CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
        CUDA_ERROR_NOT_SUPPORTED,
        CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
        CUDA_ERROR_STREAM_CAPTURE_MERGE,
        CUDA_ERROR_STREAM_CAPTURE_UNMATCHED,
        CUDA_ERROR_STREAM_CAPTURE_UNJOINED,
        CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
        CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
        CUDA_ERROR_CAPTURED_EVENT,
        CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
        CUDA_ERROR_UNKNOWN,
    ];
    KNOWN.iter().find(|known| **known as c_uint == error).map(|known| format!("{known:?}"))
}

/// A text that stays for good.
fn lasting(text: String, to: Out<*const c_char>) -> Answer {
    let mut tables = tables();
    let kept = tables.texts.entry(text).or_insert_with_key(|text| CString::new(text.as_str()).unwrap_or_default());
    to.put(kept.as_ptr())
}

api! {
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        tables().initialised = true;
        Ok(())
    }
    fn cuDriverGetVersion(version: Out<c_int>) {
        version.put(settings().driver_version as c_int)
    }
    fn cuDeviceGetCount(count: Out<c_int>) {
        device(0)?;
        count.put(1)
    }
    fn cuDeviceGet(to: Out<c_int>, ordinal: c_int) {
        device(ordinal)?;
        to.put(ordinal)
    }
    fn cuDeviceGetName(name: Out<c_char>, len: c_int, ordinal: c_int) {
        device(ordinal)?;
        name.put_text(NAME, len.max(0) as usize);
        Ok(())
    }
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, ordinal: c_int) {
        device(ordinal)?;
        bytes.put(settings().memory_bytes as usize)
    }
    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, ordinal: c_int) {
        device(ordinal)?;
        uuid.put(*b"softcuda-device0")
    }
    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, ordinal: c_int) {
        device(ordinal)?;
        uuid.put(*b"softcuda-device0")
    }
    fn cuDeviceGetPCIBusId(id: Out<c_char>, len: c_int, ordinal: c_int) {
        device(ordinal)?;
        id.put_text("0000:00:00.0", len.max(0) as usize);
        Ok(())
    }
    fn cuDeviceGetAttribute(value: Out<c_int>, number: c_uint, ordinal: c_int) {
        device(ordinal)?;
        value.put(attribute(number, &settings()))
    }
    fn cuDeviceGetDefaultMemPool(pool: Out<usize>, ordinal: c_int) {
        device(ordinal)?;
        pool.put(POOL)
    }
    fn cuDeviceGetMemPool(pool: Out<usize>, ordinal: c_int) {
        device(ordinal)?;
        pool.put(POOL)
    }
    fn cuMemPoolSetAttribute(pool: usize, _attribute: c_uint, _value: *mut c_void) {
        if pool == POOL { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_VALUE) }
    }
    fn cuMemPoolTrimTo(pool: usize, _bytes: usize) {
        if pool == POOL { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_VALUE) }
    }
    fn cuGetErrorName(error: c_uint, name: Out<*const c_char>) {
        match name_of(error) {
            Some(text) => lasting(text, name),
            None => {
                name.put_if_wanted(std::ptr::null());
                Err(CUresult::CUDA_ERROR_INVALID_VALUE)
            }
        }
    }
    fn cuGetErrorString(error: c_uint, text: Out<*const c_char>) {
        match name_of(error) {
            Some(name) => lasting(name.trim_start_matches("CUDA_ERROR_").replace('_', " ").to_lowercase(), text),
            None => {
                text.put_if_wanted(std::ptr::null());
                Err(CUresult::CUDA_ERROR_INVALID_VALUE)
            }
        }
    }
}
