//! Calls: loss, and loss with gradient.

use crate::device::{DEVICES, Device, segfuse_device};
use crate::evaluation::{EVALUATIONS, segfuse_evaluation};
use crate::memory::{Growing, Place, aligned, array, one, set, structs};
use crate::plan::{PLANS, segfuse_plan};
use crate::slices;
use crate::status::{Failure, Outcome, guard, segfuse_status};
use segfuse::cpu::RawBuffers;
use segfuse::{DType, Error, Evaluation, Plan, Problem, Target};
use std::ffi::c_void;
use std::ptr;

/// The buffers of one head, in host memory. Types are those of the plan's problem; numbers of bytes must be exactly what it
/// needs (`segfuse_plan_buffers` says them). A buffer that the problem does not have is null. Addresses are aligned to their
/// type. Fill it with zeros, set `size` to sizeof(segfuse_buffers), then the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_buffers {
    /// sizeof(segfuse_buffers): which fields the caller knows.
    pub size: usize,
    /// N·C·V elements.
    pub prediction: *const c_void,
    /// Bytes of the prediction.
    pub prediction_bytes: usize,
    /// N·V labels or N·C·V values.
    pub target: *const c_void,
    /// Bytes of the target.
    pub target_bytes: usize,
    /// N·V bytes, 0 or 1.
    pub mask: *const c_void,
    /// Bytes of the mask.
    pub mask_bytes: usize,
    /// N·V f32.
    pub weights: *const c_void,
    /// Bytes of the weights.
    pub weights_bytes: usize,
    /// N·V or N·C·V f32.
    pub map: *const c_void,
    /// Bytes of the map.
    pub map_bytes: usize,
    /// N·C·V elements, written. On the CPU, and on CUDA when prepared with SEGFUSE_CUDA_IN_PLACE, it may be the prediction's own
    /// buffer, if it has its type; otherwise it overlaps nothing. Not used by calls that write no gradient.
    pub gradient: *mut c_void,
    /// Bytes of the gradient.
    pub gradient_bytes: usize,
}

// SAFETY: integers and pointers, of which the first is the size.
unsafe impl Growing for segfuse_buffers {
    const NAME: &'static str = "segfuse_buffers";
    const FIRST: usize = size_of::<segfuse_buffers>();
}

impl segfuse_buffers {
    /// What a head needs, without addresses.
    pub(crate) fn needed(problem: &Problem) -> segfuse_buffers {
        let bytes = |dtype: DType, elements: u64| (dtype.size() * elements) as usize;
        let voxels = problem.shape().all_voxels();
        let (Target::Labels(target) | Target::Dense(target)) = problem.target();
        segfuse_buffers {
            size: size_of::<segfuse_buffers>(),
            prediction: ptr::null(),
            prediction_bytes: bytes(problem.prediction_dtype(), problem.shape().elements()),
            target: ptr::null(),
            target_bytes: bytes(target, problem.target_elements()),
            mask: ptr::null(),
            mask_bytes: bytes(DType::U8, if problem.has_mask() { voxels } else { 0 }),
            weights: ptr::null(),
            weights_bytes: bytes(DType::F32, if problem.has_weights() { voxels } else { 0 }),
            map: ptr::null(),
            map_bytes: bytes(DType::F32, problem.map_elements().unwrap_or(0)),
            gradient: ptr::null_mut(),
            gradient_bytes: bytes(problem.gradient_dtype(), problem.shape().elements()),
        }
    }

    /// The addresses, where the sizes are as the problem needs them. Whether each is there, the library sees.
    pub(crate) fn raw(&self, problem: &Problem, gradient: bool) -> Result<RawBuffers, Error> {
        let needed = segfuse_buffers::needed(problem);
        let mut all = vec![
            ("the prediction", self.prediction, needed.prediction_bytes, self.prediction_bytes),
            ("the target", self.target, needed.target_bytes, self.target_bytes),
            ("the mask", self.mask, needed.mask_bytes, self.mask_bytes),
            ("the voxel weights", self.weights, needed.weights_bytes, self.weights_bytes),
            ("the map", self.map, needed.map_bytes, self.map_bytes),
        ];
        if gradient {
            all.push(("the gradient", self.gradient.cast_const(), needed.gradient_bytes, self.gradient_bytes));
        }
        for (role, address, need, got) in all {
            if need > 0 && !address.is_null() && need != got {
                return Err(Error::BufferBytes { role, need: need as u64, got: got as u64 });
            }
        }
        Ok(RawBuffers {
            prediction: self.prediction.cast(),
            target: self.target.cast(),
            mask: self.mask.cast(),
            weights: self.weights.cast(),
            map: self.map.cast(),
            gradient: self.gradient.cast(),
        })
    }
}

/// What else a call takes and gives. Every field may be 0, but for the size. A null segfuse_call stands for all zeros.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_call {
    /// sizeof(segfuse_call): which fields the caller knows.
    pub size: usize,
    /// ∂(what is minimised)/∂loss, as many numbers as the plan has losses; null for 1.
    pub grad_output: *const f64,
    /// How many.
    pub grad_output_count: usize,
    /// Gets the loss: as many numbers as the plan has losses. Null where it is not wanted.
    pub losses: *mut f64,
    /// How many.
    pub loss_count: usize,
    /// Gets everything else, to be destroyed by the caller. Null where it is not wanted.
    pub evaluation: *mut segfuse_evaluation,
}

// SAFETY: integers and pointers, of which the first is the size.
unsafe impl Growing for segfuse_call {
    const NAME: &'static str = "segfuse_call";
    const FIRST: usize = size_of::<segfuse_call>();
}

/// A call whose parameters were looked at before anything is computed.
pub(crate) struct Checked<'a> {
    pub(crate) grad_output: Option<&'a [f64]>,
    losses: Option<Place<f64>>,
    evaluation: *mut segfuse_evaluation,
}

impl Checked<'_> {
    /// # Safety
    /// `call` is null or points to a segfuse_call whose pointers are null or hold what it says, for the life of the result.
    pub(crate) unsafe fn new(call: *const segfuse_call, plan: &Plan) -> Result<Self, Failure> {
        if call.is_null() {
            return Ok(Checked { grad_output: None, losses: None, evaluation: ptr::null_mut() });
        }
        // SAFETY: the caller's promise.
        let call = unsafe { one(call)? };
        // SAFETY: the caller's promise.
        let grad_output = unsafe { array(call.grad_output, call.grad_output_count, "grad_output")? };
        let losses = if call.losses.is_null() {
            None
        } else {
            let (need, got) = (plan.losses() as u64, call.loss_count as u64);
            if need != got {
                return Err(Error::BufferLength { role: "losses", need, got }.into());
            }
            // SAFETY: the caller's promise.
            Some(unsafe { Place::new(call.losses, call.loss_count, "losses")? })
        };
        if !call.evaluation.is_null() {
            aligned(call.evaluation, "evaluation")?;
        }
        let grad_output = (!call.grad_output.is_null()).then_some(grad_output);
        Ok(Checked { grad_output, losses, evaluation: call.evaluation })
    }

    pub(crate) fn give(&self, evaluation: Evaluation) -> Outcome {
        if let Some(losses) = &self.losses {
            losses.set(&evaluation.losses, "losses")?;
        }
        if self.evaluation.is_null() {
            return Ok(());
        }
        let made = segfuse_evaluation { id: EVALUATIONS.insert(evaluation) };
        // SAFETY: the promise of `new`.
        unsafe { set(self.evaluation, made, "evaluation") }
    }
}

/// Computes the loss: one pass over each prediction. The gradients are not used.
///
/// Results repeat bit for bit, whatever the number of threads.
///
/// # Safety
/// `buffers` points to `heads` segfuse_buffers of the same `size`, whose addresses hold what they say; `call` is null or points
/// to a segfuse_call. Nothing writes to any of them meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_forward(
    device: segfuse_device,
    plan: segfuse_plan,
    buffers: *const segfuse_buffers,
    heads: usize,
    call: *const segfuse_call,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { run(device, plan, buffers, heads, call, false) })
}

/// Computes the loss and the gradient of every head, ∂(what is minimised)/∂prediction.
///
/// Nothing is written when the status is not SEGFUSE_OK, but for a device that fails on the way. Results repeat bit for bit,
/// whatever the number of threads.
///
/// # Safety
/// As `segfuse_forward`; nothing else reads or writes the gradients meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_forward_backward(
    device: segfuse_device,
    plan: segfuse_plan,
    buffers: *const segfuse_buffers,
    heads: usize,
    call: *const segfuse_call,
) -> segfuse_status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { run(device, plan, buffers, heads, call, true) })
}

/// # Safety
/// As [`segfuse_forward_backward`].
unsafe fn run(
    device: segfuse_device,
    plan: segfuse_plan,
    buffers: *const segfuse_buffers,
    heads: usize,
    call: *const segfuse_call,
    gradient: bool,
) -> Outcome {
    let (device, plan) = (DEVICES.get(device.id)?, PLANS.get(plan.id)?);
    // SAFETY: the caller's promise.
    let (buffers, call) = unsafe { (structs(buffers, heads)?, Checked::new(call, &plan)?) };
    if heads != plan.heads().len() {
        return Err(Error::OtherPlan { what: "heads", need: plan.heads().len(), got: heads }.into());
    }
    let each = plan.heads().iter().zip(&buffers);
    let raw: Vec<RawBuffers> = each.map(|(head, b)| b.raw(head.problem(), gradient)).collect::<Result<_, _>>()?;
    // SAFETY: the caller's promise about the memory, whose sizes are those of the plan.
    let evaluation = unsafe {
        match &*device {
            Device::Cpu(cpu) if gradient => cpu.prepare(&plan).forward_backward_raw(&raw, call.grad_output)?,
            Device::Cpu(cpu) => cpu.prepare(&plan).forward_raw(&raw)?,
            Device::Other(runtime) => slices::run(runtime, &plan, &raw, gradient, call.grad_output)?,
        }
    };
    call.give(evaluation)
}
