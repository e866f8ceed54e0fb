// Maps of f32 or f16.
#import lanes
#import halves

#if HALF
@group(0) @binding(3) var<storage, read_write> written: array<atomic<u32>>;
#else
@group(0) @binding(3) var<storage, read_write> written: array<u32>;
#endif

fn write_map(to: u32, value: u32) {
#if HALF
    // Two halves share a word.
    let half = real_to_half(bitcast<f32>(value));
    let shift = 16u * (to & 1u);
    atomicAnd(&written[to >> 1u], ~(0xffffu << shift));
    atomicOr(&written[to >> 1u], half << shift);
#else
    written[to] = value;
#endif
}
