// distance_sides: which voxels are of which class; with CHANGES, which differ from the one before them on an axis; with CHOSEN, which
// are of any class that the map is of.
//
// reads   the source, and in plans what says which voxels count; the source of a softmax three times, labels with CHANGES twice, others once
// writes  bits of every plane of the piece, each word once; those beyond the end of a row are 0
// grid    256 threads for 8 words; words of a row, rows, samples
// determinism  run_to_run: bits are set in any order, to the same words
#import distance_source

// Maps whose words are gathered together.
const BATCH = 32u;
var<workgroup> gathered: array<atomic<u32>, 256>;

#if SOFTMAX_ABOVE
var<private> largest: f32;
var<private> total: f32;

fn sum_shares(sample: u32, voxel: u32) {
    largest = LEAST;
    for (var c = 0u; c < CLASSES; c++) {
        let z = load_source(element(sample, c, voxel));
        largest = select(largest, z, z > largest || is_nan(z));
    }
    total = 0.0;
    for (var c = 0u; c < CLASSES; c++) {
        total += exp_of_negative(load_source(element(sample, c, voxel)) - largest);
    }
}
#endif

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let of_sample = piece.rows * piece.pitch;
    let samples = piece.planes / piece.maps;
    let first = number_of(group) * 8u;
    let word = first + thread / 32u;
    let sample = word / of_sample;
    let x = word % piece.pitch * 32u + (thread & 31u);
    let there = word < samples * of_sample && x < piece.width;
    let voxel = word % of_sample / piece.pitch * piece.width + x;

    var counts = there;
    var own = -1;
    if there {
#if KEEP
        counts = load_keep(piece.keep_base + sample * piece.voxels + voxel) != 0;
#endif
#if LABELS_COUNT
        counts = counts && load_labels(piece.truths_base + sample * piece.voxels + voxel) >= 0;
#endif
#if EXCLUSIVE
        own = label_of(sample, voxel);
#endif
#if SOFTMAX_ABOVE
        sum_shares(sample, voxel);
#endif
    }
    for (var batch = 0u; batch < piece.maps; batch += BATCH) {
        atomicStore(&gathered[thread], 0u);
        workgroupBarrier();
        let count = min(BATCH, piece.maps - batch);
        if counts {
            for (var map = 0u; map < count; map++) {
#if CHANGES
                var inside = voxel / piece.stride % piece.extent > 0u;
                if inside {
                    inside = own != label_of(sample, voxel - piece.stride);
                }
#else
#if CHOSEN
                let inside = has_distance(own);
#else
                let c = class_of(batch + map);
#if EXCLUSIVE
                let inside = own == i32(c);
#else
                let z = load_source(element(sample, c, voxel));
#endif
#endif
#endif
#if ABOVE
                let inside = order(z) > order(piece.threshold);
#endif
#if SIGMOID_ABOVE_HALF
                // p = 1/(1 + e^−z), rounded, is above ½.
                let inside = order(z) > 0 && 1.0 + exp_of_negative(-abs(z)) < 2.0;
#endif
#if SOFTMAX_ABOVE
                // A product, as a quotient is rounded as the device likes; with ½ it is exact. None with NaN.
                let inside = order(exp_of_negative(z - largest)) > order(piece.threshold * total) && !is_nan(total);
#endif
                if inside {
                    atomicOr(&gathered[thread / 32u * BATCH + map], 1u << (thread & 31u));
                }
            }
        }
        workgroupBarrier();
        let map = thread & 31u;
        if map < count && word < samples * of_sample {
            side_bits[words_of(sample * piece.maps + batch + map, 0u) + word % of_sample] = atomicLoad(&gathered[thread]);
        }
        workgroupBarrier();
    }
}
