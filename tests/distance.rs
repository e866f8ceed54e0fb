//! Distance maps against all pairs of voxels, from every source, in every form.
#![cfg(any(feature = "cpu", feature = "cuda", feature = "wgpu"))]

mod common;

use common::Bench;
use common::random::Numbers;
use half::{bf16, f16};
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::{Activation, DType, Error, Layout, Shape, Slice};
use segfuse_reference::distance::{self as reference, distance_map, multi_label_map};
use serde::Deserialize;
use std::collections::BTreeMap;

const KINDS: [(Kind, reference::Kind); 5] = [
    (Kind::Outside, reference::Kind::Outside),
    (Kind::Inside, reference::Kind::Inside),
    (Kind::TwoSided, reference::Kind::TwoSided),
    (Kind::Signed, reference::Kind::Signed),
    (Kind::Difference, reference::Kind::Difference),
];

on_each_device!(
    lines,
    images,
    volumes,
    long_axes,
    whole_numbers_on_long_axes,
    whole_numbers_in_volumes,
    vectors_that_libraries_confirm,
    every_class_of_a_label_map_at_once,
    one_map_of_several_classes,
    one_map_of_any_source_that_says_one_class_per_voxel,
    labels_of_every_type,
    dense_targets_of_every_type,
    predictions_of_every_type,
    a_value_that_is_no_number_is_in_no_class,
    what_does_not_fit_is_an_error_with_numbers,
);

/// The maps of a source, in f32.
fn made<'a>(bench: &Bench, maps: &Distances, source: impl Into<Slice<'a>>) -> Vec<f32> {
    let mut values = vec![f32::NAN; maps.elements() as usize];
    bench.runtime.distances(maps, source, &mut values).expect("the device makes the maps");
    values
}

/// A sum of three squares rounded in f32, its root, and the 1 that is taken off: four roundings of half a unit.
const ROUNDINGS: f64 = 4.0 / (1u64 << 24) as f64;

fn same(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let close = (f64::from(got) - want).abs() <= ROUNDINGS * want.abs().max(1.0);
        assert!(f64::from(got) == want || close, "{what}: value {index} is {got:e}, must be {want:e}");
    }
}

/// Masks that are hard on one algorithm or another.
fn masks(extents: &[usize]) -> Vec<(String, Vec<bool>)> {
    let voxels: usize = extents.iter().product();
    let places: Vec<Vec<usize>> = (0..voxels).map(|voxel| place(voxel, extents)).collect();
    let mut random = Numbers(voxels as u64);
    let mut masks: Vec<(String, Vec<bool>)> = vec![
        ("nothing".into(), vec![false; voxels]),
        ("everything".into(), vec![true; voxels]),
        ("the first voxel".into(), (0..voxels).map(|v| v == 0).collect()),
        ("the last voxel".into(), (0..voxels).map(|v| v == voxels - 1).collect()),
        ("all but one".into(), (0..voxels).map(|v| v != voxels / 2).collect()),
        ("a checkerboard".into(), places.iter().map(|p| p.iter().sum::<usize>() % 2 == 0).collect()),
        ("a diagonal".into(), places.iter().map(|p| p.iter().all(|&x| x == p[0])).collect()),
        ("a ball".into(), places.iter().map(|p| ball(p, extents)).collect()),
        ("a shell".into(), {
            let border = |p: &Vec<usize>| p.iter().zip(extents).any(|(&x, &extent)| x == 0 || x + 1 == extent);
            places.iter().map(border).collect()
        }),
    ];
    for axis in 0..extents.len() {
        let middle = extents[axis] / 2;
        masks.push((format!("half along axis {axis}"), places.iter().map(|p| p[axis] < middle).collect()));
        let line = |p: &Vec<usize>| (0..p.len()).all(|other| other == axis || p[other] == extents[other] / 3);
        masks.push((format!("a line along axis {axis}"), places.iter().map(line).collect()));
        masks.push((
            format!("a voxel in each line along axis {axis}"),
            a_voxel_in_each_line(extents, axis, &mut random),
        ));
    }
    for percent in [1, 10, 50, 95] {
        let density = f64::from(percent) / 100.0;
        masks.push((format!("{percent} % at random"), (0..voxels).map(|_| random.chance(density)).collect()));
    }
    masks
}

/// A voxel of each line along an axis, at one of the ends or anywhere: lines side by side whose nearest voxels lie far apart.
fn a_voxel_in_each_line(extents: &[usize], axis: usize, random: &mut Numbers) -> Vec<bool> {
    let stride: usize = extents[axis + 1..].iter().product();
    let mut mask = vec![false; extents.iter().product()];
    for lines in mask.chunks_mut(extents[axis] * stride) {
        for line in 0..stride {
            let last = extents[axis] - 1;
            let place = [0, last, random.below(extents[axis])][random.below(3)];
            lines[place * stride + line] = true;
        }
    }
    mask
}

fn place(voxel: usize, extents: &[usize]) -> Vec<usize> {
    let mut rest = voxel;
    let mut place = vec![0; extents.len()];
    for axis in (0..extents.len()).rev() {
        (place[axis], rest) = (rest % extents[axis], rest / extents[axis]);
    }
    place
}

fn ball(place: &[usize], extents: &[usize]) -> bool {
    let off = |(&x, &extent): (&usize, &usize)| (x as f64 - extent as f64 / 2.5) / extent as f64;
    place.iter().zip(extents).map(off).map(|x| x * x).sum::<f64>() < 0.07
}

/// The maps of one mask as labels of one class, of every kind in `kinds`.
fn check(bench: &Bench, extents: &[usize], spacing: Option<&[f64]>, kinds: &[(Kind, reference::Kind)]) {
    let shape = Shape::new(1, 1, extents).expect("a shape");
    let ones = vec![1.0; extents.len()];
    for (name, mask) in masks(extents) {
        let labels: Vec<u8> = mask.iter().map(|&inside| u8::from(inside)).collect();
        for &(kind, of_reference) in kinds {
            let want = distance_map(of_reference, &mask, extents, spacing.unwrap_or(&ones));
            let mut maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(kind);
            if let Some(spacing) = spacing {
                maps = maps.spacing(spacing);
            }
            let what = format!("{kind:?} of {name} in {extents:?}, spacing {spacing:?}");
            same(&made(bench, &maps, &labels), &want, &what);

            let squares = made(bench, &maps.squared(true), &labels);
            if spacing.is_none() && kind != Kind::Signed {
                let exact = |x: f64| if x.is_finite() { (x * x).round().copysign(x) } else { x };
                let want: Vec<f32> = want.iter().map(|&x| exact(x) as f32).collect();
                assert_eq!(squares, want, "squares, {what}");
            } else {
                // Near 0, what is left of 1 − d has the error of the 1.
                let want: Vec<f64> = want.iter().map(|&x| x * x.abs()).collect();
                for (index, (&got, &want)) in squares.iter().zip(&want).enumerate() {
                    let allowed = 3.0 * ROUNDINGS * want.abs().max(1.0);
                    let close = (f64::from(got) - want).abs() <= allowed || f64::from(got) == want;
                    assert!(close, "squares, {what}: value {index} is {got:e}, must be {want:e}");
                }
            }
        }
    }
}

fn lines(bench: &Bench) {
    for extent in [1, 2, 3, 15, 16, 17, 31, 64, 97] {
        check(bench, &[extent], None, &KINDS);
        check(bench, &[extent], Some(&[0.7]), &KINDS);
    }
}

fn images(bench: &Bench) {
    for extents in [[1, 1], [1, 7], [7, 1], [2, 2], [3, 16], [16, 3], [13, 17], [33, 31], [48, 18]] {
        check(bench, &extents, None, &KINDS);
    }
    check(bench, &[13, 17], Some(&[1.0, 2.5]), &KINDS);
    check(bench, &[29, 19], Some(&[0.3, 0.11]), &KINDS);
}

fn volumes(bench: &Bench) {
    for extents in
        [[1, 1, 1], [1, 1, 5], [1, 5, 1], [5, 1, 1], [2, 3, 2], [3, 5, 7], [8, 9, 10], [1, 9, 20], [9, 1, 20]]
    {
        check(bench, &extents, None, &KINDS);
    }
    // Axes long enough for winners to be searched between winners.
    for extents in [[18, 20, 9], [33, 17, 5], [17, 40, 4]] {
        check(bench, &extents, None, &KINDS[2..3]);
        check(bench, &extents, Some(&[0.9, 1.3, 2.1]), &KINDS[2..3]);
    }
    check(bench, &[7, 8, 17], Some(&[1.0, 1.0, 2.5]), &KINDS);
    check(bench, &[11, 7, 6], Some(&[3.3, 0.7, 1.1]), &KINDS);
}

fn long_axes(bench: &Bench) {
    let kinds = [(Kind::Signed, reference::Kind::Signed), (Kind::Difference, reference::Kind::Difference)];
    for extents in [&[1025][..], &[2049], &[1025, 2], &[2, 1025], &[2049, 2], &[1, 2049], &[1025, 2, 1], &[2, 1, 1025]]
    {
        check(bench, extents, None, &kinds);
    }
    check(bench, &[1, 1025, 2], Some(&[1.0, 0.37, 5.0]), &kinds);
    check(bench, &[2, 1025], Some(&[100.0, 0.01]), &kinds);
    check(bench, &[1025, 2], Some(&[0.01, 100.0]), &kinds);
}

/// What a square of a distance to nothing is among whole numbers.
const NOTHING: u32 = 1 << 30;

/// Squares of the distances to the voxels of a mask, one axis after the other, all pairs of places of a line.
fn squares(mask: &[bool], extents: &[usize], spacing: &[u32]) -> Vec<u32> {
    let mut squares: Vec<u32> = mask.iter().map(|&inside| if inside { 0 } else { NOTHING }).collect();
    let mut stride = 1;
    for (&extent, &step) in extents.iter().zip(spacing).rev() {
        let before = squares.clone();
        let lines = squares.chunks_mut(extent * stride).zip(before.chunks(extent * stride));
        for (lines, before) in lines {
            for (place, to) in lines.chunks_mut(stride).enumerate() {
                for (other, from) in before.chunks(stride).enumerate() {
                    let way = (place.abs_diff(other) as u32 * step).pow(2);
                    to.iter_mut().zip(from).for_each(|(to, from)| *to = (*to).min(from + way));
                }
            }
        }
        stride *= extent;
    }
    squares
}

/// What a map holds, from whole squares of the distances to the class and to the rest: each step is rounded once.
fn value(kind: Kind, outside: u32, inside: u32, squared: bool) -> f32 {
    // Of one of the two the voxel is part.
    let is_inside = outside == 0;
    let square = outside.max(inside);
    let to_border = match (kind, square >= NOTHING) {
        (Kind::Outside | Kind::Inside | Kind::MultiLabel, true) => f32::INFINITY,
        (_, true) => return 0.0,
        (Kind::Signed, _) => (square as f32).sqrt(),
        _ => {
            if squared {
                square as f32
            } else {
                (square as f32).sqrt()
            }
        }
    };
    match (kind, is_inside) {
        (Kind::Outside, true) | (Kind::Inside | Kind::MultiLabel, false) => 0.0,
        (Kind::Difference, true) => -to_border,
        (Kind::Signed, _) => {
            let x = if is_inside { 1.0 - to_border } else { to_border };
            if squared { x * x.abs() } else { x }
        }
        _ => to_border,
    }
}

/// The maps `[K, V]` of a label map of one sample; the one of all classes is the sum of those of each.
fn whole_maps(labels: &[u8], shape: &Shape, spacing: &[u32], kind: Kind, squared: bool) -> Vec<f32> {
    let of = |class: usize| {
        let mask: Vec<bool> =
            labels.iter().map(|&x| usize::from(x) == class.max(usize::from(shape.classes() == 1))).collect();
        let rest: Vec<bool> = mask.iter().map(|&inside| !inside).collect();
        let [outside, inside] = [&mask, &rest].map(|mask| squares(mask, shape.spatial(), spacing));
        outside.into_iter().zip(inside).map(move |(a, b)| value(kind, a, b, squared)).collect::<Vec<f32>>()
    };
    let maps = (0..shape.classes()).map(of);
    if kind == Kind::MultiLabel {
        return maps.reduce(|sum, map| sum.iter().zip(map).map(|(a, b)| a + b).collect()).expect("a class");
    }
    maps.flatten().collect()
}

/// Axes beyond a thousand voxels in images and in true volumes, bit for bit.
fn whole_numbers_on_long_axes(bench: &Bench) {
    for extents in [[1025, 2, 3], [2, 1025, 3], [2, 3, 2049], [1, 1031, 7], [521, 5, 2]] {
        let shape = Shape::new(1, 1, extents).expect("a shape");
        for (turn, (name, mask)) in masks(&extents).into_iter().enumerate() {
            let labels: Vec<u8> = mask.iter().map(|&inside| u8::from(inside)).collect();
            let ((kind, _), squared) = (KINDS[turn % 5], turn % 2 == 0);
            let spacing = if turn % 3 == 0 { [2, 1, 3] } else { [1; 3] };
            let maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(kind).squared(squared);
            let maps = maps.spacing(spacing.map(f64::from));
            let want = whole_maps(&labels, &shape, &spacing, kind, squared);
            equal(
                &made(bench, &maps, &labels),
                &want,
                &format!("{kind:?} of {name} in {extents:?}, {squared}, {spacing:?}"),
            );
        }
    }
}

/// Volumes of several tasks, tiles and blocks, in every form, bit for bit.
fn whole_numbers_in_volumes(bench: &Bench) {
    for (extents, classes) in [
        ([70, 64, 48], 3),
        ([150, 40, 33], 5),
        ([5, 130, 200], 2),
        ([16, 20, 50], 3),
        ([17, 33, 70], 2),
        ([65, 9, 130], 4),
        ([130, 21, 5], 3),
    ] {
        let shape = Shape::new(1, classes, extents).expect("a shape");
        let voxels = shape.voxels() as usize;
        let objects: Vec<u8> = label_map(&extents, classes, 31).iter().map(|&x| x as u8).collect();
        let mut random = Numbers(6);
        let noise: Vec<u8> = (0..voxels).map(|_| random.below(classes) as u8).collect();
        let sparse: Vec<u8> = (0..voxels).map(|_| u8::from(random.chance(2e-5))).collect();
        let scattered = |axis: usize| a_voxel_in_each_line(&extents, axis, &mut Numbers(7)).into_iter().map(u8::from);
        let [columns, rows]: [Vec<u8>; 2] = [1, 2].map(|axis| scattered(axis).collect());
        for (turn, (labels, kind, squared)) in [
            (&objects, Kind::Outside, false),
            (&objects, Kind::Inside, true),
            (&objects, Kind::Signed, false),
            (&sparse, Kind::TwoSided, true),
            (&sparse, Kind::Difference, false),
            (&noise, Kind::Outside, true),
            (&noise, Kind::Inside, false),
            (&objects, Kind::MultiLabel, true),
            (&noise, Kind::MultiLabel, false),
            (&sparse, Kind::MultiLabel, false),
            (&columns, Kind::Outside, true),
            (&rows, Kind::Outside, false),
        ]
        .into_iter()
        .enumerate()
        {
            // Lines that each have a voxel of their own lie far apart.
            let spacing = match turn {
                10 => [15, 1, 15],
                11 => [15, 15, 1],
                _ if turn % 2 == 0 => [1; 3],
                _ => [3, 1, 2],
            };
            let what = format!("{kind:?} in {extents:?}, {squared}, {spacing:?}");
            let want = whole_maps(labels, &shape, &spacing, kind, squared);
            let maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(kind).squared(squared);
            let maps = maps.spacing(spacing.map(f64::from));
            equal(&made(bench, &maps, labels), &want, &what);

            let want = interleaved(&want, maps.maps(), voxels);
            let mixed = maps.layout(Layout::Interleaved).memory_budget(1);
            if turn % 3 == 0 {
                equal(&made(bench, &mixed, labels), &want, &what);
            } else {
                let mut halves = vec![f16::NAN; want.len()];
                bench.runtime.distances(&mixed.dtype(DType::F16), labels, &mut halves).expect("fits");
                let want: Vec<f16> = want.iter().map(|&x| f16::from_f32(x)).collect();
                assert!(halves == want, "{what} in half precision");
            }
        }
    }
}

fn equal(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(got == want, "{what}: value {index} is {got:e}, must be {want:e}");
    }
}

#[derive(Deserialize)]
struct File {
    cases: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    extents: Vec<usize>,
    spacing: Vec<f64>,
    mask: Vec<u8>,
    /// Null is a distance to nothing.
    values: BTreeMap<String, Vec<Option<f64>>>,
}

fn vectors_that_libraries_confirm(bench: &Bench) {
    let path = common::package().join("test_vectors/distances.json");
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let cases = serde_json::from_str::<File>(&text).expect("the vectors are well formed").cases;
    assert!(cases.len() >= 54);
    for case in cases {
        let shape = Shape::new(1, 1, &case.extents).expect("a shape");
        assert_eq!(case.values.len(), KINDS.len(), "{}", case.name);
        for (kind, want) in &case.values {
            let (kind, _) = KINDS[["outside", "inside", "two-sided", "signed", "difference"]
                .iter()
                .position(|name| name == kind)
                .expect("a kind")];
            let maps = Distances::new(&shape, Source::Dense(DType::U8)).kind(kind).spacing(case.spacing.clone());
            let want: Vec<f64> = want.iter().map(|x| x.unwrap_or(f64::INFINITY)).collect();
            same(&made(bench, &maps, &case.mask), &want, &format!("{kind:?} of {}", case.name));
        }
    }
}

#[cfg(feature = "cpu")]
#[test]
fn distances_whose_squares_are_beyond_what_is_exact() {
    for extents in [[3001, 2999], [1, 300_000], [300_000, 2]] {
        let shape = Shape::new(1, 1, extents).expect("a shape");
        let mut random = Numbers(8);
        let sites: Vec<[usize; 2]> = (0..9)
            .map(|k| extents.map(|extent| random.below(if k < 5 { extent.div_ceil(9) } else { extent })))
            .collect();
        let mut labels = vec![0u8; extents[0] * extents[1]];
        sites.iter().for_each(|[y, x]| labels[y * extents[1] + x] = 1);
        let maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(Kind::Outside).squared(true);
        let squares = maps.compute(&labels).expect("fits");
        for (voxel, &got) in squares.iter().enumerate() {
            let [y, x] = [voxel / extents[1], voxel % extents[1]];
            let square = |[v, u]: &[usize; 2]| y.abs_diff(*v).pow(2) + x.abs_diff(*u).pow(2);
            let want = sites.iter().map(square).min().expect("a site") as f64;
            let allowed = if want < f64::from(1 << f32::MANTISSA_DIGITS) { 0.0 } else { 2.0 * ROUNDINGS * want };
            assert!((f64::from(got) - want).abs() <= allowed, "{extents:?}, [{y}, {x}]: {got:e}, must be {want:e}");
        }
    }
}

/// Labels of objects that touch, with some voxels of no class.
fn label_map(extents: &[usize], classes: usize, seed: u64) -> Vec<i64> {
    let mut random = Numbers(seed);
    let seeds: Vec<(Vec<usize>, i64)> = (0..2 * classes)
        .map(|i| (extents.iter().map(|&e| random.below(e)).collect(), (i % (classes + 1)) as i64))
        .collect();
    (0..extents.iter().product())
        .map(|voxel| {
            let place = place(voxel, extents);
            let far = |p: &Vec<usize>| p.iter().zip(&place).map(|(a, b)| a.abs_diff(*b).pow(2)).sum::<usize>();
            let nearest = seeds.iter().min_by_key(|(p, _)| far(p)).expect("a seed").1;
            if random.chance(0.02) { random.below(classes) as i64 } else { nearest }
        })
        .collect()
}

/// The maps `[N, K, V]` of labels, one mask at a time.
fn maps_of_labels(
    labels: &[i64],
    shape: &Shape,
    classes: &[usize],
    kind: reference::Kind,
    ignore: Option<i64>,
    spacing: &[f64],
) -> Vec<f64> {
    let of = |sample: &[i64], class: usize| -> Vec<f64> {
        let mask: Vec<bool> = sample.iter().map(|&x| x == class as i64 && Some(x) != ignore).collect();
        distance_map(kind, &mask, shape.spatial(), spacing)
    };
    labels.chunks(shape.voxels() as usize).flat_map(|s| classes.iter().flat_map(move |&c| of(s, c))).collect()
}

/// `[N, K, V]` as `[N, V, K]`.
fn interleaved<T: Copy>(values: &[T], maps: usize, voxels: usize) -> Vec<T> {
    let sample = |s: &[T]| (0..voxels * maps).map(|i| s[i % maps * voxels + i / maps]).collect::<Vec<T>>();
    values.chunks(maps * voxels).flat_map(sample).collect()
}

fn every_class_of_a_label_map_at_once(bench: &Bench) {
    for (extents, spacing) in [
        (&[57][..], &[1.0][..]),
        (&[14, 19], &[1.0, 1.5]),
        (&[7, 9, 11], &[2.0, 0.8, 1.0]),
        (&[17, 18, 6], &[1.0, 1.0, 1.0]),
    ] {
        let shape = Shape::new(2, 5, extents).expect("a shape");
        let labels: Vec<i64> = (0..2).flat_map(|sample| label_map(extents, 5, 40 + sample)).collect();
        for (kind, of_reference) in KINDS {
            for (classes, ignore) in [(vec![0, 1, 2, 3, 4], None), (vec![3, 1], Some(2)), (vec![2, 2, 0], Some(2))] {
                let want = maps_of_labels(&labels, &shape, &classes, of_reference, ignore, spacing);
                let planar = Distances::new(&shape, Source::Labels(DType::I64)).kind(kind).spacing(spacing);
                let planar = planar.classes(classes.clone());
                let planar = if let Some(label) = ignore { planar.ignore_label(label) } else { planar };
                let what = format!("{kind:?} of classes {classes:?} in {extents:?}");
                let maps = made(bench, &planar, &labels);
                same(&maps, &want, &what);

                let mixed = planar.clone().layout(Layout::Interleaved);
                let voxels = shape.voxels() as usize;
                assert_eq!(made(bench, &mixed, &labels), interleaved(&maps, classes.len(), voxels), "{what}");
                let few = mixed.memory_budget(1);
                assert_eq!(made(bench, &few, &labels), interleaved(&maps, classes.len(), voxels), "{what}");

                let mut halves = vec![f16::ZERO; maps.len()];
                let wanted = planar.clone().dtype(DType::F16);
                bench.runtime.distances(&wanted, &labels, &mut halves).expect("fits");
                let rounded: Vec<f16> = maps.iter().map(|&x| f16::from_f32(x)).collect();
                assert_eq!(halves, rounded, "{what}");
                let mixed = planar.dtype(DType::F16).layout(Layout::Interleaved).memory_budget(1);
                bench.runtime.distances(&mixed, &labels, &mut halves).expect("fits");
                assert_eq!(halves, interleaved(&rounded, classes.len(), voxels), "{what}");
            }
        }
    }
}

/// The sum of the maps of a sample.
fn sum(maps: &[f32], count: usize, voxels: usize) -> Vec<f32> {
    let sample = |s: &[f32]| (0..voxels).map(|v| s.iter().skip(v).step_by(voxels).sum()).collect::<Vec<f32>>();
    maps.chunks(count * voxels).flat_map(sample).collect()
}

fn one_map_of_several_classes(bench: &Bench) {
    for (extents, spacing) in [
        (&[57][..], &[1.0][..]),
        (&[2100], &[0.5]),
        (&[14, 19], &[1.0, 1.5]),
        (&[7, 9, 11], &[2.0, 0.8, 1.0]),
        (&[17, 18, 6], &[1.0, 1.0, 1.0]),
    ] {
        let shape = Shape::new(2, 70, extents).expect("a shape");
        let voxels = shape.voxels() as usize;
        // Of 70 classes six are there, some of them in a word of bits of their own; and there are labels out of range.
        let labels = (0..2).flat_map(|sample| label_map(extents, 6, 40 + sample));
        let labels: Vec<i64> = labels.map(|x| [0, 1, 2, 31, 32, 69, 70][x as usize]).collect();
        for (classes, ignore) in [
            ((0..70).collect(), None),
            ((1..70).collect(), None),
            ((0..70).collect(), Some(31)),
            (vec![69, 1, 32], Some(2)),
            (vec![2, 2, 0], None),
            (vec![5, 6], None),
            (vec![32], None),
        ] {
            let what = format!("classes {classes:?} in {extents:?}, without {ignore:?}");
            let of_class = |label: i64| (0..70).contains(&label) && Some(label) != ignore;
            let known: Vec<i64> = labels.iter().map(|&label| if of_class(label) { label } else { -1 }).collect();
            let chosen = |label: i64| usize::try_from(label).is_ok_and(|label| classes.contains(&label));
            let want: Vec<f64> =
                known.chunks(voxels).flat_map(|s| multi_label_map(s, chosen, extents, spacing)).collect();

            let maps = Distances::new(&shape, Source::Labels(DType::I64)).kind(Kind::MultiLabel).spacing(spacing);
            let maps = maps.classes(classes.clone());
            let maps = if let Some(label) = ignore { maps.ignore_label(label) } else { maps };
            assert_eq!((maps.maps(), maps.elements()), (1, shape.all_voxels()), "{what}");
            let map = made(bench, &maps, &labels);
            same(&map, &want, &what);
            let mut distinct = classes.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let inside = made(bench, &maps.clone().kind(Kind::Inside).classes(distinct.clone()), &labels);
            assert_eq!(sum(&inside, distinct.len(), voxels), map, "{what}");

            let squares: Vec<f32> =
                made(bench, &maps.clone().squared(true), &labels).iter().map(|x| x.sqrt()).collect();
            assert_eq!(squares, map, "{what}, squared");
            let mixed = maps.clone().layout(Layout::Interleaved).memory_budget(1);
            assert_eq!(made(bench, &mixed, &labels), map, "{what}");
            let rounded: Vec<f16> = map.iter().map(|&x| f16::from_f32(x)).collect();
            for maps in [maps, mixed] {
                let mut halves = vec![f16::NAN; map.len()];
                bench.runtime.distances(&maps.dtype(DType::F16), &labels, &mut halves).expect("fits");
                assert_eq!(halves, rounded, "{what}");
            }
        }
        // One label alone has nothing to measure to.
        let maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(Kind::MultiLabel);
        let lone = vec![3u8; 2 * voxels];
        assert!(made(bench, &maps, &lone).iter().all(|&x| x == f32::INFINITY), "{extents:?}");
        assert!(made(bench, &maps.classes([2, 4]), &lone).iter().all(|&x| x == 0.0), "{extents:?}");
    }
    // As many classes as there may be.
    let shape = Shape::new(1, 4096, [4096]).expect("a shape");
    let labels: Vec<i16> = (0..4096).map(|x| if x % 7 == 0 { 4095 } else { x / 3 }).collect();
    let maps = Distances::new(&shape, Source::Labels(DType::I16)).kind(Kind::MultiLabel);
    let known: Vec<i64> = labels.iter().map(|&label| label.into()).collect();
    same(&made(bench, &maps, &labels), &multi_label_map(&known, |_| true, &[4096], &[1.0]), "4096 classes");
}

fn one_map_of_any_source_that_says_one_class_per_voxel(bench: &Bench) {
    let extents = [5, 6, 7];
    let shape = Shape::new(2, 4, extents).expect("a shape");
    let voxels = shape.voxels() as usize;
    let mut random = Numbers(12);
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.below(33) as f32 / 4.0 - 4.0).collect();
    let prediction = |hard| Distances::new(&shape, Source::Prediction(DType::F32, Activation::Softmax, hard));
    for classes in [vec![0, 1, 2, 3], vec![3, 1]] {
        let maps = prediction(Hard::Argmax).classes(classes.clone());
        let want = sum(&made(bench, &maps.clone().kind(Kind::Inside), &values), classes.len(), voxels);
        let maps = maps.kind(Kind::MultiLabel);
        assert_eq!(made(bench, &maps, &values), want, "{classes:?}");
        let mixed = maps.clone().layout(Layout::Interleaved);
        assert_eq!(made(bench, &mixed, &interleaved(&values, 4, voxels)), want, "{classes:?}");
        assert_eq!(made(bench, &maps.memory_budget(1), &values), want, "{classes:?}");
    }
    // One class is its inside, whatever the source.
    let dense = Distances::new(&shape, Source::Dense(DType::F32)).classes([2]);
    for maps in [dense.clone(), prediction(Hard::Above(0.3)).classes([2]), prediction(Hard::Argmax).classes([2])] {
        let want = made(bench, &maps.clone().kind(Kind::Inside), &values);
        let maps = maps.kind(Kind::MultiLabel);
        assert_eq!(made(bench, &maps, &values), want);
        assert_eq!(made(bench, &maps.classes([2, 2]), &values), want, "a class named twice");
    }
    let one = Shape::new(1, 1, extents).expect("a shape");
    let labels: Vec<u8> = (0..voxels).map(|_| random.below(3) as u8).collect();
    let maps = Distances::new(&one, Source::Labels(DType::U8));
    let want = made(bench, &maps.clone().kind(Kind::Inside), &labels);
    assert_eq!(made(bench, &maps.clone().kind(Kind::MultiLabel), &labels), want);
    // With C = 1 class 0 is label 1.
    let twice = maps.classes([0, 0]);
    assert_eq!(made(bench, &twice.clone().kind(Kind::MultiLabel), &labels), want, "a class named twice");
    assert_eq!(made(bench, &twice.kind(Kind::Inside), &labels), [&want[..], &want].concat(), "a class named twice");

    let several = dense.classes([0, 2]);
    for maps in [several, prediction(Hard::Above(0.3)), Distances::new(&shape, Source::Dense(DType::F32))] {
        let mut map = vec![7.0f32; 2 * voxels];
        let result = bench.runtime.distances(&maps.kind(Kind::MultiLabel), &values, &mut map);
        assert!(matches!(result, Err(Error::Problem(_))), "{result:?}");
        assert!(map.iter().all(|&x| x == 7.0), "nothing was written");
    }
}

fn labels_of_every_type(bench: &Bench) {
    let extents = [6, 7, 5];
    let shape = Shape::new(1, 4, extents).expect("a shape");
    let mut labels = label_map(&extents, 3, 7);
    (labels[3], labels[50], labels[77]) = (-1, 9, -100);
    let want = maps_of_labels(&labels, &shape, &[0, 1, 2, 3], reference::Kind::Signed, None, &[1.0; 3]);
    let maps = |dtype| Distances::new(&shape, Source::Labels(dtype)).kind(Kind::Signed);
    same(&made(bench, &maps(DType::I64), &labels), &want, "i64");
    let narrow: Vec<i32> = labels.iter().map(|&x| x as i32).collect();
    same(&made(bench, &maps(DType::I32), &narrow), &want, "i32");
    let narrow: Vec<i16> = labels.iter().map(|&x| x as i16).collect();
    same(&made(bench, &maps(DType::I16), &narrow), &want, "i16");
    // −1 is 255, −100 is 156: out of range too.
    let narrow: Vec<u8> = labels.iter().map(|&x| x as u8).collect();
    same(&made(bench, &maps(DType::U8), &narrow), &want, "u8");
}

fn dense_targets_of_every_type(bench: &Bench) {
    let (extents, classes) = ([9, 18], 3);
    let shape = Shape::new(2, classes, extents).expect("a shape");
    let (elements, voxels) = (shape.elements() as usize, shape.voxels() as usize);
    let mut random = Numbers(3);
    // Classes overlap; 0.5 itself is not above 0.5.
    let values: Vec<f32> = (0..elements).map(|_| random.pick(&[0.0, 0.25, 0.5, 0.75, 1.0])).collect();
    let mask = |plane: &[f32]| plane.iter().map(|&x| x > 0.5).collect::<Vec<bool>>();
    for (kind, of_reference) in KINDS {
        let map = |plane: &[f32]| distance_map(of_reference, &mask(plane), &extents, &[1.0, 1.0]);
        let want: Vec<f64> = values.chunks(voxels).flat_map(map).collect();
        let maps = |dtype| Distances::new(&shape, Source::Dense(dtype)).kind(kind);
        let planar = made(bench, &maps(DType::F32), &values);
        same(&planar, &want, "f32");
        let f16s: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        assert_eq!(made(bench, &maps(DType::F16), &f16s), planar);
        let bf16s: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        assert_eq!(made(bench, &maps(DType::BF16), &bf16s), planar);
        let u8s: Vec<u8> = values.iter().map(|&x| u8::from(x > 0.5)).collect();
        assert_eq!(made(bench, &maps(DType::U8), &u8s), planar);
        let mixed = made(bench, &maps(DType::F32).layout(Layout::Interleaved), &interleaved(&values, classes, voxels));
        assert_eq!(mixed, interleaved(&planar, classes, voxels));
        let two = made(bench, &maps(DType::F32).classes([2, 0]), &values);
        let plane = |n: usize, c: usize| planar[(n * classes + c) * voxels..][..voxels].to_vec();
        assert_eq!(two, [plane(0, 2), plane(0, 0), plane(1, 2), plane(1, 0)].concat());
    }
}

fn predictions_of_every_type(bench: &Bench) {
    let extents = [5, 6, 7];
    for (classes, activation, hard) in [
        (4, Activation::Softmax, Hard::Argmax),
        (4, Activation::Softmax, Hard::Above(0.3)),
        (4, Activation::Softmax, Hard::Above(0.7)),
        (3, Activation::Sigmoid, Hard::Above(0.5)),
        (3, Activation::Sigmoid, Hard::Above(0.1)),
        (3, Activation::Sigmoid, Hard::Argmax),
        (1, Activation::Sigmoid, Hard::Argmax),
        (1, Activation::None, Hard::Above(0.25)),
        (3, Activation::None, Hard::Argmax),
        (2, Activation::None, Hard::Above(1.0)),
    ] {
        let shape = Shape::new(2, classes, extents).expect("a shape");
        let (elements, voxels) = (shape.elements() as usize, shape.voxels() as usize);
        let mut random = Numbers(classes as u64);
        // Exact in every type, with many ties.
        let value = |_| match activation {
            Activation::None => random.below(9) as f32 / 8.0,
            _ => random.below(33) as f32 / 4.0 - 4.0,
        };
        let values: Vec<f32> = (0..elements).map(value).collect();
        let inside = |sample: usize, class: usize, voxel: usize| {
            let z = |c: usize| f64::from(values[(sample * classes + c) * voxels + voxel]);
            let p = match activation {
                Activation::None => z(class),
                Activation::Sigmoid => 1.0 / (1.0 + (-z(class)).exp()),
                Activation::Softmax => z(class).exp() / (0..classes).map(|c| z(c).exp()).sum::<f64>(),
            };
            match hard {
                Hard::Argmax if classes == 1 => p > 0.5,
                Hard::Argmax => (0..classes).all(|c| if c < class { z(c) < z(class) } else { z(c) <= z(class) }),
                Hard::Above(t) => p > t,
            }
        };
        let map = |plane: usize| {
            let mask: Vec<bool> = (0..voxels).map(|v| inside(plane / classes, plane % classes, v)).collect();
            distance_map(reference::Kind::Difference, &mask, &extents, &[1.0, 2.0, 1.5])
        };
        let want: Vec<f64> = (0..2 * classes).flat_map(map).collect();
        let what = format!("{activation:?}, {hard:?}, {classes} classes");
        let maps = |dtype| {
            let source = Source::Prediction(dtype, activation, hard);
            Distances::new(&shape, source).kind(Kind::Difference).spacing([1.0, 2.0, 1.5])
        };
        let planar = made(bench, &maps(DType::F32), &values);
        same(&planar, &want, &what);
        let f16s: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
        assert_eq!(made(bench, &maps(DType::F16), &f16s), planar, "{what}");
        let bf16s: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        assert_eq!(made(bench, &maps(DType::BF16), &bf16s), planar, "{what}");
        let mixed = made(bench, &maps(DType::F32).layout(Layout::Interleaved), &interleaved(&values, classes, voxels));
        assert_eq!(mixed, interleaved(&planar, classes, voxels), "{what}");
    }
}

fn a_value_that_is_no_number_is_in_no_class(bench: &Bench) {
    let shape = Shape::new(1, 2, [4]).expect("a shape");
    let values = [f32::NAN, 1.0, 0.0, 0.0, 1.0, f32::NAN, 0.0, 0.0];
    let dense = Distances::new(&shape, Source::Dense(DType::F32)).kind(Kind::Outside);
    assert_eq!(made(bench, &dense, &values), [1.0, 0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0]);
    let values = [f32::NAN, 1.0, 0.0, f32::NAN, 1.0, f32::NAN, 1.0, f32::NAN];
    let largest = Source::Prediction(DType::F32, Activation::Softmax, Hard::Argmax);
    let largest = Distances::new(&shape, largest).kind(Kind::Outside);
    assert_eq!(made(bench, &largest, &values), [1.0, 0.0, 1.0, 2.0, 0.0, 1.0, 0.0, 1.0]);
}

#[cfg(feature = "cpu")]
#[test]
fn threads_and_what_was_in_the_buffer_change_nothing() {
    let extents = [37, 41, 53];
    let shape = Shape::new(2, 3, extents).expect("a shape");
    let labels: Vec<i64> = (0..2).flat_map(|sample| label_map(&extents, 3, 90 + sample)).collect();
    for kind in [Kind::Inside, Kind::MultiLabel, Kind::Signed] {
        for maps in [
            Distances::new(&shape, Source::Labels(DType::I64)).kind(kind).spacing([1.0, 0.9, 2.1]),
            Distances::new(&shape, Source::Labels(DType::I64)).kind(kind).layout(Layout::Interleaved),
        ] {
            let on = |threads: usize, garbage: f32| {
                let mut values = vec![garbage; maps.elements() as usize];
                let device = segfuse::cpu::Device::with_threads(threads).expect("threads");
                device.distances(&maps, (&labels).into(), (&mut values).into()).expect("fits");
                values
            };
            let first = on(1, 0.0);
            for (threads, garbage) in [(2, f32::NAN), (3, -1.0), (7, f32::INFINITY)] {
                assert!(on(threads, garbage) == first, "{kind:?}, {threads} threads");
            }
        }
    }
}

/// What no call takes needs no memory.
#[cfg(feature = "cpu")]
#[test]
fn settings_that_contradict_each_other_take_no_memory() {
    let maps = Distances::new(&Shape::new(2, 2, [3, 4, 5]).expect("a shape"), Source::Labels(DType::U8));
    assert!(maps.workspace_bytes() > 0);
    for bad in [
        maps.clone().classes([]).dtype(DType::F16),
        maps.clone().classes([]).kind(Kind::MultiLabel),
        maps.clone().classes([2]),
        maps.clone().spacing([1.0]),
        maps.clone().spacing([1.0, 1.0, -1.0]),
        maps.clone().dtype(DType::I64),
        Distances::new(&Shape::new(1, 2, [3; 4]).expect("a shape"), Source::Labels(DType::U8)),
    ] {
        assert_eq!(bad.workspace_bytes(), 0, "{bad:?}");
    }
}

fn what_does_not_fit_is_an_error_with_numbers(bench: &Bench) {
    let shape = Shape::new(1, 2, [3, 4]).expect("a shape");
    let labels = [0u8; 12];
    let maps = || Distances::new(&shape, Source::Labels(DType::U8));
    let error = |maps: Distances| {
        let mut values = vec![0.0f32; 64];
        bench.runtime.distances(&maps, &labels, &mut values).expect_err("does not fit")
    };
    let five = Distances::new(&Shape::new(1, 2, [2, 2, 1, 3]).expect("a shape"), Source::Labels(DType::U8));
    assert!(matches!(error(five), Error::Shape { min: 1, max: 3, got: 4, .. }));
    assert!(matches!(error(maps().spacing([1.0])), Error::Shape { min: 2, max: 2, got: 1, .. }));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-30, 1e30] {
        assert!(matches!(error(maps().spacing([1.0, bad])), Error::Spacing { .. }), "{bad}");
    }
    assert!(matches!(error(maps().classes([2])), Error::Shape { min: 0, max: 1, got: 2, .. }));
    assert!(matches!(error(maps().classes([])), Error::Shape { min: 1, got: 0, .. }));
    let of = |source| Distances::new(&shape, source);
    assert!(matches!(error(of(Source::Labels(DType::F32))), Error::DTypeOf { got: DType::F32, .. }));
    assert!(matches!(error(of(Source::Dense(DType::I64))), Error::DTypeOf { got: DType::I64, .. }));
    let prediction = |dtype, hard| of(Source::Prediction(dtype, Activation::Softmax, hard));
    assert!(matches!(error(prediction(DType::U8, Hard::Argmax)), Error::DTypeOf { got: DType::U8, .. }));
    assert!(matches!(error(prediction(DType::F32, Hard::Above(1.5))), Error::Problem(_)));
    assert!(matches!(error(of(Source::Dense(DType::U8)).ignore_label(1)), Error::Problem(_)));
    assert!(matches!(error(of(Source::Labels(DType::I16))), Error::BufferType { need: DType::I16, .. }));
    assert!(matches!(error(of(Source::Dense(DType::U8))), Error::BufferLength { need: 24, got: 12, .. }));

    let mut short = [7.0f32; 23];
    let result = bench.runtime.distances(&maps(), &labels, &mut short[..]);
    assert!(matches!(result, Err(Error::BufferLength { need: 24, got: 23, .. })));
    let result = bench.runtime.distances(&maps().dtype(DType::F16), &labels, &mut short[..]);
    assert!(matches!(result, Err(Error::BufferType { need: DType::F16, .. })));
    assert!(short.iter().all(|&x| x == 7.0), "nothing was written");
}
