// Maps of f32 or f16, or planes of squares. The kernels that read classes bind two buffers before them, the others the bits.
#import lanes
#import halves

#if OF_CLASSES
@group(0) @binding(3)
#else
@group(0) @binding(2)
#endif
#if HALF
var<storage, read_write> written: array<atomic<u32>>;
#else
var<storage, read_write> written: array<u32>;
#endif

fn write_map(to: u32, value: u32) {
#if HALF
    // Two halves share a word, of which the other may change meanwhile.
    let half = real_to_half(bitcast<f32>(value));
    let shift = 16u * (to & 1u);
    let own = (atomicLoad(&written[to >> 1u]) >> shift) & 0xffffu;
    atomicXor(&written[to >> 1u], (own ^ half) << shift);
#else
    written[to] = value;
#endif
}
