//! Who of a block used what since the last barrier: of its shared memory, and of global memory.

use super::lanes;
use super::races::Use;
use super::request::Request;
use std::collections::HashMap;

/// A thread, or several, between two barriers. The default is nobody.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Who {
    /// Barriers that the block had passed, plus one.
    block_epoch: u32,
    /// Barriers of its own that the warp had passed.
    warp_epoch: u32,
    warp: u16,
    /// The lane, or [`SEVERAL_LANES`], or [`SEVERAL_WARPS`].
    lane: u8,
    /// Which bytes, and whether every use was one that may meet others of its kind.
    bytes: u8,
    atomic: bool,
}

const SEVERAL_LANES: u8 = 32;
const SEVERAL_WARPS: u8 = 33;

/// The moment of an access.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) block_epoch: u32,
    pub(super) warp_epoch: u32,
    pub(super) warp: u16,
}

impl Who {
    /// A lane that uses these bytes of a granule.
    pub(super) fn new(moment: Moment, lane: usize, bytes: u8, atomic: bool) -> Who {
        let Moment { block_epoch, warp_epoch, warp } = moment;
        Who { block_epoch, warp_epoch, warp, lane: lane as u8, bytes, atomic }
    }
    /// Whether nothing orders this use before the other, of which at least one is a write.
    fn races(&self, now: &Who) -> bool {
        self.block_epoch == now.block_epoch
            && self.bytes & now.bytes != 0
            && !(self.atomic && now.atomic)
            && match self.lane {
                SEVERAL_WARPS => true,
                _ if self.warp != now.warp => true,
                _ if self.warp_epoch != now.warp_epoch => false,
                lane => lane != now.lane,
            }
    }
    /// This use and one more. Where it cannot hold both, it holds what is true of both, or the later one.
    fn joined(&self, now: &Who) -> Who {
        let same_warp = self.warp == now.warp && self.lane != SEVERAL_WARPS;
        if self.block_epoch != now.block_epoch || (same_warp && self.warp_epoch != now.warp_epoch) {
            return *now;
        }
        if same_warp && self.lane == now.lane {
            return Who { bytes: self.bytes | now.bytes, atomic: self.atomic && now.atomic, ..*now };
        }
        let bytes = self.bytes & now.bytes;
        if bytes == 0 || self.atomic != now.atomic {
            return *now;
        }
        Who { lane: if same_warp { SEVERAL_LANES } else { SEVERAL_WARPS }, bytes, ..*now }
    }
}

/// Who used four bytes last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    write: Who,
    read: Who,
}

impl Cell {
    /// Notes a use; where it races with an earlier one, whether that was a write.
    #[inline]
    pub(super) fn note(&mut self, now: &Who, writes: bool) -> Option<bool> {
        let mut with_write = self.write.races(now).then_some(true);
        if writes {
            with_write = with_write.or_else(|| self.read.races(now).then_some(false));
            self.write = self.write.joined(now);
        } else {
            self.read = self.read.joined(now);
        }
        with_write
    }
}

/// Granules of four bytes that are noted side by side.
const PAGE: u64 = 32;

/// What a block did with global memory.
#[derive(Debug, Default)]
pub(super) struct GlobalUses {
    pages: Vec<[Cell; PAGE as usize]>,
    /// Which of them is of which addresses.
    places: HashMap<u64, usize>,
    /// The page that was used last, as its number and its place.
    last: Option<(u64, usize)>,
}

impl GlobalUses {
    pub(super) fn clear(&mut self) {
        self.pages.clear();
        self.places.clear();
        self.last = None;
    }
    /// Notes an access of some lanes and returns those that race with an earlier one, and whether that was a write.
    pub(super) fn access(
        &mut self,
        request: &Request,
        mask: u32,
        moment: Moment,
        what: Use,
        strong: bool,
    ) -> Option<(u32, bool)> {
        let bytes = request.bytes;
        let (mut racing, mut with_write) = (0, false);
        for lane in lanes(mask) {
            let first = request.addresses[lane];
            let part = if bytes < 4 { ((1u8 << bytes) - 1) << (first % 4) } else { 0xf };
            let now = Who::new(moment, lane, part, strong);
            for granule in first / 4..(first + bytes).div_ceil(4) {
                if let Some(write) = self.cell(granule).note(&now, what != Use::Read) {
                    (racing, with_write) = (racing | 1 << lane, with_write | write);
                }
            }
        }
        (racing != 0).then_some((racing, with_write))
    }
    #[inline]
    fn cell(&mut self, granule: u64) -> &mut Cell {
        let number = granule / PAGE;
        let at = match self.last {
            Some((last, at)) if last == number => at,
            _ => {
                let next = self.pages.len();
                let at = *self.places.entry(number).or_insert(next);
                if at == next {
                    self.pages.push([Cell::default(); PAGE as usize]);
                }
                self.last = Some((number, at));
                at
            }
        };
        &mut self.pages[at][(granule % PAGE) as usize]
    }
}
