//! What a plan does, in words and numbers.

use crate::plan::{Head, Plan, Schedule};
use crate::problem::{Map, Problem, Target};
use std::fmt;

/// Bytes of samples that a chunk may hold, so that its gradient pass reads from the last-level cache.
pub(crate) const CHUNK_BYTES: u64 = 16 << 20;

/// One pass of a plan.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stage {
    /// census, reduce, finish, gradient or one_pass.
    pub name: &'static str,
    /// Bytes read from the caller's buffers.
    pub bytes_read: u64,
    /// Bytes written to the caller's buffers.
    pub bytes_written: u64,
}

/// What one head of a plan does.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HeadExplanation {
    /// N, C and the spatial extents.
    pub shape: Vec<usize>,
    /// Its factor in the loss.
    pub weight: f64,
    /// The sums that are kept per sample and class.
    pub moments: Vec<String>,
    /// Samples that are reduced and differentiated together.
    pub samples_at_once: usize,
    /// The passes of a call that asks for the gradient.
    pub stages: Vec<Stage>,
}

/// What a plan does, in words and numbers; `Display` gives text.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Explanation {
    /// The objective's terms with their weights.
    pub terms: Vec<(f64, String)>,
    /// The heads, in order.
    pub heads: Vec<HeadExplanation>,
    /// Bytes of moments and coefficients beyond inputs and gradient.
    pub workspace_bytes: u64,
    /// Bytes of a call with gradient, if every pass went to memory.
    pub total_bytes: u64,
    /// Bytes of a call without gradient.
    pub forward_bytes: u64,
}

impl Explanation {
    /// The least time in seconds at `bytes_per_second`, if every pass went to memory.
    pub fn floor_seconds(&self, bytes_per_second: f64) -> f64 {
        self.total_bytes as f64 / bytes_per_second
    }
}

/// A sum over heads; one head fits by the limits of a shape, many of the largest might not.
fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// Bytes of the target and of what says which voxels count.
fn target_bytes(problem: &Problem) -> u64 {
    let (Target::Labels(dtype) | Target::Dense(dtype)) = problem.target;
    let voxels = problem.shape.all_voxels();
    dtype.size() * problem.target_elements()
        + if problem.mask { voxels } else { 0 }
        + if problem.weights { 4 * voxels } else { 0 }
}

fn map_bytes(problem: &Problem) -> u64 {
    match problem.map {
        None => 0,
        Some(Map::Shared) => 4 * problem.shape.all_voxels(),
        Some(Map::PerClass) => 4 * problem.shape.elements(),
    }
}

/// Bytes that a pass over the prediction reads.
fn read_bytes(problem: &Problem) -> u64 {
    problem.prediction.size() * problem.shape.elements() + target_bytes(problem) + map_bytes(problem)
}

/// Bytes of one sample that the gradient pass reads again, and of its gradient.
pub(crate) fn sample_bytes(problem: &Problem) -> u64 {
    let gradient = problem.gradient_dtype().size() * problem.shape.elements();
    (read_bytes(problem) + gradient) / problem.shape.samples() as u64
}

fn stages(head: &Head) -> Vec<Stage> {
    let problem = &head.problem;
    let gradient = problem.gradient_dtype().size() * problem.shape.elements();
    let stage = |name, bytes_read, bytes_written| Stage { name, bytes_read, bytes_written };
    let mut stages = Vec::new();
    match head.schedule {
        Schedule::OnePass { census } => {
            stages.extend(census.then(|| stage("census", target_bytes(problem), 0)));
            stages.push(stage("one_pass", read_bytes(problem), gradient));
        }
        Schedule::Chunked { .. } | Schedule::TwoPass => {
            stages.push(stage("reduce", read_bytes(problem), 0));
            stages.push(stage("gradient", read_bytes(problem), gradient));
        }
    }
    // The finish step stands after the last pass that sums; it touches no buffer of the caller.
    let after = stages.iter().rposition(|s| s.name != "gradient").map_or(0, |i| i + 1);
    stages.insert(after, stage("finish", 0, 0));
    stages
}

pub(crate) fn explain(plan: &Plan) -> Explanation {
    let heads: Vec<HeadExplanation> = plan
        .heads()
        .iter()
        .map(|head| {
            let shape = head.problem.shape();
            HeadExplanation {
                shape: [shape.samples(), shape.classes()].into_iter().chain(shape.spatial().iter().copied()).collect(),
                weight: head.weight,
                moments: head.moments.iter().map(|m| m.label()).collect(),
                samples_at_once: match head.schedule {
                    Schedule::Chunked { samples, .. } => samples,
                    _ => shape.samples(),
                },
                stages: stages(head),
            }
        })
        .collect();
    let workspace = |head: &Head| (head.groups() * 8 * (head.moments.len() + head.slope_count())) as u64;
    Explanation {
        terms: plan.heads()[0].terms.iter().map(|t| (t.weight, t.name.clone())).collect(),
        workspace_bytes: total(plan.heads().iter().map(workspace)),
        total_bytes: total(heads.iter().flat_map(|h| &h.stages).map(|s| s.bytes_read + s.bytes_written)),
        forward_bytes: total(plan.heads().iter().map(|h| read_bytes(&h.problem))),
        heads,
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> = self.terms.iter().map(|(weight, name)| format!("{weight} × {name}")).collect();
        writeln!(f, "objective  {}", terms.join("  +  "))?;
        for head in &self.heads {
            let shape: Vec<String> = head.shape.iter().map(usize::to_string).collect();
            writeln!(f, "head       [{}], weight {}", shape.join(", "), head.weight)?;
            writeln!(f, "moments    {} per sample and class", head.moments.join(", "))?;
            if head.samples_at_once < head.shape[0] {
                writeln!(f, "chunks     {} of {} samples at a time", head.samples_at_once, head.shape[0])?;
            }
            for stage in &head.stages {
                let (read, written) = (stage.bytes_read, stage.bytes_written);
                writeln!(f, "  {:<9} reads {read:>14} B   writes {written:>14} B", stage.name)?;
            }
        }
        writeln!(f, "workspace  {} B of moments and coefficients", self.workspace_bytes)?;
        write!(f, "total      {} B with gradient, {} B without", self.total_bytes, self.forward_bytes)
    }
}
