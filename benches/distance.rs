//! Distance maps of the definitions in `distances.toml` on the CPU: `cargo bench --bench distance`, or `… -- organs` for those
//! whose name has it.
//!
//! Throughput is that of labels read and maps written, once each: no implementation can move less.
//! `SEGFUSE_BENCH_LABELS=folder` writes the labels there, and what is one map, for others to measure and to find the same.

mod objects;

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
        "multi-label" => Kind::MultiLabel,
        _ => panic!("there is no kind `{name}`"),
    }
}

impl Definition {
    fn labels(&self) -> Vec<u8> {
        let labels = objects::labels(&self.object, &self.extents, self.classes);
        labels.unwrap_or_else(|| panic!("there is no object `{}`", self.object))
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
            let maps = if definition.classes == 2 || name == "multi-label" {
                maps.classes((1..definition.classes).collect::<Vec<_>>())
            } else {
                maps
            };
            if let (Some(folder), 1) = (&folder, maps.maps()) {
                let path = std::path::Path::new(folder).join(format!("{}.{name}.f32", definition.name));
                let values = maps.compute(&definition.labels()).expect("labels of the shape");
                std::fs::write(&path, bytemuck::cast_slice(&values))
                    .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
            group.throughput(Throughput::Bytes(shape.voxels() + maps.elements() * DType::F32.size()));
            // Criterion calls this for every sample: fresh maps each time would measure the pages that the system has to find.
            let mut buffers = None;
            group.bench_function(BenchmarkId::new(&definition.name, name), |bencher| {
                let make = || (definition.labels(), vec![0.0f32; maps.elements() as usize]);
                let (labels, values) = buffers.get_or_insert_with(make);
                bencher.iter(|| maps.compute_into(&*labels, &mut *values).expect("buffers of the maps"));
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
