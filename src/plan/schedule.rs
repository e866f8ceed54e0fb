//! In which order the passes of a head run.

use super::{PlannedMap, PlannedPart, Schedule};
use crate::explain;
use crate::loss::Absent;
use crate::problem::{Problem, Reduction, Target};
use crate::spec::{Moment, Scope, Slots};

/// What must be known before the gradient of a voxel can be written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// Sums over the target alone.
    Target,
    /// Sums over the prediction of the voxel's own sample.
    Sample,
    /// Sums over the prediction of every sample.
    Everything,
}

/// What the coefficients of one part read.
struct Reads {
    needs: Needs,
    /// A sum over the target that no shape tells.
    own_target: bool,
    /// Such a sum over other samples.
    all_target: bool,
}

pub(super) fn schedule(
    problem: &Problem,
    parts: &[PlannedPart],
    maps: &[PlannedMap],
    moments: &[Moment],
    target_moments: usize,
) -> Schedule {
    let samples = problem.shape.samples();
    let reads: Vec<Reads> = parts.iter().map(|part| reads(problem, part, target_moments)).collect();
    let needs = reads.iter().map(|r| r.needs).max().unwrap_or(Needs::Target);
    // With a dense target and no mask, N is V: nothing needs counting.
    let only_n = moments[..target_moments] == [Moment::N];
    let n_known = only_n && matches!(problem.target, Target::Dense(_)) && !problem.mask && !problem.weights;
    match needs {
        Needs::Target => Schedule::OnePass { census: !n_known && reads.iter().any(|r| r.own_target) },
        // Where a sample's slopes read the targets of all samples, a census would have to go first; measured on the CPU it
        // costs more than the cache gives back.
        Needs::Sample if samples > 1 && !reads.iter().any(|r| r.all_target) => {
            let at_once = (explain::CHUNK_BYTES / explain::sample_bytes(problem, maps).max(1)).clamp(1, samples as u64);
            if at_once == samples as u64 { Schedule::TwoPass } else { Schedule::Chunked { samples: at_once as usize } }
        }
        Needs::Sample | Needs::Everything => Schedule::TwoPass,
    }
}

fn reads(problem: &Problem, part: &PlannedPart, target_moments: usize) -> Reads {
    let mean = part.scope == Scope::Ratio && problem.reduction != Reduction::Sum;
    let predicted = |slots: &[bool]| part.reads.iter().any(|&(slot, m)| m >= target_moments && slots[slot]);
    let slopes = part.slopes.inputs_of(0..part.slopes.outputs().len());
    // A ratio is divided by its denominator; the slopes of `outer` may read the terms.
    let denominator_predicted = mean && predicted(&part.inner.inputs_of(1..2));
    let outer_reads = part.outer.as_ref().is_some_and(|o| o.inputs_of(1..1 + part.terms).contains(&true));
    let needs = if predicted(&slopes) || outer_reads || denominator_predicted {
        let across = part.batch || (denominator_predicted && problem.reduction == Reduction::Mean);
        if across && problem.shape.samples() > 1 { Needs::Everything } else { Needs::Sample }
    } else {
        Needs::Target
    };
    let of_target = part.reads.iter().any(|&(slot, m)| m < target_moments && slopes[slot])
        || slopes[Slots::G_SUM]
        || slopes[Slots::G_MIN];
    let skips = part.absent != Absent::Count;
    Reads {
        needs,
        // A group without a kept voxel has coefficient 0, so group scope always looks at N.
        own_target: of_target || skips || mean || part.scope == Scope::Group,
        all_target: part.batch || (problem.reduction == Reduction::Mean && (skips || mean)),
    }
}
