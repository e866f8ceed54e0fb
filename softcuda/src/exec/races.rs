//! Races in global memory between the blocks of a launch.
//!
//! Each granule of four bytes has two cells: who wrote it last, and who read it. Who, that is a stamp: a number that stands for what
//! a block did between two of its fences. A block may use what another one left if it has *seen* the other's stamp: the other fenced and
//! then touched some address with an atomic or a volatile access, and this block did so after it and fenced (or the accesses were a
//! release and an acquire). This is happens-before at the granularity of blocks; barriers order the threads within one.
//!
//! A cell holds the last stamp only, and of several readers the largest with the bytes that all of them read; so some races are missed
//! where three blocks meet, or where blocks use different bytes of a granule, and none is invented.

use super::program::Order;
use crate::memory::{Allocation, Cells};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// All accesses in a cell were strong: volatile, relaxed or atomic.
const STRONG: u32 = 1 << 31;
/// Several blocks read; the stamp is the largest of them.
const MANY: u32 = 1 << 30;
/// Some read came through the read-only path.
const READ_ONLY: u32 = 1 << 29;
/// Which bytes of the granule.
const BYTES_SHIFT: u32 = 25;
const BYTES: u32 = 0xf << BYTES_SHIFT;
const STAMP: u32 = (1 << BYTES_SHIFT) - 1;
/// The largest number of a stamp, exclusive.
pub(super) const STAMPS_MOST: u32 = STAMP;
/// Stamps that a launch may use beyond one a block, where its blocks communicate. With none left, a block keeps its last one, and
/// races with what it did since are missed.
const SPARE: u32 = 1 << 16;

/// Stamps that a launch of so many blocks asks for.
pub(super) fn stamps_wanted(blocks: u64, communicates: bool) -> Option<u32> {
    let spare = if communicates { SPARE as u64 + 8 * blocks } else { 0 };
    u32::try_from((blocks + spare).min(STAMPS_MOST as u64 / 2)).ok().filter(|stamps| blocks <= *stamps as u64)
}

/// A set of stamps of a launch.
#[derive(Clone, Debug, Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn contains(&self, stamp: u32) -> bool {
        self.0.get(stamp as usize / 64).is_some_and(|word| word >> (stamp % 64) & 1 == 1)
    }
    fn insert(&mut self, stamp: u32) {
        let word = stamp as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (stamp % 64);
    }
    fn join(&mut self, other: &Seen) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
    /// All stamps below this one are in the set.
    fn floor(&self) -> u32 {
        let whole = self.0.iter().take_while(|word| **word == u64::MAX).count();
        64 * whole as u32 + self.0.get(whole).map_or(0, |word| word.trailing_ones())
    }
}

/// What the blocks of a launch tell each other.
#[derive(Debug)]
pub(super) struct Traces {
    first: u32,
    end: u32,
    next: u32,
    /// What a block that touches an address learns.
    published: HashMap<u64, Seen>,
}

/// A block, as the race checker knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    stamp: u32,
    /// Whether anything was written under this stamp.
    used: bool,
    seen: Seen,
    /// All stamps below this one were seen.
    floor: u32,
    /// What others learn from its next strong access.
    fenced: Seen,
    /// What it learns at its next fence.
    learnt: Seen,
}

/// What is wrong with an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    Race { with_write: bool },
    ReadOnlyWritten,
}

/// How an access takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
    Atomic,
}

/// An access as the race checker sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) what: Use,
    pub(super) strong: bool,
    pub(super) read_only: bool,
}

impl Traces {
    pub(super) fn new(first: u32, stamps: u32, blocks: u64) -> Traces {
        Traces { first, end: first + stamps, next: first + blocks as u32, published: HashMap::new() }
    }
    /// The block with this number in the grid.
    pub(super) fn writer(&self, block: u64) -> Writer {
        Writer { stamp: self.first + block as u32, ..Writer::default() }
    }

    /// Notes an access to bytes of an allocation, and says what it conflicts with.
    #[inline]
    pub(super) fn access(
        &self,
        writer: &Writer,
        of: &Allocation,
        address: u64,
        bytes: u64,
        how: How,
    ) -> Option<Conflict> {
        let offset = address - of.base;
        let cells = of.cells();
        if bytes < 4 {
            let part = (((1 << bytes) - 1) << (offset % 4)) << BYTES_SHIFT;
            return self.granule(writer, cells, offset as usize / 4, part & BYTES, how);
        }
        let mut conflict = None;
        for granule in offset / 4..(offset + bytes) / 4 {
            conflict = self.granule(writer, cells, granule as usize, BYTES, how).or(conflict);
        }
        conflict
    }
    #[inline(always)]
    fn granule(&self, writer: &Writer, cells: &Cells, at: usize, part: u32, how: How) -> Option<Conflict> {
        let How { what, strong, read_only } = how;
        let unordered = |cell: u32| !(self.is_ordered(writer, cell) || (strong && cell & STRONG != 0));
        let strong_bit = if strong { STRONG } else { 0 };
        let own = writer.stamp | part | strong_bit;
        let (write_cell, read_cell) = (&cells.writes[at], &cells.reads[at]);
        let written = write_cell.load(Ordering::Relaxed);
        let mut conflict = None;
        if self.is_ours(written) && written & part != 0 {
            if read_only {
                conflict = Some(Conflict::ReadOnlyWritten);
            } else if unordered(written) {
                conflict = Some(Conflict::Race { with_write: true });
            }
        }
        let read = read_cell.load(Ordering::Relaxed);
        if what == Use::Read {
            let own = own | if read_only { READ_ONLY } else { 0 };
            set(read_cell, read, self.joined(writer, read, own));
            return conflict;
        }
        if self.is_ours(read) && read & part != 0 {
            if read & READ_ONLY != 0 {
                conflict = conflict.or(Some(Conflict::ReadOnlyWritten));
            } else if unordered(read) {
                conflict = conflict.or(Some(Conflict::Race { with_write: false }));
            }
        }
        let same = written & STAMP == writer.stamp;
        set(write_cell, written, if same { (written | own) & (own | !STRONG) } else { own });
        conflict
    }
    /// A read cell after another read. Where it cannot hold both, it holds what is true of all of its bytes.
    #[inline(always)]
    fn joined(&self, writer: &Writer, cell: u32, own: u32) -> u32 {
        const FLAGS: u32 = READ_ONLY | STRONG;
        let flags = (cell | own) & READ_ONLY | cell & own & STRONG;
        let shared = cell & own & BYTES;
        if cell & (STAMP | MANY) == writer.stamp {
            match (cell ^ own) & FLAGS == 0 {
                true => cell | own,
                false if (cell ^ own) & BYTES == 0 => own & !FLAGS | flags,
                false => own,
            }
        } else if shared == 0 || !self.is_ours(cell) || self.is_ordered(writer, cell) {
            own
        } else {
            (cell & STAMP).max(own & STAMP) | shared | flags | MANY
        }
    }
    #[inline(always)]
    fn is_ours(&self, cell: u32) -> bool {
        let stamp = cell & STAMP;
        stamp >= self.first && stamp < self.end
    }
    #[inline(always)]
    fn is_ordered(&self, writer: &Writer, cell: u32) -> bool {
        let stamp = cell & STAMP;
        if cell & MANY != 0 {
            return stamp - self.first < writer.floor;
        }
        stamp == writer.stamp || writer.seen.contains(stamp - self.first)
    }

    /// A block's access marks the stamp as used.
    #[inline]
    pub(super) fn note_write(writer: &mut Writer) {
        writer.used = true;
    }
    /// A fence of the device or the system: what the block did so far can be published, and what it learnt is seen.
    pub(super) fn fence(&mut self, writer: &mut Writer) {
        self.acquire(writer);
        self.release(writer);
    }
    fn acquire(&mut self, writer: &mut Writer) {
        if !writer.learnt.0.is_empty() {
            let learnt = std::mem::take(&mut writer.learnt);
            writer.seen.join(&learnt);
            writer.floor = writer.seen.floor();
        }
    }
    fn release(&mut self, writer: &mut Writer) {
        writer.fenced = writer.seen.clone();
        writer.fenced.insert(writer.stamp - self.first);
        if writer.used && self.next < self.end {
            writer.seen.insert(writer.stamp - self.first);
            writer.floor = writer.seen.floor();
            writer.stamp = self.next;
            writer.used = false;
            self.next += 1;
        }
    }
    /// A strong access to an address: what the block has fenced is published there, and it learns what is there.
    pub(super) fn strong_access(&mut self, writer: &mut Writer, address: u64, what: Use, order: Order) {
        if order.release {
            self.release(writer);
        }
        if what != Use::Write
            && let Some(published) = self.published.get(&address)
        {
            writer.learnt.join(published);
        }
        match what {
            Use::Read => {}
            Use::Write => {
                self.published.insert(address, writer.fenced.clone());
            }
            Use::Atomic => self.published.entry(address).or_default().join(&writer.fenced),
        }
        if order.acquire {
            self.acquire(writer);
        }
    }
}

#[inline(always)]
fn set(cell: &AtomicU32, old: u32, new: u32) {
    if old != new {
        cell.store(new, Ordering::Relaxed);
    }
}
