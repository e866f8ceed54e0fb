//! The sums of a block.

use super::block::{Block, ClassTruth, few_classes, with_truth};
use super::interpret::ArrayProgram;
use super::passes::in_a_function;
use super::planes::{LANES, Vectors};
use crate::evaluation::HardCounts;
use crate::plan::Head;
use crate::spec::Moment;
use fearless_simd::{f32x16, i32x16, prelude::*};

/// Which sums a pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sums {
    /// Those over the target alone; the prediction is not loaded.
    Target,
    /// All.
    All,
}

/// Adds the moments of a block to `sums` `[C, moments]`.
///
/// A block sums in single precision over at most 64 values per partial sum, then in double: the relative error of a moment stays
/// below 1e-6 at any size, and counts are exact.
#[inline(always)]
pub(super) fn reduce<S: Simd>(
    simd: S,
    head: &Head,
    block: &mut Block<'_>,
    which: Sums,
    pixels: &mut ArrayProgram<'_>,
    sums: &mut [f64],
) {
    let count = head.moments.len();
    let moments = match which {
        Sums::Target => &head.moments[..head.target_moments],
        Sums::All => &head.moments[..],
    };
    let has_pixels = moments.iter().any(|m| matches!(m, Moment::Pixel(_)));
    let region_sums = which == Sums::All && moments.contains(&Moment::P);
    let columns = block.columns();
    let n = sum(simd, columns, |column| block.weight().load(simd, column));
    if has_pixels && head.own_class {
        in_a_function!(simd, pixels.run(simd, columns, |slot| block.own_input(slot)));
    }
    if block.by_share() {
        let classes = head.problem.shape.classes();
        return few_classes!(classes, C => in_a_function!(simd, reduce_few::<S, C>(simd, block, moments, n, pixels, sums)), {});
    }
    for class in 0..head.problem.shape.classes() {
        if has_pixels && !head.own_class {
            block.select(simd, class);
            in_a_function!(simd, pixels.run(simd, columns, |slot| block.input(slot, class)));
        }
        let block = &*block;
        let totals = &mut sums[class * count..(class + 1) * count];
        with_truth!(block, class, |truth| {
            let (w, p) = (block.weight(), block.p(class));
            // G, P and I come from one loop where P is wanted.
            let sizes = if region_sums { Some(region(simd, columns, w, p, truth)) } else { None };
            for (total, moment) in totals.iter_mut().zip(moments) {
                *total += match (moment, sizes) {
                    (Moment::N, _) => n,
                    (Moment::G, Some([of_g, ..])) => of_g,
                    (Moment::P, Some([_, of_p, _])) => of_p,
                    (Moment::PG, Some([.., of_pg])) => of_pg,
                    (Moment::P, None) => unreachable!("sizes are there where P is wanted"),
                    (Moment::G, None) => sum(simd, columns, |c| w.load(simd, c) * truth.g(simd, c)),
                    (Moment::PG, None) => sum(simd, columns, |c| w.load(simd, c) * p.load(simd, c) * truth.g(simd, c)),
                    (Moment::GG, _) => sum(simd, columns, |c| w.load(simd, c) * truth.g(simd, c) * truth.g(simd, c)),
                    (Moment::PP, _) => sum(simd, columns, |c| w.load(simd, c) * p.load(simd, c) * p.load(simd, c)),
                    (Moment::Cost, _) => sum(simd, columns, |c| {
                        w.load(simd, c) * truth.g(simd, c) * expected_cost(simd, head, block, class, c)
                    }),
                    (Moment::Pixel(k), _) if head.own_class => {
                        let x = pixels.output(*k as usize, columns, |slot| block.own_input(slot));
                        let own = block.own_class(class);
                        let zero = f32x16::splat(simd, 0.0);
                        sum(simd, columns, |c| own.mask(simd, c).select(w.load(simd, c) * x.load(simd, c), zero))
                    }
                    (Moment::Pixel(k), _) => {
                        let x = pixels.output(*k as usize, columns, |slot| block.input(slot, class));
                        sum(simd, columns, |c| block.weigh(simd, c, x.load(simd, c)))
                    }
                };
            }
        });
    }
}

/// [`reduce`] with [`Block::by_share`]: the sums of all classes in one loop over the block. `n` is Σw.
#[inline(always)]
fn reduce_few<S: Simd, const C: usize>(
    simd: S,
    block: &Block<'_>,
    moments: &[Moment],
    n: f64,
    pixels: &ArrayProgram<'_>,
    sums: &mut [f64],
) {
    let regions = if moments.iter().any(|m| matches!(m, Moment::P | Moment::PG)) {
        Some(regions::<S, C>(simd, block))
    } else {
        None
    };
    let count = sums.len() / C;
    for (k, moment) in moments.iter().enumerate() {
        let by_class = match (moment, regions) {
            (Moment::N, _) => [n; C],
            // g is 0 or 1.
            (Moment::G | Moment::GG, Some([of_g, ..])) => of_g,
            (Moment::G | Moment::GG, None) => own_sums(simd, block, None),
            (Moment::P, Some([_, of_p, _])) => of_p,
            (Moment::PG, Some([.., of_pg])) => of_pg,
            (Moment::P | Moment::PG, None) => unreachable!("these sums are there where they are wanted"),
            (Moment::PP, _) => squares(simd, block),
            (Moment::Pixel(x), _) => {
                let x = pixels.output(*x as usize, block.columns(), |slot| block.own_input(slot));
                own_sums(simd, block, Some(x))
            }
            (Moment::Cost, _) => unreachable!("classes with costs are not by share"),
        };
        for (class, x) in by_class.into_iter().enumerate() {
            sums[class * count + k] += x;
        }
    }
}

/// Σw·g, Σw·p and Σw·p·g of each class.
#[inline(always)]
fn regions<S: Simd, const C: usize>(simd: S, block: &Block<'_>) -> [[f64; C]; 3] {
    let (zero, nothing) = (f32x16::splat(simd, 0.0), f32x16::splat(simd, -0.0));
    let (mut of_g, mut of_p, mut of_pg) = ([zero; C], [zero; C], [zero; C]);
    let columns = block.columns();
    let few = block.few::<C>(0..columns);
    for column in 0..columns {
        let (own, w) = (few.own(simd, column), few.weight(simd, column));
        let weighed_share = w * few.share(simd, column);
        for class in 0..C {
            let wp = few.e(simd, class, column) * weighed_share;
            of_g[class] += own[class].select(w, nothing);
            of_p[class] += wp;
            of_pg[class] += own[class].select(wp, nothing);
        }
    }
    [of_g.map(gather), of_p.map(gather), of_pg.map(gather)]
}

/// Σw·p² of each class.
#[inline(always)]
fn squares<S: Simd, const C: usize>(simd: S, block: &Block<'_>) -> [f64; C] {
    let mut sums = [f32x16::splat(simd, 0.0); C];
    let columns = block.columns();
    let few = block.few::<C>(0..columns);
    for column in 0..columns {
        let (w, share) = (few.weight(simd, column), few.share(simd, column));
        for (class, sum) in sums.iter_mut().enumerate() {
            let p = few.e(simd, class, column) * share;
            *sum += w * p * p;
        }
    }
    sums.map(gather)
}

/// Σw·x of the voxels of each class; x is 1 where there is none.
#[inline(always)]
fn own_sums<S: Simd, const C: usize>(simd: S, block: &Block<'_>, x: Option<Vectors<'_>>) -> [f64; C] {
    let nothing = f32x16::splat(simd, -0.0);
    let mut sums = [f32x16::splat(simd, 0.0); C];
    let columns = block.columns();
    let few = block.few::<C>(0..columns);
    for column in 0..columns {
        let (own, w) = (few.own(simd, column), few.weight(simd, column));
        let wx = if let Some(x) = x { w * x.load(simd, column) } else { w };
        for (sum, own) in sums.iter_mut().zip(own) {
            *sum += own.select(wx, nothing);
        }
    }
    sums.map(gather)
}

/// δ = Σ_c M\[class, c\]·p_c.
#[inline(always)]
fn expected_cost<S: Simd>(simd: S, head: &Head, block: &Block<'_>, class: usize, column: usize) -> f32x16<S> {
    let matrix = head.cost_matrix.as_ref().expect("a cost moment comes with a matrix");
    let classes = head.problem.shape.classes();
    let mut cost = f32x16::splat(simd, 0.0);
    for (other, &m) in matrix[class * classes..][..classes].iter().enumerate() {
        cost += block.p_at(simd, other, column) * m as f32;
    }
    cost
}

/// Adds the hard counts of a block to `counts` `[C]`.
#[inline(always)]
pub(super) fn count_hard<S: Simd>(simd: S, head: &Head, block: &Block<'_>, counts: &mut [HardCounts]) {
    let argmax = head.problem.hard_is_argmax();
    let half = f32x16::splat(simd, 0.5);
    for column in 0..block.columns() {
        let (mut best, mut winner) = (block.p_at(simd, 0, column), i32x16::splat(simd, 0));
        for class in 1..counts.len() {
            let p = block.p_at(simd, class, column);
            let wins = p.simd_gt(best);
            best = wins.select(p, best);
            winner = wins.select(i32x16::splat(simd, class as i32), winner);
        }
        let kept = block.kept(simd, column).to_bitmask();
        for (class, counts) in counts.iter_mut().enumerate() {
            let predicted = if argmax {
                winner.simd_eq(i32x16::splat(simd, class as i32)).to_bitmask()
            } else {
                block.p_at(simd, class, column).simd_gt(half).to_bitmask()
            };
            let actual = block.truth(simd, column).g(class).simd_gt(half).to_bitmask();
            let ones = |bits: u64| u64::from((bits & kept).count_ones());
            counts.true_positives += ones(predicted & actual);
            counts.false_positives += ones(predicted & !actual);
            counts.false_negatives += ones(!predicted & actual);
        }
    }
}

/// Σ over the vectors of a block: one partial sum per lane, then in pairs of lanes in double precision, so that the order
/// of the additions is the same on every instruction set.
#[inline(always)]
fn sum<S: Simd>(simd: S, columns: usize, value: impl Fn(usize) -> f32x16<S>) -> f64 {
    let mut partial = f32x16::splat(simd, 0.0);
    for column in 0..columns {
        partial += value(column);
    }
    gather(partial)
}

#[inline(always)]
fn gather<S: Simd>(partial: f32x16<S>) -> f64 {
    let mut total = partial.to_array().map(f64::from);
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            total[l] += total[l + width];
        }
        width /= 2;
    }
    total[0]
}

/// Σw·g, Σw·p and Σw·p·g.
#[inline(always)]
fn region<S: Simd>(simd: S, columns: usize, w: Vectors<'_>, p: Vectors<'_>, truth: impl ClassTruth<S>) -> [f64; 3] {
    let zero = f32x16::splat(simd, 0.0);
    let (mut of_g, mut of_p, mut of_pg) = (zero, zero, zero);
    for column in 0..columns {
        let (w, g) = (w.load(simd, column), truth.g(simd, column));
        let wp = w * p.load(simd, column);
        of_g += w * g;
        of_p += wp;
        of_pg += wp * g;
    }
    [gather(of_g), gather(of_p), gather(of_pg)]
}
