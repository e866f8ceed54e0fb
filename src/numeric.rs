//! Numbers that every backend computes with.

/// ln 2 in two parts; the first, 355/512, is exact times any exponent.
pub const LN_2_HIGH: f32 = 0.693_359_4;
/// See [`LN_2_HIGH`].
pub const LN_2_LOW: f32 = -2.121_944_4e-4;
/// The bits of √½, where the mantissa of a logarithm begins.
pub const HALF_ROOT_BITS: i32 = 0x3f35_04f3;
/// (eʳ − 1 − r)/r² for |r| ≤ ½·ln 2, the highest power first.
pub const EXP: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
/// (ln(1 + f) − f + ½f²)/f³ for 1 + f from √½ to √2, the highest power first.
pub const LN: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_9e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_5e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];
/// Where a logarithm of a given probability stops: ln max(p, 1e-12). Its slope stays 1/max(p, 1e-12).
pub const PROBABILITY_FLOOR: f64 = 1e-12;
