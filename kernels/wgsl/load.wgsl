// From the words of a buffer to values, and back. Buffers are bound as words of as many bytes as a thread takes at once: 16, 8
// or 4 for four voxels; 4 for one, which then picks its part. The host writes a line per buffer that indexes it and calls these.
#import halves

// Labels that are no class.
const IGNORED = -1;
const INVALID = -2;

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
