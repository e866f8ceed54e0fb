//! Distance maps against the CPU's, bit for bit where spacings are whole; in pieces, in the caller's buffers, with garbage around
//! and in the workspace.

use super::buffers::{Guarded, submit};
use crate::common::Data;
use crate::common::random::Numbers;
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::wgpu::{Device, Variant};
use segfuse::{Activation, DType, Error, Layout, Shape};

const KINDS: [Kind; 5] = [Kind::Outside, Kind::Inside, Kind::TwoSided, Kind::Signed, Kind::Difference];

/// The bytes of maps, from the CPU.
fn on_cpu(distances: &Distances, dtype: DType, source: &Data) -> Vec<u8> {
    let mut maps = Data::of(dtype, &vec![0.0; distances.elements() as usize]);
    distances.compute_into(source.slice(), maps.slice_mut()).expect("fits");
    maps.bytes().to_vec()
}

/// The same from the device.
fn on_device(device: &Device, distances: &Distances, dtype: DType, source: &Data) -> Vec<u8> {
    let mut maps = Data::of(dtype, &vec![7.0; distances.elements() as usize]);
    device.distances(distances, source.slice(), maps.slice_mut()).unwrap_or_else(|e| panic!("{distances:?}: {e}"));
    maps.bytes().to_vec()
}

/// Objects on a ground, some voxels at random.
fn labels(extents: &[usize], samples: usize, classes: usize, random: &mut Numbers) -> Vec<f64> {
    let voxels: usize = extents.iter().product();
    let scattered = random.pick(&[0.0, 0.001, 0.02, 0.5]);
    let mut all = Vec::with_capacity(samples * voxels);
    for _ in 0..samples {
        let mut range = |&extent: &usize| {
            let start = random.below(extent);
            (start, start + 1 + random.below(extent))
        };
        let objects: Vec<(Vec<(usize, usize)>, f64)> =
            (1..3).map(|k| (extents.iter().map(&mut range).collect(), (k % classes.max(2)) as f64)).collect();
        for voxel in 0..voxels {
            let mut rest = voxel;
            let mut place = vec![0; extents.len()];
            for axis in (0..extents.len()).rev() {
                (place[axis], rest) = (rest % extents[axis], rest / extents[axis]);
            }
            let within = |ranges: &[(usize, usize)]| ranges.iter().zip(&place).all(|((a, b), x)| (a..b).contains(&x));
            let label = objects.iter().rev().find(|(ranges, _)| within(ranges)).map_or(0.0, |(_, label)| *label);
            all.push(if random.chance(scattered) { random.below(classes + 3) as f64 } else { label });
        }
    }
    all
}

/// Every kind, source, type and layout, in turn.
#[test]
fn are_those_of_the_cpu() {
    let device = device_or_return!();
    let random = &mut Numbers(11);
    let shapes: [&[usize]; 18] = [
        &[1],
        &[2],
        &[3],
        &[2049],
        &[20_011],
        &[3, 9001],
        &[5003, 2],
        &[2, 1500, 3],
        &[13, 17],
        &[1025, 3],
        &[2, 1025],
        &[1, 1, 1],
        &[1, 37, 1],
        &[5, 1, 33],
        &[11, 12, 13],
        &[3, 257, 2],
        &[70, 9, 40],
        &[41, 30, 33],
    ];
    for (turn, extents) in shapes.into_iter().cycle().take(108).enumerate() {
        let (samples, classes) = (1 + turn % 3, [1, 2, 3, 5, 40][random.below(5)]);
        let small = extents.iter().product::<usize>() < 4000;
        let classes = if small { classes } else { classes.min(3) };
        let shape = Shape::new(samples, classes, extents).expect("a shape");
        let kind = KINDS[turn % 5];
        let layout = random.pick(&[Layout::Planar, Layout::Interleaved]);
        let (source, data) = match turn % 4 {
            0 | 1 => {
                let dtype = random.pick(&[DType::U8, DType::I16, DType::I32, DType::I64]);
                (Source::Labels(dtype), Data::of(dtype, &labels(extents, samples, classes, random)))
            }
            2 => {
                let dtype = random.pick(&[DType::U8, DType::F32, DType::F16, DType::BF16]);
                let values: Vec<f64> = (0..shape.elements()).map(|_| random.pick(&[0.0, 0.5, 1.0])).collect();
                (Source::Dense(dtype), Data::of(dtype, &values))
            }
            _ => {
                let dtype = random.pick(&[DType::F32, DType::F16, DType::BF16]);
                let activation = if classes > 1 { Activation::Softmax } else { Activation::Sigmoid };
                let hard = random.pick(&[Hard::Argmax, Hard::Above(0.5), Hard::Above(0.31)]);
                let values: Vec<f64> = (0..shape.elements()).map(|_| random.below(33) as f64 / 4.0 - 4.0).collect();
                (Source::Prediction(dtype, activation, hard), Data::of(dtype, &values))
            }
        };
        let dtype = random.pick(&[DType::F32, DType::F32, DType::F16]);
        let mut distances =
            Distances::new(&shape, source).kind(kind).layout(layout).dtype(dtype).squared(random.chance(0.3));
        if matches!(source, Source::Labels(_)) && random.chance(0.3) {
            distances = distances.ignore_label(1);
        }
        if classes > 2 && random.chance(0.5) {
            distances = distances.classes([2, 0]);
        }
        if random.chance(0.3) {
            distances = distances.spacing(extents.iter().map(|_| random.pick(&[1.0, 2.0, 5.0])).collect::<Vec<_>>());
        }
        if random.chance(0.3) {
            distances = distances.memory_budget(1);
        }
        let (got, want) = (on_device(device, &distances, dtype, &data), on_cpu(&distances, dtype, &data));
        assert!(got == want, "{turn}: {distances:?}");
    }
}

/// Rows of more parts than a workgroup has threads, of which most are without a change.
#[test]
fn of_a_row_of_many_parts() {
    let device = device_or_return!();
    let extent = 300 * 8192 + 77;
    let random = &mut Numbers(12);
    for changes in [0, 1, 40] {
        let mut values = vec![0.0; extent];
        (0..changes).for_each(|_| values[random.below(extent)] = 1.0);
        let data = Data::of(DType::U8, &values);
        let shape = Shape::new(1, 1, [extent]).expect("a shape");
        let distances = Distances::new(&shape, Source::Labels(DType::U8)).squared(changes > 1);
        let (got, want) = (on_device(device, &distances, DType::F32, &data), on_cpu(&distances, DType::F32, &data));
        assert!(got == want, "{changes} changes");
    }
}

/// Where sums are rounded, and what is added to a product may be rounded once or twice.
#[test]
fn are_those_of_the_cpu_with_any_spacing() {
    let device = device_or_return!();
    let random = &mut Numbers(5);
    for (extents, spacing) in [
        (&[300][..], &[0.7][..]),
        (&[40, 33], &[0.3, 1.1]),
        (&[17, 18, 19], &[0.9, 1.3, 2.1]),
        (&[3, 5, 9], &[1e3, 1.0, 1e-3]),
    ] {
        let shape = Shape::new(2, 3, extents).expect("a shape");
        let data = Data::of(DType::U8, &labels(extents, 2, 3, random));
        let distances = Distances::new(&shape, Source::Labels(DType::U8)).spacing(spacing);
        let bytes = |bytes: Vec<u8>| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes);
        let got = bytes(on_device(device, &distances, DType::F32, &data));
        for (index, (a, b)) in got.iter().zip(bytes(on_cpu(&distances, DType::F32, &data))).enumerate() {
            assert!((a - b).abs() <= 3.0 * f32::EPSILON * b.abs(), "{extents:?}, value {index}: {a:e}, must be {b:e}");
        }
    }
}

/// Settings, a source, and bytes of a value, for every way to make maps: rows alone, of one part and of several, one and two passes over
/// lines, in the maps and beside them, one transform for all classes, in groups.
fn cases() -> Vec<(Distances, Data, usize)> {
    let random = &mut Numbers(17);
    let mut cases = Vec::new();
    for extents in [&[9000][..], &[33, 40], &[9, 17, 35]] {
        let shape = Shape::new(2, 3, extents).expect("a shape");
        let labels = || labels(extents, 2, 3, &mut Numbers(18));
        let of_labels = Distances::new(&shape, Source::Labels(DType::U8));
        let logits: Vec<f64> = (0..shape.elements()).map(|_| random.below(9) as f64 - 4.0).collect();
        let of = |hard| Distances::new(&shape, Source::Prediction(DType::F32, Activation::Softmax, hard));
        for (distances, value) in [
            (of_labels.clone(), 4),
            (of_labels.clone().kind(Kind::Inside), 4),
            (of_labels.clone().kind(Kind::Inside).dtype(DType::F16), 2),
            (of_labels.clone().kind(Kind::Signed).dtype(DType::F16).classes([2, 0]), 2),
            (of_labels.kind(Kind::Difference).layout(Layout::Interleaved).memory_budget(1), 4),
        ] {
            cases.push((distances, Data::of(DType::U8, &labels()), value));
        }
        for distances in [of(Hard::Argmax).kind(Kind::Inside).memory_budget(1), of(Hard::Above(0.3))] {
            cases.push((distances, Data::of(DType::F32, &logits), 4));
        }
    }
    cases
}

/// Whatever the maps, the workspace and the guards hold, the maps are written whole, and nothing beside them.
#[test]
fn maps_are_written_whole_and_nothing_else() {
    let device = device_or_return!();
    for (distances, source, value) in cases() {
        let executor = device.prepare_distances(&distances).expect("the device takes the settings");
        let bytes = distances.elements() as usize * value;
        let dtype = if value == 2 { DType::F16 } else { DType::F32 };
        let want = on_cpu(&distances, dtype, &source);
        for fill in [0xaa, 0x41, 0xff] {
            let from = Guarded::new(device, source.bytes(), !fill);
            let maps = Guarded::new(device, &vec![fill; bytes], !fill);
            executor.fill_workspace(u32::from_le_bytes([fill; 4]));
            submit(device, |encoder| executor.encode(encoder, from.slice(), maps.slice()).expect("the buffers fit"));
            assert!(maps.contents(device) == want, "{distances:?}, {fill:#x}");
            assert!(from.contents(device) == source.bytes(), "{distances:?}: the source was written");
        }
    }
}

/// The bits of the axes are bound together, and here they are more than the plane of squares: 3 × 1600 words.
#[test]
fn bits_of_every_axis_fit_a_binding_or_are_refused() {
    let device = device_or_return!();
    let shape = Shape::new(1, 2, [40, 40, 2]).expect("a shape");
    let data = Data::of(DType::U8, &labels(&[40, 40, 2], 1, 2, &mut Numbers(3)));
    let distances = Distances::new(&shape, Source::Labels(DType::U8)).kind(Kind::Inside);
    let small = |binding| device.with_variant(Variant { binding, ..device.variant() });
    let error = small(16_000).prepare_distances(&distances).map(|_| ()).expect_err("fewer bytes than bits");
    assert!(matches!(error, Error::DeviceLimit { need: 19_200, got, .. } if got < 16_000), "{error}");
    let got = on_device(&small(19_800), &distances, DType::F32, &data);
    assert!(got == on_cpu(&distances, DType::F32, &data));
}

/// A binding holds few samples of the source, few planes, and few maps of those that share a transform.
#[test]
fn pieces_give_the_same_bits() {
    let device = device_or_return!();
    let (mut ran, mut refused) = (0, 0);
    for (distances, source, value) in cases() {
        let dtype = if value == 2 { DType::F16 } else { DType::F32 };
        let want = on_cpu(&distances, dtype, &source);
        let sample = distances.elements() as usize / 2 * value;
        for binding in [sample + 1024, sample * 2 / 3 + 1024] {
            let small = device.with_variant(Variant { binding: binding as u64, ..device.variant() });
            match small.prepare_distances(&distances) {
                Ok(_) => {
                    assert!(on_device(&small, &distances, dtype, &source) == want, "{distances:?}, {binding}");
                    ran += 1;
                }
                Err(Error::DeviceLimit { need, got, .. }) => {
                    assert!(need > got, "{distances:?}, {binding}");
                    refused += 1;
                }
                Err(error) => panic!("{distances:?}, {binding}: {error}"),
            }
        }
    }
    // Interleaved maps of a sample, and sources of a value per class, are one binding.
    assert!(ran > 2 * refused, "{ran} ran, {refused} were refused");
}

/// Long lines whose sums are rounded, with distances short and long.
#[test]
fn squares_beyond_what_is_exact() {
    let device = device_or_return!();
    for (extents, spacing) in
        [([20_011, 3], [1.0, 0.9]), ([5003, 3], [1.3, 0.9]), ([4099, 5], [1.0, 300.5]), ([3001, 4], [0.7, 1100.0])]
    {
        let shape = Shape::new(1, 1, extents).expect("a shape");
        let random = &mut Numbers(9);
        for sites in [3, 40, 900] {
            let mut values = vec![0.0; extents[0] * extents[1]];
            (0..sites).for_each(|_| values[random.below(extents[0] * extents[1])] = 1.0);
            let data = Data::of(DType::U8, &values);
            let distances = Distances::new(&shape, Source::Labels(DType::U8)).kind(Kind::Outside).spacing(spacing);
            let bytes = |bytes: Vec<u8>| bytemuck::pod_collect_to_vec::<u8, f32>(&bytes);
            let got = bytes(on_device(device, &distances, DType::F32, &data));
            for (index, (a, b)) in got.iter().zip(bytes(on_cpu(&distances, DType::F32, &data))).enumerate() {
                let close = (a - b).abs() <= 3.0 * f32::EPSILON * b.abs();
                assert!(close, "{extents:?}, {sites} sites, value {index}: {a:e}, must be {b:e}");
            }
        }
    }
}
