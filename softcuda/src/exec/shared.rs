//! Shared memory of a block: its bytes, which of them were written, and who used them since the last barrier.

use super::races::Use;
use super::request::Request;
use super::uses::{Cell, Moment, Who};
use super::{LANES, lanes};

/// Generic addresses of shared and local memory begin here.
pub(crate) const SHARED_WINDOW: u64 = 0x0100_0000_0000_0000;
pub(crate) const LOCAL_WINDOW: u64 = 0x0200_0000_0000_0000;
const BANKS: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) data: Vec<u8>,
    pub(super) written: Vec<u8>,
    cells: Vec<Cell>,
}

impl Shared {
    pub(super) fn clear(&mut self, bytes: usize, race_check: bool) {
        self.data.clear();
        self.data.resize(bytes, 0xA5);
        self.written.clear();
        self.written.resize(bytes, 0);
        self.cells.clear();
        self.cells.resize(if race_check { bytes.div_ceil(4) } else { 0 }, Cell::default());
    }
    /// Notes an access and returns the lanes that race with an earlier one, and whether that was a write.
    pub(super) fn access(&mut self, request: &Request, moment: Moment, what: Use) -> Option<(u32, bool)> {
        let bytes = request.bytes;
        let (mut racing, mut with_write) = (0, false);
        for lane in lanes(request.mask) {
            let (first, end) = (request.addresses[lane], request.addresses[lane] + bytes);
            for at in first / 4..end.div_ceil(4) {
                let part = if bytes < 4 { ((1u8 << bytes) - 1) << (first % 4) } else { 0xf };
                let now = Who::new(moment, lane, part, what == Use::Atomic);
                if let Some(write) = self.cells[at as usize].note(&now, what != Use::Read) {
                    (racing, with_write) = (racing | 1 << lane, with_write | write);
                }
            }
        }
        (racing != 0).then_some((racing, with_write))
    }
}

/// Passes over the banks that an access takes, and how few there would be without a conflict. Words are of four bytes; wider accesses
/// go in groups of lanes of 128 bytes.
pub(super) fn wavefronts(addresses: &[u64; LANES], mask: u32, bytes: u64) -> (u64, u64) {
    let group = (128 / bytes.max(4)) as usize;
    let (mut passes, mut ideal) = (0, 0);
    for first in (0..LANES).step_by(group) {
        let members = mask & ((u32::MAX >> (LANES - group)) << first);
        if members == 0 {
            continue;
        }
        let (mut words, mut counts, mut most) = ([[u64::MAX; 8]; BANKS], [0usize; BANKS], 0);
        for lane in lanes(members) {
            for word in addresses[lane] / 4..(addresses[lane] + bytes).div_ceil(4) {
                let bank = (word % BANKS as u64) as usize;
                let count = counts[bank];
                // Beyond eight words of a bank, lanes that share one are counted apart.
                if words[bank][..count.min(8)].contains(&word) {
                    continue;
                }
                if count < 8 {
                    words[bank][count] = word;
                }
                counts[bank] += 1;
                most = most.max(counts[bank]);
            }
        }
        passes += most as u64;
        ideal += 1;
    }
    (passes, ideal)
}
