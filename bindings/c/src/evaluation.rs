//! What a call found out, beyond the loss.

use crate::handle::Table;
use crate::memory::{Place, set};
use crate::status::{Failure, guard, segfuse_status};
use crate::text;
use segfuse::{Evaluation, HeadEvaluation};
use serde_json::json;
use std::ffi::c_char;

/// The result of a call in full: losses of heads and terms, values of groups, counts. Destroy it with
/// `segfuse_evaluation_destroy`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_evaluation {
    /// Never 0 for an evaluation that was made.
    pub id: u64,
}

/// True positives, false positives and false negatives of the hard prediction.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_hard_counts {
    /// Predicted and true.
    pub true_positives: u64,
    /// Predicted, not true.
    pub false_positives: u64,
    /// True, not predicted.
    pub false_negatives: u64,
}

impl From<segfuse::HardCounts> for segfuse_hard_counts {
    fn from(c: segfuse::HardCounts) -> segfuse_hard_counts {
        segfuse_hard_counts {
            true_positives: c.true_positives,
            false_positives: c.false_positives,
            false_negatives: c.false_negatives,
        }
    }
}

impl From<segfuse_hard_counts> for segfuse::HardCounts {
    fn from(c: segfuse_hard_counts) -> segfuse::HardCounts {
        segfuse::HardCounts {
            true_positives: c.true_positives,
            false_positives: c.false_positives,
            false_negatives: c.false_negatives,
        }
    }
}

/// How many voxels a call counted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct segfuse_voxels {
    /// Voxels that counted, of N·V.
    pub valid: u64,
    /// Labels out of range that were not masked out; their voxels did not count.
    pub invalid_labels: u64,
}

pub(crate) static EVALUATIONS: Table<Evaluation> = Table::new("evaluation");

fn head_of(evaluation: &Evaluation, head: usize) -> Result<&HeadEvaluation, Failure> {
    let heads = evaluation.heads.len();
    evaluation.heads.get(head).ok_or_else(|| Failure::argument(format!("head {head} is not one of {heads}")))
}

/// Destroys an evaluation. Nothing happens for one that is all zeros.
#[unsafe(no_mangle)]
pub extern "C" fn segfuse_evaluation_destroy(evaluation: segfuse_evaluation) -> segfuse_status {
    guard(|| EVALUATIONS.remove(evaluation.id))
}

/// Writes how many voxels of a head counted, and how many labels were out of range.
///
/// # Safety
/// `voxels` points to a segfuse_voxels.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_evaluation_voxels(
    evaluation: segfuse_evaluation,
    head: usize,
    voxels: *mut segfuse_voxels,
) -> segfuse_status {
    guard(|| {
        let evaluation = EVALUATIONS.get(evaluation.id)?;
        let head = head_of(&evaluation, head)?;
        let found = segfuse_voxels { valid: head.valid_voxels, invalid_labels: head.invalid_labels };
        // SAFETY: the caller's promise.
        unsafe { set(voxels, found, "voxels") }
    })
}

/// Writes the value of a term of the objective, without its factor: as many numbers as the plan has losses.
///
/// # Safety
/// `values` points to `count` doubles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_evaluation_term(
    evaluation: segfuse_evaluation,
    head: usize,
    term: usize,
    values: *mut f64,
    count: usize,
) -> segfuse_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(values, count, "values")? };
        let evaluation = EVALUATIONS.get(evaluation.id)?;
        let terms = &head_of(&evaluation, head)?.terms;
        let none = || Failure::argument(format!("term {term} is not one of {}", terms.len()));
        Ok(place.set(&terms.get(term).ok_or_else(none)?.values, "the values of a term")?)
    })
}

/// Writes the counts of the hard prediction, `[N, C]`, of a problem with SEGFUSE_HARD_COUNTS.
///
/// # Safety
/// `counts` points to `count` segfuse_hard_counts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_evaluation_hard_counts(
    evaluation: segfuse_evaluation,
    head: usize,
    counts: *mut segfuse_hard_counts,
    count: usize,
) -> segfuse_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { Place::new(counts, count, "counts")? };
        let evaluation = EVALUATIONS.get(evaluation.id)?;
        let Some(found) = &head_of(&evaluation, head)?.hard_counts else {
            return Err(Failure::argument("the problem was described without SEGFUSE_HARD_COUNTS"));
        };
        let found: Vec<segfuse_hard_counts> = found.iter().map(|c| (*c).into()).collect();
        Ok(place.set(&found, "hard counts")?)
    })
}

/// Writes all of it as JSON: losses and heads, a head with losses, terms (name, weight, values, groups `[pools, classes]` with
/// null where a class is left out), valid_voxels, invalid_labels, hard_counts. See `segfuse_list_losses` for how texts are
/// written.
///
/// # Safety
/// `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn segfuse_evaluation_json(
    evaluation: segfuse_evaluation,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> segfuse_status {
    guard(|| {
        let text = json!(*EVALUATIONS.get(evaluation.id)?).to_string();
        // SAFETY: the caller's promise.
        unsafe { text::write(&text, buffer, capacity, length) }
    })
}
