// The partial sums of a reduce pass, added up to the moments of each sample.
//
// reads    workspace: partial rows, doubles [N][partials][row]
// writes   workspace: moments, doubles [N][row]
// group    64 threads; workgroup (x, y) adds slot first_slot + x of sample first_sample + y
// order    each thread adds every 64th row in ascending order, then the threads are added as a tree of fixed form: the
//          result depends on the number of rows alone

#import double

struct CombineParams {
    /// Word of the first partial row.
    partials_at: u32,
    /// Rows per sample.
    partials: u32,
    /// Doubles in a row.
    row: u32,
    /// Word of the moments.
    moments_at: u32,
    /// What workgroup (0, 0) adds: a grid has at most 65 535 workgroups a side.
    first_slot: u32,
    first_sample: u32,
    /// N
    samples: u32,
    unused: u32,
}

@group(0) @binding(0) var<storage, read_write> workspace: array<u32>;
@group(0) @binding(1) var<uniform> params: CombineParams;

const THREADS = 64u;

var<workgroup> sums: array<vec2<u32>, THREADS>;

@compute @workgroup_size(THREADS)
fn combine(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let slot = params.first_slot + workgroup.x;
    let sample = params.first_sample + workgroup.y;
    if slot >= params.row || sample >= params.samples {
        return;
    }
    var sum = DOUBLE_ZERO;
    for (var partial = thread; partial < params.partials; partial += THREADS) {
        // No product exceeds the offset of the last word, so nothing wraps.
        let at = params.partials_at + 2u * ((sample * params.partials + partial) * params.row + slot);
        sum = double_add(sum, vec2<u32>(workspace[at], workspace[at + 1u]));
    }
    sums[thread] = sum;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            sums[thread] = double_add(sums[thread], sums[thread + half]);
        }
    }
    if thread == 0u {
        let at = params.moments_at + 2u * (sample * params.row + slot);
        workspace[at] = sums[0].x;
        workspace[at + 1u] = sums[0].y;
    }
}
