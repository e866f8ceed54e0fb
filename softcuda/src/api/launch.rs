//! Launching kernels.

use super::api;
use super::pointer::In;
use crate::driver::*;
use cudarc::driver::sys::{CUlaunchAttributeID as AttributeId, CUlaunchConfig, CUresult};
use std::ffi::{c_uint, c_void};

/// Where a kernel's parameters are: an array of pointers to them, or one buffer.
#[derive(Clone, Copy)]
struct Parameters {
    each: In<*const c_void>,
    extra: In<*const c_void>,
}

impl Parameters {
    fn read(self, function: &Function) -> Answer<Vec<u8>> {
        let program = &function.program;
        let mut bytes = vec![0; program.parameter_bytes];
        if !self.each.is_null() {
            for (index, parameter) in program.parameters.iter().enumerate() {
                let from = In::<u8>::from_pointer(self.each.get(index)?);
                for at in 0..parameter.size {
                    bytes[parameter.offset + at] = from.get(at)?;
                }
            }
        } else if !self.extra.is_null() {
            let (buffer, len) = self.buffer()?;
            if len < bytes.len() {
                return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
            }
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = buffer.get(at)?;
            }
        } else if !program.parameters.is_empty() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        Ok(bytes)
    }
    /// The buffer of `extra`: pairs of a key and a value, up to a null.
    fn buffer(self) -> Answer<(In<u8>, usize)> {
        const BUFFER: usize = 1;
        const SIZE: usize = 2;
        let (mut buffer, mut len) = (In::null(), 0);
        for pair in 0.. {
            let value = || self.extra.get(2 * pair + 1);
            match self.extra.get(2 * pair)? as usize {
                BUFFER => buffer = In::from_pointer(value()?),
                SIZE => len = In::<usize>::from_pointer(value()?).get(0)?,
                _ => break,
            }
        }
        Ok((buffer, len))
    }
}

fn launch(
    handle: usize,
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: usize,
    parameters: Parameters,
    cooperative: bool,
) -> Answer {
    let function = {
        let tables = tables();
        tables.usable_stream(stream)?;
        tables.functions.get(&handle).cloned().ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?
    };
    function.check(grid, block, shared, cooperative)?;
    let parameters = parameters.read(&function)?;
    submit(stream, Work::Launch(Launching { function, grid, block, dynamic_shared: shared, parameters, cooperative }))
}

api! {
    fn cuLaunchKernel(
        function: usize,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: usize,
        each: In<*const c_void>,
        extra: In<*const c_void>,
    ) {
        let parameters = Parameters { each, extra };
        launch(function, [grid_x, grid_y, grid_z], [block_x, block_y, block_z], shared, stream, parameters, false)
    }
    fn cuLaunchCooperativeKernel(
        function: usize,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: usize,
        each: In<*const c_void>,
    ) {
        let parameters = Parameters { each, extra: In::null() };
        launch(function, [grid_x, grid_y, grid_z], [block_x, block_y, block_z], shared, stream, parameters, true)
    }
    /// Of the attributes, only the cooperative one means something here; clusters of several blocks are refused.
    fn cuLaunchKernelEx(config: In<CUlaunchConfig>, function: usize, each: In<*const c_void>, extra: In<*const c_void>) {
        let config = config.get(0)?;
        let attributes = In::from_pointer(config.attrs.cast());
        let mut cooperative = false;
        for index in 0..config.numAttrs as usize {
            let attribute: cudarc::driver::sys::CUlaunchAttribute = attributes.get(index)?;
            match attribute.id {
                // The value is a union; its first four bytes are the number, or the cluster's first extent.
                AttributeId::CU_LAUNCH_ATTRIBUTE_COOPERATIVE => {
                    cooperative = In::<u32>::from_pointer((&raw const attribute.value).cast()).get(0)? != 0;
                }
                AttributeId::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION => {
                    let extents = In::<u32>::from_pointer((&raw const attribute.value).cast());
                    if extents.get(0)? * extents.get(1)? * extents.get(2)? > 1 {
                        return Err(CUresult::CUDA_ERROR_NOT_SUPPORTED);
                    }
                }
                _ => {}
            }
        }
        let grid = [config.gridDimX, config.gridDimY, config.gridDimZ];
        let block = [config.blockDimX, config.blockDimY, config.blockDimZ];
        let parameters = Parameters { each, extra };
        launch(function, grid, block, config.sharedMemBytes, config.hStream as usize, parameters, cooperative)
    }
    fn cuLaunchHostFunc(stream: usize, function: Option<extern "C" fn(*mut c_void)>, data: *mut c_void) {
        let mut tables = tables();
        tables.usable_stream(stream)?;
        tables.forbid_waiting(stream)?;
        drop(tables);
        function.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?(data);
        Ok(())
    }
}
