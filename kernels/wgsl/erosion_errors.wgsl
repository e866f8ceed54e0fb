// erosion_errors: p − g of every voxel and class, and the weight of every voxel; both 0 where a voxel does not count, or has no weight.
//
// reads   the prediction, of a softmax three times; labels or a dense target; the mask and the weights, where there are some
// writes  f32 planes of the piece, and a plane of weights per sample
// grid    256 threads, a voxel of a sample each
// determinism  run_to_run: no two threads write the same element
#import lanes
#import load
#import math
#import distance

fn element(sample: u32, class_number: u32, voxel: u32) -> u32 {
#if INTERLEAVED
    return (sample * piece.voxels + voxel) * CLASSES + class_number;
#else
    return (sample * CLASSES + class_number) * piece.voxels + voxel;
#endif
}

fn prediction(sample: u32, class_number: u32, voxel: u32) -> f32 {
    return load_source(piece.source_base + element(sample, class_number, voxel));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = number_of(group) * 256u + thread;
    if i >= piece.planes / piece.maps * piece.voxels {
        return;
    }
    let sample = i / piece.voxels;
    let voxel = i % piece.voxels;
    var counts = true;
#if KEEP
    counts = load_keep(piece.keep_base + i) != 0;
#endif
#if LABELS_COUNT
    let own = load_labels(piece.truths_base + i);
    counts = counts && own >= 0;
#endif
    var weight = 0.0;
    if counts {
        weight = 1.0;
#if WEIGHTS
        weight = bitcast<f32>(weights[piece.weights_base + i]);
#endif
    }
    weights_of_voxels[i] = bitcast<u32>(weight);
    // A weight of NaN is one that counts.
    let weighs = (bitcast<u32>(weight) & 0x7fffffffu) != 0u;
#if SOFTMAX
    var largest = LEAST;
    var total = 0.0;
    if weighs {
        for (var c = 0u; c < CLASSES; c++) {
            let z = prediction(sample, c, voxel);
            largest = select(largest, z, z > largest || is_nan(z));
        }
        for (var c = 0u; c < CLASSES; c++) {
            total += exp_of_negative(prediction(sample, c, voxel) - largest);
        }
    }
#endif
    for (var map = 0u; map < piece.maps; map++) {
        let c = classes[piece.first_class + map];
        var error = 0.0;
        if weighs {
            let z = prediction(sample, c, voxel);
#if SOFTMAX
            let p = exp_of_negative(z - largest) / total;
#endif
#if SIGMOID
            let e = exp_of_negative(-abs(z));
            let p = select(e, 1.0, z >= 0.0) / (1.0 + e);
#endif
#if PLAIN
            let p = z;
#endif
#if LABELS_COUNT
#if ONE_CLASS
            let g = select(0.0, 1.0, own == 1);
#else
            let g = select(0.0, 1.0, own == i32(c));
#endif
#else
            let g = load_truth(piece.truths_base + element(sample, c, voxel));
#endif
            error = p - g;
        }
        planes[plane_written(sample * piece.maps + map) + voxel] = bitcast<u32>(error);
    }
}
