//! Calls with addresses, for engines that hold host memory of their own and for bindings.

use super::block::Sources;
use super::view::{Source, Target};
use super::{Executor, validate};
use crate::dtype::DType;
use crate::error::Error;
use crate::evaluation::Evaluation;
use crate::moments::{Coefficients, MomentTable};
use crate::plan::Head;
use crate::problem::Target as TargetKind;
use std::ptr;

/// The host buffers of one head, by address. Types and lengths are those of the plan's problem.
///
/// Mask, weights and map are null where the problem declares none. The gradient may be the prediction's own buffer, if it has
/// its type; otherwise it overlaps nothing.
#[derive(Clone, Copy, Debug)]
pub struct RawBuffers {
    /// N·C·V elements of the prediction's type.
    pub prediction: *const u8,
    /// N·V labels or N·C·V values of the target's type.
    pub target: *const u8,
    /// N·V bytes, or null.
    pub mask: *const u8,
    /// N·V f32, or null.
    pub weights: *const u8,
    /// N·V or N·C·V f32, or null.
    pub map: *const u8,
    /// N·C·V elements of the gradient's type. Not read by calls that write no gradient.
    pub gradient: *mut u8,
}

impl RawBuffers {
    /// Prediction, target and gradient; the rest null.
    pub fn new(prediction: *const u8, target: *const u8, gradient: *mut u8) -> RawBuffers {
        RawBuffers { prediction, target, mask: ptr::null(), weights: ptr::null(), map: ptr::null(), gradient }
    }
}

impl Executor {
    /// The loss alone of buffers given by address; otherwise as [`Executor::forward`].
    ///
    /// # Safety
    /// As [`Executor::forward_backward_raw`], without the gradients.
    ///
    /// # Errors
    /// As [`Executor::forward_backward_raw`].
    pub unsafe fn forward_raw(&self, heads: &[RawBuffers]) -> Result<Evaluation, Error> {
        validate::heads(&self.plan, heads.len())?;
        let each = self.plan.heads().iter().zip(heads);
        // SAFETY: the caller's promise for this head.
        let sources: Vec<_> =
            each.map(|(head, buffers)| unsafe { sources(head, buffers) }).collect::<Result<_, _>>()?;
        self.losses(&sources)
    }

    /// Loss and gradient of buffers given by address; otherwise as [`Executor::forward_backward`].
    ///
    /// # Safety
    /// For the whole call, for every head:
    /// * each address that the problem needs points to as many initialised elements of its type as [`RawBuffers`] says;
    /// * nothing else writes to any of them, and nothing else reads the gradient.
    ///
    /// # Errors
    /// [`Error::BufferMissing`] for a null that should not be, [`Error::BufferUnexpected`] for the opposite,
    /// [`Error::BufferAlignment`], and [`Error::Overlap`] for a gradient that shares memory with an input in any other way
    /// than being exactly the prediction. Nothing is written then.
    pub unsafe fn forward_backward_raw(
        &self,
        heads: &[RawBuffers],
        grad_output: Option<&[f64]>,
    ) -> Result<Evaluation, Error> {
        validate::heads(&self.plan, heads.len())?;
        validate::grad_output(&self.plan, grad_output)?;
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for (head, buffers) in self.plan.heads().iter().zip(heads) {
            // SAFETY: the caller's promise for this head.
            unsafe {
                inputs.push(sources(head, buffers)?);
                targets.push(target(head, buffers)?);
            }
        }
        // The gradient of one head must also leave the buffers of the others alone.
        for (i, a) in self.plan.heads().iter().zip(heads).enumerate() {
            for (j, b) in self.plan.heads().iter().zip(heads).enumerate() {
                if i != j {
                    apart(a.0, a.1, &regions(b.0, b.1))?;
                }
            }
        }
        self.run(&inputs, &targets, grad_output)
    }

    /// The sums of one head, of buffers given by address; otherwise as [`Executor::reduce`].
    ///
    /// # Safety
    /// As [`Executor::forward_backward_raw`], for this head and without its gradient.
    ///
    /// # Errors
    /// As [`Executor::forward_backward_raw`]; [`Error::OtherPlan`] for a head that the plan does not have.
    pub unsafe fn reduce_raw(&self, head: usize, buffers: &RawBuffers) -> Result<MomentTable, Error> {
        let head = validate::head(&self.plan, head)?;
        // SAFETY: the caller's promise for this head.
        let sources = unsafe { sources(head, buffers)? };
        self.sums(head, &sources)
    }

    /// The gradient of one head from its coefficients, of buffers given by address; otherwise as [`Executor::gradient`].
    ///
    /// # Safety
    /// As [`Executor::forward_backward_raw`], for this head.
    ///
    /// # Errors
    /// As [`Executor::forward_backward_raw`]; [`Error::OtherPlan`] for a head that the plan does not have, or coefficients of
    /// another one.
    pub unsafe fn gradient_raw(
        &self,
        head: usize,
        buffers: &RawBuffers,
        coefficients: &Coefficients,
        grad_output: Option<&[f64]>,
    ) -> Result<(), Error> {
        validate::grad_output(&self.plan, grad_output)?;
        let head = validate::head(&self.plan, head)?;
        validate::coefficients(head, coefficients)?;
        // SAFETY: the caller's promise for this head.
        let (sources, target) = unsafe { (sources(head, buffers)?, target(head, buffers)?) };
        self.slopes(head, &sources, coefficients, target, grad_output)
    }
}

/// A buffer that a head needs.
struct Region {
    role: &'static str,
    address: *const u8,
    dtype: DType,
    elements: u64,
}

impl Region {
    fn bytes(&self) -> (u64, u64) {
        let start = self.address as u64;
        (start, start.saturating_add(self.dtype.size() * self.elements))
    }
}

/// The inputs of a head and its gradient, with their sizes; optional ones with 0 elements where the problem has none.
fn regions(head: &Head, b: &RawBuffers) -> [Region; 6] {
    let problem = &head.problem;
    let (all, voxels) = (problem.shape.elements(), problem.shape.all_voxels());
    let (TargetKind::Labels(dtype) | TargetKind::Dense(dtype)) = problem.target;
    let optional = |wanted: bool| if wanted { voxels } else { 0 };
    let region = |role, address, dtype, elements| Region { role, address, dtype, elements };
    [
        region("the prediction", b.prediction, problem.prediction, all),
        region("the target", b.target, dtype, problem.target_elements()),
        region("the mask", b.mask, DType::U8, optional(problem.mask)),
        region("the voxel weights", b.weights, DType::F32, optional(problem.weights)),
        region("the map", b.map, DType::F32, problem.map_elements().unwrap_or(0)),
        region("the gradient", b.gradient, problem.gradient_dtype(), all),
    ]
}

/// Whether the gradient of a head shares no memory with these buffers.
fn apart(head: &Head, buffers: &RawBuffers, others: &[Region]) -> Result<(), Error> {
    let [.., gradient] = regions(head, buffers);
    let (start, end) = gradient.bytes();
    for other in others.iter().filter(|other| other.elements > 0) {
        let (other_start, other_end) = other.bytes();
        if start < other_end && other_start < end {
            return Err(Error::Overlap { with: other.role });
        }
    }
    Ok(())
}

/// Whether an address is null exactly where the head has no such buffer, and aligned.
fn placed(region: &Region) -> Result<(), Error> {
    let role = region.role;
    match (region.elements > 0, region.address.is_null()) {
        (true, true) => return Err(Error::BufferMissing { role }),
        (false, false) => return Err(Error::BufferUnexpected { role }),
        _ => {}
    }
    let (need, address) = (region.dtype.size() as usize, region.address as usize);
    if !address.is_multiple_of(need) {
        return Err(Error::BufferAlignment { role, need, address });
    }
    Ok(())
}

/// The views of what a head reads.
///
/// # Safety
/// As [`Executor::forward_backward_raw`], without the gradient.
unsafe fn sources<'a>(head: &Head, buffers: &RawBuffers) -> Result<Sources<'a>, Error> {
    let [inputs @ .., _] = &regions(head, buffers);
    inputs.iter().try_for_each(placed)?;
    // SAFETY: the caller promises that the address holds as many elements of this type for as long as the views live.
    let source = |r: &Region| unsafe { Source::from_raw(r.address, r.elements as usize, r.dtype) };
    let optional = |r: &Region| (r.elements > 0).then(|| source(r));
    let [prediction, target, mask, weights, map] = inputs;
    Ok(Sources {
        prediction: source(prediction),
        target: source(target),
        mask: optional(mask),
        weights: optional(weights),
        map: optional(map),
        made: Default::default(),
    })
}

/// The view of a head's gradient, which shares no memory with its inputs or is the prediction.
///
/// # Safety
/// As [`Executor::forward_backward_raw`].
unsafe fn target<'a>(head: &Head, buffers: &RawBuffers) -> Result<Target<'a>, Error> {
    let [prediction, inputs @ .., gradient] = &regions(head, buffers);
    placed(gradient)?;
    apart(head, buffers, inputs)?;
    if gradient.address != prediction.address || gradient.dtype != prediction.dtype {
        apart(head, buffers, std::slice::from_ref(prediction))?;
    }
    // SAFETY: the caller promises the memory, and the checks have shown that it is apart from every input, or exactly the
    // prediction.
    Ok(unsafe { Target::from_raw(buffers.gradient, gradient.elements as usize, gradient.dtype) })
}
