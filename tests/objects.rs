//! The objects of the U-Net's weight map: which voxels hang together, and how far it is to two of them, on every backend.
#![cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]

mod common;

use common::random::Numbers;
use common::{Bench, Case, Settings, compare};
use segfuse::{Activation, DType, Error, Explanation, Map, Objective, Plan, Problem, Shape, Target};

on_each_device!(
    weights_by_hand,
    a_voxel_that_does_not_count_is_in_no_object,
    channels_that_overlap_are_two_objects,
    widths_at_their_ends,
    objects_of_every_form,
    two_widths_in_one_plan
);

/// Probabilities of ½, so that the loss is ln 2 times the mean of 1 + D.
fn even(spec: &str, shape: &[usize], target: Target, values: &[f64], mask: Option<Vec<u8>>) -> Case {
    let settings = Settings {
        target,
        ignore_label: matches!(target, Target::Labels(_)).then_some(255),
        ..Settings::of_labels(shape, Activation::Sigmoid)
    };
    let logits = vec![0.0; shape.iter().product()];
    Case::new(spec.parse().expect("a valid spec"), &settings, logits, values.to_vec(), mask, None, None)
}

/// The mean of D that a loss of even probabilities says.
fn mean_weight(bench: &Bench, case: &Case) -> f64 {
    case.run(&bench.runtime).losses[0] / std::f64::consts::LN_2 - 1.0
}

/// d1 + d2 of the voxels that count, and so D of each, by the mean in the loss and by the gradient of every class: (1 + D)·(½ − g) over
/// their number, where `sums` are of one sample and g is 0 or 1.
fn assert_weights(bench: &Bench, case: &Case, sums: &[f64], (w0, sigma): (f64, f64), what: &str) {
    assert_mean(bench, case, sums, (w0, sigma), what);
    let slopes: Vec<f64> = case.run(&bench.runtime).gradient.into_iter().filter(|slope| *slope != 0.0).collect();
    let classes = case.problem.shape().classes();
    assert_eq!(slopes.len(), sums.len() * classes, "{what}");
    for (index, (slope, sum)) in slopes.iter().zip(sums.iter().cycle()).enumerate() {
        let (got, want) =
            (2.0 * slope.abs() * slopes.len() as f64, 1.0 + w0 * (-sum * sum / (2.0 * sigma * sigma)).exp());
        assert!((got - want).abs() <= 2e-6 * want, "{what}, value {index}: {got} for {want}");
    }
}

/// The same by the mean alone.
fn assert_mean(bench: &Bench, case: &Case, sums: &[f64], (w0, sigma): (f64, f64), what: &str) {
    let weight = |sum: &f64| w0 * (-sum * sum / (2.0 * sigma * sigma)).exp();
    let want = sums.iter().map(weight).sum::<f64>() / sums.len() as f64;
    let got = mean_weight(bench, case);
    assert!((got - want).abs() <= 2e-6 * (1.0 + want), "{what}: {got} for {want}");
}

const NONE: f64 = f64::INFINITY;
const U8: Target = Target::Labels(DType::U8);

/// d1 + d2 of every voxel, counted on the fingers.
fn weights_by_hand(bench: &Bench) {
    let spec = "distance_ce(map=unet, w0=4, sigma=2)";
    let check = |shape: &[usize], labels: &[f64], spacing: &[f64], sums: &[f64], what: &str| {
        let mut case = even(spec, shape, U8, labels, None);
        case.problem = case.problem.spacing(spacing);
        assert_weights(bench, &case, sums, (4.0, 2.0), what);
    };
    let r2 = 2f64.sqrt();
    check(&[1, 1, 6], &[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], &[1.0], &[3.0, 3.0, 3.0, 3.0, 4.0, 6.0], "a line");
    check(&[1, 1, 4], &[1.0, 0.0, 0.0, 1.0], &[0.5], &[1.5; 4], "half steps");
    check(&[1, 1, 5], &[0.0; 5], &[1.0], &[NONE; 5], "no object");
    check(&[1, 1, 5], &[0.0, 1.0, 1.0, 0.0, 0.0], &[1.0], &[NONE; 5], "one object");
    check(&[1, 1, 3], &[1.0; 3], &[1.0], &[NONE; 3], "one object everywhere");
    check(&[1, 1, 1], &[1.0], &[1.0], &[NONE], "one voxel");
    // 1 0
    // 0 1: a corner is enough.
    check(&[1, 1, 2, 2], &[1.0, 0.0, 0.0, 1.0], &[1.0, 1.0], &[NONE; 4], "diagonal contact in a plane");
    let mut corners = [0.0; 8];
    (corners[0], corners[7]) = (1.0, 1.0);
    check(&[1, 1, 2, 2, 2], &corners, &[1.0; 3], &[NONE; 8], "diagonal contact in a volume");
    // 1 0 1
    // 0 0 0: the objects lie at the borders, and beyond those is nothing.
    check(
        &[1, 1, 2, 3],
        &[1.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        &[1.0, 1.0],
        &[2.0, 2.0, 2.0, 1.0 + 5f64.sqrt(), 2.0 * r2, 1.0 + 5f64.sqrt()],
        "borders",
    );
    // Two slices, 3 apart: two objects that are near along a row, and one right above the first.
    check(
        &[1, 1, 3, 1, 3],
        &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        &[3.0, 1.0, 1.0],
        &[
            6.0,
            1.0 + 37f64.sqrt(),
            2.0 + 40f64.sqrt(),
            6.0,
            2.0 * 10f64.sqrt(),
            2.0 * 13f64.sqrt(),
            6.0,
            1.0 + 37f64.sqrt(),
            2.0 + 40f64.sqrt(),
        ],
        "far slices",
    );
    // Classes that touch are two objects, whatever the class of the voxel: class 2 counts here for all three channels.
    let labels = [0.0, 1.0, 2.0, 2.0, 0.0];
    let case = even(spec, &[1, 3, 5], U8, &labels, None);
    assert_weights(bench, &case, &[3.0, 1.0, 1.0, 2.0, 4.0], (4.0, 2.0), "classes that touch");
}

/// It splits an object in two, by label or mask, and has no loss itself.
fn a_voxel_that_does_not_count_is_in_no_object(bench: &Bench) {
    let spec = "distance_ce(map=unet, w0=4, sigma=2)";
    let sums = [2.0, 2.0, 3.0];
    let ignored = even(spec, &[1, 1, 4], U8, &[1.0, 255.0, 1.0, 0.0], None);
    assert_weights(bench, &ignored, &[2.0, 2.0, 4.0], (4.0, 2.0), "an ignore label");
    let invalid = even(spec, &[1, 1, 4], U8, &[1.0, 7.0, 1.0, 1.0], None);
    assert_weights(bench, &invalid, &[2.0, 2.0, 3.0], (4.0, 2.0), "a label that is no class");
    let masked = even(spec, &[1, 1, 4], U8, &[1.0, 1.0, 1.0, 1.0], Some(vec![1, 0, 1, 1]));
    assert_weights(bench, &masked, &sums, (4.0, 2.0), "a mask");
    let dense = Target::Dense(DType::F32);
    let masked = even(spec, &[1, 1, 4], dense, &[1.0, 0.75, 1.0, 0.625], Some(vec![1, 0, 1, 1]));
    assert_mean(bench, &masked, &sums, (4.0, 2.0), "a mask of a dense target");
    let half = even(spec, &[1, 1, 4], dense, &[1.0, 0.5, 1.0, 0.625], None);
    assert_mean(bench, &half, &[2.0, 2.0, 2.0, 3.0], (4.0, 2.0), "½ is not above ½");
}

/// Channels of a sigmoid exclude nothing: all of them make objects, and a voxel may be in several.
fn channels_that_overlap_are_two_objects(bench: &Bench) {
    let spec = "distance_ce(map=unet, w0=4, sigma=2)";
    let values = [1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
    let case = even(spec, &[1, 2, 4], Target::Dense(DType::U8), &values, None);
    assert_weights(bench, &case, &[1.0, 0.0, 2.0, 4.0], (4.0, 2.0), "two channels");
    let three = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
    let case = even(spec, &[1, 3, 2], Target::Dense(DType::U8), &three, None);
    assert_weights(bench, &case, &[0.0, 2.0], (4.0, 2.0), "three channels in one voxel");
}

/// The widths at the ends of their range, no weight at all, and one that ends before the next voxel: numbers, the same everywhere.
fn widths_at_their_ends(bench: &Bench) {
    let labels = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
    let case = |w0: f64, sigma: f64| {
        even(&format!("distance_ce(map=unet, w0={w0}, sigma={sigma})"), &[1, 1, 6], U8, &labels, None)
    };
    assert_weights(bench, &case(4.0, 1e15), &[0.0; 6], (4.0, 1.0), "the widest");
    assert_weights(bench, &case(4.0, 1e-15), &[NONE; 6], (4.0, 1.0), "the narrowest");
    assert_weights(bench, &case(0.0, 2.0), &[NONE; 6], (0.0, 2.0), "no weight");
    let overlap = even(
        "distance_ce(map=unet, w0=4, sigma=1e-15)",
        &[1, 2, 2],
        Target::Dense(DType::U8),
        &[1.0, 0.0, 1.0, 0.0],
        None,
    );
    assert_weights(bench, &overlap, &[0.0, NONE], (4.0, 1.0), "two objects in one voxel");
}

/// Whether a voxel is in the foreground, by its place along each axis.
type Form = (&'static str, fn(&[usize], &[usize], &mut Numbers) -> bool);

const FORMS: [Form; 8] = [
    ("serpentine", |at, extents, _| {
        // Every other row whole, joined at alternate ends: one long path.
        let (row, x) = (at[..at.len() - 1].iter().sum::<usize>(), at[at.len() - 1]);
        row % 2 == 0 || x == if row % 4 == 1 { extents[extents.len() - 1] - 1 } else { 0 }
    }),
    ("comb", |at, extents, _| at[at.len() - 1] % 2 == 0 || at[0] + 1 == extents[0]),
    ("checkerboard", |at, _, _| at.iter().sum::<usize>() % 2 == 0),
    ("points", |at, _, _| at.iter().all(|x| x % 4 == 1)),
    ("corners", |at, extents, _| at.iter().zip(extents).all(|(x, extent)| *x == 0 || x + 1 == *extent)),
    ("frame", |at, extents, _| at.iter().zip(extents).any(|(x, extent)| *x == 0 || x + 1 == *extent)),
    ("sparse", |_, _, r| r.chance(0.03)),
    ("dense", |_, _, r| r.chance(0.4)),
];

/// Paths that wind, contact by corners, and distances from a voxel to beyond what matters, along axes of odd lengths.
fn objects_of_every_form(bench: &Bench) {
    let shapes: [&[usize]; 6] = [&[1025], &[9, 13], &[70, 33], &[5, 7, 6], &[3, 1, 40], &[2, 66, 2]];
    let mut failures = Vec::new();
    for (turn, extents) in shapes.into_iter().enumerate() {
        for (number, (name, inside)) in FORMS.into_iter().enumerate() {
            let r = &mut Numbers((turn * 31 + number) as u64);
            let (samples, classes) = ((turn + number) % 2 + 1, if number % 3 == 0 { 1 } else { 3 });
            let voxels: usize = extents.iter().product();
            let mut labels = Vec::new();
            for sample in 0..samples {
                for voxel in 0..voxels {
                    let place = |axis: usize| voxel / extents[axis + 1..].iter().product::<usize>() % extents[axis];
                    let at: Vec<usize> = (0..extents.len()).map(place).collect();
                    let class = 1 + if classes == 1 { 0 } else { (at[0] / 3 + sample) % (classes - 1) };
                    labels.push(if inside(&at, extents, r) { class as f64 } else { 0.0 });
                }
            }
            let shape = [&[samples, classes], extents].concat();
            let activation = if classes == 1 { Activation::Sigmoid } else { Activation::Softmax };
            let settings = Settings::of_labels(&shape, activation);
            let logits = (0..samples * classes * voxels).map(|_| r.between(-3.0, 3.0)).collect();
            let spec = r.pick(&["distance_ce(map=unet)", "distance_ce(map=unet, sigma=1.5, form=binary)"]);
            let objective = spec.parse().expect("a valid spec");
            let mut case = Case::new(objective, &settings, logits, labels, None, None, None);
            let spacing: Vec<f64> = extents.iter().map(|_| r.pick(&[1.0, 1.0, 0.7, 2.5])).collect();
            case.problem = case.problem.spacing(spacing);
            let truth = case.run_exact();
            let result = compare(&case.run(&bench.runtime), &truth.losses, &truth.gradient, DType::F32);
            failures.extend(result.err().map(|e| format!("{name} in {extents:?}, {spec}: {e}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// One map serves losses that look differently far.
fn two_widths_in_one_plan(bench: &Bench) {
    let labels: Vec<f64> = (0..60).map(|i| f64::from(u8::from(i % 17 == 0))).collect();
    let part = |spec: &str| mean_weight(bench, &even(spec, &[1, 1, 60], U8, &labels, None));
    let [near, far] = ["distance_ce(map=unet, sigma=1, w0=100)", "distance_ce(map=unet, sigma=12)"];
    let both = mean_weight(bench, &even(&format!("{near} + {far}"), &[1, 1, 60], U8, &labels, None));
    let sum = part(near) + part(far) + 1.0;
    assert!((both - sum).abs() <= 1e-5 * sum, "{both} for {sum}");
    let plan = even(&format!("{near} + {far}"), &[1, 1, 60], U8, &labels, None).plan();
    assert_eq!(plan.heads()[0].maps().len(), 1);
}

/// Samples so large that they are made one after the other, with and without two objects that are near each other: far from all objects
/// there is no weight.
#[cfg(feature = "cpu")]
#[test]
fn large_samples_have_the_weights_of_a_part() {
    const PART: usize = 100;
    const EXTENT: usize = 600;
    let runtime = segfuse::Runtime::on("cpu").expect("the CPU is always there");
    let r = &mut Numbers(11);
    // Nothing within the reach of the border.
    let inside = 35..PART - 35;
    let is_object: Vec<bool> = (0..PART * PART)
        .map(|at| inside.contains(&(at / PART)) && inside.contains(&(at % PART)) && r.chance(0.2))
        .collect();
    let mean = |shape: [usize; 4], labels: &[f64]| {
        even("distance_ce(map=unet)", &shape, U8, labels, None).run(&runtime).losses[0] / std::f64::consts::LN_2 - 1.0
    };
    let labels: Vec<f64> = is_object.iter().map(|&is| f64::from(u8::from(is))).collect();
    let want = mean([1, 1, PART, PART], &labels) * (PART * PART) as f64;
    assert!(want > 1000.0, "{want}");
    let mut large = vec![0.0; EXTENT * EXTENT];
    for (y, row) in labels.chunks(PART).enumerate() {
        large[(y + 300) * EXTENT + 217..][..PART].copy_from_slice(row);
    }
    let one = [1.0; EXTENT * EXTENT].to_vec();
    let mut two = vec![0.0; EXTENT * EXTENT];
    (two[0], two[EXTENT * EXTENT - 1]) = (1.0, 1.0);
    for samples in [[&large, &one, &two], [&two, &large, &one], [&one, &two, &large]] {
        let labels: Vec<f64> = samples.into_iter().flatten().copied().collect();
        let got = mean([3, 1, EXTENT, EXTENT], &labels) * labels.len() as f64;
        assert!((got - want).abs() <= 1e-6 * labels.len() as f64, "{got} for {want}");
    }
}

/// Nothing is left of the samples before: each has the slopes that it has alone, where one thread makes samples with objects elsewhere,
/// of more colours and of fewer, one after the other.
#[cfg(feature = "cpu")]
#[test]
fn samples_in_turn_have_the_weights_of_each_alone() {
    const SCATTERED: usize = 30;
    const GRID: usize = 48;
    let device = segfuse::cpu::Device::with_threads(1).expect("one thread");
    // Small samples are made side by side where there are threads, large ones never.
    for (extent, first, second, third) in
        [(100, (35, 35), (10, 60), (20, 20)), (600, (335, 252), (85, 352), (150, 150))]
    {
        let slopes = |samples: &[&[f64]]| {
            let shape = [samples.len(), 1, extent, extent];
            let case = even("distance_ce(map=unet)", &shape, U8, &samples.concat(), None);
            let mut slopes = vec![0f32; case.prediction.len()];
            let executor = device.prepare(&case.plan());
            executor.forward_backward(&[case.host().inputs()], &mut [(&mut slopes[..]).into()], None).expect("fits");
            slopes
        };
        let sample = |size: usize, (top, left): (usize, usize), objects: &[bool]| {
            let mut labels = vec![0.0; extent * extent];
            for (y, row) in objects.chunks(size).enumerate() {
                for (label, &is_object) in labels[(top + y) * extent + left..].iter_mut().zip(row) {
                    *label = f64::from(u8::from(is_object));
                }
            }
            labels
        };
        let r = &mut Numbers(11);
        let scattered: Vec<bool> = (0..SCATTERED * SCATTERED).map(|_| r.chance(0.2)).collect();
        // Points so dense that more of them are near one than there are scattered objects.
        let grid: Vec<bool> = (0..GRID * GRID).map(|at| at % 2 == 0 && (at / GRID).is_multiple_of(2)).collect();
        let here = sample(SCATTERED, first, &scattered);
        let samples = [&here, &sample(SCATTERED, second, &scattered), &sample(GRID, third, &grid), &here];
        let together = slopes(&samples.map(|sample| &sample[..]));
        for (turn, (sample, got)) in samples.into_iter().zip(together.chunks(extent * extent)).enumerate() {
            // A mean over a quarter as many voxels.
            let want = slopes(&[sample]).into_iter().map(|slope| slope / samples.len() as f32);
            let differ = got.iter().zip(want).filter(|(got, want)| *got != want).count();
            assert_eq!(differ, 0, "voxels of sample {turn}, {extent} by {extent}");
        }
    }
}

fn plan(spec: &str, problem: &Problem) -> Result<Plan, Error> {
    Plan::new(&spec.parse::<Objective>()?, problem)
}

#[test]
fn what_is_wrong_is_an_error() {
    let problem = |shape: &[usize]| {
        let shape = Shape::new(1, 2, shape).expect("a valid shape");
        Problem::new(shape).prediction(DType::F32, Activation::Softmax).labels(DType::U8)
    };
    for (key, value) in [("sigma", 0.0), ("sigma", 9e-16), ("sigma", 1.1e15), ("sigma", 1e46), ("w0", -1.0)] {
        let error = plan(&format!("distance_ce(map=unet, {key}={value})"), &problem(&[4])).expect_err(key);
        assert!(matches!(error, Error::OutOfRange { key: got, value: x, .. } if got == key && x == value), "{error}");
    }
    let error = plan("distance_ce(map=unet)", &problem(&[2, 2, 2, 2])).expect_err("four dimensions");
    assert!(error.to_string().contains("distances to two objects"), "{error}");
    // 2³² voxels and one more than have a number.
    let error = plan("distance_ce(map=unet)", &problem(&[1 << 16, 1 << 16])).expect_err("too many voxels");
    assert!(matches!(error, Error::Limit { need, .. } if need == 1 << 32), "{error}");
    assert!(plan("distance_ce(map=unet)", &problem(&[1 << 16, (1 << 16) - 1])).is_ok());
}

/// The map is one plane of f32, whatever the number of classes: in what the plan says of its memory, and of the bytes that its passes read.
#[test]
fn the_classes_share_the_map() {
    let of = |classes: usize| {
        let shape = Shape::new(2, classes, [16, 16]).expect("a valid shape");
        let problem = Problem::new(shape).prediction(DType::F32, Activation::Softmax).labels(DType::U8);
        let made = |problem: &Problem| plan("distance_ce(map=unet)", problem).expect("a valid plan").explain();
        (made(&problem), made(&problem.clone().map(Map::Shared)))
    };
    for classes in [2, 5] {
        let (made, given) = of(classes);
        assert_eq!(made.workspace_bytes - given.workspace_bytes, 4 * 2 * 256);
        // A given map that the classes share is a plane of f32 too.
        let passes = |explained: &Explanation| {
            let stages = explained.heads[0].stages.iter().filter(|stage| stage.name != "distance");
            stages.map(|stage| (stage.bytes_read, stage.bytes_written)).collect::<Vec<_>>()
        };
        assert_eq!(passes(&made), passes(&given));
        // Labels are read once; of 512 voxels the forest is written and read twice, 16 bytes along each axis, and the map is written.
        let distance = &made.heads[0].stages[0];
        assert_eq!((distance.name, distance.bytes_read), ("distance", 512 * (1 + 2 * 4 + 2 * 16)));
        assert_eq!(distance.bytes_written, 512 * (4 + 2 * 16 + 4));
    }
}
