//! Half precision from and to single, with the instructions that processors have for it.
//!
//! Rounded to the nearest, ties to even, as the crate `half` does, which stands in where there are no such instructions.

use super::planes::LANES;
use fearless_simd::Level;
#[cfg(target_arch = "x86_64")]
use fearless_simd::{f32x8, f32x16, prelude::*, u16x8, u16x16};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _MM_FROUND_TO_NEAREST_INT, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm512_cvtph_ps, _mm512_cvtps_ph,
};

/// `into` = `from`, exactly; slices of equal length.
#[inline(always)]
pub(super) fn widen(level: Level, from: &[f16], into: &mut [f32]) {
    let ((vectors, rest), (into, into_rest)) = (from.as_chunks::<LANES>(), into.as_chunks_mut::<LANES>());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(avx512) => widen_avx512(avx512, bytemuck::cast_slice(vectors), into),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => widen_avx2(avx2, bytemuck::cast_slice(vectors), into),
        _ => vectors.as_flattened().convert_to_f32_slice(into.as_flattened_mut()),
    }
    rest.convert_to_f32_slice(into_rest);
}

/// `into` = `from`, rounded; slices of equal length.
#[inline(always)]
pub(super) fn narrow(level: Level, from: &[f32], into: &mut [f16]) {
    let ((vectors, rest), (into, into_rest)) = (from.as_chunks::<LANES>(), into.as_chunks_mut::<LANES>());
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(avx512) => narrow_avx512(avx512, vectors, bytemuck::cast_slice_mut(into)),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(avx2) => narrow_avx2(avx2, vectors, bytemuck::cast_slice_mut(into)),
        _ => into.as_flattened_mut().convert_from_f32_slice(vectors.as_flattened()),
    }
    into_rest.convert_from_f32_slice(rest);
}

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn widen_avx512(token: Avx512, from: &[[u16; LANES]], into: &mut [[f32; LANES]]) {
        for (from, into) in from.iter().zip(into) {
            let wide: f32x16<_> = _mm512_cvtph_ps(u16x16::load_array_ref(token, from).into()).simd_into(token);
            wide.store_array(into);
        }
    }
);

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn widen_avx2(token: Avx2, from: &[[u16; LANES]], into: &mut [[f32; LANES]]) {
        let (from, into) = (from.as_flattened().as_chunks().0, into.as_flattened_mut().as_chunks_mut().0);
        for (from, into) in from.iter().zip(into) {
            let wide: f32x8<_> = _mm256_cvtph_ps(u16x8::load_array_ref(token, from).into()).simd_into(token);
            wide.store_array(into);
        }
    }
);

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn narrow_avx512(token: Avx512, from: &[[f32; LANES]], into: &mut [[u16; LANES]]) {
        for (from, into) in from.iter().zip(into) {
            let wide = f32x16::load_array_ref(token, from).into();
            let half: u16x16<_> = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(wide).simd_into(token);
            half.store_array(into);
        }
    }
);

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn narrow_avx2(token: Avx2, from: &[[f32; LANES]], into: &mut [[u16; LANES]]) {
        let (from, into) = (from.as_flattened().as_chunks().0, into.as_flattened_mut().as_chunks_mut().0);
        for (from, into) in from.iter().zip(into) {
            let wide = f32x8::load_array_ref(token, from).into();
            let half: u16x8<_> = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(wide).simd_into(token);
            half.store_array(into);
        }
    }
);

/// As [`widen`]: bf16 is the upper half of an f32.
#[inline(always)]
pub(super) fn widen_bf16(from: &[bf16], into: &mut [f32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into = f32::from_bits(u32::from(from.to_bits()) << 16);
    }
}

/// As [`narrow`]; in integers, which a compiler makes vectors of.
#[inline(always)]
pub(super) fn narrow_bf16(from: &[f32], into: &mut [bf16]) {
    for (into, from) in into.iter_mut().zip(from) {
        let bits = from.to_bits();
        // Half a unit, less the least of all where the upper half is even. A carry into the exponent is right, up to ∞.
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // The payload of a NaN may lie in the lower half alone.
        let nan = (bits >> 16) | 0x40;
        *into = bf16::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded } as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every f16, and around every f16 and bf16 the f32 where rounding turns.
    fn singles() -> Vec<f32> {
        let mut values = Vec::new();
        for bits in 0..=u16::MAX {
            for wide in [f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32()] {
                for step in [0, 1, 0x7fff, 0x8000, 0x8001, 0xfff, 0x1000, 0x1001, 0x1fff] {
                    values.push(f32::from_bits(wide.to_bits().wrapping_add(step)));
                }
            }
        }
        values
    }

    #[test]
    fn as_half_does() {
        let level = Level::new();
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        // Not a multiple of a vector.
        let halves = &halves[..halves.len() - 3];
        let mut wide = vec![0.0; halves.len()];
        widen(level, halves, &mut wide);
        assert!(wide.iter().zip(halves).all(|(x, h)| x.to_bits() == h.to_f32().to_bits()));

        let singles = singles();
        let singles = &singles[..singles.len() - 5];
        let mut narrowed = vec![f16::ZERO; singles.len()];
        narrow(level, singles, &mut narrowed);
        for (h, x) in narrowed.iter().zip(singles) {
            assert_eq!(h.to_bits(), f16::from_f32(*x).to_bits(), "{:x}", x.to_bits());
        }
        let mut narrowed = vec![bf16::ZERO; singles.len()];
        narrow_bf16(singles, &mut narrowed);
        for (h, x) in narrowed.iter().zip(singles) {
            assert_eq!(h.to_bits(), bf16::from_f32(*x).to_bits(), "{:x}", x.to_bits());
        }
    }
}
