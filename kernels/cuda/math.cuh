// Elementary functions of single precision, a few units in the last place off, NaN for NaN.
//
// `ex2.approx` is within 2 units; the rounding of its argument is made good. `lg2.approx` is within 2 units away from its zero,
// and is taken there alone. What pixel terms compute is in src/spec/lower_ptx.rs.
#pragma once
#include "common.cuh"
#include "gen/math.cuh"

static constexpr float LEAST = -3.4028234663852886e38f;

__device__ __forceinline__ bool is_nan(float x) { return x != x; }

__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float log2_approx(float x) {
    float y;
    asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float log2_of_normal(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// 1/x within 1 unit, for normal x.
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// eˣ for x ≤ 0; 0 below −87.4.
__device__ __forceinline__ float exp_of_negative(float x) {
    // eˣ = 2ᵗ·eʳ with t the rounded x·log₂e and r, below 2⁻¹⁶, what the rounding left. That ln 2 is rounded too is some
    // |x|·3·10⁻⁹ of eˣ.
    const float t = x * LOG2_E;
    const float r = __fmaf_rn(t, -LN_2, x);
    // −∞ leaves NaN, of which `fminf` makes a number; a NaN that x was is in t as well.
    const float y = exp2_approx(t);
    return __fmaf_rn(y, fminf(r, 1.0f), y);
}

// ln(1 + x) for x from −½ to 1, by 2·atanh(x/(2 + x)).
__device__ __forceinline__ float ln_1p(float x) {
    const float s = x * reciprocal(x + 2.0f);
    const float t = s * s;
    float y = 1.0f / 13.0f;
    y = __fmaf_rn(y, t, 1.0f / 11.0f);
    y = __fmaf_rn(y, t, 1.0f / 9.0f);
    y = __fmaf_rn(y, t, 1.0f / 7.0f);
    y = __fmaf_rn(y, t, 1.0f / 5.0f);
    y = __fmaf_rn(y, t, 1.0f / 3.0f);
    return 2.0f * __fmaf_rn(s, y * t, s);
}

// ln x, given x − 1 as it is without cancelling: −∞ at ±0, NaN below 0; ∞ and NaN pass through. Near 1, where log₂x is 0 and its
// error is not, by ln_1p.
__device__ __forceinline__ float ln(float x, float past_1) {
    return fabsf(past_1) <= 0.5f ? ln_1p(past_1) : log2_approx(x) * LN_2;
}

// A logarithm that can be multiplied by 0: −∞ becomes the least finite number.
__device__ __forceinline__ float finite_ln(float x) { return x < LEAST ? LEAST : x; }
