//! How much of repeated erosion is kept for the way back, on all backends.

/// Bytes of what is kept of a voxel and an erosion: f32.
pub(crate) const KEPT_BYTES: u64 = 4;

/// Which erosions are kept while a slope goes back through them. Where there is not room for all, it is for the last ones; those
/// before are made again from the error, as often as it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    room: usize,
    /// The first erosion that is kept.
    from: usize,
}

impl Kept {
    /// How many of `count` erosions there is room for in so many bytes: no less than it takes for no more erosions to be made
    /// again than there are.
    #[cfg(any(feature = "cuda", feature = "wgpu", test))]
    pub(crate) fn room(count: usize, voxels: u64, bytes: u64) -> usize {
        let fits = bytes / (KEPT_BYTES * voxels);
        fits.clamp(Kept::least(count).min(count) as u64, count as u64) as usize
    }

    /// Two thirds of the erosions are made again, and one third once more.
    pub(crate) fn least(count: usize) -> usize {
        (count + 2).div_ceil(3)
    }

    /// After the way forth through erosions 1 to `last`, with room for two at least where there are two.
    pub(crate) fn new(room: usize, last: usize) -> Kept {
        debug_assert!(room > 1 || last < 2, "each step back reads two erosions");
        Kept { room, from: last + 1 - room.min(last) }
    }

    /// Before the way back goes on to an erosion: the erosion from which on those up to this one have to be kept while they are all
    /// made again; `None` where it is there. The erosion after it is still read, and keeps its place.
    pub(crate) fn again(&mut self, erosion: usize) -> Option<usize> {
        if erosion == 0 || erosion >= self.from {
            return None;
        }
        self.from = (erosion + 2).saturating_sub(self.room).max(1);
        Some(self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_there_and_little_is_made_again() {
        for count in 1..=100 {
            for room in Kept::least(count)..=count {
                let mut places: Vec<usize> = vec![0; room];
                (1..=count).for_each(|erosion| places[erosion % room] = erosion);
                let (mut kept, mut again) = (Kept::new(room, count), 0);
                for erosion in (0..=count).rev() {
                    if let Some(from) = kept.again(erosion) {
                        again += erosion;
                        (from..=erosion).for_each(|erosion| places[erosion % room] = erosion);
                    }
                    for read in [erosion, erosion + 1] {
                        assert!(read == 0 || read > count || places[read % room] == read, "{read} of {count}, {room}");
                    }
                }
                assert!(again <= count, "{again} of {count}, {room}");
            }
            assert_eq!(Kept::room(count, 1000, 0), Kept::least(count));
            assert_eq!(Kept::room(count, 1000, u64::MAX), count);
        }
        assert_eq!(Kept::room(10, 1000, 28_000), 7);
    }
}
