// What a map holds.
#import distance

// The bits of what a map holds, from the square of the distance to the nearest voxel of the other side.
fn map_value(square: f32, inside: bool) -> u32 {
    let some = bitcast<u32>(square) < NONE;
#if SQUARED
    let d = square;
#else
    let d = root(square);
#endif
#if OUTSIDE
    return select(select(UNENDING, bitcast<u32>(d), some), 0u, inside);
#endif
#if INSIDE
    return select(0u, select(UNENDING, bitcast<u32>(d), some), inside);
#endif
#if TWO_SIDED
    return select(0u, bitcast<u32>(d), some);
#endif
#if DIFFERENCE
    return select(0u, bitcast<u32>(d) | select(0u, 0x80000000u, inside), some);
#endif
#if SIGNED
    let x = select(d, 1.0 - d, inside);
    return select(0u, bitcast<u32>(x), some);
#endif
#if SIGNED_SQUARED
    let x = select(d, 1.0 - d, inside);
    return select(0u, bitcast<u32>(x * abs(x)), some);
#endif
#if SQUARES
    return bitcast<u32>(square);
#endif
}
