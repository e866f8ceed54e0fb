//! Memory of gradients, kept for the next one.
//!
//! The operating system clears the pages of a large allocation when they are first written to, and takes them back when it is freed.
//! For a gradient that takes about as long as computing it, so the blocks of gradients that are gone serve those that come.

use crate::error::Kind;
use dlpark::allocation::dynamic::Allocation;
use dlpark::ffi::{DLDataType, DLDevice, DLManagedTensor};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use std::mem::{MaybeUninit, take};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that are kept at most; the blocks that have waited longest go first.
const KEPT_MAX: usize = 1 << 30;

/// Blocks that nobody uses, the one that has waited longest first.
static KEPT: Mutex<Vec<Block>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<Block>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "reached by address")] MaybeUninit<[u8; 64]>);

/// Memory that is kept when it is dropped. Its capacity is what counts; its length is 0, since nothing in it is initialised.
struct Block(Vec<Line>);

impl Block {
    fn new(bytes: usize) -> PyResult<Block> {
        let lines = bytes.div_ceil(size_of::<Line>());
        let mut kept = kept();
        if let Some(index) = kept.iter().rposition(|block| block.0.capacity() == lines) {
            return Ok(kept.remove(index));
        }
        let mut memory = Vec::new();
        let reserved = memory.try_reserve_exact(lines);
        reserved.map_err(|_| PyMemoryError::new_err(format!("no memory left for a gradient of {bytes} bytes")))?;
        Ok(Block(memory))
    }
    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Line>()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Blocks that are let go below come here again, and have no memory by then.
        if self.0.capacity() == 0 || self.bytes() > KEPT_MAX {
            return;
        }
        let mut gone = Vec::new();
        let mut kept = kept();
        kept.push(Block(take(&mut self.0)));
        let mut total: usize = kept.iter().map(Block::bytes).sum();
        while total > KEPT_MAX {
            let mut oldest = kept.remove(0);
            total -= oldest.bytes();
            gone.push(take(&mut oldest.0));
        }
        drop(kept);
    }
}

/// A DLPack capsule of memory for a gradient: whatever it held before, dense, of this shape and these strides in elements.
#[pyfunction]
pub(crate) fn gradient_memory<'py>(
    py: Python<'py>,
    shape: Vec<i64>,
    strides: Vec<i64>,
    dtype: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let dtype = match dtype {
        "float32" => DLDataType::F32,
        "float16" => DLDataType::F16,
        "bfloat16" => DLDataType::BF16,
        "float64" => DLDataType::F64,
        other => return Err(Kind::Type.error(format!("a gradient cannot be {other}"))),
    };
    let elements = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(usize::try_from(extent).ok()?));
    let bytes = elements.and_then(|n| n.checked_mul(dtype.element_size()));
    let bytes = bytes.ok_or_else(|| Kind::Value.error(format!("a gradient cannot have the shape {shape:?}")))?;
    let reach = shape.iter().zip(&strides).try_fold(0i64, |reach, (extent, &stride)| {
        let along = (extent - 1).max(0).checked_mul(stride)?;
        if stride < 0 { None } else { reach.checked_add(along) }
    });
    let within = reach.is_some_and(|reach| (reach as u64) < elements.unwrap_or(0).max(1) as u64);
    if shape.len() != strides.len() || !within {
        return Err(Kind::Value.error(format!("a gradient of shape {shape:?} cannot have the strides {strides:?}")));
    }
    let mut block = Box::new(Block::new(bytes)?);
    let address = block.0.as_mut_ptr();
    let refused = |error: dlpark::allocation::Error| Kind::Value.error(error);
    let mut allocation = Allocation::<DLManagedTensor>::allocate(2 * shape.len()).map_err(refused)?;
    allocation.extra_mut()[..shape.len()].copy_from_slice(&shape);
    allocation.extra_mut()[shape.len()..].copy_from_slice(&strides);
    let mut tensor = allocation.initialize(block, shape.len()).map_err(refused)?;
    tensor.set_data(address.cast()).set_device(DLDevice::CPU).set_dtype(dtype);
    let places = tensor.extra_mut();
    let (of_shape, of_strides) = places.split_at_mut(shape.len());
    let (of_shape, of_strides) = (of_shape.as_mut_ptr(), of_strides.as_mut_ptr());
    (tensor.tensor_mut().shape, tensor.tensor_mut().strides) = (of_shape, of_strides);
    // SAFETY: the tensor owns the block, whose memory stays where it is and holds all that shape and strides reach, by the check
    // above; shape and strides lie in the tensor's own allocation. Nobody else has the block.
    unsafe { tensor.finish() }.into_pyobject(py)
}

/// Gives the memory of gradients that are gone back to the operating system.
#[pyfunction]
pub(crate) fn release_memory() {
    let mut blocks = take(&mut *kept());
    // Without their memory they are not kept again.
    blocks.iter_mut().for_each(|block| drop(take(&mut block.0)));
}
