//! Contexts: the device's primary one, others, and which is current.

use super::api;
use super::pointer::Out;
use crate::driver::*;
use cudarc::driver::sys::CUresult;
use std::ffi::{c_int, c_uint, c_void};

fn create(to: Out<usize>, flags: c_uint, device: c_int) -> Answer {
    let mut tables = tables();
    if !tables.initialised {
        return Err(CUresult::CUDA_ERROR_NOT_INITIALIZED);
    }
    if device != 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_DEVICE);
    }
    let context = tables.new_context(flags);
    with_context_stack(|stack| stack.push(context));
    to.put(context)
}

fn set_current(context: usize) -> Answer {
    let tables = tables();
    if !tables.initialised {
        return Err(CUresult::CUDA_ERROR_NOT_INITIALIZED);
    }
    if context != 0 && !tables.contexts.contains_key(&context) {
        return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
    }
    with_context_stack(|stack| {
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
    Ok(())
}

api! {
    fn cuDevicePrimaryCtxRetain(to: Out<usize>, device: c_int) {
        let mut tables = tables();
        if !tables.initialised {
            return Err(CUresult::CUDA_ERROR_NOT_INITIALIZED);
        }
        if device != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_DEVICE);
        }
        let context = match tables.primary {
            Some(context) => context,
            None => tables.new_context(0),
        };
        tables.primary = Some(context);
        tables.primary_uses += 1;
        to.put(context)
    }
    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        let mut tables = tables();
        match tables.primary {
            Some(context) if device == 0 && tables.primary_uses > 0 => {
                tables.primary_uses -= 1;
                if tables.primary_uses == 0 {
                    tables.primary = None;
                    tables.destroy_context(context)?;
                }
                Ok(())
            }
            _ => Err(CUresult::CUDA_ERROR_INVALID_CONTEXT),
        }
    }
    fn cuDevicePrimaryCtxReset_v2(device: c_int) {
        let mut tables = tables();
        match tables.primary.take() {
            Some(context) if device == 0 => {
                tables.primary_uses = 0;
                tables.destroy_context(context)
            }
            _ => Ok(()),
        }
    }
    fn cuDevicePrimaryCtxGetState(device: c_int, flags: Out<c_uint>, active: Out<c_int>) {
        if device != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_DEVICE);
        }
        flags.put_if_wanted(0);
        active.put(tables().primary.is_some() as c_int)
    }
    fn cuDevicePrimaryCtxSetFlags_v2(_device: c_int, _flags: c_uint) {
        Ok(())
    }
    fn cuCtxCreate_v2(to: Out<usize>, flags: c_uint, device: c_int) {
        create(to, flags, device)
    }
    fn cuCtxCreate_v3(to: Out<usize>, _affinity: *mut c_void, _count: c_int, flags: c_uint, device: c_int) {
        create(to, flags, device)
    }
    fn cuCtxCreate_v4(to: Out<usize>, _parameters: *mut c_void, flags: c_uint, device: c_int) {
        create(to, flags, device)
    }
    fn cuCtxDestroy_v2(context: usize) {
        tables().destroy_context(context)?;
        with_context_stack(|stack| {
            if stack.last() == Some(&context) {
                stack.pop();
            }
        });
        Ok(())
    }
    fn cuCtxGetCurrent(to: Out<usize>) {
        if !tables().initialised {
            return Err(CUresult::CUDA_ERROR_NOT_INITIALIZED);
        }
        to.put(with_context_stack(|stack| stack.last().copied().unwrap_or(0)))
    }
    fn cuCtxSetCurrent(context: usize) {
        set_current(context)
    }
    fn cuCtxPushCurrent_v2(context: usize) {
        if !tables().contexts.contains_key(&context) {
            return Err(CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
        with_context_stack(|stack| stack.push(context));
        Ok(())
    }
    fn cuCtxPopCurrent_v2(to: Out<usize>) {
        match with_context_stack(Vec::pop) {
            Some(context) => {
                to.put_if_wanted(context);
                Ok(())
            }
            None => Err(CUresult::CUDA_ERROR_INVALID_CONTEXT),
        }
    }
    fn cuCtxGetDevice(device: Out<c_int>) {
        tables().current()?;
        device.put(0)
    }
    fn cuCtxGetFlags(flags: Out<c_uint>) {
        let tables = tables();
        let context = tables.current()?;
        flags.put(tables.contexts[&context].flags)
    }
    fn cuCtxSetFlags(flags: c_uint) {
        let mut tables = tables();
        let context = tables.current()?;
        if let Some(context) = tables.contexts.get_mut(&context) {
            context.flags = flags;
        }
        Ok(())
    }
    fn cuCtxGetId(context: usize, id: Out<u64>) {
        let tables = tables();
        let context = if context == 0 { tables.current()? } else { context };
        if !tables.contexts.contains_key(&context) {
            return Err(CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED);
        }
        id.put(context as u64)
    }
    fn cuCtxGetApiVersion(_context: usize, version: Out<c_uint>) {
        version.put(settings().driver_version)
    }
    fn cuCtxSynchronize() {
        let mut tables = tables();
        tables.usable()?;
        tables.forbid_in_capture()
    }
    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) {
        tables().current()?;
        least.put_if_wanted(0);
        greatest.put_if_wanted(-5);
        Ok(())
    }
    fn cuCtxGetCacheConfig(config: Out<c_uint>) {
        tables().current()?;
        config.put(0)
    }
    fn cuCtxSetCacheConfig(_config: c_uint) {
        tables().current().map(drop)
    }
    fn cuCtxGetLimit(value: Out<usize>, _limit: c_uint) {
        tables().current()?;
        value.put(1024)
    }
    fn cuCtxSetLimit(_limit: c_uint, _value: usize) {
        tables().current().map(drop)
    }
    fn cuProfilerStart() {
        tables().current().map(drop)
    }
    fn cuProfilerStop() {
        tables().current().map(drop)
    }
}
