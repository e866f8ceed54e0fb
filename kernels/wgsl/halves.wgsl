// Numbers of 16 bits, to f32 and back.
#import math

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
