//! Distance maps against the CPU's, bit for bit where spacings are whole; in pieces, in the caller's buffers, with garbage around
//! and in the workspace.

use super::buffers::{Guarded, submit};
use crate::common::Data;
use crate::common::distances::{self, labels, on_cpu};
use crate::common::random::Numbers;
use segfuse::distance::{Distances, Hard, Kind, Source};
use segfuse::wgpu::{Device, Variant};
use segfuse::{Activation, DType, Error, Layout, Shape};

/// The same from the device.
fn on_device(device: &Device, distances: &Distances, dtype: DType, source: &Data) -> Vec<u8> {
    let mut maps = Data::of(dtype, &vec![7.0; distances.elements() as usize]);
    device.distances(distances, source.slice(), maps.slice_mut()).unwrap_or_else(|e| panic!("{distances:?}: {e}"));
    maps.bytes().to_vec()
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
            (of_labels.clone().kind(Kind::MultiLabel).classes([2, 0]), 4),
            (of_labels.clone().kind(Kind::MultiLabel).dtype(DType::F16), 2),
            (of_labels.clone().kind(Kind::Signed).dtype(DType::F16).classes([2, 0]), 2),
            (of_labels.kind(Kind::Difference).layout(Layout::Interleaved).memory_budget(1), 4),
        ] {
            cases.push((distances, Data::of(DType::U8, &labels()), value));
        }
        for distances in [
            of(Hard::Argmax).kind(Kind::Inside).memory_budget(1),
            of(Hard::Argmax).kind(Kind::MultiLabel).memory_budget(1),
            of(Hard::Above(0.3)),
        ] {
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
        let mut sample = distances.elements() as usize / 2 * value;
        if distances.maps() == 1 {
            // Of one map a plane of squares and the source of a sample must fit both times, those of two samples never.
            sample = (4 * distances.shape().voxels() as usize).max(source.bytes().len() / 2) * 3 / 2;
        }
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

/// See [`common::distances`].
#[test]
fn are_those_of_the_cpu() {
    let device = device_or_return!();
    distances::are_those_of_the_cpu(&|maps, source, values| device.distances(maps, source, values));
}

/// See [`common::distances`].
#[test]
fn maps_of_one_class() {
    let device = device_or_return!();
    distances::of_one_class(&|maps, source, values| device.distances(maps, source, values));
}

/// See [`common::distances`].
#[test]
fn rows_that_change_at_seams() {
    let device = device_or_return!();
    distances::rows_that_change_at_seams(&|maps, source, values| device.distances(maps, source, values));
}

/// See [`common::distances`].
#[test]
fn are_those_of_the_cpu_with_any_spacing() {
    let device = device_or_return!();
    distances::are_those_of_the_cpu_with_any_spacing(&|maps, source, values| device.distances(maps, source, values));
}

/// See [`common::distances`].
#[test]
fn squares_beyond_what_is_exact() {
    let device = device_or_return!();
    distances::squares_beyond_what_is_exact(&|maps, source, values| device.distances(maps, source, values));
}
