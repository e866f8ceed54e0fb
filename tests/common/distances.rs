//! Distance maps of a device against the CPU's: bit for bit where spacings are whole.

use super::Data;
use super::random::Numbers;
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::{Activation, DType, Error, Layout, Shape, Slice, SliceMut};

/// A device, of any backend.
pub type Made<'a> = &'a dyn Fn(&Distances, Slice<'_>, SliceMut<'_>) -> Result<(), Error>;

const KINDS: [Kind; 6] =
    [Kind::Outside, Kind::Inside, Kind::TwoSided, Kind::Signed, Kind::Difference, Kind::MultiLabel];

/// The bytes of maps, from the CPU.
pub fn on_cpu(distances: &Distances, dtype: DType, source: &Data) -> Vec<u8> {
    let mut maps = Data::of(dtype, &vec![0.0; distances.elements() as usize]);
    distances.compute_into(source.slice(), maps.slice_mut()).expect("fits");
    maps.bytes().to_vec()
}

/// The same from a device.
fn on_device(device: Made<'_>, distances: &Distances, dtype: DType, source: &Data) -> Vec<u8> {
    let mut maps = Data::of(dtype, &vec![7.0; distances.elements() as usize]);
    device(distances, source.slice(), maps.slice_mut()).unwrap_or_else(|e| panic!("{distances:?}: {e}"));
    maps.bytes().to_vec()
}

/// Objects on a ground, some voxels at random.
pub fn labels(extents: &[usize], samples: usize, classes: usize, random: &mut Numbers) -> Vec<f64> {
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
pub fn are_those_of_the_cpu(device: Made<'_>) {
    let random = &mut Numbers(11);
    let shapes: [&[usize]; 19] = [
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
        &[18, 66, 80],
    ];
    for (turn, extents) in shapes.into_iter().cycle().take(114).enumerate() {
        // Each kind meets every source and every number of samples.
        let round = turn / KINDS.len();
        let (samples, classes) = (1 + round % 3, [1, 2, 3, 5, 40][random.below(5)]);
        let small = extents.iter().product::<usize>() < 4000;
        let classes = if small { classes } else { classes.min(3) };
        let shape = Shape::new(samples, classes, extents).expect("a shape");
        let kind = KINDS[turn % KINDS.len()];
        let layout = random.pick(&[Layout::Planar, Layout::Interleaved]);
        let (source, data) = match round % 4 {
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
        // One map of several classes needs them to exclude each other.
        let overlap = matches!(source, Source::Dense(_) | Source::Prediction(.., Hard::Above(_)));
        let kind = if kind == Kind::MultiLabel && overlap && classes > 1 { Kind::Inside } else { kind };
        let dtype = random.pick(&[DType::F32, DType::F32, DType::F16]);
        let mut distances =
            Distances::new(&shape, source).kind(kind).layout(layout).dtype(dtype).squared(random.chance(0.3));
        if matches!(source, Source::Labels(_)) && random.chance(0.3) {
            distances = distances.ignore_label(1);
        }
        if classes > 2 && random.chance(0.5) {
            distances = distances.classes([2, 0]);
        } else if random.chance(0.2) {
            distances = distances.classes([0, 0]);
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

/// Rows of one value, and rows that change at the seams of what threads and warps take at a time, so far from each other that most places are nearest to
/// one of their own row.
pub fn rows_that_change_at_seams(device: Made<'_>) {
    let random = &mut Numbers(29);
    let widths = [
        1, 2, 3, 4, 5, 7, 31, 32, 64, 127, 128, 130, 155, 256, 257, 260, 508, 511, 512, 513, 516, 770, 1028, 1540, 2049,
    ];
    for (turn, width) in widths.into_iter().cycle().take(4 * widths.len()).enumerate() {
        let shape = Shape::new(2, 3, [7, width]).expect("a shape");
        let mut rows = |planes: usize| {
            let mut all = Vec::with_capacity(planes * 7 * width);
            for row in 0..planes * 7 {
                let (seam, mut label) = (random.pick(&[4, 32, 128, 256, 512]), random.below(4));
                for x in 0..width {
                    let changes = match row % 4 {
                        0 => false,
                        1 => x % seam == 0,
                        2 => x % seam <= 1,
                        _ => x % seam == seam - 1,
                    };
                    label = if changes { random.below(4) } else { label };
                    all.push(label as f64);
                }
            }
            all
        };
        let (source, dtype, values) = match turn % 4 {
            3 => (Source::Dense(DType::U8), DType::U8, rows(2 * 3)),
            _ => {
                let dtype = [DType::U8, DType::I16, DType::I32, DType::I64][turn / widths.len()];
                (Source::Labels(dtype), dtype, rows(2))
            }
        };
        let values: Vec<f64> = match source {
            Source::Dense(_) => values.iter().map(|value| value % 2.0).collect(),
            _ => values,
        };
        let data = Data::of(dtype, &values);
        // Each width meets other kinds in each round; one map of several classes needs labels.
        let kinds = if matches!(source, Source::Dense(_)) { KINDS.len() - 1 } else { KINDS.len() };
        let kind = KINDS[(turn % widths.len() + turn / widths.len()) % kinds];
        // Whole, and their squares with those of the rows below 2²⁴.
        let distances = Distances::new(&shape, source).kind(kind).spacing([500.0, 1.0]);
        let (got, want) = (on_device(device, &distances, DType::F32, &data), on_cpu(&distances, DType::F32, &data));
        assert!(got == want, "{turn}: {distances:?}");
    }
}

/// Classes that no byte is a label of, and the one map of one class, which is its inside distances.
pub fn of_one_class(device: Made<'_>) {
    let shape = |classes: usize, extents: &[usize]| Shape::new(2, classes, extents).expect("a shape");
    for extents in [&[8][..], &[2, 4], &[3, 4, 8], &[3, 5, 7]] {
        let voxels = 2 * extents.iter().product::<usize>();
        let labels = Data::of(DType::U8, &(0..voxels).map(|i| f64::from(i % 7 == 3) * 2.0).collect::<Vec<_>>());
        for kind in [Kind::Outside, Kind::TwoSided, Kind::MultiLabel] {
            let far = Distances::new(&shape(4096, extents), Source::Labels(DType::U8)).kind(kind).classes([4095]);
            assert!(on_device(device, &far, DType::F32, &labels) == on_cpu(&far, DType::F32, &labels), "{far:?}");
        }
        let values = |classes: usize| {
            let values: Vec<f64> = (0..voxels * classes).map(|i| f64::from(i % 5 < 2)).collect();
            Data::of(DType::F32, &values)
        };
        let argmax = Source::Prediction(DType::F32, Activation::Softmax, Hard::Argmax);
        let ones = Data::of(DType::I64, &(0..voxels).map(|i| f64::from(i % 7 < 3)).collect::<Vec<_>>());
        for (classes, class, source, data) in [
            (1, 0, Source::Labels(DType::I64), &ones),
            (3, 2, Source::Labels(DType::U8), &labels),
            (1, 0, Source::Dense(DType::F32), &values(1)),
            (3, 2, Source::Dense(DType::F32), &values(3)),
            (3, 2, argmax, &values(3)),
        ] {
            let inside = Distances::new(&shape(classes, extents), source).kind(Kind::Inside).classes([class]);
            let one_map = inside.clone().kind(Kind::MultiLabel);
            let want = on_cpu(&inside, DType::F32, data);
            assert!(on_cpu(&one_map, DType::F32, data) == want, "{one_map:?}");
            assert!(on_device(device, &one_map, DType::F32, data) == want, "{one_map:?}");
        }
    }
}

/// Where sums are rounded, and what is added to a product may be rounded once or twice.
pub fn are_those_of_the_cpu_with_any_spacing(device: Made<'_>) {
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

/// Long lines whose sums are rounded, with distances short and long.
pub fn squares_beyond_what_is_exact(device: Made<'_>) {
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
