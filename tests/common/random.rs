//! Random objectives, problems and data. A recipe is a handful of numbers, so that a failure shrinks to a small one.

use super::{Case, Settings};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use segfuse::loss::{ENTRIES, Entry};
use segfuse::{Activation, DType, Layout, Map, Reduction, Target};

/// `cases` cases of a fixed seed; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` change them.
pub fn config(cases: u32) -> Config {
    let set = |name: &str| std::env::var_os(name).is_some();
    let default = Config::default();
    Config {
        cases: if set("PROPTEST_CASES") { default.cases } else { cases },
        rng_seed: if set("PROPTEST_RNG_SEED") { default.rng_seed } else { RngSeed::Fixed(0x5e6f05e) },
        failure_persistence: None,
        max_shrink_iters: 400,
        ..default
    }
}

/// Random numbers that depend on a seed alone: SplitMix64.
#[derive(Clone, Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// A random value of a parameter, from the words in which the library describes its range.
fn value(key: &str, default: &str, range: &str, classes: usize, r: &mut Numbers) -> String {
    let number = |x: f64| format!("{:.4}", x);
    match (key, range) {
        // A voxel whose p rounds to 1 is no longer below a threshold of 1.
        ("threshold", _) => number(r.between(0.05, 0.95)),
        // Nothing is floored at γ = 0, and 1 − T has no denominator at δ = 1: tests of their own.
        ("delta", _) | ("gamma", "from 0 to 1") => number(r.between(0.1, 0.9)),
        ("matrix", _) => {
            let mut m = vec![vec![0.0; classes]; classes];
            for (k, j) in (0..classes).flat_map(|k| (0..k).map(move |j| (k, j))) {
                let distance = (r.unit() * 8.0).round() / 8.0;
                (m[k][j], m[j][k]) = (distance, distance);
            }
            let rows: Vec<String> =
                m.iter().map(|row| row.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")).collect();
            format!("[{}]", rows.join("; "))
        }
        (_, "true or false") => r.pick(&["true", "false"]).into(),
        (_, "finite and at least 0") => match r.below(4) {
            0 => "0".into(),
            1 => r.pick(&["1", "0.5", "2", "1e-3"]).into(),
            _ => number(r.between(0.0, 2.5)),
        },
        (_, "finite and above 0" | "above 0 and at most 8" | "from 1e-15 to 1e15") => {
            number(r.pick(&[0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0]))
        }
        (_, "finite") => number(r.between(-1.0, 2.0)),
        (_, "from 0 to 16") => number(r.pick(&[0.0, 0.5, 1.0, 2.0, 3.0])),
        (_, "a whole number from 1 to 100") => r.pick(&["1", "2", "3", "7", "12"]).into(),
        (_, "from 1 to 2") => number(r.pick(&[1.0, 1.25, 1.5, 2.0])),
        (_, "from 0 to 1") => match r.below(5) {
            0 => r.pick(&["0", "1"]).into(),
            1 => default.into(),
            _ => number(r.unit()),
        },
        (_, words) if words.contains(" or ") => {
            let words: Vec<&str> = words.split(" or ").collect();
            r.pick(&words).into()
        }
        _ => panic!("{key}: what is a value that is {range}?"),
    }
}

/// What a random objective may hold.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    pub classes: usize,
    pub categorical: bool,
    pub softmax: bool,
    /// Whether the problem has a map.
    pub map: bool,
    /// Whether maps can be made.
    pub made_maps: bool,
    pub batch: bool,
}

/// A loss that can be computed, with random parameters and options, as a spec string.
pub fn term(entry: &Entry, allowed: Allowed, r: &mut Numbers) -> String {
    let mut arguments = Vec::new();
    for p in entry.parameters() {
        if p.key == "threshold" || r.chance(0.5) {
            arguments.push(format!("{}={}", p.key, value(p.key, &p.default, &p.range, allowed.classes, r)));
        }
    }
    // Without weights and smoothing there may be no denominator under the power: a test of its own.
    if entry.name == "focal_tversky" {
        arguments.iter_mut().filter(|a| *a == "smooth=0").for_each(|a| *a = "smooth=1e-3".into());
    }
    if allowed.batch && r.chance(0.2) {
        arguments.push(format!("batch={}", r.chance(0.7)));
    }
    if r.chance(0.2) {
        arguments.push(format!("background={}", r.chance(0.3)));
    }
    if r.chance(0.3) {
        arguments.push(format!("absent={}", r.pick(&["count", "skip", "zero"])));
    }
    if r.chance(0.2) {
        let weights: Vec<String> = (0..allowed.classes).map(|_| r.pick(&["0", "0.5", "1", "2"]).into()).collect();
        arguments.push(format!("class_weights=[{}]", weights.join(", ")));
    }
    if arguments.is_empty() { entry.name.into() } else { format!("{}({})", entry.name, arguments.join(", ")) }
}

/// Losses over a map, of the caller or made.
const MAP_LOSSES: [&str; 3] = ["boundary", "distance_ce", "shape_aware_ce"];

/// One to three losses; the same loss only once, because two cost matrices cannot share a plan.
pub fn objective(allowed: Allowed, r: &mut Numbers) -> String {
    // Wasserstein Dice wants probabilities that sum to 1: others make its denominator negative.
    let suits = |e: &&Entry| {
        (allowed.categorical || e.name != "ce")
            && (allowed.softmax || e.name != "wasserstein_dice")
            && (allowed.made_maps || !e.name.contains("hausdorff"))
            && (allowed.map || allowed.made_maps || !MAP_LOSSES.contains(&e.name))
    };
    let mut names: Vec<&Entry> = ENTRIES.iter().filter(suits).collect();
    let count = r.pick(&[1, 1, 1, 2, 2, 3]);
    let mut terms = Vec::new();
    for _ in 0..count {
        let entry = names.swap_remove(r.below(names.len()));
        let weight = r.pick(&["", "", "0.5*", "2*"]);
        terms.push(format!("{weight}{}", term(entry, allowed, r)));
    }
    terms.join(" + ")
}

/// What a random case is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub samples: usize,
    pub classes: usize,
    pub spatial: Vec<usize>,
    /// Seed of everything that is not a size.
    pub choices: u64,
    /// Seed of the values.
    pub values: u64,
}

/// Recipes whose reference is quick: its time is the square of the number of elements.
pub fn recipes() -> impl Strategy<Value = Recipe> {
    let classes = prop_oneof![8 => 1..=6usize, 1 => Just(17usize)];
    let line = prop_oneof![6 => 1..=80usize, 3 => 14..=18usize, 2 => 30..=34usize].prop_map(|v| vec![v]);
    let volume = prop::collection::vec(1..=5usize, 2..=5);
    let edge = (1023..=1025usize).prop_map(|v| vec![v]);
    let small = (1..=3usize, classes, prop_oneof![line, volume]);
    let long = (Just(1usize), Just(1usize), edge);
    let sizes = prop_oneof![60 => small, 1 => long];
    (sizes, any::<u64>(), any::<u64>())
        .prop_filter("the reference takes the square of this", |((n, c, s), _, _)| {
            n * c * s.iter().product::<usize>() <= 1100
        })
        .prop_map(|((samples, classes, spatial), choices, values)| Recipe {
            samples,
            classes,
            spatial,
            choices,
            values,
        })
}

impl Recipe {
    /// The case, and a factor for each of its losses.
    pub fn case(&self) -> (Case, Vec<f64>) {
        let r = &mut Numbers(self.choices);
        let (samples, classes) = (self.samples, self.classes);
        let voxels: usize = self.spatial.iter().product();
        let activation = match r.below(5) {
            0 => Activation::None,
            1 | 2 if classes > 1 => Activation::Softmax,
            _ => Activation::Sigmoid,
        };
        let reduction = r.pick(&[Reduction::Mean, Reduction::Mean, Reduction::Sum, Reduction::None]);
        let with_map = r.chance(0.4);
        let categorical = activation == Activation::Softmax || (activation == Activation::None && classes > 1);
        let allowed = Allowed {
            classes,
            categorical,
            softmax: activation == Activation::Softmax,
            map: with_map,
            made_maps: self.spatial.len() <= 3,
            batch: reduction != Reduction::None,
        };
        let spec = objective(allowed, r);
        let dtype = r.pick(&[DType::F32, DType::F32, DType::F16, DType::BF16]);
        let target = if r.chance(0.6) {
            Target::Labels(r.pick(&[DType::U8, DType::I16, DType::I32, DType::I64]))
        } else {
            Target::Dense(r.pick(&[DType::U8, DType::F32, DType::F16, DType::BF16]))
        };
        let ignore_label = match target {
            Target::Labels(_) if r.chance(0.3) => Some(r.pick(&[0, 1, 255, -1, -100, 1 << 40])),
            _ => None,
        };
        let settings = Settings {
            shape: [samples, classes].into_iter().chain(self.spatial.iter().copied()).collect(),
            dtype,
            activation,
            layout: r.pick(&[Layout::Planar, Layout::Interleaved]),
            target,
            ignore_label,
            class_weights: r.chance(0.2).then(|| (0..classes).map(|_| r.pick(&[0.0, 0.25, 1.0, 3.0])).collect()),
            reduction,
            gradient: r.pick(&[dtype, DType::F32]),
        };
        let map_kind = with_map.then(|| r.pick(&[Map::Shared, Map::PerClass]));
        // Light voxels make the denominator of this form negative.
        let (with_mask, with_weights) = (r.chance(0.3), r.chance(0.3) && !spec.contains("readme"));
        let losses = if reduction == Reduction::None { samples } else { 1 };
        let grad_output = (0..losses).map(|_| if r.chance(0.5) { 1.0 } else { r.between(-3.0, 3.0) }).collect();
        // κ and MCC of an empty or full group ask whether P = G exactly; probabilities that round to 0 or 1 answer otherwise
        // in single precision than in double.
        // A power below 1 of −ln p or of 1 − T has a slope without bound where the prediction is perfect.
        let gentle =
            ["kappa", "mcc", "exp_log", "focal_tversky", "unified_focal"].iter().any(|name| spec.contains(name));
        // Without smoothing, a class without target asks whether P = 0 exactly; e^−100 is 0 in single precision,
        // and 1/P² has left it long before.
        let sharp = spec.contains("smooth=0,")
            || spec.contains("smooth=0)")
            || spec.contains("_dr=0,")
            || spec.contains("_dr=0)");
        // The parts of the gradient of p^γ·(−ln q) are as large as ln q, and cancel.
        let cancels = activation == Activation::Softmax && spec.contains("focal");
        let scale = match (gentle, sharp) {
            (true, _) => 1.0,
            _ if cancels => r.pick(&[0.5, 3.0, 30.0]),
            (_, true) => r.pick(&[0.5, 3.0]),
            _ => r.pick(&[0.5, 3.0, 30.0, 30.0, 1000.0]),
        };

        let r = &mut Numbers(self.values);
        let elements = samples * classes * voxels;
        let mut prediction = Vec::with_capacity(elements);
        for _ in 0..elements {
            prediction.push(match activation {
                Activation::None if gentle => r.between(0.05, 0.95),
                // Soft losses of a class with P = G = 0 have slopes of 1/smooth by P and by TP, which cancel.
                Activation::None if r.chance(0.2) => {
                    r.pick(&[1.0, 1e-4, if spec.contains("soft_") { 0.5 } else { 0.0 }])
                }
                Activation::None => r.unit(),
                // p of a smaller logit rounds to ½, which is no longer above the threshold of the hard prediction.
                _ => Some(r.between(-scale, scale)).filter(|z| z.abs() > 1e-6).unwrap_or(0.25),
            });
        }
        let target_values = match target {
            Target::Labels(dtype) => {
                let bad: &[f64] = match dtype {
                    DType::U8 => &[255.0, 254.0, 100.0],
                    DType::I16 => &[-1.0, -100.0, 255.0, 32767.0],
                    DType::I32 => &[-1.0, 255.0, -2147483648.0, 65536.0],
                    _ => &[-1.0, 255.0, 4294967296.0, 4294967297.0, 1099511627776.0],
                };
                let some_bad = r.chance(0.5);
                // Some classes never occur.
                let present = 1 + r.below(classes.max(2));
                (0..samples * voxels)
                    .map(|_| if some_bad && r.chance(0.1) { r.pick(bad) } else { r.below(present) as f64 })
                    .collect()
            }
            Target::Dense(dtype) => {
                let hard = dtype == DType::U8 || r.chance(0.4);
                let share = r.pick(&[0.0, 0.2, 0.5, 1.0]);
                (0..elements)
                    .map(|_| if hard { f64::from(u8::from(r.chance(share))) } else { r.unit() * share })
                    .collect()
            }
        };
        let mask = with_mask.then(|| (0..samples * voxels).map(|_| r.pick(&[0, 1, 1, 2, 255])).collect());
        let weights = with_weights.then(|| {
            (0..samples * voxels).map(|_| if r.chance(0.1) { 0.0 } else { r.between(0.0, 2.0) as f32 }).collect()
        });
        let map = map_kind.map(|kind| {
            let count = if kind == Map::Shared { samples * voxels } else { elements };
            (kind, (0..count).map(|_| f64::from(r.between(-0.9, 3.0) as f32)).collect())
        });
        let objective = spec.parse().unwrap_or_else(|e| panic!("{spec}: {e}"));
        let mut case = Case::new(objective, &settings, prediction, target_values, mask, weights, map);
        if self.spatial.len() <= 3 && r.chance(0.3) {
            case.problem =
                case.problem.spacing(self.spatial.iter().map(|_| r.pick(&[0.5, 1.0, 2.5])).collect::<Vec<_>>());
        }
        (case, grad_output)
    }
}
