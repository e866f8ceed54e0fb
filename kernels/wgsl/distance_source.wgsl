// What classes are read from; the host writes `load_labels` or `load_source`.
#import lanes
#import load
#import distance

fn class_of(map: u32) -> u32 {
    return classes[piece.first_class + map];
}

#if CHOSEN
// Whether voxels with this label have distances in the one map of several classes: there is a bit for each label.
fn has_distance(label: i32) -> bool {
    let place = u32(max(label, 0));
    return label >= 0 && ((classes[place / 32u] >> (place & 31u)) & 1u) != 0u;
}
#endif

#if !LABELS_SOURCE
fn element(sample: u32, class_number: u32, voxel: u32) -> u32 {
#if INTERLEAVED
    return piece.source_base + (sample * piece.voxels + voxel) * CLASSES + class_number;
#else
    return piece.source_base + (sample * CLASSES + class_number) * piece.voxels + voxel;
#endif
}

// Numbers in their order; a NaN comes before all.
fn order(x: f32) -> i32 {
    let raw = bitcast<u32>(x);
    let magnitude = raw & 0x7fffffffu;
    let value = bitcast<i32>(select(raw, raw ^ 0x7fffffffu, raw != magnitude));
    // −0 is 0.
    return select(select(value, 0, magnitude == 0u), BEFORE_ALL, magnitude > 0x7f800000u);
}
const BEFORE_ALL = -2147483648;
const MINUS_INFINITY = -2139095041;
#endif

// The class of a voxel where classes exclude each other, below 0 for none.
#if LABELS_SOURCE
fn label_of(sample: u32, voxel: u32) -> i32 {
    let label = load_labels(piece.source_base + sample * piece.voxels + voxel);
#if ONE_CLASS
    // Label 1 is the class.
    return select(-1, 0, label == 1);
#else
    return label;
#endif
}
#endif
#if ARGMAX
// That with the largest value, the first of several; none with NaN alone.
fn label_of(sample: u32, voxel: u32) -> i32 {
    let first = order(load_source(element(sample, 0u, voxel)));
    var best = max(first, MINUS_INFINITY);
    var winner = select(0, -1, first == BEFORE_ALL);
    for (var c = 1u; c < CLASSES; c++) {
        let value = order(load_source(element(sample, c, voxel)));
        winner = select(winner, i32(c), value > best);
        best = max(best, value);
    }
    return winner;
}
#endif
