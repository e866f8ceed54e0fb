// From the words of a buffer to values, and back. Buffers are bound as words of as many bytes as a thread takes at once: 16, 8
// or 4 for four voxels; 4 for one, which then picks its part. The host writes a line per buffer that indexes it and calls these.
#import math

// Labels that are no class.
const IGNORED = -1;
const INVALID = -2;

// f16 → f32 by bits, exactly, whatever the device does to small halves.
fn half_to_real(h: bits) -> real {
    let magnitude = h & bits(0x7fffu);
    let sign = (h & bits(0x8000u)) << bits(16u);
    let normal = (magnitude << bits(13u)) + bits(112u << 23u);
    let small = bitcast<bits>(real(magnitude) * real(5.9604644775390625e-8));
    let beyond = (magnitude << bits(13u)) | bits(0x7f800000u);
    let value = select(select(normal, small, magnitude < bits(0x400u)), beyond, magnitude >= bits(0x7c00u));
    return bitcast<real>(value | sign);
}

// f32 → f16 by bits, rounded to the nearest even; the built-in may round either way.
fn real_to_half(x: real) -> bits {
    let sign = (bitcast<bits>(x) >> bits(16u)) & bits(0x8000u);
    let magnitude = bitcast<bits>(x) & bits(0x7fffffffu);
    let nearest = magnitude + bits(0xfffu) + ((magnitude >> bits(13u)) & bits(1u));
    let normal = (nearest >> bits(13u)) - bits(112u << 10u);
    // Units of 2⁻²⁴; also where the product is not finite, which is not taken then.
    let small = bits(round(min(abs(x), real(1.0)) * real(16777216.0)));
    var h = select(normal, small, magnitude < bits(0x38800000u));
    h = select(h, bits(0x7c00u), magnitude >= bits(0x477ff000u));
    h = select(h, bits(0x7e00u), magnitude > bits(0x7f800000u));
    return h | sign;
}

// f32 → bf16, rounded to the nearest even.
fn real_to_brain(x: real) -> bits {
    let raw = bitcast<bits>(x);
    let nearest = (raw + bits(0x7fffu) + ((raw >> bits(16u)) & bits(1u))) >> bits(16u);
    return select(nearest, (raw >> bits(16u)) | bits(0x40u), is_nan(x));
}

fn classify(label: whole) -> whole {
    let class_or_invalid = select(label, whole(INVALID), (label < whole(0)) | (label >= whole(LABELS)));
#if IGNORE_LABEL
    return select(class_or_invalid, whole(IGNORED), label == whole(IGNORE_LABEL));
#else
    return class_or_invalid;
#endif
}

// A label of 64 bits, by halves.
fn classify_wide(low: bits, high: bits) -> whole {
    let outside = (high != bits(0u)) | (low >= bits(LABELS));
    let class_or_invalid = select(bitcast<whole>(low), whole(INVALID), outside);
#if IGNORE_LABEL_WIDE
    let ignored = (low == bits(IGNORE_LABEL_LOW)) & (high == bits(IGNORE_LABEL_HIGH));
    return select(class_or_invalid, whole(IGNORED), ignored);
#else
    return class_or_invalid;
#endif
}

#if VECTOR
fn bytes_of(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}
fn halves_of(words: vec2<u32>) -> vec4<u32> {
    return vec4<u32>(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
}
fn pack_halves(h: vec4<u32>) -> vec2<u32> {
    return vec2<u32>(h.x | (h.y << 16u), h.z | (h.w << 16u));
}
#else
fn byte_of(word: u32, index: u32) -> u32 {
    return (word >> (8u * (index & 3u))) & 0xffu;
}
fn half_of(word: u32, index: u32) -> u32 {
    return (word >> (16u * (index & 1u))) & 0xffffu;
}
#endif

// A half with its sign, as a number.
fn signed_half(h: bits) -> whole {
    return bitcast<whole>(h << bits(16u)) >> bits(16u);
}
