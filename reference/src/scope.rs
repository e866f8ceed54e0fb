//! Groups, pools and the three ways in which their values become the loss.

use std::ops::Range;

use crate::dual::{Dual, times};
use crate::problem::{Field, Reduction, Voxel};
use crate::term::Term;

/// One class of one pool: the kept voxels over which the sums run.
pub(crate) struct Group<'a> {
    field: &'a Field<'a>,
    samples: Range<usize>,
    /// The class.
    pub(crate) class: usize,
    /// The class weight w.
    pub(crate) w: f64,
    /// G summed over the classes of the pool.
    pub(crate) pool_g: f64,
}

impl<'a> Group<'a> {
    /// The kept voxels, with their positions in an `[N, V]` array.
    fn kept(&self) -> impl Iterator<Item = (usize, &'a Voxel)> {
        let (field, class) = (self.field, self.class);
        let problem = field.problem;
        let positions = self.samples.clone().flat_map(move |n| (0..problem.voxels).map(move |v| (n, v)));
        positions
            .map(move |(n, v)| (problem.voxel(n, v), &field.voxels[problem.element(n, class, v)]))
            .filter(|(_, x)| x.kept)
    }

    /// Σ m·f of what depends on the prediction.
    pub(crate) fn sum(&self, f: impl Fn(&Voxel) -> Dual) -> Dual {
        self.kept().map(|(_, x)| times(x.m, f(x))).sum()
    }

    /// Σ m·f of what does not.
    pub(crate) fn total(&self, f: impl Fn(&Voxel) -> f64) -> f64 {
        self.kept().map(|(_, x)| x.m * f(x)).sum()
    }

    /// Σ m·f, where f is also given the probabilities of all the classes at the voxel.
    pub(crate) fn sum_with_classes(&self, f: impl Fn(&Voxel, &[Dual]) -> Dual) -> Dual {
        let problem = self.field.problem;
        let classes = |position: usize| -> Vec<Dual> {
            let (n, v) = (position / problem.voxels, position % problem.voxels);
            (0..problem.classes).map(|c| self.field.voxels[problem.element(n, c, v)].p).collect()
        };
        self.kept().map(|(position, x)| times(x.m, f(x, &classes(position)))).sum()
    }

    /// Σ m·f, where f is given all voxels of an image at once, those that are not kept as well, and gives a value for each.
    pub(crate) fn sum_of_images(&self, f: impl Fn(&[Voxel]) -> Vec<Dual>) -> Dual {
        let problem = self.field.problem;
        let of_sample = |n: usize| {
            let image: Vec<Voxel> =
                (0..problem.voxels).map(|v| self.field.voxels[problem.element(n, self.class, v)]).collect();
            let kept = f(&image).into_iter().zip(image).filter(|(_, x)| x.kept);
            kept.map(|(value, x)| times(x.m, value)).sum()
        };
        self.samples.clone().map(of_sample).sum()
    }

    /// N = Σ m.
    pub(crate) fn n(&self) -> f64 {
        self.total(|_| 1.0)
    }

    /// G = Σ m·g.
    pub(crate) fn g(&self) -> f64 {
        self.total(|x| x.g)
    }

    /// P = Σ m·p.
    pub(crate) fn p(&self) -> Dual {
        self.sum(|x| x.p)
    }

    /// I = Σ m·p·g.
    pub(crate) fn i(&self) -> Dual {
        self.sum(|x| x.p * x.g)
    }

    /// PP = Σ m·p².
    pub(crate) fn pp(&self) -> Dual {
        self.sum(|x| x.p.square())
    }

    /// GG = Σ m·g².
    pub(crate) fn gg(&self) -> f64 {
        self.total(|x| x.g * x.g)
    }

    /// A = Σ m·|p − g|.
    pub(crate) fn a(&self) -> Dual {
        self.sum(|x| (x.p - x.g).abs())
    }

    /// N − P = Σ m·q.
    pub(crate) fn not_p(&self) -> Dual {
        self.sum(|x| x.q)
    }

    /// N − G = Σ m·(1 − g).
    pub(crate) fn not_g(&self) -> f64 {
        self.total(|x| 1.0 - x.g)
    }
}

/// What an absent class does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Count,
    Skip,
    Zero,
}

/// The pools of a term and how they are reduced.
pub(crate) struct Scope<'a> {
    pools: Vec<Vec<Group<'a>>>,
    absent: Absent,
    reduction: Reduction,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(term: &Term, field: &'a Field<'a>) -> Scope<'a> {
        let problem = field.problem;
        let batch = term.flag("batch", false);
        assert!(!(batch && problem.reduction == Reduction::None), "batch=true needs reduction mean or sum");
        let background = !term.name.contains("hausdorff_dt");
        let first_class = if term.flag("background", background) || problem.classes == 1 { 0 } else { 1 };
        let absent = match term.word("absent", &["count", "skip", "zero"]) {
            "count" => Absent::Count,
            "skip" => Absent::Skip,
            _ => Absent::Zero,
        };
        let weights = term.list("class_weights").or_else(|| problem.class_weights.clone());
        let weights = weights.unwrap_or_else(|| vec![1.0; problem.classes]);
        assert_eq!(weights.len(), problem.classes, "`{}`: one class weight per class", term.name);

        let samples = |pool: usize| if batch { 0..problem.samples } else { pool..pool + 1 };
        let pools = (0..if batch { 1 } else { problem.samples })
            .map(|pool| {
                let group = |class| Group { field, samples: samples(pool), class, w: weights[class], pool_g: 0.0 };
                let mut groups: Vec<Group<'a>> = (first_class..problem.classes).map(group).collect();
                let pool_g = groups.iter().map(Group::g).sum();
                groups.iter_mut().for_each(|group| group.pool_g = pool_g);
                groups
            })
            .collect();
        Scope { pools, absent, reduction: problem.reduction }
    }

    /// Group scope: Σ w·value / Σ w over the groups. A group without a kept voxel has value 0.
    pub(crate) fn group(&self, value: impl Fn(&Group) -> Dual) -> Vec<Dual> {
        self.ratio(|group| (value(group), 1.0))
    }

    /// Ratio scope: Σ w·numerator / Σ w·denominator over the groups.
    pub(crate) fn ratio(&self, parts: impl Fn(&Group) -> (Dual, f64)) -> Vec<Dual> {
        let share = |group: &Group| {
            if self.absent == Absent::Skip && group.g() == 0.0 {
                return (Dual::ZERO, 0.0);
            }
            let (numerator, denominator) = parts(group);
            let empty = group.n() == 0.0 || (self.absent == Absent::Zero && group.g() == 0.0);
            let numerator = if empty { Dual::ZERO } else { numerator };
            (times(group.w, numerator), group.w * denominator)
        };
        self.reduce(self.pools.iter().map(|groups| add(groups.iter().map(share))).collect())
    }

    /// Pool scope: the mean of the pools. `value` is given the groups that count.
    pub(crate) fn pool(&self, value: impl Fn(&[&Group]) -> Dual) -> Vec<Dual> {
        let counts = |group: &&Group| self.absent == Absent::Count || group.g() != 0.0;
        let value = |groups: &Vec<Group>| {
            let empty = groups.iter().all(|group| group.n() == 0.0);
            let value = if empty { Dual::ZERO } else { value(&groups.iter().filter(counts).collect::<Vec<_>>()) };
            (value, 1.0)
        };
        self.reduce(self.pools.iter().map(value).collect())
    }

    /// Numerators and denominators, one of each per pool, to the value of the loss.
    fn reduce(&self, pools: Vec<(Dual, f64)>) -> Vec<Dual> {
        let mean = |(numerator, denominator): (Dual, f64)| {
            let none = denominator == 0.0 && !numerator.v.is_nan();
            if none { Dual::ZERO } else { numerator / denominator }
        };
        match self.reduction {
            Reduction::Mean => vec![mean(add(pools.into_iter()))],
            Reduction::Sum => vec![add(pools.into_iter()).0],
            Reduction::None => pools.into_iter().map(mean).collect(),
        }
    }
}

/// Numerators and denominators, summed.
fn add(parts: impl Iterator<Item = (Dual, f64)>) -> (Dual, f64) {
    parts.fold((Dual::ZERO, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}
