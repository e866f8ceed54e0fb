// distance_contours: the voxels of a class that share a face with one that is not of it.
//
// reads   bits of the piece
// writes  bits of its contours, each word once
// grid    256 threads for 256 words; words of the piece
// determinism  run_to_run: no two threads write the same word
#import distance

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(2) var<storage, read_write> contours: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let word = number_of(group) * 256u + thread;
    if word >= piece.planes * piece.rows * piece.pitch {
        return;
    }
    let own = side_bits[word];
    let at = word % piece.pitch;
    // Beyond the borders lies nothing that differs: there a voxel is its own neighbour.
    var left = own << 1u;
    if at > 0u {
        left |= side_bits[word - 1u] >> 31u;
    } else {
        left |= own & 1u;
    }
    var right = own >> 1u;
    if at + 1u < piece.pitch {
        right |= side_bits[word + 1u] << 31u;
    } else {
        let last = (piece.width - 1u) & 31u;
        right |= own & (1u << last);
    }
    var within = left & right;
    // Rows of a slice, then slices: `extent` rows of a slice, slices `stride` rows apart.
    let row = word / piece.pitch % piece.rows;
    let y = row % piece.extent;
    if y > 0u {
        within &= side_bits[word - piece.pitch];
    }
    if y + 1u < piece.extent {
        within &= side_bits[word + piece.pitch];
    }
    if row >= piece.extent {
        within &= side_bits[word - piece.extent * piece.pitch];
    }
    if row + piece.extent < piece.rows {
        within &= side_bits[word + piece.extent * piece.pitch];
    }
    contours[word] = own & ~within;
}
