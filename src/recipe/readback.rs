//! What a device wrote, as the host sees it.

use super::{result_doubles, result_numbers, result_words};
use crate::evaluation::{Evaluation, HardCounts};
use crate::finish;
use crate::moments::{Coefficients, MomentTable};
use crate::plan::{Head, Plan};

/// Where the numbers of a result lie: first all of them as f32, then all as doubles.
///
/// The numbers are the losses of the plan (1, or one per sample); then for each head the values of its terms, without their
/// factors, one number per loss each; the voxels that counted; the labels out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultLayout {
    /// How many numbers there are.
    pub numbers: u64,
    /// Byte at which the doubles begin; the f32 begin at 0.
    pub doubles_at: u64,
    /// Bytes in all.
    pub bytes: u64,
}

impl ResultLayout {
    pub(crate) fn new(plan: &Plan) -> ResultLayout {
        ResultLayout {
            numbers: result_numbers(plan),
            doubles_at: 4 * result_doubles(plan),
            bytes: 4 * result_words(plan),
        }
    }
}

/// What the device computed: losses and terms from its finish step, groups and counts from its sums.
pub(crate) fn evaluation(plan: &Plan, tables: &[MomentTable], result: &[u8]) -> Evaluation {
    let doubles: Vec<f64> = bytemuck::pod_collect_to_vec(&result[ResultLayout::new(plan).doubles_at as usize..]);
    let mut numbers = doubles.into_iter();
    let losses: Vec<f64> = numbers.by_ref().take(plan.losses()).collect();
    let mut heads = Vec::new();
    for (head, table) in plan.heads().iter().zip(tables) {
        let (mut evaluation, _) = finish::finish(head, table);
        for term in &mut evaluation.terms {
            term.values = numbers.by_ref().take(plan.losses()).collect();
        }
        let [_valid, _invalid] = [numbers.next(), numbers.next()];
        evaluation.losses.iter_mut().enumerate().for_each(|(k, loss)| {
            *loss = evaluation.terms.iter().map(|term| term.weight * term.values[k]).sum();
        });
        heads.push(evaluation);
    }
    Evaluation { losses, heads }
}

/// The sums of a head from the rows that the device made: doubles `[N][row]`.
pub(crate) fn table(head: &Head, bytes: &[u8]) -> MomentTable {
    let mut table = MomentTable::zeros(head);
    let rows: Vec<f64> = bytemuck::pod_collect_to_vec(bytes);
    let (classes, count) = (table.classes, table.count);
    for (sample, row) in rows.chunks_exact(rows.len() / table.samples).enumerate() {
        let (moments, rest) = row.split_at(classes * count);
        table.values[sample * classes * count..][..classes * count].copy_from_slice(moments);
        let [hard @ .., valid, invalid] = rest else { unreachable!("a row ends with two counts of voxels") };
        table.valid_voxels += *valid as u64;
        table.invalid_labels += *invalid as u64;
        for (class, counts) in hard.chunks_exact(3).enumerate() {
            table.hard_counts[sample * classes + class] = HardCounts {
                true_positives: counts[0] as u64,
                false_positives: counts[1] as u64,
                false_negatives: counts[2] as u64,
            };
        }
    }
    table
}

/// The coefficients of a head as the device rounded them: f32 `[N][C][slope count]`.
pub(crate) fn coefficients(head: &Head, bytes: &[u8]) -> Coefficients {
    let shape = &head.problem.shape;
    Coefficients {
        samples: shape.samples(),
        classes: shape.classes(),
        count: head.slope_count(),
        values: bytemuck::pod_collect_to_vec::<u8, f32>(bytes).into_iter().map(f64::from).collect(),
        fingerprint: head.fingerprint,
    }
}
