//! Moments to loss and coefficients, in double precision.

use crate::error::Error;
use crate::evaluation::{Evaluation, HeadEvaluation, TermEvaluation};
use crate::loss::Absent;
use crate::moments::{Coefficients, MomentTable};
use crate::plan::{Head, Plan, PlannedPart};
use crate::problem::Reduction;
use crate::spec::{Moment, Scope, Slots};
use crate::validate;

/// The loss of a plan and the coefficients of its heads, from a table per head.
pub(crate) fn finish_plan(plan: &Plan, tables: &[MomentTable]) -> Result<(Evaluation, Vec<Coefficients>), Error> {
    validate::heads(plan, tables.len())?;
    let (mut results, mut coefficients) = (Vec::new(), Vec::new());
    for (head, table) in plan.heads().iter().zip(tables) {
        validate::table(head, table)?;
        let (result, c) = finish(head, table);
        results.push(result);
        coefficients.push(c);
    }
    Ok((total(plan, results), coefficients))
}

/// The loss of a plan from what its heads gave.
pub(crate) fn total(plan: &Plan, heads: Vec<HeadEvaluation>) -> Evaluation {
    let mut losses = vec![0.0; plan.losses()];
    for (head, result) in plan.heads().iter().zip(&heads) {
        losses.iter_mut().zip(&result.losses).for_each(|(total, x)| *total += head.weight * x);
    }
    Evaluation { losses, heads }
}

/// The loss of a head and ∂loss/∂moment, the head's weight included in the latter.
pub(crate) fn finish(head: &Head, table: &MomentTable) -> (HeadEvaluation, Coefficients) {
    let (samples, classes) = (table.samples, table.classes);
    let losses = if head.problem.reduction == Reduction::None { samples } else { 1 };
    let mut coefficients = Coefficients {
        samples,
        classes,
        count: head.slope_count(),
        values: vec![0.0; samples * classes * head.slope_count()],
        fingerprint: head.fingerprint,
    };
    let mut terms: Vec<TermEvaluation> = head
        .terms
        .iter()
        .map(|t| TermEvaluation { name: t.name.clone(), weight: t.weight, values: vec![0.0; losses], groups: vec![] })
        .collect();
    for part in &head.parts {
        let term = &mut terms[part.term];
        let factor = head.weight * term.weight * part.weight;
        let result = PartFinish::new(head, table, part).run(factor, &mut coefficients);
        for (value, part_value) in term.values.iter_mut().zip(&result.values) {
            *value += part.weight * part_value;
        }
        // Halves of a compound that are grouped in different ways have no groups in common.
        let alike = |other: &PlannedPart| other.scope == part.scope && other.batch == part.batch;
        if head.parts.iter().filter(|other| other.term == part.term).all(alike) {
            merge_groups(&mut term.groups, result.groups, part.weight);
        }
    }
    let mut totals = vec![0.0; losses];
    for term in &terms {
        totals.iter_mut().zip(&term.values).for_each(|(total, value)| *total += term.weight * value);
    }
    let evaluation = HeadEvaluation {
        losses: totals,
        terms,
        valid_voxels: table.valid_voxels,
        invalid_labels: table.invalid_labels,
        hard_counts: head.problem.hard_counts.then(|| table.hard_counts.clone()),
    };
    (evaluation, coefficients)
}

/// Adds the groups of a part to those of its term.
fn merge_groups(term: &mut Vec<Vec<Option<f64>>>, part: Vec<Vec<Option<f64>>>, weight: f64) {
    let scaled = |x: Option<f64>| x.map(|x| weight * x);
    if term.is_empty() {
        *term = part.into_iter().map(|row| row.into_iter().map(scaled).collect()).collect();
    } else {
        for (into, from) in term.iter_mut().flatten().zip(part.into_iter().flatten()) {
            *into = into.zip(scaled(from)).map(|(a, b)| a + b);
        }
    }
}

struct PartResult {
    values: Vec<f64>,
    groups: Vec<Vec<Option<f64>>>,
}

/// One group of one part: what its formula gave, and how much it counts.
#[derive(Clone)]
struct Group {
    terms: Vec<f64>,
    /// terms × moments
    slopes: Vec<f64>,
    /// The class weight; 0 where the class is left out.
    weight: f64,
    /// 0 where the value is forced to 0, else 1.
    live: f64,
}

struct PartFinish<'a> {
    head: &'a Head,
    table: &'a MomentTable,
    part: &'a PlannedPart,
    pools: usize,
}

impl<'a> PartFinish<'a> {
    fn new(head: &'a Head, table: &'a MomentTable, part: &'a PlannedPart) -> Self {
        let pools = if part.batch { 1 } else { table.samples };
        PartFinish { head, table, part, pools }
    }

    /// The samples whose sums make up a pool.
    fn samples_of(&self, pool: usize) -> std::ops::Range<usize> {
        if self.part.batch { 0..self.table.samples } else { pool..pool + 1 }
    }

    fn pooled(&self, pool: usize, class: usize) -> Vec<f64> {
        let mut sums = vec![0.0; self.table.count];
        for sample in self.samples_of(pool) {
            sums.iter_mut().zip(self.table.group(sample, class)).for_each(|(a, b)| *a += b);
        }
        sums
    }

    fn counted(&self, class: usize) -> bool {
        class > 0 || self.part.background
    }

    fn groups(&self) -> Vec<Group> {
        let (classes, part) = (self.table.classes, self.part);
        let n_index = self.head.moment_index(Moment::N).expect("N is always kept");
        let g_index = self.head.moment_index(Moment::G);
        let mut groups = Vec::with_capacity(self.pools * classes);
        let mut registers = Vec::new();
        for pool in 0..self.pools {
            let sums: Vec<Vec<f64>> = (0..classes).map(|class| self.pooled(pool, class)).collect();
            // A NaN size is not absent: it must reach the loss.
            let sizes: Vec<f64> = sums.iter().map(|s| g_index.map_or(f64::NAN, |g| s[g])).collect();
            let counted = || (0..classes).filter(|&c| self.counted(c)).map(|c| sizes[c]);
            let g_sum: f64 = counted().sum();
            // Of NaN sizes the first stays.
            let least = |a: f64, b: f64| if a.is_nan() || b >= a { a } else { b };
            let g_min = counted().filter(|g| *g > 0.0 || g.is_nan()).fold(f64::INFINITY, least);
            for class in 0..classes {
                let weight = part.class_weights.as_ref().map_or(1.0, |w| w[class]);
                let absent = sizes[class] <= 0.0;
                let mut group = Group {
                    terms: vec![0.0; part.terms],
                    slopes: vec![0.0; part.terms * part.slope_moments.len()],
                    weight: if self.counted(class) && !(absent && part.absent == Absent::Skip) { weight } else { 0.0 },
                    live: if sums[class][n_index] == 0.0 || (absent && part.absent == Absent::Zero) {
                        0.0
                    } else {
                        1.0
                    },
                };
                if group.weight != 0.0 {
                    let mut inputs = [0.0; Slots::COUNT];
                    for &(slot, moment) in &part.reads {
                        inputs[slot] = sums[class][moment];
                    }
                    inputs[Slots::CLASS] = class as f64;
                    inputs[Slots::G_SUM] = g_sum;
                    inputs[Slots::G_MIN] = if g_min == f64::INFINITY { 0.0 } else { g_min };
                    part.inner.run(&inputs, &mut registers, &mut group.terms);
                    part.slopes.run(&inputs, &mut registers, &mut group.slopes);
                }
                groups.push(group);
            }
        }
        groups
    }

    fn run(&self, factor: f64, coefficients: &mut Coefficients) -> PartResult {
        let groups = self.groups();
        match self.part.scope {
            Scope::Group => self.group_scope(&groups, factor, coefficients),
            Scope::Ratio => self.ratio_scope(&groups, factor, coefficients),
            Scope::Pool => self.pool_scope(&groups, factor, coefficients),
        }
    }

    /// The ranges of pools that share one mean: all of them, or one each.
    fn means(&self) -> Vec<std::ops::Range<usize>> {
        match self.head.problem.reduction {
            Reduction::None => (0..self.pools).map(|pool| pool..pool + 1).collect(),
            Reduction::Mean | Reduction::Sum => std::iter::once(0..self.pools).collect(),
        }
    }

    fn is_sum(&self) -> bool {
        self.head.problem.reduction == Reduction::Sum
    }

    /// Adds `scale`·∂term/∂moment of a group to the coefficients of its samples.
    fn add(&self, coefficients: &mut Coefficients, pool: usize, class: usize, group: &Group, term: usize, scale: f64) {
        // A factor of 0 adds nothing, even where the other is not finite.
        if scale == 0.0 {
            return;
        }
        let moments = &self.part.slope_moments;
        let slopes = &group.slopes[term * moments.len()..(term + 1) * moments.len()];
        for sample in self.samples_of(pool) {
            let start = (sample * coefficients.classes + class) * coefficients.count;
            for (&moment, slope) in moments.iter().zip(slopes).filter(|(_, slope)| **slope != 0.0) {
                coefficients.values[start + moment - self.head.target_moments] += scale * slope;
            }
        }
    }

    fn group_scope(&self, groups: &[Group], factor: f64, coefficients: &mut Coefficients) -> PartResult {
        let classes = self.table.classes;
        let mut values = Vec::new();
        for pools in self.means() {
            let range = pools.start * classes..pools.end * classes;
            let total: f64 = groups[range.clone()].iter().map(|g| g.weight).sum();
            let share = if self.is_sum() { 1.0 } else { reciprocal(total) };
            let value =
                groups[range.clone()].iter().filter(|g| g.live * g.weight != 0.0).map(|g| g.weight * g.terms[0]);
            values.push(value.sum::<f64>() * share);
            for index in range {
                let group = &groups[index];
                let scale = factor * share * group.weight * group.live;
                self.add(coefficients, index / classes, index % classes, group, 0, scale);
            }
        }
        let shown = |(index, g): (usize, &Group)| {
            (self.counted(index % classes) && g.weight != 0.0).then(|| if g.live == 0.0 { 0.0 } else { g.terms[0] })
        };
        let shown: Vec<Option<f64>> = groups.iter().enumerate().map(shown).collect();
        PartResult { values, groups: shown.chunks(classes).map(<[_]>::to_vec).collect() }
    }

    fn ratio_scope(&self, groups: &[Group], factor: f64, coefficients: &mut Coefficients) -> PartResult {
        let classes = self.table.classes;
        let numerator = |g: &Group| if g.weight * g.live == 0.0 { 0.0 } else { g.weight * g.terms[0] };
        let denominator = |g: &Group| if g.weight == 0.0 { 0.0 } else { g.weight * g.terms[1] };
        let ratio = |groups: &[Group]| {
            let top: f64 = groups.iter().map(numerator).sum();
            let bottom: f64 = groups.iter().map(denominator).sum();
            // A NaN anywhere shows, also where it made the denominator 0 or less.
            let value = if bottom == 0.0 && !top.is_nan() { 0.0 } else { top / bottom };
            (top, bottom, value)
        };
        let mut values = Vec::new();
        for pools in self.means() {
            let range = pools.start * classes..pools.end * classes;
            let (top, bottom, value) = ratio(&groups[range.clone()]);
            let share = if self.is_sum() { 1.0 } else { reciprocal(bottom) };
            values.push(if self.is_sum() { top } else { value });
            for index in range {
                let group = &groups[index];
                let (pool, class) = (index / classes, index % classes);
                let scale = factor * share * group.weight;
                self.add(coefficients, pool, class, group, 0, scale * group.live);
                if !self.is_sum() {
                    self.add(coefficients, pool, class, group, 1, -scale * value);
                }
            }
        }
        let per_pool = groups.chunks(classes).map(|pool| vec![Some(ratio(pool).2)]).collect();
        PartResult { values, groups: per_pool }
    }

    fn pool_scope(&self, groups: &[Group], factor: f64, coefficients: &mut Coefficients) -> PartResult {
        let (classes, part) = (self.table.classes, self.part);
        let outer = part.outer.as_ref().expect("pool scope has an outer program");
        let share = match self.head.problem.reduction {
            Reduction::Mean => 1.0 / self.pools as f64,
            Reduction::Sum | Reduction::None => 1.0,
        };
        let mut registers = Vec::new();
        let mut pool_values = Vec::new();
        for pool in 0..self.pools {
            let members = &groups[pool * classes..(pool + 1) * classes];
            let mut terms = vec![0.0; part.terms];
            for group in members.iter().filter(|g| g.weight * g.live != 0.0) {
                terms.iter_mut().zip(&group.terms).for_each(|(total, term)| *total += group.weight * term);
            }
            let mut results = vec![0.0; 1 + part.terms];
            // A pool without a kept voxel has value 0 and slope 0.
            if members.iter().any(|g| g.weight * g.live != 0.0) {
                outer.run(&terms, &mut registers, &mut results);
            }
            pool_values.push(results[0]);
            for (class, group) in members.iter().enumerate() {
                for term in 0..part.terms {
                    let scale = factor * share * group.weight * group.live * results[1 + term];
                    self.add(coefficients, pool, class, group, term, scale);
                }
            }
        }
        let groups = pool_values.iter().map(|&value| vec![Some(value)]).collect();
        let values = match self.head.problem.reduction {
            Reduction::None => pool_values,
            Reduction::Mean | Reduction::Sum => vec![pool_values.iter().sum::<f64>() * share],
        };
        PartResult { values, groups }
    }
}

fn reciprocal(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}
