//! The finish kernel against [`crate::finish::finish`].

use super::gpu::{Binding, Gpu, kernel};
use super::{Random, doubles, words};
use crate::evaluation::HardCounts;
use crate::finish::finish;
use crate::loss::{Absent, ENTRIES, Term};
use crate::moments::MomentTable;
use crate::plan::{Head, Plan};
use crate::problem::{Map, Problem, Reduction};
use crate::recipe::{self, Places};
use crate::shape::Shape;
use crate::spec::{Formula, Moment, Moments, Real, Scope, limits::REGISTERS as REGISTERS_MAX};
use crate::{Activation, DType, Error, Objective};
use std::sync::OnceLock;

/// Registers for every program there can be.
const REGISTERS: u32 = REGISTERS_MAX as u32;
/// How far a double may lie off, as a fraction; both sides round.
const RELATIVE: f64 = 1e-12;

/// What the sums of a table are like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Data {
    /// Every class present in every sample.
    Plain,
    /// Classes without a target voxel.
    Absent,
    /// Samples and groups without a kept voxel too.
    Empty,
    /// Sums that are not numbers.
    NotANumber,
    /// The same, and no target voxel anywhere: denominators of 0.
    NotANumberAbsent,
    /// Nothing at all.
    Nothing,
}

const DATA: [Data; 6] =
    [Data::Plain, Data::Absent, Data::Empty, Data::NotANumber, Data::NotANumberAbsent, Data::Nothing];

/// The name of a change of a problem, and the change.
type Setting = (&'static str, fn(Problem) -> Problem);

/// The settings of a problem that the finish step looks at.
fn settings() -> Vec<Setting> {
    /// Weights of which one is 0.
    fn weights(problem: Problem) -> Problem {
        let classes = problem.shape().classes();
        problem.class_weights((0..classes).map(|c| [1.5, 0.25, 0.0, 3.0][c % 4]).collect::<Vec<_>>())
    }
    vec![
        ("defaults", |p| p),
        ("batch", |p| p.batch(true)),
        ("no background", |p| p.background(false)),
        ("skip", |p| p.absent(Absent::Skip)),
        ("zero", |p| p.absent(Absent::Zero)),
        ("class weights", weights),
        ("sum", |p| p.reduction(Reduction::Sum)),
        ("none", |p| p.reduction(Reduction::None)),
        ("batch, sum, no background, weights", |p| weights(p.batch(true).background(false).reduction(Reduction::Sum))),
        ("none, skip, no background, weights", |p| {
            weights(p.reduction(Reduction::None).absent(Absent::Skip).background(false))
        }),
        ("batch, zero, hard counts", |p| p.batch(true).absent(Absent::Zero).hard_counts()),
        ("batch, skip, no background", |p| p.batch(true).absent(Absent::Skip).background(false)),
        ("sum, zero, weights", |p| weights(p.reduction(Reduction::Sum).absent(Absent::Zero))),
        ("sigmoid, none, zero", |p| {
            p.prediction(DType::F32, Activation::Sigmoid).reduction(Reduction::None).absent(Absent::Zero)
        }),
    ]
}

/// Sums as a reduction might give them.
fn table(head: &Head, data: Data, random: &mut Random) -> MomentTable {
    let mut table = MomentTable::zeros(head);
    let classes = table.classes;
    for sample in 0..table.samples {
        let empty_sample = data == Data::Nothing || (data == Data::Empty && random.below(3) == 0);
        for class in 0..classes {
            let empty = empty_sample || (data == Data::Empty && random.below(4) == 0);
            let absent = (data == Data::Absent && random.below(3) == 0) || data == Data::NotANumberAbsent;
            let n = random.between(500.0, 4096.0).floor();
            let g = if absent { 0.0 } else { (n * random.between(0.001, 0.9)).ceil() };
            let p = n * random.between(0.001, 0.9);
            let pg = p.min(g) * random.unit();
            let start = (sample * classes + class) * table.count;
            for (slot, &moment) in head.moments.iter().enumerate() {
                let value = match moment {
                    Moment::N => n,
                    Moment::G | Moment::GG => g,
                    Moment::P => p,
                    Moment::PG => pg,
                    Moment::PP => p * random.between(0.3, 0.99),
                    Moment::Cost => g * random.unit(),
                    Moment::Pixel(_) => n * random.between(0.0, 1.5),
                };
                let broken = match data {
                    Data::NotANumber => random.below(12) == 0,
                    Data::NotANumberAbsent => !matches!(moment, Moment::G | Moment::GG) && random.below(6) == 0,
                    _ => false,
                };
                let broken_value = [f64::NAN, f64::INFINITY][random.below(2) as usize];
                table.values[start + slot] = match (empty, broken) {
                    (true, _) => 0.0,
                    (_, true) => broken_value,
                    _ => value,
                };
            }
        }
    }
    table.valid_voxels = random.below(1 << 40);
    table.invalid_labels = random.below(1 << 20);
    for counts in &mut table.hard_counts {
        *counts = HardCounts { true_positives: random.below(99), false_positives: 7, false_negatives: 1 };
    }
    table
}

/// The rows of a table as the reduction leaves them; the counts of the whole are spread over the samples.
fn rows(head: &Head, table: &MomentTable) -> Vec<f64> {
    let mut rows = Vec::new();
    let per_sample = table.classes * table.count;
    let share = |total: u64, sample: usize| {
        let (each, rest) = (total / table.samples as u64, total % table.samples as u64);
        (each + if sample == 0 { rest } else { 0 }) as f64
    };
    for sample in 0..table.samples {
        rows.extend(&table.values[sample * per_sample..(sample + 1) * per_sample]);
        if head.problem.hard_counts {
            for counts in &table.hard_counts[sample * table.classes..(sample + 1) * table.classes] {
                rows.extend([counts.true_positives, counts.false_positives, counts.false_negatives].map(|x| x as f64));
            }
        }
        rows.extend([share(table.valid_voxels, sample), share(table.invalid_labels, sample)]);
    }
    rows
}

/// The pipelines of the kernel that the tests use.
#[derive(Clone)]
struct Pipelines {
    /// Coefficients and result.
    both: wgpu::ComputePipeline,
    /// Coefficients alone.
    coefficients: wgpu::ComputePipeline,
    /// The result alone.
    result: wgpu::ComputePipeline,
    /// Coefficients of counts that are known.
    known: wgpu::ComputePipeline,
}

fn pipeline(gpu: &Gpu, registers: u32, constants: &[(&str, f64)]) -> wgpu::ComputePipeline {
    gpu.pipeline(&format!("const REGISTERS = {registers}u;\n{}", kernel("finish")), "finish", constants)
}

impl Pipelines {
    /// With registers for the programs of every test.
    fn get(gpu: &Gpu) -> &'static Pipelines {
        static PIPELINES: OnceLock<Pipelines> = OnceLock::new();
        PIPELINES.get_or_init(|| Pipelines {
            both: pipeline(gpu, REGISTERS, &[]),
            coefficients: pipeline(gpu, REGISTERS, &[("WRITE_RESULT", 0.0)]),
            result: pipeline(gpu, REGISTERS, &[("WRITE_COEFFICIENTS", 0.0)]),
            known: pipeline(gpu, REGISTERS, &[("WRITE_RESULT", 0.0), ("KNOWN_COUNTS", 1.0)]),
        })
    }
}

/// What one plan came to, and the largest errors seen.
#[derive(Default)]
struct Worst {
    relative: f64,
    single: u32,
    numbers: usize,
    coefficients: usize,
}

impl Worst {
    /// Compares a double.
    fn double(&mut self, got: f64, expected: f64, what: &dyn Fn() -> String) {
        self.numbers += 1;
        let same = got == expected || (got.is_nan() && expected.is_nan());
        let error = if same { 0.0 } else { (got - expected).abs() / got.abs().max(expected.abs()) };
        assert!(error <= RELATIVE, "{}: got {got:e}, expected {expected:e}", what());
        self.relative = self.relative.max(error);
    }
    /// Compares a coefficient.
    fn single(&mut self, got: f32, expected: f64, what: &dyn Fn() -> String) {
        self.coefficients += 1;
        let flushed = expected.abs() <= f64::from(f32::MIN_POSITIVE) && got == 0.0;
        let expected = expected as f32;
        if flushed || (got.is_nan() && expected.is_nan()) || got == expected {
            return;
        }
        let ordered =
            |x: f32| if x.is_sign_negative() { -i64::from(x.abs().to_bits()) } else { i64::from(x.to_bits()) };
        let distance = (ordered(got) - ordered(expected)).unsigned_abs();
        let alike = got.is_nan() == expected.is_nan() && distance <= 1;
        assert!(alike, "{}: got {got:e}, expected {expected:e}", what());
        self.single = self.single.max(distance as u32);
    }
}

/// The workspace of a head with `rows` as its moments, everything else garbage, and the places in it.
fn workspace(head: &Head, rows: &[f64], first: bool, random: &mut Random) -> (Vec<u32>, Places) {
    let coefficients = head.groups() * head.slope_count();
    // Odd offsets, and a gap between the arrays to see that nothing is written there.
    let moments_at = 3;
    let coefficients_at = moments_at + 2 * rows.len() + 1;
    let scratch_at = coefficients_at + coefficients + 1;
    let len = scratch_at + recipe::scratch_words(head) as usize + 1;
    let mut workspace: Vec<u32> = (0..len).map(|_| random.bits() as u32).collect();
    workspace[moments_at..moments_at + 2 * rows.len()].copy_from_slice(&words(rows));
    let places =
        Places { moments: moments_at as u32, scratch: scratch_at as u32, coefficients: coefficients_at as u32, first };
    (workspace, places)
}

fn compare(gpu: &Gpu, pipelines: &Pipelines, plan: &Plan, data: Data, random: &mut Random, worst: &mut Worst) {
    let losses = plan.losses();
    let numbers = recipe::result_numbers(plan) as usize;
    let grad_output: Vec<f32> = (0..losses).map(|_| random.between(-2.0, 3.0) as f32).collect();
    let grad_words: Vec<u32> = grad_output.iter().map(|x| x.to_bits()).collect();
    let mut result: Vec<u32> = (0..recipe::result_words(plan)).map(|_| random.bits() as u32).collect();
    let mut result_alone = result.clone();
    let mut totals = vec![0.0; losses];
    let mut expected = vec![f64::NAN; numbers];
    for (index, head) in plan.heads().iter().enumerate() {
        let table = table(head, data, random);
        let (evaluation, coefficients) = finish(head, &table);
        totals.iter_mut().zip(&evaluation.losses).for_each(|(total, loss)| *total += head.weight * loss);
        let values = evaluation.terms.iter().flat_map(|term| term.values.iter().copied());
        let counts = [evaluation.valid_voxels as f64, evaluation.invalid_labels as f64];
        let own: Vec<f64> = values.chain(counts).collect();
        let start = recipe::result_head(plan, index) as usize;
        expected[start..start + own.len()].copy_from_slice(&own);

        let rows = rows(head, &table);
        let (workspace, places) = workspace(head, &rows, index == 0, random);
        let recipe = recipe::recipe(plan, index, &places);
        let run = |pipeline: &wgpu::ComputePipeline, result: &[u32]| {
            let bindings = [
                Binding::Out(&workspace),
                Binding::Storage(&recipe),
                Binding::Storage(&grad_words),
                Binding::Out(result),
            ];
            gpu.run(pipeline, &bindings, (1, 1))
        };
        let mut out = run(&pipelines.both, &result);
        result = out.pop().expect("two buffers come back");
        let after = out.pop().expect("two buffers come back");
        let (coefficients_at, scratch_at) = (places.coefficients as usize, places.scratch as usize);
        let got = &after[coefficients_at..scratch_at - 1];
        let per_sample = head.problem.shape.classes() * head.slope_count();
        for (i, (&got, value)) in got.iter().zip(&coefficients.values).enumerate() {
            let grad = grad_output[if losses == 1 { 0 } else { i / per_sample }];
            let what = || format!("coefficient {i} of head {index}");
            worst.single(f32::from_bits(got), value * f64::from(grad), &what);
        }
        assert_eq!(got.len(), coefficients.values.len());
        assert_eq!(after[..coefficients_at], workspace[..coefficients_at], "in front of the coefficients");
        assert_eq!(after[scratch_at - 1], workspace[scratch_at - 1], "between coefficients and scratch");
        assert_eq!(after.last(), workspace.last(), "behind the scratch");

        // Each half of the work alone gives the same bits, and leaves the other half as it was.
        let alone = run(&pipelines.coefficients, &result);
        assert_eq!(alone[0][coefficients_at..scratch_at], after[coefficients_at..scratch_at], "coefficients alone");
        assert_eq!(alone[1], result, "coefficients alone");
        let alone = run(&pipelines.result, &result_alone);
        assert_eq!(alone[0][..scratch_at], workspace[..scratch_at], "result alone");
        result_alone.clone_from(&alone[1]);
    }
    expected[..losses].copy_from_slice(&totals);
    assert_eq!(result[..numbers], result_alone[..numbers], "result alone");
    let doubles = doubles(&result[recipe::result_doubles(plan) as usize..]);
    assert_eq!(doubles.len(), numbers);
    for (i, (&got, &expected)) in doubles.iter().zip(&expected).enumerate() {
        worst.double(got, expected, &|| format!("number {i} of the result"));
        let single = f32::from_bits(result[i]);
        let rounded = if got.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { got as f32 };
        assert!(single == rounded || (single.is_nan() && got.is_nan()), "{single} is not {got} rounded");
    }
}

/// Says what was being compared when it fails.
fn said(context: &str, compare: impl FnOnce()) {
    if let Err(reason) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(compare)) {
        eprintln!("in {context}");
        std::panic::resume_unwind(reason);
    }
}

/// All settings and data for one objective; returns how many settings it goes with.
fn compare_all(gpu: &Gpu, pipelines: &Pipelines, objective: &Objective, classes: usize, worst: &mut Worst) -> usize {
    let mut plans = 0;
    for (index, (name, set)) in settings().into_iter().enumerate() {
        let shape = Shape::new(3, classes, [64, 64]).expect("a shape");
        let problem = set(Problem::new(shape).map(Map::Shared));
        let plan = match Plan::new(objective, &problem) {
            Ok(plan) => plan,
            // Softmax alone, several classes alone, or not with reduction none.
            Err(Error::Unsuitable { .. } | Error::Problem(_)) => continue,
            Err(error) => panic!("{objective}: {error}"),
        };
        plans += 1;
        for data in DATA {
            let mut random = Random((classes * 1000 + index) as u64);
            let context = format!("{objective}, {classes} classes, {name}, {data:?}");
            said(&context, || compare(gpu, pipelines, &plan, data, &mut random, worst));
        }
    }
    plans
}

/// A spec string of every loss; those of [`ENTRIES`] that have no defaults get their parameters.
fn defaults() -> Vec<Objective> {
    let text = |name: &str| if name == "topk_ce" { "topk_ce(threshold=0.7)".into() } else { name.to_string() };
    ENTRIES.iter().map(|entry| text(entry.name).parse().expect("a loss is a spec string")).collect()
}

fn report(worst: &Worst) {
    let Worst { relative, single, numbers, coefficients } = worst;
    eprintln!("{numbers} numbers, worst error {relative:e}; {coefficients} coefficients, worst {single} ulp of f32");
}

#[test]
fn every_loss_is_that_of_the_host() {
    let Some(gpu) = Gpu::get() else { return };
    let pipelines = Pipelines::get(gpu);
    let mut worst = Worst::default();
    for objective in defaults() {
        let plans: usize = [1, 2, 5].map(|c| compare_all(gpu, pipelines, &objective, c, &mut worst)).iter().sum();
        assert!(plans >= 20, "{objective}: {plans} plans");
    }
    report(&worst);
}

#[test]
fn parameters_and_options_are_those_of_the_host() {
    let Some(gpu) = Gpu::get() else { return };
    let pipelines = Pipelines::get(gpu);
    let mut worst = Worst::default();
    let objectives = [
        "dice(squared=true, log=true)",
        "dice(batch=true) - 0.25*ce(smoothing=0.1) + 3*focal(gamma=1.5, alpha=0.3)",
        "2*generalized_dice(weight=simple) + generalized_dice(weight=uniform, penalty=0.5, absent=skip)",
        "kappa(form=squared) + kappa(form=readme) + mcc(batch=true, class_weights=[0, 1, 2, 0.5, 3])",
        "focal_tversky(gamma=0.8) + focal_tversky(gamma=2) + power_jaccard(power=1.5)",
        "exp_log(form=binary) + 0*exp_log(gamma_dice=2, gamma_ce=1.5)",
        "unified_focal(symmetric=true) - unified_focal(form=binary, background=false)",
        "wasserstein_dice(mode=gdl) + wasserstein_dice(batch=true, absent=zero)",
        "balanced_ce + bce(background=false, absent=skip) + boundary + combo(absent=zero)",
    ];
    for text in objectives {
        let objective: Objective = text.parse().expect("a spec string");
        assert!(compare_all(gpu, pipelines, &objective, 5, &mut worst) >= 9, "{text}");
    }
    report(&worst);
}

#[test]
fn many_classes_and_samples_are_those_of_the_host() {
    let Some(gpu) = Gpu::get() else { return };
    let pipelines = Pipelines::get(gpu);
    let mut worst = Worst::default();
    let settings = settings();
    for (samples, classes) in [(2, 150), (1, 300), (3, 300), (257, 2), (600, 1), (64, 17)] {
        for (index, objective) in defaults().iter().enumerate() {
            let shape = Shape::new(samples, classes, [64, 64]).expect("a shape");
            for (name, set) in [settings[index % settings.len()], settings[(index + 7) % settings.len()]] {
                let problem = set(Problem::new(shape.clone()).map(Map::Shared));
                let Ok(plan) = Plan::new(objective, &problem) else { continue };
                let context = format!("{samples} samples, {classes} classes, {objective}, {name}");
                let mut random = Random(index as u64);
                said(&context, || compare(gpu, pipelines, &plan, DATA[index % 3], &mut random, &mut worst));
            }
        }
    }
    report(&worst);
}

#[test]
fn heads_add_up() {
    let Some(gpu) = Gpu::get() else { return };
    let pipelines = Pipelines::get(gpu);
    let mut worst = Worst::default();
    let objective: Objective = "dice(absent=skip) + 0.5*generalized_dice - 2*ce".parse().expect("a spec string");
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        let heads: Vec<(f64, Problem)> = [(1.0, 5, 64), (0.5, 5, 32), (-0.25, 2, 16), (0.0, 3, 8)]
            .into_iter()
            .map(|(weight, classes, side)| {
                let shape = Shape::new(4, classes, [side, side]).expect("a shape");
                (weight, Problem::new(shape).reduction(reduction))
            })
            .collect();
        let plan = Plan::with_heads(&objective, &heads).expect("the heads agree");
        for data in DATA {
            compare(gpu, pipelines, &plan, data, &mut Random(data as u64), &mut worst);
        }
    }
    report(&worst);
}

/// Reads the least G of the pool, and its sum, in a group.
struct LeastSize;

impl Formula for LeastSize {
    fn scope(&self) -> Scope {
        Scope::Group
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.p() * m.g_min() + m.g_sum() * m.pg() - m.class().select(m.p().sqrt(), m.p().exp().ln())]
    }
}

/// Per pool a value that is 1 and not 0 where nothing is summed, with a slope by each of two terms.
struct Misses;

impl Formula for Misses {
    fn scope(&self) -> Scope {
        Scope::Pool
    }
    fn inner<R: Real>(&self, m: &Moments<R>) -> Vec<R> {
        vec![m.pg() / m.n(), m.p()]
    }
    fn outer<R: Real>(&self, terms: &[R]) -> R {
        (R::lit(1.0) - terms[0]) * (R::lit(3.0) + terms[1])
    }
}

#[test]
fn a_formula_of_the_caller_is_that_of_the_host() {
    let Some(gpu) = Gpu::get() else { return };
    let pipelines = Pipelines::get(gpu);
    let mut worst = Worst::default();
    for term in [Term::custom("least", LeastSize), Term::custom("misses", Misses)] {
        for classes in [1, 2, 5] {
            assert!(compare_all(gpu, pipelines, &term.clone().into(), classes, &mut worst) >= 13);
        }
    }
    report(&worst);
}

#[test]
fn counts_that_are_known_are_not_read() {
    let Some(gpu) = Gpu::get() else { return };
    let pipelines = Pipelines::get(gpu);
    let mut worst = Worst::default();
    let mut random = Random(3);
    for text in
        ["bce", "bce(batch=true) + boundary", "focal(form=binary, background=false, absent=skip)", "dice(absent=zero)"]
    {
        let objective: Objective = text.parse().expect("a spec string");
        for reduction in [Reduction::Mean, Reduction::Sum] {
            let shape = Shape::new(3, 4, [64, 32]).expect("a shape");
            let plan = Plan::new(&objective, &Problem::new(shape).map(Map::Shared).reduction(reduction));
            let plan = plan.expect("a plan");
            let head = &plan.heads()[0];
            let mut table = MomentTable::zeros(head);
            table.values.chunks_exact_mut(table.count).for_each(|row| row[0] = 2048.0);
            let (_, coefficients) = finish(head, &table);
            let garbage: Vec<f64> = (0..rows(head, &table).len()).map(|_| f64::from_bits(random.bits())).collect();
            let (workspace, places) = workspace(head, &garbage, true, &mut random);
            let (recipe, result) = (recipe::recipe(&plan, 0, &places), vec![0; recipe::result_words(&plan) as usize]);
            let grad = [0.5f32.to_bits()];
            let bindings =
                [Binding::Out(&workspace), Binding::Storage(&recipe), Binding::Storage(&grad), Binding::Out(&result)];
            let out = gpu.run(&pipelines.known, &bindings, (1, 1));
            let got = &out[0][places.coefficients as usize..];
            for (i, (&got, value)) in got.iter().zip(&coefficients.values).enumerate() {
                worst.single(f32::from_bits(got), value * 0.5, &|| format!("{text}: coefficient {i}"));
            }
            assert_eq!(out[1], result, "the result is not written");
        }
    }
    assert!(worst.coefficients > 0);
    report(&worst);
}

#[test]
fn registers_suffice_where_there_are_no_more_than_needed() {
    let Some(gpu) = Gpu::get() else { return };
    let mut pipelines = Pipelines::get(gpu).clone();
    let mut last = 0;
    let mut plans: Vec<Plan> = defaults()
        .iter()
        .map(|objective| {
            let problem = Problem::new(Shape::new(2, 5, [64, 64]).expect("a shape")).map(Map::Shared);
            let sigmoid = problem.clone().prediction(DType::F32, Activation::Sigmoid);
            Plan::new(objective, &problem).or_else(|_| Plan::new(objective, &sigmoid)).expect("a plan")
        })
        .collect();
    plans.sort_by_key(recipe::registers);
    for plan in &plans {
        let registers = recipe::registers(plan);
        if registers != last {
            pipelines.both = pipeline(gpu, registers, &[]);
            last = registers;
        }
        compare(gpu, &pipelines, plan, Data::Plain, &mut Random(1), &mut Worst::default());
    }
    eprintln!("at most {last} registers");
}

#[test]
#[ignore = "a measurement: upload, kernel and readback of one call"]
fn time_of_a_call() {
    let Some(gpu) = Gpu::get() else { return };
    let pipelines = Pipelines::get(gpu);
    for (text, samples, classes) in [
        ("dice", 2, 5),
        ("dice + ce", 2, 5),
        ("dice(batch=true) + ce", 8, 20),
        ("generalized_dice + mcc + exp_log", 8, 20),
        ("dice + ce", 8, 300),
    ] {
        let objective: Objective = text.parse().expect("a spec string");
        let problem = Problem::new(Shape::new(samples, classes, [64, 64]).expect("a shape"));
        let plan = Plan::new(&objective, &problem).expect("a plan");
        let head = &plan.heads()[0];
        let mut random = Random(1);
        let table = table(head, Data::Plain, &mut random);
        let (workspace, places) = workspace(head, &rows(head, &table), true, &mut random);
        let (recipe, result) = (recipe::recipe(&plan, 0, &places), vec![0; recipe::result_words(&plan) as usize]);
        let grad = [1f32.to_bits()];
        let bindings =
            [Binding::Out(&workspace), Binding::Storage(&recipe), Binding::Storage(&grad), Binding::Out(&result)];
        let call = || {
            let start = std::time::Instant::now();
            gpu.run(&pipelines.both, &bindings, (1, 1));
            start.elapsed()
        };
        let best = (0..30).map(|_| call()).min().expect("calls were made");
        eprintln!("{text}, {samples} samples, {classes} classes: {best:?}");
    }
}
