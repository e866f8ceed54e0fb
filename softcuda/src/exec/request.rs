//! A request of a warp to memory: where its addresses lead, whether that is allowed, what it costs, and with whom it conflicts.

use super::block::BlockState;
use super::grid::{Place, Worker};
use super::program::{Access, Instruction, Order};
use super::races::{Conflict, How, Traces, Use};
use super::registers::Bank;
use super::shared::{LOCAL_WINDOW, SHARED_WINDOW, wavefronts};
use super::warp::Warp;
use super::{LANES, lanes};
use crate::control::Fault;
use crate::memory::Allocation;
use crate::ptx::syntax::Space;

pub(super) struct Request {
    pub(super) place: Place,
    pub(super) addresses: [u64; LANES],
    pub(super) mask: u32,
    /// Of each lane.
    pub(super) bytes: u64,
}

/// Lanes of a request that go to one allocation.
pub(super) struct Group<'m> {
    pub(super) allocation: &'m Allocation,
    pub(super) mask: u32,
}

impl Request {
    #[inline(always)]
    pub(super) fn new(place: Place, i: &Instruction, warp: &Warp, mask: u32, bytes: usize) -> Request {
        let mut addresses = [0; LANES];
        if i.address == Bank::Long {
            for (address, base) in addresses.iter_mut().zip(&warp.registers.longs[i.from[0] as usize]) {
                *address = base.wrapping_add_signed(i.offset);
            }
        } else {
            for (address, base) in addresses.iter_mut().zip(&warp.registers.words[i.from[0] as usize]) {
                *address = (*base as u64).wrapping_add_signed(i.offset);
            }
        }
        Request { place, addresses, mask, bytes: bytes as u64 }
    }
    /// A lane's address.
    pub(super) fn at(&self, lane: usize) -> usize {
        self.addresses[lane] as usize
    }
    /// The address of the first lane of a mask, for reports.
    fn first(&self, mask: u32) -> u64 {
        self.addresses[lanes(mask).next().unwrap_or(0)]
    }
    /// The lanes for whose addresses something holds.
    #[inline]
    fn lanes_where(&self, holds: impl Fn(u64) -> bool) -> u32 {
        lanes(self.mask).filter(|lane| holds(self.addresses[*lane])).fold(0, |mask, lane| mask | 1 << lane)
    }
    /// The lanes of each space, whose addresses become those of that space. Parts may be empty.
    #[inline]
    pub(super) fn split(&mut self, space: Space) -> [(Space, u32); 3] {
        let mut parts = [(Space::Global, 0), (Space::Shared, 0), (Space::Local, 0)];
        if space != Space::Generic {
            parts[0] = (space, self.mask);
            return parts;
        }
        for lane in lanes(self.mask) {
            let (part, window) = match self.addresses[lane] {
                0..SHARED_WINDOW => (0, 0),
                SHARED_WINDOW..LOCAL_WINDOW => (1, SHARED_WINDOW),
                _ => (2, LOCAL_WINDOW),
            };
            self.addresses[lane] -= window;
            parts[part].1 |= 1 << lane;
        }
        parts
    }
    /// Whether all lanes take part, one after the other.
    #[inline(always)]
    pub(super) fn is_dense(&self) -> bool {
        let mut off = !self.mask as u64;
        for (lane, address) in self.addresses.iter().enumerate() {
            off |= address.wrapping_sub(self.addresses[0]) ^ (lane as u64 * self.bytes);
        }
        off == 0
    }
    /// Distinct sectors of 32 bytes.
    pub(super) fn sectors(&self) -> u64 {
        if self.is_dense() {
            return ((self.addresses[0] + LANES as u64 * self.bytes - 1) >> 5) - (self.addresses[0] >> 5) + 1;
        }
        let ends = || {
            lanes(self.mask).flat_map(|lane| [self.addresses[lane] >> 5, (self.addresses[lane] + self.bytes - 1) >> 5])
        };
        let (low, high) = ends().fold((u64::MAX, 0), |(low, high), sector| (low.min(sector), high.max(sector)));
        if high - low < 64 {
            return ends().fold(0u64, |touched, sector| touched | 1 << (sector - low)).count_ones() as u64;
        }
        let mut touched: Vec<u64> = ends().collect();
        touched.sort_unstable();
        touched.dedup();
        touched.len() as u64
    }
}

impl<'j> Worker<'j> {
    /// Whether all addresses are multiples of the access's size; if not, that is reported.
    pub(super) fn is_aligned(&mut self, request: &Request) -> bool {
        let bytes = request.bytes;
        let off = request.lanes_where(|address| address & (bytes - 1) != 0);
        if off != 0 {
            let message = format!("an access of {bytes} bytes at an address that is no multiple of them");
            self.fault(Fault::Misaligned, request.place, off, Some(request.first(off)), message);
        }
        off == 0
    }
    /// The lanes of a mask whose bytes lie in the allocation of the first of them; `None`, and a report, where that lies in none.
    pub(super) fn group(&mut self, request: &Request, mask: u32, what: &str) -> Option<Group<'j>> {
        let (map, bytes) = (self.job.map, request.bytes);
        let first = request.first(mask);
        let hint = &mut self.hints[request.place.pc as usize];
        let found = match map.get(*hint as usize).filter(|allocation| allocation.contains(first, bytes)) {
            Some(allocation) => Some(allocation),
            None => map.find(first, bytes).map(|(at, allocation)| {
                *hint = at as u32;
                allocation
            }),
        };
        if let Some(allocation) = found {
            let mut inside = 0;
            for (lane, address) in request.addresses.iter().enumerate() {
                inside |= (allocation.contains(*address, bytes) as u32) << lane;
            }
            return Some(Group { allocation, mask: mask & inside });
        }
        let outside = mask & request.lanes_where(|address| map.find(address, bytes).is_none());
        if self.job.memory.was_freed(first) {
            let message = format!("a {what} of {bytes} bytes of memory that was freed");
            self.fault(Fault::UseAfterFree, request.place, outside, Some(first), message);
        } else {
            let message = match map.find(first, 0) {
                Some((_, near)) => {
                    format!(
                        "a {what} of {bytes} bytes at the end of an allocation of {} bytes at {:#x}",
                        near.len, near.base
                    )
                }
                None => format!("a {what} of {bytes} bytes outside of every allocation"),
            };
            self.fault(Fault::OutOfBounds, request.place, outside, Some(first), message);
        }
        None
    }
    /// Whether a request is inside a memory of so many bytes; if not, that is reported.
    pub(super) fn is_inside(&mut self, request: &Request, len: usize, space: &str) -> bool {
        let outside = request.lanes_where(|address| address.saturating_add(request.bytes) > len as u64);
        if outside != 0 {
            let message = format!("an access of {} bytes to {space} memory of {len} bytes", request.bytes);
            self.fault(Fault::OutOfBounds, request.place, outside, Some(request.first(outside)), message);
        }
        outside == 0
    }
    /// Whether a request to shared memory is inside; and what it costs, and whether it races.
    pub(super) fn enter_shared(&mut self, warp: &Warp, block: &mut BlockState, request: &Request, what: Use) -> bool {
        if !self.is_inside(request, block.shared.data.len(), "shared") {
            return false;
        }
        let (passes, ideal) = match request.is_dense() {
            true => (request.bytes.max(4) / 4, request.bytes.max(4) / 4),
            false => wavefronts(&request.addresses, request.mask, request.bytes),
        };
        self.counters.shared_requests += 1;
        self.counters.shared_wavefronts += passes;
        self.counters.shared_wavefronts_ideal += ideal;
        if !self.job.settings.check_races {
            return true;
        }
        let moment = block.moment(warp);
        if let Some((racing, with_write)) = block.shared.access(request, moment, what) {
            let does = if what == Use::Read { "read" } else { "write" };
            let did = if with_write { "wrote" } else { "read" };
            let message = format!("a {does} of shared memory that another thread {did} since the last barrier");
            self.fault(Fault::SharedRace, request.place, racing, Some(request.first(racing)), message);
        }
        true
    }
    /// Reports lanes that read what nothing wrote.
    #[inline]
    pub(super) fn check_written(&mut self, request: &Request, unwritten: u32, space: &str) {
        if unwritten != 0 && self.job.settings.check_initialised {
            let message = format!("a read of {space} memory that nothing wrote");
            self.fault(Fault::Uninitialised, request.place, unwritten, Some(request.first(unwritten)), message);
        }
    }
    /// Notes an access to global memory for the race checker, of the lanes of a group.
    pub(super) fn trace(
        &mut self,
        warp: &Warp,
        block: &mut BlockState,
        request: &Request,
        group: &Group,
        what: Use,
        order: Order,
    ) {
        let settings = self.job.settings;
        // What is read through the read-only path is not written by any thread of the launch, or that is reported below.
        if settings.check_races && settings.check_block_races && !order.read_only {
            self.trace_within(warp, block, request, group, what, order);
        }
        let Some(traces) = &mut self.traces else { return };
        if order.strong {
            for lane in lanes(group.mask) {
                traces.strong_access(&mut block.writer, request.addresses[lane], what, order);
            }
        }
        if what != Use::Read {
            Traces::note_write(&mut block.writer);
        }
        let how = How { what, strong: order.strong, read_only: order.read_only };
        let (mut racing, mut first) = (0, None);
        for lane in lanes(group.mask) {
            let conflict = traces.access(&block.writer, group.allocation, request.addresses[lane], request.bytes, how);
            if let Some(conflict) = conflict {
                racing |= 1 << lane;
                first.get_or_insert(conflict);
            }
        }
        let Some(conflict) = first else { return };
        let (fault, message) = match conflict {
            Conflict::ReadOnlyWritten => (
                Fault::ReadOnlyWritten,
                "memory that is read through the read-only path is written in the same launch".to_string(),
            ),
            Conflict::Race { with_write } => {
                let [does, did] = words(what, with_write);
                (Fault::GlobalRace, format!("a block {does} what another {did}, and nothing orders them"))
            }
        };
        self.fault(fault, request.place, racing, Some(request.first(racing)), message);
    }
    /// The same among the threads of a block.
    fn trace_within(
        &mut self,
        warp: &Warp,
        block: &mut BlockState,
        request: &Request,
        group: &Group,
        what: Use,
        order: Order,
    ) {
        block.fences += (order.acquire || order.release) as u32;
        let moment = block.global_moment(warp);
        let found = block.global_uses.access(request, group.mask, moment, what, order.strong);
        if let Some((racing, with_write)) = found {
            let [does, did] = words(what, with_write);
            let message = format!("a thread {does} what another of its block {did} since the last barrier");
            self.fault(Fault::GlobalRace, request.place, racing, Some(request.first(racing)), message);
        }
    }
    /// A fence, of the block alone or a wider one.
    pub(super) fn fence(&mut self, block: &mut BlockState, wide: bool) {
        block.fences += 1;
        if wide && let Some(traces) = &mut self.traces {
            traces.fence(&mut block.writer);
        }
    }
}

/// Whether an access is one of global memory that is counted: constants are not.
pub(super) fn is_counted(access: Access) -> bool {
    access.space == Space::Global
}

/// What an access to global memory does, and what the one that it races with did.
fn words(what: Use, with_write: bool) -> [&'static str; 2] {
    [if what == Use::Read { "reads" } else { "writes" }, if with_write { "wrote" } else { "read" }]
}
