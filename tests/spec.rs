//! The language of losses: recorded programs against dual numbers and differences, encoding, folding, spec strings.

mod common;

use common::random::{Allowed, Numbers, config, objective, term};
use proptest::prelude::*;
use segfuse::Objective;
use segfuse::loss::{
    Absent, AsymmetricSimilarity, Ce, Dice, ENTRIES, Focal, Form, GeneralizedDice, Kappa, KappaForm, Part, Tversky,
    WassersteinDice,
};
use segfuse::spec::{
    Context, Dual, Graph, Id, Moments, Op, Operand, Program, ProgramError, Real, Recorder, Scope, Slots, Voxel,
    VoxelInput, limits,
};

fn allowed(classes: usize, categorical: bool) -> Allowed {
    Allowed { classes, categorical, softmax: true, map: true, made_maps: true, batch: true }
}

/// The parts of every loss, with its defaults and with a few random sets of parameters.
fn parts(mut each: impl FnMut(&str, &Part, Context)) {
    let r = &mut Numbers(1);
    for entry in ENTRIES {
        for round in 0..12 {
            for context in [
                Context { classes: 3, categorical: true, given_map: false },
                Context { classes: 1, categorical: false, given_map: false },
            ] {
                let spec = match (entry.name, round) {
                    ("topk_ce", 0) => "topk_ce(threshold=0.6)".into(),
                    (name, 0) => name.into(),
                    _ => term(entry, allowed(context.classes, context.categorical), r),
                };
                let objective: Objective = spec.parse().unwrap_or_else(|e| panic!("{spec}: {e}"));
                for part in objective.terms()[0].loss.parts(context) {
                    each(&spec, &part, context);
                }
            }
        }
    }
}

/// Whether two numbers agree but for rounding; equal infinities and NaN agree.
fn alike(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

/// Moments of a group as they may be: P, G ≤ N, I ≤ min(P, G), pixel sums between I and P, G: no denominator is near 0.
fn moments(r: &mut Numbers) -> [f64; Slots::COUNT] {
    let mut m = [0.0; Slots::COUNT];
    let n = r.between(5.0, 50.0);
    let (g, p) = (r.between(0.2, 0.7) * n, r.between(0.2, 0.7) * n);
    let i = r.between(0.2, 0.5) * g.min(p);
    m[..7].copy_from_slice(&[n, g, 0.9 * g, p, i, 0.8 * p, 0.3 * g]);
    (0..4).for_each(|k| m[Slots::PIXEL + k] = r.between(0.6, 0.9) * g.min(p));
    // Not 0 for the background: a difference would step over the choice by its sign.
    m[Slots::CLASS] = r.pick(&[-1.0, 1.0, 2.0]);
    m[Slots::G_SUM] = g + r.between(0.0, 10.0);
    m[Slots::G_MIN] = g * r.between(0.5, 1.0);
    m
}

/// The program of values, then of the derivative of each by each input.
fn compile(mut graph: Graph, inputs: usize, values: &[Id]) -> (Program, Program) {
    let slots: Vec<Id> = (0..inputs as Id).collect();
    let program = Program::compile(&graph, inputs, values).expect("it is small");
    let one = graph.lit(1.0);
    let slopes: Vec<Id> = values.iter().flat_map(|&v| graph.adjoint(&[(v, one)], &slots)).collect();
    (program, Program::compile(&graph, inputs, &slopes).expect("it is small"))
}

fn run(program: &Program, inputs: &[f64]) -> Vec<f64> {
    let mut results = vec![0.0; program.outputs().len()];
    program.run(inputs, &mut Vec::new(), &mut results);
    results
}

/// Value and slopes of programs against a function on dual numbers, and its slopes against central differences.
fn verify<const N: usize>(
    name: &str,
    (values, slopes): &(Program, Program),
    x: [f64; N],
    // Whether no slope was made beside its value.
    differences: bool,
    f: &dyn Fn([Dual; N]) -> Vec<Dual>,
) {
    let seeded = |x: [f64; N], slot: usize| {
        f(std::array::from_fn(|k| if k == slot { Dual::variable(x[k]) } else { Dual::constant(x[k]) }))
    };
    let (got, slopes) = (run(values, &x), run(slopes, &x));
    for slot in 0..N {
        let dual = seeded(x, slot);
        let h = 1e-5 * (1.0 + x[slot].abs());
        let moved = |by: f64| {
            let mut x = x;
            x[slot] += by;
            seeded(x, slot)
        };
        let (up, down) = (moved(h), moved(-h));
        for (k, d) in dual.iter().enumerate() {
            assert!(alike(got[k], d.value, 1e-12), "{name}: value {k}: {} and {}", got[k], d.value);
            let slope = slopes[k * N + slot];
            assert!(alike(slope, d.slope, 1e-11), "{name}: ∂{k}/∂{slot}: {slope}, dual {}", d.slope);
            // v of a class by its size, and what is chosen by a comparison, is a constant of the gradient.
            if !differences {
                continue;
            }
            let difference = (up[k].value - down[k].value) / (2.0 * h);
            assert!(alike(slope, difference, 2e-6), "{name}: ∂{k}/∂{slot}: {slope}, difference {difference}, {x:?}");
        }
    }
}

#[test]
fn inner_programs_agree_with_dual_numbers_and_differences() {
    let mut seen = 0;
    parts(|spec, part, context| {
        let recorder = Recorder::new();
        let inputs = std::array::from_fn(|slot| recorder.input(slot as u8));
        let ids: Vec<Id> =
            part.inner_nodes(&Moments::new(inputs, context)).into_iter().map(|n| recorder.id(n)).collect();
        let programs = compile(recorder.finish(), Slots::COUNT, &ids);
        let r = &mut Numbers(seen);
        for _ in 0..20 {
            let m = moments(r);
            verify(spec, &programs, m, true, &|m| part.inner_dual(&Moments::new(m, context)));
            let plain = part.inner_f64(&Moments::new(m, context));
            assert!(run(&programs.0, &m).iter().zip(&plain).all(|(a, b)| alike(*a, *b, 1e-12)), "{spec}");
        }
        seen += 1;
    });
    assert!(seen > 600);
}

#[test]
fn pixel_programs_agree_with_dual_numbers_and_differences() {
    parts(|spec, part, context| {
        let recorder = Recorder::new();
        let inputs = VoxelInput::ALL.map(|slot| recorder.input(slot as u8));
        let nodes = part.pixel_nodes(&Voxel::new(inputs, context, &|x| Real::lit(x)));
        let ids: Vec<Id> = nodes.into_iter().map(|n| recorder.id(n)).collect();
        let programs = compile(recorder.finish(), VoxelInput::ALL.len(), &ids);
        let r = &mut Numbers(spec.len() as u64);
        for _ in 0..20 {
            let (p, g) = (r.between(0.02, 0.98), r.between(0.02, 0.98));
            let mut x = [0.0; VoxelInput::ALL.len()];
            x[..5].copy_from_slice(&[p, p.ln(), 1.0 - p, (1.0 - p).ln(), g]);
            // Powers of a map below 1 have no slope at 0.
            x[5..].iter_mut().for_each(|map| *map = r.between(0.1, 2.0));
            verify(spec, &programs, x, !spec.contains("erosion"), &|x| {
                part.pixel_dual(&Voxel::new(x, context, &Dual::constant))
            });
        }
    });
}

#[test]
fn outer_programs_agree_with_differences() {
    parts(|spec, part, _| {
        if part.scope() != Scope::Pool {
            return;
        }
        let recorder = Recorder::new();
        let inputs = [recorder.input(0), recorder.input(1)];
        inputs.iter().for_each(|&i| _ = recorder.id(i));
        let value = recorder.id(part.outer_nodes(&inputs));
        let (values, slopes) = compile(recorder.finish(), 2, &[value]);
        for x in [[3.0, 8.0], [0.5, 4.0], [1.0, 2.5]] {
            for slot in 0..2 {
                let at = |by: f64| {
                    let mut x = x;
                    x[slot] += by;
                    run(&values, &x)[0]
                };
                let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!(alike(run(&slopes, &x)[slot], difference, 1e-7), "{spec}");
            }
        }
    });
}

/// The operations that a program records, without inputs and literals.
fn operations(record: impl for<'g> Fn(&'g Recorder) -> segfuse::spec::Node<'g>) -> Vec<Op> {
    let recorder = Recorder::new();
    let id = {
        let node = record(&recorder);
        recorder.id(node)
    };
    let graph = recorder.finish();
    let mut live = vec![false; graph.ops().len()];
    live[id as usize] = true;
    for (id, op) in graph.ops().iter().enumerate().rev() {
        if live[id] {
            op.operands().for_each(|o| live[o as usize] = true);
        }
    }
    let ops = graph.ops().iter().zip(&live);
    ops.filter(|(op, live)| **live && !matches!(op, Op::Input(_) | Op::Literal(_))).map(|(op, _)| *op).collect()
}

#[test]
fn constants_fold_and_common_subexpressions_are_one() {
    let lit = |x: f64| Real::lit(x);
    assert!(operations(|r| r.input(0) * lit(1.0)).is_empty());
    assert!(operations(|r| lit(1.0) * r.input(0)).is_empty());
    assert!(operations(|r| r.input(0) + lit(0.0)).is_empty());
    assert!(operations(|r| lit(0.0) + r.input(0)).is_empty());
    assert!(operations(|r| r.input(0) - lit(0.0)).is_empty());
    assert!(operations(|r| r.input(0) / lit(1.0)).is_empty());
    assert!(operations(|r| r.input(0).pow(lit(1.0))).is_empty());
    assert!(operations(|r| r.input(0).pow(lit(0.0))).is_empty());
    assert!(operations(|r| -(-r.input(0))).is_empty());
    assert!(operations(|r| lit(2.0).ln() * lit(3.0) * lit(0.0) + r.input(1)).is_empty());
    assert!(matches!(operations(|r| r.input(0).pow(lit(2.0)))[..], [Op::Mul(a, b)] if a == b));
    assert!(matches!(operations(|r| r.input(0).pow(lit(0.5)))[..], [Op::Sqrt(_)]));
    assert!(matches!(operations(|r| r.input(0) * lit(-1.0))[..], [Op::Neg(_)]));
    assert_eq!(operations(|r| lit(1.0).select(r.input(0), r.input(1))).len(), 0);
    // a·b and b·a, a + b and b + a.
    let twice = operations(|r| {
        let (a, b) = (r.input(0), r.input(1));
        (a * b + (a + b)) / (b * a + (b + a))
    });
    assert_eq!(twice.len(), 4, "{twice:?}");
    // max keeps its order: the slope on a tie belongs to the first.
    assert_eq!(operations(|r| r.input(0).max(r.input(1)) + r.input(1).max(r.input(0))).len(), 3);
}

#[test]
#[expect(clippy::manual_clamp, reason = "max and min are what is tested")]
fn folding_computes_what_running_does() {
    let x = 0.7f64;
    let f = |x: f64| ((x.ln().exp() - x.sqrt()).abs().pow(1.5)).max(0.01).min(3.0).select(x, -x);
    let recorder = Recorder::new();
    let folded = {
        let x: segfuse::spec::Node<'_> = Real::lit(x);
        let y = ((x.ln().exp() - x.sqrt()).abs().pow(Real::lit(1.5))).max(Real::lit(0.01)).min(Real::lit(3.0));
        recorder.id(y.select(x, -x))
    };
    assert_eq!(recorder.finish().literal(folded), Some(f(x)));
}

#[test]
fn slopes_made_beside_their_values() {
    // a, with the slope b by a·c: its square has the slopes 2a·b·c and 2a·b·a by a and c, and none by b.
    let recorder = Recorder::new();
    let value = {
        let [a, b, c] = [0, 1, 2].map(|slot| recorder.input(slot));
        [a, b, c].iter().for_each(|&x| _ = recorder.id(x));
        recorder.id(a.with_slope(b, a * c).square())
    };
    let (values, slopes) = compile(recorder.finish(), 3, &[value]);
    assert_eq!(run(&values, &[3.0, f64::NAN, f64::NAN]), [9.0]);
    assert!(!values.reads(1) && !values.reads(2), "a value reads nothing of its slope");
    assert_eq!(run(&slopes, &[3.0, 5.0, 7.0]), [210.0, 0.0, 90.0]);
}

#[test]
fn slopes_at_ties_and_nan() {
    // max and min give a tie to the first, the magnitude has slope 0 at 0, no slope flows into a condition.
    let recorder = Recorder::new();
    let ids: Vec<Id> = {
        let (a, b) = (recorder.input(0), recorder.input(1));
        assert_eq!((recorder.id(a), recorder.id(b)), (0, 1));
        [a.max(b), a.min(b), (a - b).abs(), a.select(b, a * b)].map(|n| recorder.id(n)).to_vec()
    };
    let (values, slopes) = compile(recorder.finish(), 2, &ids);
    assert_eq!(run(&values, &[2.0, 2.0]), [2.0, 2.0, 0.0, 2.0]);
    assert_eq!(run(&slopes, &[2.0, 2.0]), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    for inputs in [[f64::NAN, 1.0], [1.0, f64::NAN]] {
        assert!(run(&values, &inputs)[..3].iter().all(|x| x.is_nan()), "NaN is carried through");
    }
}

fn sample() -> Program {
    let recorder = Recorder::new();
    let id = {
        let (a, b) = (recorder.input(0), recorder.input(1));
        let shared = a * b;
        recorder.id((shared + Real::lit(0.5)).select(shared.ln() / b, a.max(shared).pow(Real::lit(1.5))))
    };
    let graph = recorder.finish();
    Program::compile(&graph, 2, &[id, 0]).expect("it is small")
}

#[test]
fn programs_survive_encoding() {
    parts(|spec, part, context| {
        let recorder = Recorder::new();
        let inputs = std::array::from_fn(|slot| recorder.input(slot as u8));
        let ids: Vec<Id> =
            part.inner_nodes(&Moments::new(inputs, context)).into_iter().map(|n| recorder.id(n)).collect();
        let (values, slopes) = compile(recorder.finish(), Slots::COUNT, &ids);
        for program in [values, slopes] {
            assert_eq!(Program::decode(&program.encode()).as_ref(), Ok(&program), "{spec}");
        }
    });
    let bytes = sample().encode();
    assert_eq!(Program::decode(&bytes), Ok(sample()));
    for len in 0..bytes.len() {
        assert!(matches!(Program::decode(&bytes[..len]), Err(ProgramError::Header | ProgramError::Length { .. })));
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Program::decode(&longer), Err(ProgramError::Length { need: bytes.len(), got: bytes.len() + 1 }));
    let mut other = bytes.clone();
    other[3] = b'2';
    assert_eq!(Program::decode(&other), Err(ProgramError::Header));
    let mut large = bytes.clone();
    large[4..6].copy_from_slice(&300u16.to_le_bytes());
    assert_eq!(
        Program::decode(&large),
        Err(ProgramError::TooLarge { what: "inputs", need: 300, limit: limits::INPUTS })
    );
}

#[test]
fn disassembly() {
    let text = sample().disassemble();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), sample().instructions().len() + 1);
    assert!(lines[0].starts_with("r0") && lines[0].contains("= mul") && lines[0].ends_with("in0, in1"), "{text}");
    assert!(
        text.contains("select") && text.contains("1.5") && lines[lines.len() - 1].starts_with("return r"),
        "{text}"
    );
    assert!(sample().reads(0) && sample().reads(1));
}

/// A graph with more of something than a program holds is an error, not a panic.
#[test]
fn programs_have_limits() {
    let mut graph = Graph::default();
    let x = graph.push(Op::Input(0));
    let literals: Vec<Id> = (0..300).map(|k| graph.lit(k as f64 + 0.5)).collect();
    let sums: Vec<Id> = literals.iter().map(|&l| graph.push(Op::Add(x, l))).collect();
    let total = sums.iter().copied().reduce(|a, b| graph.push(Op::Mul(a, b))).expect("there are some");
    assert!(matches!(Program::compile(&graph, 1, &[total]), Err(ProgramError::TooLarge { what: "literals", .. })));
    assert!(matches!(Program::compile(&graph, 1, &[x; 257]), Err(ProgramError::TooLarge { what: "outputs", .. })));
    let mut graph = Graph::default();
    let x = graph.push(Op::Input(0));
    let mut at = x;
    for _ in 0..5000 {
        at = graph.push(Op::Exp(at));
    }
    assert!(matches!(Program::compile(&graph, 1, &[at]), Err(ProgramError::TooLarge { what: "instructions", .. })));
    // As many values alive at once as there are registers, and one more.
    for (alive, fits) in [(255, true), (258, false)] {
        let mut graph = Graph::default();
        let x = graph.push(Op::Input(0));
        let mut at = x;
        let mut chain = Vec::new();
        for _ in 0..alive {
            at = graph.push(Op::Exp(at));
            chain.push(at);
        }
        let sum = chain.into_iter().reduce(|a, b| graph.push(Op::Mul(b, a))).expect("there are some");
        assert_eq!(Program::compile(&graph, 1, &[sum]).is_ok(), fits, "{alive}");
    }
}

proptest! {
    #![proptest_config(config(if cfg!(miri) { 30 } else { 20_000 }))]

    /// Changed bytes are refused, or are another program that runs; nothing panics.
    #[test]
    fn mutated_bytes(changes in prop::collection::vec((0..1000usize, any::<u8>()), 1..4)) {
        let mut bytes = sample().encode();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(program) = Program::decode(&bytes) {
            let inputs = vec![0.5; program.inputs()];
            run(&program, &inputs);
            program.disassemble();
            prop_assert_eq!(Program::decode(&program.encode()).map(|p| p.encode()), Ok(program.encode()));
        }
    }

    /// Any bytes after a good header.
    #[test]
    fn arbitrary_bytes(counts in prop::collection::vec(0..5u16, 5), rest in prop::collection::vec(0..4u8, 0..120)) {
        let mut bytes = b"SFP1".to_vec();
        counts.iter().for_each(|c| bytes.extend(c.to_le_bytes()));
        let need = 8 * counts[2] + 8 * counts[3] + 2 * counts[4];
        bytes.extend(rest.iter().cycle().take(if rest.is_empty() { 0 } else { need.into() }));
        if let Ok(program) = Program::decode(&bytes) {
            run(&program, &vec![0.5; program.inputs()]);
            assert!(program.outputs().iter().all(|o| !matches!(o, Operand::Input(i) if *i as usize >= program.inputs())));
        }
    }

    /// Printing a random objective and reading it again gives the same objective.
    #[test]
    fn printed_objectives_are_read_again(seed in any::<u64>(), classes in 1..5usize) {
        let r = &mut Numbers(seed);
        let text = objective(allowed(classes, classes > 1), r);
        let read: Objective = text.parse().expect("a valid spec");
        let factor = r.pick(&[1.0, -1.0, 0.1, 1e-300, 1e300, 1.0 / 3.0, -0.0]);
        let scaled = factor * read.clone() - read;
        let printed = scaled.to_string();
        let again: Objective = printed.parse().unwrap_or_else(|e| panic!("{printed}: {e}"));
        prop_assert_eq!(&again, &scaled);
        for (a, b) in again.terms().iter().zip(scaled.terms()) {
            prop_assert_eq!(a.weight.to_bits(), b.weight.to_bits());
            prop_assert_eq!(format!("{:?}", a.loss), format!("{:?}", b.loss));
            prop_assert_eq!(&a.options, &b.options);
        }
    }

    /// No text makes the reader panic.
    #[test]
    fn any_text(text in "([a-z_]{0,6}|dice|focal|[(),=*+/;\\[\\]. -]|[0-9.e-]{1,5}|\\PC){0,12}") {
        if let Ok(objective) = text.parse::<Objective>() {
            let printed = objective.to_string();
            prop_assert_eq!(printed.parse::<Objective>().expect("what is printed can be read"), objective);
        }
    }
}

#[test]
fn built_objectives_equal_read_ones() {
    let same = |built: Objective, text: &str| {
        let read: Objective = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(built, read, "{text}");
        assert_eq!(format!("{built:?}"), format!("{read:?}"));
    };
    same(Dice::default().into(), "dice");
    same(
        Dice { squared: true, ..Dice::default() } + 0.5 * Focal::new(2.5),
        "dice(squared=true) + 0.5*focal(gamma=2.5)",
    );
    same(
        Ce::default() - Focal { alpha: Some(0.25), form: Form::Binary, ..Focal::default() },
        "ce - focal(alpha=1/4, form=binary)",
    );
    same(
        GeneralizedDice::default().term().batch(true).background(false).absent(Absent::Skip).class_weights([1.0, 0.5])
            + Ce::default(),
        "generalized_dice(batch=true, background=false, absent=skip, class_weights=[1, 0.5]) + ce",
    );
    same(-Objective::from(Kappa { form: KappaForm::Squared }), "-kappa(form=squared)");
    same(
        2.0 * (Tversky { alpha: 0.1, ..Tversky::default() } + 0.5 * AsymmetricSimilarity::default()),
        "2*tversky(alpha=1e-1) + f_beta",
    );
    same(
        WassersteinDice { matrix: Some(vec![vec![0.0, 0.5], vec![0.5, 0.0]]), ..WassersteinDice::default() }.into(),
        "wasserstein_dice( matrix = [0, .5; 5e-1, 0] )",
    );
    // A parameter at its default, an alias and white space change nothing.
    assert_eq!("iou(smooth=1e-5)".parse::<Objective>(), "  jaccard ( ) ".parse::<Objective>());
    assert_eq!("focal_tversky(gamma=4/3)".parse::<Objective>(), "focal_tversky".parse::<Objective>());
}
