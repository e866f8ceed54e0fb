//! Distance maps of the definitions in `distances.toml` on the CPU: `cargo bench --bench distance`, or `… -- organs` for those
//! whose name has it.
//!
//! Throughput is that of labels read and maps written, once each: no implementation can move less.
//! `SEGFUSE_BENCH_LABELS=folder` writes the labels there, one file per definition, for others to measure the same.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use segfuse::distance::{Distances, Kind, Source};
use segfuse::{DType, Shape};
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize)]
struct File {
    distance: Vec<Definition>,
}

/// The fields are explained in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition {
    name: String,
    extents: Vec<usize>,
    object: String,
    classes: usize,
    kinds: Vec<String>,
}

fn kind(name: &str) -> Kind {
    match name {
        "outside" => Kind::Outside,
        "inside" => Kind::Inside,
        "two-sided" => Kind::TwoSided,
        "signed" => Kind::Signed,
        "difference" => Kind::Difference,
        _ => panic!("there is no kind `{name}`"),
    }
}

/// Numbers from 0 to 1 that look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// An ellipsoid: where its middle lies and how far it reaches along each axis, as shares of the extents.
struct Ellipsoid {
    label: u8,
    middle: Vec<f64>,
    reach: Vec<f64>,
}

impl Ellipsoid {
    /// Labels the voxels of a volume that lie in it.
    fn fill(&self, extents: &[usize], labels: &mut [u8]) {
        let (width, rows) = (extents[extents.len() - 1], &extents[..extents.len() - 1]);
        let off =
            |axis: usize, x: usize| ((x as f64 / extents[axis] as f64 - self.middle[axis]) / self.reach[axis]).powi(2);
        for (row, labels) in labels.chunks_exact_mut(width).enumerate() {
            let mut rest = row;
            let mut across = 0.0;
            for (axis, extent) in rows.iter().enumerate().rev() {
                across += off(axis, rest % extent);
                rest /= extent;
            }
            if across <= 1.0 {
                let inside = |x: &usize| across + off(rows.len(), *x) <= 1.0;
                (0..width).filter(inside).for_each(|x| labels[x] = self.label);
            }
        }
    }
}

impl Definition {
    fn labels(&self) -> Vec<u8> {
        let rank = self.extents.len();
        let mut labels = vec![0; self.extents.iter().product()];
        let mut noise = Noise(5);
        match self.object.as_str() {
            "ball" => Ellipsoid { label: 1, middle: vec![0.45; rank], reach: vec![0.3; rank] }
                .fill(&self.extents, &mut labels),
            "organs" => {
                // The same objects whatever the number of classes.
                for organ in 1..14 {
                    for _ in 0..if organ % 3 == 0 { 3 } else { 1 } {
                        let middle = (0..rank).map(|_| noise.next()).collect();
                        let reach = (0..rank).map(|_| 0.05 + 0.15 * noise.next()).collect();
                        let label = (organ as usize).min(self.classes - 1) as u8;
                        Ellipsoid { label, middle, reach }.fill(&self.extents, &mut labels);
                    }
                }
            }
            "noise" => labels.iter_mut().for_each(|label| *label = u8::from(noise.next() < 0.5)),
            name => panic!("there is no object `{name}`"),
        }
        labels
    }
}

fn distances(criterion: &mut Criterion) {
    let file: File = toml::from_str(include_str!("distances.toml")).expect("distances.toml");
    let folder = std::env::var_os("SEGFUSE_BENCH_LABELS");
    let mut group = criterion.benchmark_group("distance");
    group.sampling_mode(SamplingMode::Flat);
    for definition in &file.distance {
        if let Some(folder) = &folder {
            let path = std::path::Path::new(folder).join(format!("{}.u8", definition.name));
            std::fs::write(&path, definition.labels()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        let shape = Shape::new(1, definition.classes, &definition.extents).expect("a shape");
        for name in &definition.kinds {
            let maps = Distances::new(&shape, Source::Labels(DType::U8)).kind(kind(name));
            let maps = if definition.classes == 2 { maps.classes([1]) } else { maps };
            group.throughput(Throughput::Bytes(shape.voxels() + maps.elements() * DType::F32.size()));
            group.bench_function(BenchmarkId::new(&definition.name, name), |bencher| {
                let labels = definition.labels();
                let mut values = vec![0.0f32; maps.elements() as usize];
                bencher.iter(|| maps.compute_into(&labels, &mut values).expect("buffers of the maps"));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = distances
}
criterion_main!(benches);
