//! Random problems, answered by the reference crate.

use super::case::{Case, Setup, TargetValues, Want};
use segfuse::loss::{Absent, ENTRIES, Entry, ParameterInfo};
use segfuse::{Activation, DType, Layout, Map, Objective, Reduction, Shape};
use segfuse_reference as reference;
use std::collections::BTreeMap;

/// Most elements of a problem whose gradient is compared: the reference evaluates the loss once for each.
const ELEMENTS_MAX: usize = 300;
/// Losses that make maps.
const MADE: [&str; 4] = ["boundary", "hausdorff", "distance_ce", "shape_aware_ce"];
/// Every so many problems one is large, and only its loss is compared.
const LARGE_EVERY: u64 = 8;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// From 0 to `n` − 1.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    /// One time in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
    fn many<T>(&mut self, n: usize, mut value: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..n).map(|_| value(self)).collect()
    }
}

/// The problem of this seed and index with its answer, and the types it is handed over in.
pub(super) fn case(seed: u64, index: u64) -> (Case, Setup) {
    let mut random = Random(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ index.wrapping_mul(0xaf25_1af3_b0f0_25b5));
    let large = index % LARGE_EVERY == LARGE_EVERY - 1;
    loop {
        let mut case = problem(&mut random, large);
        // Its denominator is positive where the probabilities of the classes add up to 1, and passes through 0 elsewhere.
        let adds_up = case.activation == Activation::Softmax;
        if !case.is_suitable() || (case.spec.contains("wasserstein_dice") && !adds_up) {
            continue;
        }
        let Some(want) = answer(&case, large) else { continue };
        (case.want, case.name) = (want, format!("seed {seed} case {index}"));
        let prediction = random.pick(&[DType::F32, DType::F32, DType::F16, DType::BF16]);
        let setup = Setup {
            prediction,
            gradient: random.pick(&[prediction, DType::F32]),
            layout: random.pick(&[Layout::Planar, Layout::Interleaved]),
            variant: random.below(4),
        };
        return (case, setup);
    }
}

fn problem(random: &mut Random, large: bool) -> Case {
    let classes = random.pick(&[1, 2, 3, 4, 5, 8]);
    let samples = random.pick(&[1, 2, 3]);
    let voxels_max = if large { 12_000 } else { ELEMENTS_MAX / (classes * samples) };
    let mut spatial = vec![1 + random.below(voxels_max)];
    for _ in 0..random.below(3) {
        let most = voxels_max / spatial.iter().product::<usize>();
        spatial.push(1 + random.below(most));
    }
    let shape = Shape::new(samples, classes, &spatial).expect("a small shape");
    let (elements, voxels) = (shape.elements() as usize, shape.all_voxels() as usize);

    let activation = match classes {
        1 => random.pick(&[Activation::Sigmoid, Activation::None]),
        _ => random.pick(&[Activation::Softmax, Activation::Softmax, Activation::Sigmoid, Activation::None]),
    };
    // Every number is exact in f16 and in bf16.
    let prediction = match activation {
        Activation::None => random.many(elements, |r| (1 + r.below(127)) as f64 / 128.0),
        _ => random.many(elements, |r| (r.below(255) as f64 - 127.0) / 16.0),
    };
    let soft = random.one_in(4);
    let target = match random.below(4) {
        0 if soft => TargetValues::Dense(random.many(elements, |r| r.below(129) as f64 / 128.0)),
        0 => TargetValues::Dense(random.many(elements, |r| r.below(2) as f64)),
        _ => {
            let present = 1 + random.below(classes.max(2));
            let odd = random.one_in(3);
            let label = |r: &mut Random| match odd && r.one_in(10) {
                true => r.pick(&[255, 100]),
                false => r.below(present) as i64,
            };
            TargetValues::Labels(random.many(voxels, label))
        }
    };
    let labels = matches!(target, TargetValues::Labels(_));
    let reduction = random.pick(&[Reduction::Mean, Reduction::Mean, Reduction::Sum, Reduction::None]);
    let eighths = |r: &mut Random| r.below(17) as f64 / 8.0;
    let terms = 1 + random.below(3);
    Case {
        name: String::new(),
        spec: random.many(terms, term).join(" + "),
        activation,
        prediction,
        target,
        ignore_label: (labels && random.one_in(2)).then_some(255),
        mask: random.one_in(4).then(|| random.many(voxels, |r| u8::from(!r.one_in(5)))),
        weights: random.one_in(4).then(|| random.many(voxels, eighths)),
        map: random.one_in(2).then(|| match random.below(2) {
            0 => (Map::Shared, random.many(voxels, eighths)),
            _ => (Map::PerClass, random.many(elements, eighths)),
        }),
        spacing: random.one_in(4).then(|| random.many(spatial.len(), |r| r.pick(&[0.5, 1.0, 2.5]))),
        class_weights: random.one_in(4).then(|| random.many(classes, |r| (1 + r.below(16)) as f64 / 8.0)),
        reduction,
        batch: reduction != Reduction::None && random.one_in(3),
        background: !random.one_in(4),
        absent: random.pick(&[Absent::Count, Absent::Count, Absent::Skip, Absent::Zero]),
        shape,
        want: Want { loss: Vec::new(), gradient: None, valid_voxels: 0, invalid_labels: 0 },
    }
}

/// A random loss with a random choice of parameters.
fn term(random: &mut Random) -> String {
    let entry: &Entry = &ENTRIES[random.below(ENTRIES.len())];
    let mut arguments = Vec::new();
    for parameter in entry.parameters() {
        // A parameter without a number as its default may be one that must be given.
        let often = if parameter.default == "none" { 2 } else { 4 };
        if random.one_in(often)
            && let Some(value) = value(random, &parameter)
        {
            arguments.push(format!("{}={value}", parameter.key));
        }
    }
    let weight = random.pick(&["", "0.5*", "2*"]);
    format!("{weight}{}({})", entry.name, arguments.join(", "))
}

/// A value in the range of a parameter; `None` where its range is not one of the usual ones.
fn value(random: &mut Random, parameter: &ParameterInfo) -> Option<String> {
    let eighth = random.below(9) as f64 / 8.0;
    Some(match parameter.range.as_str() {
        "from 0 to 1" => eighth.to_string(),
        "from 0 to 16" => random.pick(&["0.5", "1", "3"]).into(),
        "a whole number from 1 to 100" => random.pick(&["1", "4", "15"]).into(),
        "from 1 to 2" => (1.0 + eighth).to_string(),
        "finite and at least 0" => random.pick(&["0.5", "1", "2", "0.25"]).into(),
        "finite and above 0" | "from 1e-15 to 1e15" => random.pick(&["0.75", "1", "2"]).into(),
        "finite" => random.pick(&["-0.5", "1", "2"]).into(),
        // "square or simple or uniform", but not "a number or none"
        words => {
            let words: Vec<&str> = words.split(" or ").collect();
            let plain = words.len() > 1 && words.iter().all(|word| !word.contains(' '));
            return plain.then(|| random.pick(&words).to_string());
        }
    })
}

/// What the reference says; `None` where it has no number.
fn answer(case: &Case, large: bool) -> Option<Want> {
    // The reference looks at every pair of voxels for a map.
    if large && MADE.iter().any(|name| case.spec.contains(name)) {
        return None;
    }
    let terms = reference_terms(case)?;
    let problem = reference_problem(case);
    let want = if large {
        let counts = kept(case);
        Want {
            loss: reference::loss(&terms, &problem),
            gradient: None,
            valid_voxels: counts.0,
            invalid_labels: counts.1,
        }
    } else {
        let evaluation = reference::evaluate(&terms, &problem, None);
        Want {
            loss: evaluation.loss,
            gradient: Some(evaluation.gradient),
            valid_voxels: evaluation.kept_voxels,
            invalid_labels: evaluation.invalid_labels,
        }
    };
    let finite = want.loss.iter().chain(want.gradient.iter().flatten()).all(|x| x.is_finite());
    finite.then_some(want)
}

/// Voxels that count and labels out of range.
fn kept(case: &Case) -> (u64, u64) {
    let voxels = case.shape.all_voxels() as usize;
    let unmasked = |v: usize| case.mask.as_ref().is_none_or(|mask| mask[v] != 0);
    let TargetValues::Labels(labels) = &case.target else {
        return ((0..voxels).filter(|&v| unmasked(v)).count() as u64, 0);
    };
    let last = case.shape.classes().max(2) as i64;
    let of_interest = || (0..voxels).filter(|&v| unmasked(v) && Some(labels[v]) != case.ignore_label);
    let valid = of_interest().filter(|&v| (0..last).contains(&labels[v])).count() as u64;
    (valid, of_interest().count() as u64 - valid)
}

fn reference_terms(case: &Case) -> Option<Vec<reference::Term>> {
    let objective: Objective = case.spec.parse().ok()?;
    let absent = match case.absent {
        Absent::Count => "count",
        Absent::Skip => "skip",
        Absent::Zero => "zero",
    };
    let options = [("batch", case.batch.to_string()), ("absent", absent.into())];
    let terms = objective.terms().iter().map(|term| {
        let mut params: BTreeMap<String, String> =
            options.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        // A loss may leave class 0 out where the problem does not.
        params.extend((!case.background).then(|| ("background".into(), "false".into())));
        params.extend(term.arguments().into_iter().map(|(key, value)| (key.to_string(), value)));
        reference::Term { weight: term.weight, name: term.loss.name().into(), params }
    });
    Some(terms.collect())
}

fn reference_problem(case: &Case) -> reference::Problem {
    reference::Problem {
        samples: case.shape.samples(),
        classes: case.shape.classes(),
        voxels: case.shape.voxels() as usize,
        extents: case.shape.spatial().to_vec(),
        spacing: case.spacing.clone().unwrap_or_else(|| vec![1.0; case.shape.spatial().len()]),
        activation: match case.activation {
            Activation::None => reference::Activation::None,
            Activation::Sigmoid => reference::Activation::Sigmoid,
            Activation::Softmax => reference::Activation::Softmax,
        },
        prediction: case.prediction.clone(),
        target: match &case.target {
            TargetValues::Labels(labels) => reference::Target::Labels(labels.clone()),
            TargetValues::Dense(values) => reference::Target::Dense(values.clone()),
        },
        ignore_label: case.ignore_label,
        mask: case.mask.as_ref().map(|mask| mask.iter().map(|&keep| keep != 0).collect()),
        weights: case.weights.clone(),
        map: case.map.as_ref().map(|(map, values)| match map {
            Map::Shared => reference::Map::Shared(values.clone()),
            Map::PerClass => reference::Map::PerClass(values.clone()),
        }),
        class_weights: case.class_weights.clone(),
        reduction: match case.reduction {
            Reduction::Mean => reference::Reduction::Mean,
            Reduction::Sum => reference::Reduction::Sum,
            Reduction::None => reference::Reduction::None,
        },
    }
}
