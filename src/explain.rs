//! What a plan does, in words and numbers.

use crate::distance::objects::{self, NEAREST_BYTES};
use crate::plan::{Head, Plan, PlannedMap, Schedule};
use crate::problem::{Map, Problem, Target};
use crate::spec::VoxelInput;
use std::fmt;

/// Bytes of samples that a chunk may hold, so that its gradient pass reads from the last-level cache.
pub(crate) const CHUNK_BYTES: u64 = 16 << 20;

/// One pass of a plan.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stage {
    /// distance, census, reduce, finish, gradient or one_pass.
    pub name: &'static str,
    /// Bytes read from the caller's buffers, from made maps and from what objects are found in.
    pub bytes_read: u64,
    /// Bytes written to the caller's buffers, to made maps and to what objects are found in.
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
    /// The maps that are made of target and prediction before the passes.
    pub maps: Vec<&'static str>,
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
    /// Bytes of moments, coefficients and made maps beyond inputs and gradient. What maps are made in while they are made is beside them,
    /// and is the backend's: `workspace_bytes` of its executor has it, but for the objects of the U-Net's map on the CPU. How much those
    /// take depends on the target: 5·m bytes for each voxel of a sample, with m from 2 to 32 (`docs/distance.md`).
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

/// Bytes of a made map, f32 for every voxel of its planes.
fn made_bytes(problem: &Problem, map: &PlannedMap) -> u64 {
    4 * problem.shape.all_voxels() * map.planes(problem.shape.classes()) as u64
}

/// Bytes that a pass over the prediction reads.
fn read_bytes(problem: &Problem, maps: &[PlannedMap]) -> u64 {
    let made = total(maps.iter().map(|map| made_bytes(problem, map)));
    problem.prediction.size() * problem.shape.elements() + target_bytes(problem) + map_bytes(problem) + made
}

/// Bytes of one sample that the gradient pass reads again, and of its gradient.
pub(crate) fn sample_bytes(problem: &Problem, maps: &[PlannedMap]) -> u64 {
    let gradient = problem.gradient_dtype().size() * problem.shape.elements();
    (read_bytes(problem, maps) + gradient) / problem.shape.samples() as u64
}

/// The stage that makes the maps: target and prediction are read where a map is of them, and a map is written along the first
/// axis, then read and written along each of the others. Maps of the target share its transform. An eroded error is read and
/// written once per erosion, and for its slope once more, beside what was kept of the erosion; erosions that are made again because not
/// all were kept are not counted.
fn distance(head: &Head, maps: &[PlannedMap]) -> Option<Stage> {
    let (problem, axes) = (&head.problem, head.problem.shape.spatial().len() as u64);
    let mut stage = Stage { name: "distance", bytes_read: 0, bytes_written: 0 };
    let (mut target, mut prediction, mut transformed) = (false, false, false);
    for map in maps {
        if let (VoxelInput::ErodedError | VoxelInput::ErodedErrorSlope, Some(by)) = (map.input, head.erosions) {
            (target, prediction) = (true, true);
            let slope = map.input == VoxelInput::ErodedErrorSlope;
            stage.bytes_read += made_bytes(problem, map) * by.count as u64 * if slope { 2 } else { 1 };
            stage.bytes_written += made_bytes(problem, map) * by.count as u64;
            continue;
        }
        let of_target = !matches!(map.input, VoxelInput::PredictionSquared | VoxelInput::ContourDistance);
        target |= map.input != VoxelInput::PredictionSquared;
        prediction |= !of_target;
        let (read, written) = match map.input {
            VoxelInput::ObjectDistances => {
                // As on GPUs: the forest is made, joined and gathered; the two nearest objects are written along each axis and read along the next.
                let voxels = problem.shape.all_voxels();
                let (forest, nearest) = (4 * voxels * objects::planes(problem) as u64, voxels * NEAREST_BYTES * axes);
                stage.bytes_read += 2 * forest + nearest;
                stage.bytes_written += forest + nearest;
                (0, 1)
            }
            _ if of_target && std::mem::replace(&mut transformed, true) => (1, 1),
            _ => (axes - 1, axes),
        };
        stage.bytes_read += made_bytes(problem, map) * read;
        stage.bytes_written += made_bytes(problem, map) * written;
    }
    let prediction_bytes = problem.prediction.size() * problem.shape.elements();
    stage.bytes_read += if target || prediction { target_bytes(problem) } else { 0 };
    stage.bytes_read += if prediction { prediction_bytes } else { 0 };
    (!maps.is_empty()).then_some(stage)
}

fn stages(head: &Head) -> Vec<Stage> {
    let problem = &head.problem;
    let gradient = problem.gradient_dtype().size() * problem.shape.elements();
    let stage = |name, bytes_read, bytes_written| Stage { name, bytes_read, bytes_written };
    let read = read_bytes(problem, &head.maps);
    let mut stages = Vec::from_iter(distance(head, &head.maps));
    match head.schedule {
        Schedule::OnePass { census } => {
            stages.extend(census.then(|| stage("census", target_bytes(problem), 0)));
            stages.push(stage("one_pass", read, gradient));
        }
        Schedule::Chunked { .. } | Schedule::TwoPass => {
            stages.push(stage("reduce", read, 0));
            stages.push(stage("gradient", read, gradient));
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
                maps: head.maps.iter().map(|map| map.input.label()).collect(),
                samples_at_once: match head.schedule {
                    Schedule::Chunked { samples, .. } => samples,
                    _ => shape.samples(),
                },
                stages: stages(head),
            }
        })
        .collect();
    let workspace = |head: &Head| {
        let sums = (head.groups() * 8 * (head.moments.len() + head.slope_count())) as u64;
        total(head.maps.iter().map(|map| made_bytes(&head.problem, map)).chain([sums]))
    };
    let forward = |head: &Head| {
        let of_values = |map: &&PlannedMap| map.input != VoxelInput::ErodedErrorSlope;
        let maps: Vec<PlannedMap> = head.maps.iter().filter(of_values).copied().collect();
        let distance = distance(head, &maps).map_or(0, |stage| stage.bytes_read + stage.bytes_written);
        distance + read_bytes(&head.problem, &maps)
    };
    Explanation {
        terms: plan.heads()[0].terms.iter().map(|t| (t.weight, t.name.clone())).collect(),
        workspace_bytes: total(plan.heads().iter().map(workspace)),
        total_bytes: total(heads.iter().flat_map(|h| &h.stages).map(|s| s.bytes_read + s.bytes_written)),
        forward_bytes: total(plan.heads().iter().map(forward)),
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
            if !head.maps.is_empty() {
                writeln!(f, "maps       {}", head.maps.join(", "))?;
            }
            if head.samples_at_once < head.shape[0] {
                writeln!(f, "chunks     {} of {} samples at a time", head.samples_at_once, head.shape[0])?;
            }
            for stage in &head.stages {
                let (read, written) = (stage.bytes_read, stage.bytes_written);
                writeln!(f, "  {:<9} reads {read:>14} B   writes {written:>14} B", stage.name)?;
            }
        }
        let maps = if self.heads.iter().any(|head| !head.maps.is_empty()) {
            ", coefficients and maps"
        } else {
            " and coefficients"
        };
        writeln!(f, "workspace  {} B of moments{maps}", self.workspace_bytes)?;
        write!(f, "total      {} B with gradient, {} B without", self.total_bytes, self.forward_bytes)
    }
}
