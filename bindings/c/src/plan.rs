//! Plans.

use crate::call::segfuse_buffers;
use crate::handle::Table;
use crate::memory::{aligned, array, one, overwrite, set, structs};
use crate::problem::segfuse_problem;
use crate::status::{Failure, Outcome, guard, segfuse_status};
use crate::text::{self, segfuse_format};
use segfuse::{Objective, Plan, Problem};
use serde_json::json;
use std::ffi::c_char;

/// An objective compiled for a problem: made once, used for every step of a training. Immutable; several threads may use it at
/// once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_plan {
    /// Never 0 for a plan that was made.
    pub id: u64,
}

pub(crate) static PLANS: Table<Plan> = Table::new("plan");

/// Compiles a spec string such as "dice + 0.5*focal(gamma=2)" for a problem.
///
/// # Safety
/// `spec` is a NUL-terminated string; `problem` points to a segfuse_problem with its `size` set; `plan` points to a
/// segfuse_plan.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_plan_create(
    spec: *const c_char,
    problem: *const segfuse_problem,
    plan: *mut segfuse_plan,
) -> segfuse_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let problem = one(problem)?.read()?;
            create(spec, &[(1.0, problem)], plan)
        }
    })
}

/// Compiles a spec string for several heads of different size, as in deep supervision: the loss is Σ weight·(loss of the head).
///
/// # Safety
/// As `segfuse_plan_create`; `problems` and `weights` point to `heads` values each, the problems all of the same `size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_plan_create_heads(
    spec: *const c_char,
    problems: *const segfuse_problem,
    weights: *const f64,
    heads: usize,
    plan: *mut segfuse_plan,
) -> segfuse_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let weights = array(weights, heads, "weights")?;
            let problems = structs(problems, heads)?;
            let heads = weights.iter().zip(&problems).map(|(weight, problem)| Ok((*weight, problem.read()?)));
            create(spec, &heads.collect::<Result<Vec<_>, Failure>>()?, plan)
        }
    })
}

/// # Safety
/// As [`segfuse_plan_create`].
unsafe fn create(spec: *const c_char, heads: &[(f64, Problem)], plan: *mut segfuse_plan) -> Outcome {
    aligned(plan, "plan")?;
    // SAFETY: the caller's promise.
    let objective: Objective = unsafe { text::read(spec, "spec")? }.parse()?;
    let made = segfuse_plan { id: PLANS.insert(Plan::with_heads(&objective, heads)?) };
    // SAFETY: the caller's promise.
    unsafe { set(plan, made, "plan") }
}

/// Destroys a plan; calls that run with it end well. Nothing happens for a plan that is all zeros.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_plan_destroy(plan: segfuse_plan) -> segfuse_status {
    guard(|| PLANS.remove(plan.id))
}

/// The sizes of a plan.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_sizes {
    /// Heads of the plan.
    pub heads: usize,
    /// Numbers in the loss: 1, or one per sample with SEGFUSE_PER_SAMPLE.
    pub losses: usize,
    /// Bytes of moments and coefficients that a call on the CPU allocates beyond the caller's buffers.
    pub workspace_bytes: u64,
    /// Bytes that a call with gradient moves, if every pass went to memory.
    pub total_bytes: u64,
}

/// Writes the sizes of a plan.
///
/// # Safety
/// `sizes` points to a segfuse_sizes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_plan_sizes(plan: segfuse_plan, sizes: *mut segfuse_sizes) -> segfuse_status {
    guard(|| {
        let plan = PLANS.get(plan.id)?;
        let explanation = plan.explain();
        let found = segfuse_sizes {
            heads: plan.heads().len(),
            losses: plan.losses(),
            workspace_bytes: explanation.workspace_bytes,
            total_bytes: explanation.total_bytes,
        };
        // SAFETY: the caller's promise.
        unsafe { set(sizes, found, "sizes") }
    })
}

/// Writes the buffers that a head needs: every pointer null, and every number of bytes as the plan expects it, 0 where there
/// is no such buffer. Allocate, fill in the pointers, and call.
///
/// # Safety
/// `buffers` points to a segfuse_buffers with its `size` set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_plan_buffers(
    plan: segfuse_plan,
    head: usize,
    buffers: *mut segfuse_buffers,
) -> segfuse_status {
    guard(|| {
        let plan = PLANS.get(plan.id)?;
        let needed = segfuse_buffers::needed(head_of(&plan, head)?.problem());
        // SAFETY: the caller's promise.
        unsafe { overwrite(buffers, &needed) }
    })
}

/// Writes what a plan does: moments, stages, bytes, workspace. See `segfuse_list_losses` for how texts are written.
///
/// # Safety
/// `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_plan_explain(
    plan: segfuse_plan,
    format: segfuse_format,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> segfuse_status {
    guard(|| {
        let explanation = PLANS.get(plan.id)?.explain();
        let text = text::pick(format, || explanation.to_string(), || json!(explanation).to_string())?;
        // SAFETY: the caller's promise.
        unsafe { text::write(&text, buffer, capacity, length) }
    })
}

/// A head by its number.
pub(crate) fn head_of(plan: &Plan, head: usize) -> Result<&segfuse::Head, Failure> {
    let heads = plan.heads();
    let none = || Failure::argument(format!("head {head} is not one of the plan's {}", heads.len()));
    heads.get(head).ok_or_else(none)
}
