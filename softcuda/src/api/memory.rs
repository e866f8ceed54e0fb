//! Memory of the device and of the host, copies, and what a pointer is.

use super::api;
use super::pointer::{In, Out};
use crate::control::Failure;
use crate::driver::*;
use crate::memory::GRANULARITY;
use cudarc::driver::sys::{CUpointer_attribute as Attribute, CUresult};
use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

fn allocate(to: Out<u64>, bytes: usize, context: usize) -> Answer {
    allocate_as(to, bytes, context, false)
}

fn allocate_as(to: Out<u64>, bytes: usize, context: usize, managed: bool) -> Answer {
    if bytes == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    if fails(Failure::Allocation) {
        return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    }
    let address = state().memory.allocate_as(bytes as u64, context, settings().memory_bytes, managed);
    to.put(address.ok_or(CUresult::CUDA_ERROR_OUT_OF_MEMORY)?)
}

fn free(address: u64) -> Answer {
    if address == 0 || state().memory.free(address) { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_VALUE) }
}

/// Copies while the caller waits.
fn copy(to: u64, from: u64, bytes: usize) -> Answer {
    let mut tables = tables();
    tables.usable()?;
    tables.capture_of(STREAM_LEGACY)?;
    drop(tables);
    if bytes > 0 && (to == 0 || from == 0) {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    submit(STREAM_LEGACY, Work::Copy { to, from, bytes })
}

fn fill(stream: usize, to: u64, value: u32, width: usize, count: usize) -> Answer {
    if !to.is_multiple_of(width as u64) {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    submit(stream, Work::Fill { to, pattern: value.to_le_bytes(), width, count })
}

/// Whether a number of bytes, or an address, is one that memory can be mapped by.
fn is_granular(number: u64) -> bool {
    number.is_multiple_of(GRANULARITY)
}

/// What an attribute says of a pointer; `None` where it says nothing.
fn describe(number: u32, address: u64) -> Option<u64> {
    const MEMORY_HOST: u64 = 1;
    const MEMORY_DEVICE: u64 = 2;
    let map = state().memory.map();
    let device = map.find(address, 1).map(|(_, allocation)| allocation.clone());
    let tables = tables();
    let host = tables
        .host_allocations
        .iter()
        .find(|(base, allocation)| (**base as u64..**base as u64 + allocation.bytes.len() as u64).contains(&address));
    let (context, kind, base, len) = match (&device, host) {
        (Some(allocation), _) => (allocation.context, MEMORY_DEVICE, allocation.base, allocation.len),
        (None, Some((base, allocation))) => {
            (allocation.context, MEMORY_HOST, *base as u64, allocation.bytes.len() as u64)
        }
        (None, None) => return None,
    };
    let is = |attribute: Attribute| number == attribute as u32;
    if is(Attribute::CU_POINTER_ATTRIBUTE_CONTEXT) {
        Some(context as u64)
    } else if is(Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
        Some(kind)
    } else if is(Attribute::CU_POINTER_ATTRIBUTE_DEVICE_POINTER) {
        Some(address)
    } else if is(Attribute::CU_POINTER_ATTRIBUTE_HOST_POINTER) {
        (kind == MEMORY_HOST).then_some(address)
    } else if is(Attribute::CU_POINTER_ATTRIBUTE_BUFFER_ID) || is(Attribute::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR) {
        Some(base)
    } else if is(Attribute::CU_POINTER_ATTRIBUTE_RANGE_SIZE) {
        Some(len)
    } else if is(Attribute::CU_POINTER_ATTRIBUTE_MAPPED) {
        Some(1)
    } else if is(Attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED) {
        Some(device.is_some_and(|allocation| allocation.managed).into())
    } else if is(Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) || is(Attribute::CU_POINTER_ATTRIBUTE_SYNC_MEMOPS) {
        Some(0)
    } else {
        None
    }
}

/// Attributes are of four bytes or eight.
fn put_attribute(number: u32, value: u64, to: *mut c_void) -> Answer {
    let four = [
        Attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
        Attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED,
        Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        Attribute::CU_POINTER_ATTRIBUTE_SYNC_MEMOPS,
        Attribute::CU_POINTER_ATTRIBUTE_MAPPED,
    ];
    if four.iter().any(|attribute| *attribute as u32 == number) {
        Out::<u32>::from_pointer(to).put(value as u32)
    } else {
        Out::<u64>::from_pointer(to).put(value)
    }
}

api! {
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        tables().usable()?;
        let (_, used, _) = state().memory.usage();
        let bytes = settings().memory_bytes;
        free.put_if_wanted(bytes.saturating_sub(used) as usize);
        total.put(bytes as usize)
    }
    fn cuMemAlloc_v2(to: Out<u64>, bytes: usize) {
        let context = {
            let mut tables = tables();
            let context = tables.usable()?;
            tables.forbid_in_capture()?;
            context
        };
        allocate(to, bytes, context)
    }
    fn cuMemAllocManaged(to: Out<u64>, bytes: usize, flags: c_uint) {
        let context = {
            let mut tables = tables();
            let context = tables.usable()?;
            tables.forbid_in_capture()?;
            context
        };
        // Attached to every context, or to the host alone until a stream is named.
        if ![1, 2].contains(&flags) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        allocate_as(to, bytes, context, true)
    }
    fn cuMemFree_v2(address: u64) {
        {
            let mut tables = tables();
            tables.usable()?;
            tables.forbid_in_capture()?;
        }
        free(address)
    }
    fn cuMemAllocAsync(to: Out<u64>, bytes: usize, stream: usize) {
        let context = {
            let mut tables = tables();
            let context = tables.usable_stream(stream)?;
            tables.forbid_waiting(stream)?;
            context
        };
        allocate(to, bytes, context)
    }
    fn cuMemAllocFromPoolAsync(to: Out<u64>, bytes: usize, _pool: usize, stream: usize) {
        let context = {
            let mut tables = tables();
            let context = tables.usable_stream(stream)?;
            tables.forbid_waiting(stream)?;
            context
        };
        allocate(to, bytes, context)
    }
    fn cuMemFreeAsync(address: u64, stream: usize) {
        {
            let mut tables = tables();
            tables.usable_stream(stream)?;
            tables.forbid_waiting(stream)?;
        }
        free(address)
    }
    fn cuMemGetAddressRange_v2(base: Out<u64>, size: Out<usize>, address: u64) {
        tables().usable()?;
        let map = state().memory.map();
        let (_, allocation) = map.find(address, 1).ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?;
        base.put_if_wanted(allocation.base);
        size.put_if_wanted(allocation.len as usize);
        Ok(())
    }
    fn cuMemGetAllocationGranularity(to: Out<usize>, _properties: *const c_void, _option: c_uint) {
        to.put(GRANULARITY as usize)
    }
    fn cuMemAddressReserve(to: Out<u64>, bytes: usize, _alignment: usize, _wanted: u64, _flags: c_ulonglong) {
        if bytes == 0 || !is_granular(bytes as u64) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let address = state().memory.reserve(bytes as u64);
        tables().reservations.insert(address, bytes);
        to.put(address)
    }
    fn cuMemAddressFree(address: u64, bytes: usize) {
        let mut tables = tables();
        match tables.reservations.get(&address) {
            Some(reserved) if *reserved == bytes => {
                tables.reservations.remove(&address);
                Ok(())
            }
            _ => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        }
    }
    fn cuMemCreate(to: Out<u64>, bytes: usize, _properties: *const c_void, _flags: c_ulonglong) {
        if bytes == 0 || !is_granular(bytes as u64) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        if fails(Failure::Allocation) {
            return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
        }
        let mut tables = tables();
        let handle = tables.handle() as u64;
        tables.physical.insert(handle, bytes);
        to.put(handle)
    }
    fn cuMemRelease(handle: u64) {
        tables().physical.remove(&handle).map(drop).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
    }
    /// Each mapping is of the whole of its physical memory, which is mapped once.
    fn cuMemMap(address: u64, bytes: usize, offset: usize, handle: u64, _flags: c_ulonglong) {
        let tables = tables();
        let inside = |(base, reserved): (&u64, &usize)| {
            address >= *base && address + bytes as u64 <= base + *reserved as u64
        };
        let reserved = tables.reservations.iter().any(inside);
        if !reserved || !is_granular(address) || offset != 0 || tables.physical.get(&handle) != Some(&bytes) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let mapped = state().memory.map_at(address, bytes as u64, settings().memory_bytes);
        mapped.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
    }
    fn cuMemUnmap(address: u64, _bytes: usize) {
        if state().memory.unmap(address) { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_VALUE) }
    }
    /// What is mapped can be read and written at once.
    fn cuMemSetAccess(address: u64, _bytes: usize, _access: *const c_void, _count: usize) {
        let mapped = state().memory.map().find(address, 1).is_some();
        if mapped { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_VALUE) }
    }
    fn cuMemHostAlloc(to: Out<*mut c_void>, bytes: usize, _flags: c_uint) {
        let mut tables = tables();
        let context = tables.usable()?;
        tables.forbid_in_capture()?;
        if bytes == 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let mut memory = HostAllocation { bytes: vec![0; bytes], context };
        let pointer = memory.bytes.as_mut_ptr();
        tables.host_allocations.insert(pointer as usize, memory);
        to.put(pointer.cast())
    }
    fn cuMemAllocHost_v2(to: Out<*mut c_void>, bytes: usize) {
        match cuMemHostAlloc(to, bytes, 0) {
            CUresult::CUDA_SUCCESS => Ok(()),
            error => Err(error),
        }
    }
    fn cuMemFreeHost(pointer: usize) {
        match tables().host_allocations.remove(&pointer) {
            Some(_) => Ok(()),
            None => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        }
    }
    fn cuMemHostRegister_v2(_pointer: usize, _bytes: usize, _flags: c_uint) {
        tables().usable().map(drop)
    }
    fn cuMemHostUnregister(_pointer: usize) {
        tables().usable().map(drop)
    }
    fn cuMemcpy(to: u64, from: u64, bytes: usize) {
        copy(to, from, bytes)
    }
    fn cuMemcpyHtoD_v2(to: u64, from: u64, bytes: usize) {
        copy(to, from, bytes)
    }
    fn cuMemcpyDtoH_v2(to: u64, from: u64, bytes: usize) {
        copy(to, from, bytes)
    }
    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) {
        copy(to, from, bytes)
    }
    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: usize) {
        submit(stream, Work::Copy { to, from, bytes })
    }
    fn cuMemcpyHtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: usize) {
        submit(stream, Work::Copy { to, from, bytes })
    }
    fn cuMemcpyDtoHAsync_v2(to: u64, from: u64, bytes: usize, stream: usize) {
        submit(stream, Work::Copy { to, from, bytes })
    }
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: usize) {
        submit(stream, Work::Copy { to, from, bytes })
    }
    fn cuMemcpyPeerAsync(to: u64, _to_context: usize, from: u64, _from_context: usize, bytes: usize, stream: usize) {
        submit(stream, Work::Copy { to, from, bytes })
    }
    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) {
        fill(STREAM_LEGACY, to, value as u32, 1, count)
    }
    fn cuMemsetD16_v2(to: u64, value: u16, count: usize) {
        fill(STREAM_LEGACY, to, value as u32, 2, count)
    }
    fn cuMemsetD32_v2(to: u64, value: c_uint, count: usize) {
        fill(STREAM_LEGACY, to, value, 4, count)
    }
    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: usize) {
        fill(stream, to, value as u32, 1, count)
    }
    fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: usize) {
        fill(stream, to, value as u32, 2, count)
    }
    fn cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: usize) {
        fill(stream, to, value, 4, count)
    }
    fn cuPointerGetAttribute(data: *mut c_void, number: c_uint, address: u64) {
        tables().usable()?;
        put_attribute(number, describe(number, address).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?, data)
    }
    /// Of a pointer that nothing is known of, every attribute is zero.
    fn cuPointerGetAttributes(count: c_uint, numbers: In<c_uint>, data: In<*mut c_void>, address: u64) {
        tables().usable()?;
        for index in 0..count as usize {
            let number = numbers.get(index)?;
            let nothing = if number == Attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL as u32 { c_int::from(-2) as u64 } else { 0 };
            put_attribute(number, describe(number, address).unwrap_or(nothing), data.get(index)?)?;
        }
        Ok(())
    }
}
