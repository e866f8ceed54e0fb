//! The stages of a call one by one, on the CPU: sums, then loss and coefficients, then the gradient. Between the first two,
//! an engine adds the sums of its tiles or devices.

use crate::call::{Checked, segfuse_buffers, segfuse_call};
use crate::device::{cpu, segfuse_device};
use crate::evaluation::{segfuse_hard_counts, segfuse_voxels};
use crate::handle::Table;
use crate::memory::{Place, aligned, array, one, set};
use crate::plan::{PLANS, head_of, segfuse_plan};
use crate::status::{Failure, guard, segfuse_status};
use segfuse::{Coefficients, Error, MomentTable};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The sums of one head, `[N, C, moments]`, and the counts of the pass that made them. Calls of several threads on the same
/// moments wait for each other.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_moments {
    /// Never 0 for moments that were made.
    pub id: u64,
}

/// ∂loss/∂moment of one head: all that the gradient pass needs of the sums. Immutable.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_coefficients {
    /// Never 0 for coefficients that were made.
    pub id: u64,
}

static MOMENTS: Table<Mutex<MomentTable>> = Table::new("moments");
static COEFFICIENTS: Table<Coefficients> = Table::new("coefficients");

fn lock(table: &Mutex<MomentTable>) -> MutexGuard<'_, MomentTable> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes moments of a head, all 0.
///
/// # Safety
/// `moments` points to a segfuse_moments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_moments_create(
    plan: segfuse_plan,
    head: usize,
    moments: *mut segfuse_moments,
) -> segfuse_status {
    guard(|| {
        aligned(moments, "moments")?;
        let plan = PLANS.get(plan.id)?;
        let table = MomentTable::zeros(head_of(&plan, head)?);
        let made = segfuse_moments { id: MOMENTS.insert(Mutex::new(table)) };
        // SAFETY: the caller's promise.
        unsafe { set(moments, made, "moments") }
    })
}

/// Destroys moments. Nothing happens for moments that are all zeros.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_moments_destroy(moments: segfuse_moments) -> segfuse_status {
    guard(|| MOMENTS.remove(moments.id))
}

/// Writes how many numbers the moments have: N·C·(moments per class).
///
/// # Safety
/// `count` points to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_moments_count(moments: segfuse_moments, count: *mut usize) -> segfuse_status {
    guard(|| {
        let found = lock(&*MOMENTS.get(moments.id)?).values().len();
        // SAFETY: the caller's promise.
        unsafe { set(count, found, "count") }
    })
}

/// Copies the moments out, for example to reduce them over processes; `segfuse_moments_set` puts them back. All add up.
///
/// # Safety
/// `values` points to `count` doubles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_moments_get(
    moments: segfuse_moments,
    values: *mut f64,
    count: usize,
) -> segfuse_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(values, count, "values")? };
        Ok(place.set(lock(&*MOMENTS.get(moments.id)?).values(), "the moments")?)
    })
}

/// Replaces the moments by numbers that `segfuse_moments_get` gave, or sums of such.
///
/// # Safety
/// `values` points to `count` doubles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_moments_set(
    moments: segfuse_moments,
    values: *const f64,
    count: usize,
) -> segfuse_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let values = unsafe { array(values, count, "values")? };
        let table = MOMENTS.get(moments.id)?;
        let mut table = lock(&table);
        let into = table.values_mut();
        if into.len() != count {
            return Err(Error::BufferLength { role: "the moments", need: into.len() as u64, got: count as u64 }.into());
        }
        into.copy_from_slice(values);
        Ok(())
    })
}

/// Copies the counts out: voxels, and the hard counts `[N, C]` of a problem with SEGFUSE_HARD_COUNTS (else `hard` is null and
/// `hard_count` 0). They are reported, and the loss does not depend on them.
///
/// # Safety
/// `voxels` points to a segfuse_voxels; `hard` is null or points to `hard_count` segfuse_hard_counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_moments_get_counts(
    moments: segfuse_moments,
    voxels: *mut segfuse_voxels,
    hard: *mut segfuse_hard_counts,
    hard_count: usize,
) -> segfuse_status {
    guard(|| {
        aligned(voxels, "voxels")?;
        let table = MOMENTS.get(moments.id)?;
        let table = lock(&table);
        if !hard.is_null() || hard_count > 0 {
            let counts: Vec<segfuse_hard_counts> = table.hard_counts.iter().map(|c| (*c).into()).collect();
            // SAFETY: the caller's promise.
            unsafe { Place::new(hard, hard_count, "hard")? }.set(&counts, "hard counts")?;
        }
        let found = segfuse_voxels { valid: table.valid_voxels, invalid_labels: table.invalid_labels };
        // SAFETY: the caller's promise.
        unsafe { set(voxels, found, "voxels") }
    })
}

/// Replaces the counts; see `segfuse_moments_get_counts`.
///
/// # Safety
/// `hard` is null or points to `hard_count` segfuse_hard_counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_moments_set_counts(
    moments: segfuse_moments,
    voxels: segfuse_voxels,
    hard: *const segfuse_hard_counts,
    hard_count: usize,
) -> segfuse_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let hard = unsafe { array(hard, hard_count, "hard")? };
        let table = MOMENTS.get(moments.id)?;
        let mut table = lock(&table);
        let need = table.hard_counts.len();
        if need != hard_count {
            return Err(Error::BufferLength { role: "hard counts", need: need as u64, got: hard_count as u64 }.into());
        }
        (table.valid_voxels, table.invalid_labels) = (voxels.valid, voxels.invalid_labels);
        table.hard_counts = hard.iter().map(|c| (*c).into()).collect();
        Ok(())
    })
}

/// Adds the moments and counts of another tile of the same samples and classes to `into`.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_moments_merge(into: segfuse_moments, from: segfuse_moments) -> segfuse_status {
    guard(|| {
        // A copy, so that no two locks are held and a table may be added to itself.
        let from = lock(&*MOMENTS.get(from.id)?).clone();
        Ok(lock(&*MOMENTS.get(into.id)?).merge(&from)?)
    })
}

/// The first stage: replaces `moments` by the sums of one head. They are moments of that head, or of one that has the same losses, samples
/// and classes; others are SEGFUSE_OTHER_PLAN. The gradient is not used.
///
/// # Safety
/// `buffers` points to a segfuse_buffers whose addresses hold what they say. Nothing writes to them meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_reduce(
    device: segfuse_device,
    plan: segfuse_plan,
    head: usize,
    buffers: *const segfuse_buffers,
    moments: segfuse_moments,
) -> segfuse_status {
    guard(|| {
        let (cpu, plan) = (cpu(device, "a stage of its own")?, PLANS.get(plan.id)?);
        let table = MOMENTS.get(moments.id)?;
        // Only moments of such a head can be added to its own.
        MomentTable::zeros(head_of(&plan, head)?).merge(&lock(&table))?;
        // SAFETY: the caller's promise.
        let raw = unsafe { one(buffers)? }.raw(head_of(&plan, head)?.problem(), false)?;
        // SAFETY: the caller's promise about the memory, whose sizes are those of the plan.
        let sums = unsafe { cpu.prepare(&plan).reduce_raw(head, &raw)? };
        *lock(&table) = sums;
        Ok(())
    })
}

/// The second stage: the loss from the sums of every head, and the coefficients of every head's gradient.
///
/// # Safety
/// `moments` and `coefficients` point to `heads` values each, the latter written and to be destroyed by the caller; `call` is
/// null or points to a segfuse_call, whose grad_output is not used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_finish(
    device: segfuse_device,
    plan: segfuse_plan,
    moments: *const segfuse_moments,
    heads: usize,
    call: *const segfuse_call,
    coefficients: *mut segfuse_coefficients,
) -> segfuse_status {
    guard(|| {
        let (cpu, plan) = (cpu(device, "a stage of its own")?, PLANS.get(plan.id)?);
        // SAFETY: the caller's promise.
        let (call, moments, place) = unsafe {
            (
                Checked::new(call, &plan)?,
                array(moments, heads, "moments")?,
                Place::new(coefficients, heads, "coefficients")?,
            )
        };
        let tables = moments.iter().map(|m| Ok(lock(&*MOMENTS.get(m.id)?).clone()));
        let tables = tables.collect::<Result<Vec<_>, Failure>>()?;
        let (evaluation, found) = cpu.prepare(&plan).finish(&tables)?;
        call.give(evaluation)?;
        let made = found.into_iter().map(|c| segfuse_coefficients { id: COEFFICIENTS.insert(c) });
        Ok(place.set(&made.collect::<Vec<_>>(), "coefficients")?)
    })
}

/// Destroys coefficients. Nothing happens for coefficients that are all zeros.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_coefficients_destroy(coefficients: segfuse_coefficients) -> segfuse_status {
    guard(|| COEFFICIENTS.remove(coefficients.id))
}

/// The last stage: the gradient of one head from its coefficients, with the `grad_output` of the call. Losses and evaluation
/// of the call are not used.
///
/// # Safety
/// `buffers` points to a segfuse_buffers whose addresses hold what they say, and `call` is null or points to a segfuse_call.
/// Nothing else uses the gradient meanwhile, and nothing writes to the rest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_gradient(
    device: segfuse_device,
    plan: segfuse_plan,
    head: usize,
    buffers: *const segfuse_buffers,
    coefficients: segfuse_coefficients,
    call: *const segfuse_call,
) -> segfuse_status {
    guard(|| {
        let (cpu, plan) = (cpu(device, "a stage of its own")?, PLANS.get(plan.id)?);
        let coefficients = COEFFICIENTS.get(coefficients.id)?;
        // SAFETY: the caller's promise.
        let (buffers, call) = unsafe { (one(buffers)?, Checked::new(call, &plan)?) };
        let raw = buffers.raw(head_of(&plan, head)?.problem(), true)?;
        // SAFETY: the caller's promise about the memory, whose sizes are those of the plan.
        unsafe { cpu.prepare(&plan).gradient_raw(head, &raw, &coefficients, call.grad_output)? };
        Ok(())
    })
}
