// distance_lines: across the rows, the least of the squares before and the squares of the ways to them.
//
// reads   bits and planes of the piece, along lines as far as they can matter
// writes  a value for each voxel of its planes, once
// grid    256 threads for 256 voxels; voxels of the piece
// determinism  run_to_run: no two threads write the same element
#import distance_value

@group(0) @binding(1) var<storage, read> side_bits: array<u32>;
@group(0) @binding(2) var<storage, read> planes: array<f32>;
@group(0) @binding(3) var<storage, read_write> written: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = number_of(group) * 256u + thread;
    if index >= piece.planes * piece.voxels {
        return;
    }
    let plane = index / piece.voxels;
    let voxel = index % piece.voxels;
    let i = voxel / piece.stride % piece.extent;
    let at = plane_read(plane) + voxel;
    // Lines run across the rows: the bits of one are in the same place of each word.
    let word = word_of(plane, voxel);
    let words = piece.stride / piece.width * piece.pitch;
    let inside = bit_of(side_bits[word], voxel);
    var best = planes[at];
    let most = max(i, piece.extent - 1u - i);
    for (var k = 1u; k <= most; k++) {
        let steps = f32(k);
        let square = steps * steps * piece.step_squared;
        // Nothing farther away can be nearer.
        if square >= best {
            break;
        }
        if k <= i {
            let value = planes[at - k * piece.stride];
            // Also where there is no value, to which nothing may be added.
            if value < best {
                best = min(best, value + square);
            }
            if bit_of(side_bits[word - k * words], voxel) != inside {
                best = min(best, square);
            }
        }
        if k < piece.extent - i {
            let value = planes[at + k * piece.stride];
            if value < best {
                best = min(best, value + square);
            }
            if bit_of(side_bits[word + k * words], voxel) != inside {
                best = min(best, square);
            }
        }
    }
    written[plane_written(plane) + voxel] = map_value(best, inside);
}
