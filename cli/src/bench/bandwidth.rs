//! How fast this machine copies memory.

use rayon::prelude::*;
use std::time::Instant;

/// Values of the buffer: 512 MiB of f32.
const VALUES: usize = 128 << 20;
/// Copies; the fastest counts.
const COPIES: usize = 7;

/// Bytes per second of a parallel copy, read and written bytes both counted.
pub(super) fn copy() -> f64 {
    let mut source = vec![0.0_f32; VALUES];
    let mut copy = vec![0.0_f32; VALUES];
    let piece = VALUES.div_ceil(rayon::current_num_threads());
    // The pages are touched first, by the threads that copy them.
    source.par_chunks_mut(piece).for_each(|values| values.fill(1.0));
    copy.par_chunks_mut(piece).for_each(|values| values.fill(2.0));
    let mut best = f64::INFINITY;
    for _ in 0..COPIES {
        let start = Instant::now();
        copy.par_chunks_mut(piece).zip(source.par_chunks(piece)).for_each(|(to, from)| to.copy_from_slice(from));
        best = best.min(start.elapsed().as_secs_f64());
        std::hint::black_box(&mut copy);
    }
    (2 * VALUES * size_of::<f32>()) as f64 / best
}
