//! Plans on CUDA devices, with device addresses and streams of the caller.

use crate::call::segfuse_buffers;
use crate::handle::Table;
use crate::memory::{Growing, aligned, one, set, structs};
use crate::plan::{PLANS, segfuse_plan};
use crate::status::{Failure, Outcome, guard, segfuse_status};
use segfuse::cuda::{Buffers, Call, Device, Executor, Preparation, Stream, Workspace};
use segfuse::{Error, Plan};
use std::ffi::c_void;

/// A CUDA device in a context, with the kernels loaded so far. Several threads may use it at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_cuda_device {
    /// Never 0 for a device that was made.
    pub id: u64,
}

/// A plan that was prepared on a CUDA device. Several threads may use it at once; calls that run on the device at the same time
/// need a workspace each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_cuda_plan {
    /// Never 0 for a plan that was prepared.
    pub id: u64,
}

static DEVICES: Table<Device> = Table::new("CUDA device");
static PREPARED: Table<Executor> = Table::new("prepared plan");

/// Gradients are written over their predictions.
pub const SEGFUSE_CUDA_IN_PLACE: u32 = 1;
/// The stages are launched one by one: `segfuse_cuda_reduce`, `segfuse_cuda_finish`, `segfuse_cuda_gradient`.
pub const SEGFUSE_CUDA_SPLIT: u32 = 2;
/// No workspace is allocated: every call brings one.
pub const SEGFUSE_CUDA_CALLERS_WORKSPACE: u32 = 4;

const FLAGS: u32 = SEGFUSE_CUDA_IN_PLACE | SEGFUSE_CUDA_SPLIT | SEGFUSE_CUDA_CALLERS_WORKSPACE;

/// Makes a device of its number, as the driver counts, in its primary context: that of the CUDA runtime.
///
/// # Safety
/// `device` points to a segfuse_cuda_device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_device_create(
    ordinal: usize,
    device: *mut segfuse_cuda_device,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { keep(Device::new(ordinal), device) })
}

/// Makes the device of a context of the caller (a CUcontext), in that context.
///
/// # Safety
/// `context` is a context that outlives the device and all that is prepared on it; `device` points to a segfuse_cuda_device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_device_create_in(
    context: *mut c_void,
    device: *mut segfuse_cuda_device,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { keep(Device::from_context(context), device) })
}

/// # Safety
/// `device` is null or points to a segfuse_cuda_device.
unsafe fn keep(made: Result<Device, Error>, device: *mut segfuse_cuda_device) -> Outcome {
    aligned(device, "device")?;
    let made = segfuse_cuda_device { id: DEVICES.insert(made?) };
    // SAFETY: the caller's promise.
    unsafe { set(device, made, "device") }
}

/// Destroys a device; what was prepared on it stays. Nothing happens for a device that is all zeros.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_cuda_device_destroy(device: segfuse_cuda_device) -> segfuse_status {
    guard(|| DEVICES.remove(device.id))
}

/// Prepares a plan: the driver compiles its kernels, where it has not yet, and a workspace is allocated. `flags` is
/// SEGFUSE_CUDA_IN_PLACE and the like, added up. Not while a stream of the thread is captured.
///
/// # Safety
/// `prepared` points to a segfuse_cuda_plan.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_prepare(
    device: segfuse_cuda_device,
    plan: segfuse_plan,
    flags: u32,
    prepared: *mut segfuse_cuda_plan,
) -> segfuse_status {
    guard(|| {
        aligned(prepared, "prepared")?;
        let (device, plan) = (DEVICES.get(device.id)?, PLANS.get(plan.id)?);
        if flags & !FLAGS != 0 {
            return Err(Failure::argument(format!("flags has unknown bits: {:#x}", flags & !FLAGS)));
        }
        let executor = device.prepare_as(
            &plan,
            Preparation {
                in_place: flags & SEGFUSE_CUDA_IN_PLACE != 0,
                split: flags & SEGFUSE_CUDA_SPLIT != 0,
                workspace: flags & SEGFUSE_CUDA_CALLERS_WORKSPACE == 0,
                ..Preparation::default()
            },
        )?;
        let made = segfuse_cuda_plan { id: PREPARED.insert(executor) };
        // SAFETY: the caller's promise.
        unsafe { set(prepared, made, "prepared") }
    })
}

/// Destroys a prepared plan, after the kernels that use its memory. Nothing happens for one that is all zeros.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_cuda_destroy(prepared: segfuse_cuda_plan) -> segfuse_status {
    guard(|| PREPARED.remove(prepared.id))
}

/// The sizes of a prepared plan. The result of a call holds, as f32 from its beginning and as doubles from `result_doubles_at` on:
/// the losses; then for each head, for each term its values, as many as there are losses, then the voxels that counted and the
/// labels out of range.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_cuda_sizes {
    /// Bytes of a workspace, aligned to 16.
    pub workspace_bytes: u64,
    /// Bytes of a result, aligned to 8.
    pub result_bytes: u64,
    /// How many numbers it has, in each precision.
    pub result_numbers: u64,
    /// The byte at which its doubles begin.
    pub result_doubles_at: u64,
    /// Bytes of device memory that the prepared plan holds.
    pub device_bytes: u64,
}

/// Writes the sizes of a prepared plan.
///
/// # Safety
/// `sizes` points to a segfuse_cuda_sizes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_plan_sizes(
    prepared: segfuse_cuda_plan,
    sizes: *mut segfuse_cuda_sizes,
) -> segfuse_status {
    guard(|| {
        let executor = PREPARED.get(prepared.id)?;
        let layout = executor.result_layout();
        let found = segfuse_cuda_sizes {
            workspace_bytes: executor.workspace_bytes(),
            result_bytes: layout.bytes,
            result_numbers: layout.numbers,
            result_doubles_at: layout.doubles_at,
            device_bytes: executor.device_bytes(),
        };
        // SAFETY: the caller's promise.
        unsafe { set(sizes, found, "sizes") }
    })
}

/// What else a call takes and gives: device addresses. Every field may be 0, but for the size. A null segfuse_cuda_call stands for
/// all zeros.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_cuda_call {
    /// sizeof(segfuse_cuda_call): which fields the caller knows.
    pub size: usize,
    /// ∂(what is minimised)/∂loss, f32 on the device, one number per loss; null for 1.
    pub grad_output: *const c_void,
    /// Gets the result; null for a place in the workspace, which `segfuse_cuda_result` says.
    pub result: *mut c_void,
    /// The workspace of the call; it may hold anything. Null for that of the prepared plan.
    pub workspace: *mut c_void,
    /// Its bytes.
    pub workspace_bytes: u64,
}

// SAFETY: integers and pointers, of which the first is the size.
unsafe impl Growing for segfuse_cuda_call {
    const NAME: &'static str = "segfuse_cuda_call";
    const FIRST: usize = size_of::<segfuse_cuda_call>();
}

/// # Safety
/// `call` is null or points to a segfuse_cuda_call with its size.
unsafe fn call_of(call: *const segfuse_cuda_call) -> Result<Call, Failure> {
    if call.is_null() {
        return Ok(Call::default());
    }
    // SAFETY: the caller's promise.
    let call = unsafe { one(call)? };
    let workspace = address(call.workspace).map(|address| Workspace { address, bytes: call.workspace_bytes });
    Ok(Call { grad_output: address(call.grad_output), result: address(call.result), workspace })
}

fn address<T>(pointer: *const T) -> Option<u64> {
    (!pointer.is_null()).then_some(pointer as u64)
}

/// # Safety
/// `buffers` is null or points to `heads` segfuse_buffers of the same size.
unsafe fn buffers_of(
    plan: &Plan,
    buffers: *const segfuse_buffers,
    heads: usize,
    gradient: bool,
) -> Result<Vec<Buffers>, Failure> {
    // SAFETY: the caller's promise.
    let given = unsafe { structs(buffers, heads)? };
    if heads != plan.heads().len() {
        return Err(Error::OtherPlan { what: "heads", need: plan.heads().len(), got: heads }.into());
    }
    let each = plan.heads().iter().zip(&given).map(|(head, buffers)| {
        // Their sizes are looked at as on the host.
        let raw = buffers.raw(head.problem(), gradient && !buffers.gradient.is_null())?;
        Ok(Buffers {
            prediction: raw.prediction as u64,
            target: raw.target as u64,
            mask: address(raw.mask),
            weights: address(raw.weights),
            map: address(raw.map),
            gradient: address(raw.gradient).filter(|_| gradient),
        })
    });
    each.collect()
}

/// Launches the loss alone on `stream` and returns. See `segfuse_cuda_forward_backward`.
///
/// # Safety
/// As `segfuse_cuda_forward_backward`; the gradients are not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_forward(
    prepared: segfuse_cuda_plan,
    buffers: *const segfuse_buffers,
    heads: usize,
    call: *const segfuse_cuda_call,
    stream: *mut c_void,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let executor = PREPARED.get(prepared.id)?;
        let (buffers, call) = (buffers_of(executor.plan(), buffers, heads, false)?, call_of(call)?);
        Ok(executor.forward(&buffers, &call, Stream::from(stream))?)
    })
}

/// Launches loss and gradient on `stream` (a CUstream or cudaStream_t; null is the default stream) and returns before they are
/// done. Nothing is allocated, copied or waited for: a call can be captured into a CUDA graph. The buffers hold device addresses;
/// what is wrong with them is found before anything is launched. Prepared with SEGFUSE_CUDA_IN_PLACE, a gradient is null or the
/// prediction. Results repeat bit for bit on one device.
///
/// # Safety
/// Until the stream has come to the end of the call, `buffers` and `call` name device memory that is there, holds what they say and
/// is used by nothing else where it is written; `stream` is a stream of the device's context. The structs themselves are read
/// during the call alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_forward_backward(
    prepared: segfuse_cuda_plan,
    buffers: *const segfuse_buffers,
    heads: usize,
    call: *const segfuse_cuda_call,
    stream: *mut c_void,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let executor = PREPARED.get(prepared.id)?;
        let (buffers, call) = (buffers_of(executor.plan(), buffers, heads, true)?, call_of(call)?);
        Ok(executor.forward_backward(&buffers, &call, Stream::from(stream))?)
    })
}

/// Launches the first stage: the sums of every head, to `segfuse_cuda_moments`. Prepared with SEGFUSE_CUDA_SPLIT.
///
/// # Safety
/// As `segfuse_cuda_forward`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_reduce(
    prepared: segfuse_cuda_plan,
    buffers: *const segfuse_buffers,
    heads: usize,
    call: *const segfuse_cuda_call,
    stream: *mut c_void,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let executor = PREPARED.get(prepared.id)?;
        let (buffers, call) = (buffers_of(executor.plan(), buffers, heads, false)?, call_of(call)?);
        Ok(executor.reduce(&buffers, &call, Stream::from(stream))?)
    })
}

/// Launches the second stage: the sums, reduced over devices meanwhile, to result and coefficients.
///
/// # Safety
/// As `segfuse_cuda_forward_backward`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_finish(
    prepared: segfuse_cuda_plan,
    call: *const segfuse_cuda_call,
    stream: *mut c_void,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let executor = PREPARED.get(prepared.id)?;
        Ok(executor.finish(&call_of(call)?, Stream::from(stream))?)
    })
}

/// Launches the last stage: the gradients from the coefficients.
///
/// # Safety
/// As `segfuse_cuda_forward_backward`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_gradient(
    prepared: segfuse_cuda_plan,
    buffers: *const segfuse_buffers,
    heads: usize,
    call: *const segfuse_cuda_call,
    stream: *mut c_void,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let executor = PREPARED.get(prepared.id)?;
        let (buffers, call) = (buffers_of(executor.plan(), buffers, heads, true)?, call_of(call)?);
        Ok(executor.gradient(&buffers, &call, Stream::from(stream))?)
    })
}

/// Writes where the sums of a head lie between the stages, and how many doubles they are: all of them may be added up over
/// devices. `call` says the workspace, as in the calls.
///
/// # Safety
/// `call` is null or points to a segfuse_cuda_call; `moments` points to a pointer and `count` to a uint64_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_moments(
    prepared: segfuse_cuda_plan,
    head: usize,
    call: *const segfuse_cuda_call,
    moments: *mut *mut c_void,
    count: *mut u64,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let found = PREPARED.get(prepared.id)?.moments(head, call_of(call)?.workspace)?;
        aligned(count, "count")?;
        set(moments, found.address as *mut c_void, "moments")?;
        set(count, found.count, "count")
    })
}

/// Writes where the result of calls that name no other place lies. `call` says the workspace, as in the calls.
///
/// # Safety
/// `call` is null or points to a segfuse_cuda_call; `result` points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_cuda_result(
    prepared: segfuse_cuda_plan,
    call: *const segfuse_cuda_call,
    result: *mut *mut c_void,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let found = PREPARED.get(prepared.id)?.result(call_of(call)?.workspace)?;
        set(result, found as *mut c_void, "result")
    })
}
