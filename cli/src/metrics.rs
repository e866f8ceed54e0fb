//! Hard metrics per class, from the counts of all samples together.

use segfuse::HardCounts;
use serde::Serialize;

/// The metrics of a class. A ratio of nothing to nothing is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ClassMetrics {
    pub(crate) class: usize,
    pub(crate) true_positives: u64,
    pub(crate) false_positives: u64,
    pub(crate) false_negatives: u64,
    pub(crate) dice: Option<f64>,
    pub(crate) iou: Option<f64>,
    pub(crate) precision: Option<f64>,
    pub(crate) recall: Option<f64>,
}

/// The metrics of every class, from counts `[N, C]`.
pub(crate) fn per_class(counts: &[HardCounts], classes: usize) -> Vec<ClassMetrics> {
    (0..classes)
        .map(|class| {
            let of_class = || counts.iter().skip(class).step_by(classes);
            let tp: u64 = of_class().map(|c| c.true_positives).sum();
            let fp: u64 = of_class().map(|c| c.false_positives).sum();
            let fn_: u64 = of_class().map(|c| c.false_negatives).sum();
            let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
            ClassMetrics {
                class,
                true_positives: tp,
                false_positives: fp,
                false_negatives: fn_,
                dice: ratio(2 * tp, 2 * tp + fp + fn_),
                iou: ratio(tp, tp + fp + fn_),
                precision: ratio(tp, tp + fp),
                recall: ratio(tp, tp + fn_),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_samples_add_up() {
        let count = |t, p, n| HardCounts { true_positives: t, false_positives: p, false_negatives: n };
        let metrics = per_class(&[count(1, 1, 0), count(0, 0, 0), count(2, 0, 1), count(0, 0, 0)], 2);
        assert_eq!(metrics[0].dice, Some(0.75));
        assert_eq!(metrics[0].iou, Some(0.6));
        assert_eq!(metrics[0].precision, Some(0.75));
        assert_eq!(metrics[0].recall, Some(0.75));
        assert_eq!((metrics[1].dice, metrics[1].recall), (None, None));
    }
}
