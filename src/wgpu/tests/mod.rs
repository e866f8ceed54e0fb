//! The kernels after the reduction, run on an adapter and compared with the same in f64 on the host; and the text of every
//! kernel, read by the tools that drivers are built on.

mod combine;
mod double;
mod finish;
mod geometry;
mod gpu;
mod shaders;

/// Whether what these tests need must be there.
fn in_ci() -> bool {
    ["CI", "SEGFUSE_CI"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Random bits (splitmix64).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    /// Below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }
    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

/// The words of doubles, low words first.
fn words(values: &[f64]) -> Vec<u32> {
    values.iter().flat_map(|x| [x.to_bits() as u32, (x.to_bits() >> 32) as u32]).collect()
}

/// The doubles of words.
fn doubles(words: &[u32]) -> Vec<f64> {
    words.chunks_exact(2).map(|w| f64::from_bits(u64::from(w[0]) | u64::from(w[1]) << 32)).collect()
}
