//! Loads, stores and copies: where an address leads, whether the access is allowed, what it costs, and the bytes themselves.

use super::block::BlockState;
use super::grid::Worker;
use super::program::{Access, Instruction, Order};
use super::races::{Conflict, How, Traces, Use};
use super::registers::{Bank, NONE, Slot};
use super::shared::{LOCAL_WINDOW, Moment, SHARED_WINDOW, wavefronts};
use super::warp::Warp;
use super::{FULL, LANES, lanes};
use crate::control::Fault;
use crate::memory::Allocation;
use crate::ptx::syntax::{Space, Type};

/// A copy from global to shared memory that is under way.
#[derive(Debug)]
pub(super) struct PendingCopy {
    lane: u8,
    to: u32,
    bytes: u8,
    data: [u8; 16],
}

/// Lanes of an access that go to one allocation.
struct Group<'m> {
    allocation: &'m Allocation,
    mask: u32,
}

/// Bits of a value of a type in a register: signed ones are extended.
#[inline(always)]
fn extend(value: u64, ty: Type) -> u64 {
    match ty {
        Type::S8 => value as i8 as u64,
        Type::S16 => value as i16 as u64,
        Type::S32 => value as i32 as u64,
        _ => value,
    }
}

/// Whether the lanes of a full warp lie one after the other.
#[inline(always)]
fn is_dense(addresses: &[u64; LANES], bytes: u64) -> bool {
    let mut off = 0;
    for (lane, address) in addresses.iter().enumerate() {
        off |= address.wrapping_sub(addresses[0]) ^ (lane as u64 * bytes);
    }
    off == 0
}

/// Distinct sectors of 32 bytes that the lanes of a mask touch.
fn sectors(addresses: &[u64; LANES], mask: u32, bytes: u64) -> u64 {
    let (mut low, mut high) = (u64::MAX, 0);
    for lane in lanes(mask) {
        low = low.min(addresses[lane]);
        high = high.max(addresses[lane] + bytes - 1);
    }
    let first = low >> 5;
    if (high >> 5) - first < 64 {
        let touched = lanes(mask).fold(0u64, |bits, lane| {
            bits | 1 << ((addresses[lane] >> 5) - first) | 1 << (((addresses[lane] + bytes - 1) >> 5) - first)
        });
        return touched.count_ones() as u64;
    }
    let mut touched: Vec<u64> =
        lanes(mask).flat_map(|lane| [addresses[lane] >> 5, (addresses[lane] + bytes - 1) >> 5]).collect();
    touched.sort_unstable();
    touched.dedup();
    touched.len() as u64
}

/// How an address of a generic access is to be read.
fn space_of(address: u64) -> (Space, u64) {
    match address {
        0..SHARED_WINDOW => (Space::Global, 0),
        SHARED_WINDOW..LOCAL_WINDOW => (Space::Shared, SHARED_WINDOW),
        _ => (Space::Local, LOCAL_WINDOW),
    }
}

impl Worker<'_> {
    #[inline(always)]
    pub(super) fn addresses(&self, warp: &Warp, i: &Instruction) -> [u64; LANES] {
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
        addresses
    }
    /// The parts of a mask whose addresses lie in one space, moved to addresses of that space. Parts may be empty.
    #[inline]
    pub(super) fn spaces(space: Space, addresses: &mut [u64; LANES], mask: u32) -> [(Space, u32); 3] {
        let mut parts = [(Space::Global, 0), (Space::Shared, 0), (Space::Local, 0)];
        if space != Space::Generic {
            parts[0] = (space, mask);
            return parts;
        }
        for lane in lanes(mask) {
            let (space, window) = space_of(addresses[lane]);
            addresses[lane] -= window;
            for part in parts.iter_mut().filter(|part| part.0 == space) {
                part.1 |= 1 << lane;
            }
        }
        parts
    }
    /// Whether all addresses are multiples of a size; if not, that is reported.
    pub(super) fn is_aligned(
        &mut self,
        warp: u32,
        block: &BlockState,
        pc: u32,
        addresses: &[u64; LANES],
        mask: u32,
        bytes: u64,
    ) -> bool {
        let off =
            lanes(mask).filter(|lane| addresses[*lane] & (bytes - 1) != 0).fold(0u32, |off, lane| off | 1 << lane);
        if off != 0 {
            let address = addresses[Self::first_lane(off)];
            let message = format!("an access of {bytes} bytes at an address that is no multiple of them");
            self.fault(Fault::Misaligned, block, warp, pc, off, Some(address), message);
        }
        off == 0
    }

    pub(super) fn load(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, access: Access, mask: u32) {
        let i = &self.code[pc as usize];
        let mut addresses = self.addresses(warp, i);
        if access.space == Space::Param {
            return self.load_parameter(warp, block, pc, access, &addresses, mask);
        }
        for (space, part) in Self::spaces(access.space, &mut addresses, mask).into_iter().filter(|(_, part)| *part != 0)
        {
            self.load_from(warp, block, pc, Access { space, ..access }, &addresses, part);
        }
    }
    fn load_from(
        &mut self,
        warp: &mut Warp,
        block: &mut BlockState,
        pc: u32,
        access: Access,
        addresses: &[u64; LANES],
        mask: u32,
    ) {
        let bytes = access.bytes() as u64;
        if !self.is_aligned(warp.index, block, pc, addresses, mask, bytes) {
            return;
        }
        match access.space {
            Space::Shared => {
                if !self.enter_shared(warp, block, pc, addresses, mask, bytes, Use::Read) {
                    return;
                }
                let to = self.code[pc as usize].to;
                let shared = &block.shared;
                let mut unwritten = 0;
                for lane in lanes(mask) {
                    let at = addresses[lane] as usize;
                    unwritten |= (shared.written[at..at + bytes as usize].contains(&0) as u32) << lane;
                    read(&shared.data[at..at + bytes as usize], access, &to, lane, warp);
                }
                self.check_written(warp.index, block, pc, unwritten, addresses, "shared");
            }
            Space::Local => {
                if !self.enter_local(warp, block, pc, addresses, mask, bytes) {
                    return;
                }
                let to = self.code[pc as usize].to;
                let size = self.job.program.local_bytes;
                let mut unwritten = 0;
                let local = std::mem::take(&mut warp.local);
                for lane in lanes(mask) {
                    let at = lane * size + addresses[lane] as usize;
                    unwritten |= (warp.local_written[at..at + bytes as usize].contains(&0) as u32) << lane;
                    read(&local[at..at + bytes as usize], access, &to, lane, warp);
                }
                warp.local = local;
                self.check_written(warp.index, block, pc, unwritten, addresses, "local");
            }
            _ => self.load_global(warp, block, pc, access, addresses, mask),
        }
    }
    fn load_global(
        &mut self,
        warp: &mut Warp,
        block: &mut BlockState,
        pc: u32,
        access: Access,
        addresses: &[u64; LANES],
        mask: u32,
    ) {
        let i = &self.code[pc as usize];
        let bytes = access.bytes() as u64;
        let is_dense = mask == FULL && is_dense(addresses, bytes);
        if access.space == Space::Global {
            self.counters.load_requests += 1;
            self.counters.load_bytes += bytes * mask.count_ones() as u64;
            self.counters.load_sectors += match is_dense {
                true => ((addresses[LANES - 1] + bytes - 1) >> 5) - (addresses[0] >> 5) + 1,
                false => sectors(addresses, mask, bytes),
            };
        }
        let mut left = mask;
        while left != 0 {
            let Some(group) = self.group(warp.index, block, pc, addresses, left, bytes, "read") else { return };
            left &= !group.mask;
            let Group { allocation, mask } = group;
            if is_dense && mask == FULL {
                let (data, written) = allocation.at(addresses[0]);
                let len = LANES * bytes as usize;
                // SAFETY: `group` found all lanes inside the allocation, and dense lanes are these bytes.
                let (data, written) =
                    unsafe { (std::slice::from_raw_parts(data, len), std::slice::from_raw_parts(written, len)) };
                if access.bank == Bank::Word && access.size() == 4 {
                    for (part, register) in
                        i.to.iter().enumerate().take(access.count as usize).filter(|(_, register)| **register != NONE)
                    {
                        let words = &mut warp.registers.words[*register as usize];
                        for (word, bytes) in words
                            .iter_mut()
                            .zip(data.as_chunks::<4>().0.iter().skip(part).step_by(access.count as usize))
                        {
                            *word = u32::from_le_bytes(*bytes);
                        }
                    }
                } else {
                    for (lane, bytes) in data.chunks_exact(bytes as usize).enumerate() {
                        read(bytes, access, &i.to, lane, warp);
                    }
                }
                if self.job.settings.check_initialised && written.contains(&0) {
                    let unwritten = written.chunks_exact(bytes as usize).enumerate();
                    let unwritten =
                        unwritten.fold(0u32, |mask, (lane, bytes)| mask | (bytes.contains(&0) as u32) << lane);
                    self.check_written(warp.index, block, pc, unwritten, addresses, "global");
                }
            } else {
                let mut unwritten = 0;
                for lane in lanes(mask) {
                    let (data, written) = allocation.at(addresses[lane]);
                    // SAFETY: `group` found the lane inside the allocation.
                    let (data, written) = unsafe {
                        (
                            std::slice::from_raw_parts(data, bytes as usize),
                            std::slice::from_raw_parts(written, bytes as usize),
                        )
                    };
                    unwritten |= (written.contains(&0) as u32) << lane;
                    read(data, access, &i.to, lane, warp);
                }
                self.check_written(warp.index, block, pc, unwritten, addresses, "global");
            }
            if access.space == Space::Global {
                self.trace(warp.index, block, pc, allocation, addresses, mask, bytes, Use::Read, access.order);
            }
        }
    }
    fn load_parameter(
        &mut self,
        warp: &mut Warp,
        block: &BlockState,
        pc: u32,
        access: Access,
        addresses: &[u64; LANES],
        mask: u32,
    ) {
        let to = self.code[pc as usize].to;
        let parameters = self.job.parameters;
        for lane in lanes(mask) {
            let at = addresses[lane] as usize;
            match parameters.get(at..at.saturating_add(access.bytes())) {
                Some(bytes) => read(bytes, access, &to, lane, warp),
                None => {
                    let message = format!("a read of parameters of {} bytes in all", parameters.len());
                    return self.fault(Fault::OutOfBounds, block, warp.index, pc, 1 << lane, Some(at as u64), message);
                }
            }
        }
    }

    pub(super) fn store(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, access: Access, mask: u32) {
        let i = &self.code[pc as usize];
        let mut addresses = self.addresses(warp, i);
        for (space, part) in Self::spaces(access.space, &mut addresses, mask).into_iter().filter(|(_, part)| *part != 0)
        {
            self.store_to(warp, block, pc, Access { space, ..access }, &addresses, part);
        }
    }
    fn store_to(
        &mut self,
        warp: &mut Warp,
        block: &mut BlockState,
        pc: u32,
        access: Access,
        addresses: &[u64; LANES],
        mask: u32,
    ) {
        let from = self.code[pc as usize].to;
        let bytes = access.bytes();
        if !self.is_aligned(warp.index, block, pc, addresses, mask, bytes as u64) {
            return;
        }
        match access.space {
            Space::Shared => {
                if !self.enter_shared(warp, block, pc, addresses, mask, bytes as u64, Use::Write) {
                    return;
                }
                let shared = &mut block.shared;
                for lane in lanes(mask) {
                    let at = addresses[lane] as usize;
                    write(&mut shared.data[at..at + bytes], access, &from, lane, warp);
                    shared.written[at..at + bytes].fill(1);
                }
            }
            Space::Local | Space::Param => {
                if !self.enter_local(warp, block, pc, addresses, mask, bytes as u64) {
                    return;
                }
                let size = self.job.program.local_bytes;
                let mut local = std::mem::take(&mut warp.local);
                for lane in lanes(mask) {
                    let at = lane * size + addresses[lane] as usize;
                    write(&mut local[at..at + bytes], access, &from, lane, warp);
                    warp.local_written[at..at + bytes].fill(1);
                }
                warp.local = local;
            }
            _ => self.store_global(warp, block, pc, access, addresses, mask),
        }
    }
    fn store_global(
        &mut self,
        warp: &mut Warp,
        block: &mut BlockState,
        pc: u32,
        access: Access,
        addresses: &[u64; LANES],
        mask: u32,
    ) {
        let from = self.code[pc as usize].to;
        let bytes = access.bytes() as u64;
        self.counters.store_requests += 1;
        self.counters.store_bytes += bytes * mask.count_ones() as u64;
        let is_dense = mask == FULL && is_dense(addresses, bytes);
        self.counters.store_sectors += match is_dense {
            true => ((addresses[LANES - 1] + bytes - 1) >> 5) - (addresses[0] >> 5) + 1,
            false => sectors(addresses, mask, bytes),
        };
        let mut left = mask;
        while left != 0 {
            let Some(Group { allocation, mask }) = self.group(warp.index, block, pc, addresses, left, bytes, "write")
            else {
                return;
            };
            left &= !mask;
            if is_dense && mask == FULL {
                let (data, written) = allocation.at(addresses[0]);
                let len = LANES * bytes as usize;
                // SAFETY: `group` found all lanes inside the allocation, and dense lanes are these bytes; the slices are gone before
                // anything else touches them.
                let (data, written) = unsafe {
                    (std::slice::from_raw_parts_mut(data, len), std::slice::from_raw_parts_mut(written, len))
                };
                for (lane, bytes) in data.chunks_exact_mut(bytes as usize).enumerate() {
                    write(bytes, access, &from, lane, warp);
                }
                written.fill(1);
            } else {
                for lane in lanes(mask) {
                    let (data, written) = allocation.at(addresses[lane]);
                    // SAFETY: `group` found the lane inside the allocation; the slices are gone before anything else touches them.
                    let (data, written) = unsafe {
                        (
                            std::slice::from_raw_parts_mut(data, bytes as usize),
                            std::slice::from_raw_parts_mut(written, bytes as usize),
                        )
                    };
                    write(data, access, &from, lane, warp);
                    written.fill(1);
                }
            }
            self.trace(warp.index, block, pc, allocation, addresses, mask, bytes, Use::Write, access.order);
        }
    }

    /// The lanes whose bytes lie in the allocation of the first of them; `None`, and a report, where that lies in none.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of an access")]
    fn group<'s>(
        &mut self,
        warp: u32,
        block: &BlockState,
        pc: u32,
        addresses: &[u64; LANES],
        mask: u32,
        bytes: u64,
        what: &str,
    ) -> Option<Group<'s>>
    where
        Self: 's,
    {
        let map = self.job.map;
        let first = addresses[Self::first_lane(mask)];
        let hint = &mut self.hints[pc as usize];
        let found = match map.get(*hint as usize).filter(|allocation| allocation.contains(first, bytes)) {
            Some(allocation) => Some(allocation),
            None => map.find(first, bytes).map(|(at, allocation)| {
                *hint = at as u32;
                allocation
            }),
        };
        if let Some(allocation) = found {
            let mut inside = 0;
            for (lane, address) in addresses.iter().enumerate() {
                inside |= (allocation.contains(*address, bytes) as u32) << lane;
            }
            return Some(Group { allocation, mask: mask & inside });
        }
        let outside = lanes(mask)
            .filter(|lane| map.find(addresses[*lane], bytes).is_none())
            .fold(0u32, |mask, lane| mask | 1 << lane);
        let nearest = map.find(first, 0).map(|(_, allocation)| allocation);
        if self.job.memory.was_freed(first) {
            let message = format!("a {what} of {bytes} bytes of memory that was freed");
            self.fault(Fault::UseAfterFree, block, warp, pc, outside, Some(first), message);
        } else {
            let message = match nearest {
                Some(near) => format!(
                    "a {what} of {bytes} bytes at the end of an allocation of {} bytes at {:#x}",
                    near.len, near.base
                ),
                None => format!("a {what} of {bytes} bytes outside of every allocation"),
            };
            self.fault(Fault::OutOfBounds, block, warp, pc, outside, Some(first), message);
        }
        None
    }
    /// The allocation of one lane's bytes; `None`, and a report, where there is none.
    pub(super) fn allocation<'s>(
        &mut self,
        warp: u32,
        block: &BlockState,
        pc: u32,
        addresses: &[u64; LANES],
        lane: usize,
        bytes: u64,
    ) -> Option<&'s Allocation>
    where
        Self: 's,
    {
        self.group(warp, block, pc, addresses, 1 << lane, bytes, "use").map(|group| group.allocation)
    }
    /// Whether an access to shared memory is inside; what it costs, and whether it races.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of an access")]
    pub(super) fn enter_shared(
        &mut self,
        warp: &Warp,
        block: &mut BlockState,
        pc: u32,
        addresses: &[u64; LANES],
        mask: u32,
        bytes: u64,
        what: Use,
    ) -> bool {
        let len = block.shared.data.len() as u64;
        let outside = lanes(mask)
            .filter(|lane| addresses[*lane].saturating_add(bytes) > len)
            .fold(0u32, |mask, lane| mask | 1 << lane);
        if outside != 0 {
            let message = format!("an access of {bytes} bytes to shared memory of {len} bytes");
            let address = addresses[Self::first_lane(outside)];
            self.fault(Fault::OutOfBounds, block, warp.index, pc, outside, Some(address), message);
            return false;
        }
        let (passes, ideal) = match mask == FULL && is_dense(addresses, bytes) {
            true => (LANES as u64 * bytes.max(4) / 128, LANES as u64 * bytes.max(4) / 128),
            false => wavefronts(addresses, mask, bytes),
        };
        self.counters.shared_requests += 1;
        self.counters.shared_wavefronts += passes;
        self.counters.shared_wavefronts_ideal += ideal;
        if self.job.settings.check_races {
            let moment = Moment { block_epoch: block.epoch, warp_epoch: warp.epoch, warp: warp.index as u16 };
            let race = block.shared.access(addresses, mask, bytes, moment, what != Use::Read, what == Use::Atomic);
            if let Some((racing, with_write)) = race {
                let message = format!(
                    "a {} of shared memory that another thread {} since the last barrier",
                    if what == Use::Read { "read" } else { "write" },
                    if with_write { "wrote" } else { "read" }
                );
                let address = addresses[Self::first_lane(racing)];
                self.fault(Fault::SharedRace, block, warp.index, pc, racing, Some(address), message);
            }
        }
        true
    }
    fn enter_local(
        &mut self,
        warp: &Warp,
        block: &BlockState,
        pc: u32,
        addresses: &[u64; LANES],
        mask: u32,
        bytes: u64,
    ) -> bool {
        let len = self.job.program.local_bytes as u64;
        let outside = lanes(mask)
            .filter(|lane| addresses[*lane].saturating_add(bytes) > len)
            .fold(0u32, |mask, lane| mask | 1 << lane);
        self.counters.local_requests += 1;
        if outside != 0 {
            let message = format!("an access of {bytes} bytes to local memory of {len} bytes");
            let address = addresses[Self::first_lane(outside)];
            self.fault(Fault::OutOfBounds, block, warp.index, pc, outside, Some(address), message);
        }
        outside == 0
    }
    pub(super) fn check_written(
        &mut self,
        warp: u32,
        block: &BlockState,
        pc: u32,
        unwritten: u32,
        addresses: &[u64; LANES],
        space: &str,
    ) {
        if unwritten != 0 && self.job.settings.check_initialised {
            let address = addresses[Self::first_lane(unwritten)];
            let message = format!("a read of {space} memory that nothing wrote");
            self.fault(Fault::Uninitialised, block, warp, pc, unwritten, Some(address), message);
        }
    }
    /// Notes an access to global memory for the race checker.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of an access")]
    pub(super) fn trace(
        &mut self,
        warp: u32,
        block: &mut BlockState,
        pc: u32,
        allocation: &Allocation,
        addresses: &[u64; LANES],
        mask: u32,
        bytes: u64,
        what: Use,
        order: Order,
    ) {
        let Some(traces) = &mut self.traces else { return };
        if order.strong {
            for lane in lanes(mask) {
                traces.strong_access(&mut block.writer, addresses[lane], what, order.acquire, order.release);
            }
        }
        if what != Use::Read {
            Traces::note_write(&mut block.writer);
        }
        let how = How { what, strong: order.strong, read_only: order.read_only };
        let (mut racing, mut first) = (0, None);
        for lane in lanes(mask) {
            let conflict = traces.access(&block.writer, allocation, addresses[lane], bytes, how);
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
                let verb = if what == Use::Read { "reads" } else { "writes" };
                let other = if with_write { "wrote" } else { "read" };
                (Fault::GlobalRace, format!("a block {verb} what another {other}, and nothing orders them"))
            }
        };
        let address = addresses[Self::first_lane(racing)];
        self.fault(fault, block, warp, pc, racing, Some(address), message);
    }
    pub(super) fn fence(&mut self, block: &mut BlockState) {
        if let Some(traces) = &mut self.traces {
            traces.fence(&mut block.writer);
        }
    }

    /// Starts a copy from global to shared memory: the bytes are read now and arrive when they are waited for.
    pub(super) fn copy_async(
        &mut self,
        warp: &mut Warp,
        block: &mut BlockState,
        pc: u32,
        bytes: usize,
        offset: i32,
        mask: u32,
    ) {
        let i = &self.code[pc as usize];
        let addresses = self.addresses(warp, i);
        let to: [u64; LANES] =
            warp.registers.words[i.from[1] as usize].map(|base| base.wrapping_add_signed(offset) as u64);
        let wide = bytes as u64;
        if !self.is_aligned(warp.index, block, pc, &addresses, mask, wide)
            || !self.is_aligned(warp.index, block, pc, &to, mask, wide)
        {
            return;
        }
        let len = block.shared.data.len() as u64;
        let outside = lanes(mask).filter(|lane| to[*lane] + wide > len).fold(0u32, |mask, lane| mask | 1 << lane);
        if outside != 0 {
            let message = format!("a copy of {bytes} bytes to shared memory of {len} bytes");
            let address = to[Self::first_lane(outside)];
            return self.fault(Fault::OutOfBounds, block, warp.index, pc, outside, Some(address), message);
        }
        if warp.copies.is_empty() {
            warp.copies.push(Vec::new());
        }
        let taken = |lane: usize| match i.from[2] {
            NONE => bytes,
            register => (warp.registers.words[register as usize][lane] as usize).min(bytes),
        };
        let reading = lanes(mask).filter(|lane| taken(*lane) > 0).fold(0u32, |mask, lane| mask | 1 << lane);
        let mut pending: Vec<PendingCopy> = lanes(mask & !reading)
            .map(|lane| PendingCopy { lane: lane as u8, to: to[lane] as u32, bytes: bytes as u8, data: [0; 16] })
            .collect();
        let mut left = reading;
        while left != 0 {
            let lane = Self::first_lane(left);
            let count = taken(lane);
            let Some(group) = self.group(warp.index, block, pc, &addresses, 1 << lane, count as u64, "read") else {
                return;
            };
            left &= !(1 << lane);
            let (data, written) = group.allocation.at(addresses[lane]);
            // SAFETY: `group` found these bytes inside the allocation.
            let (data, written) =
                unsafe { (std::slice::from_raw_parts(data, count), std::slice::from_raw_parts(written, count)) };
            let mut copy = PendingCopy { lane: lane as u8, to: to[lane] as u32, bytes: bytes as u8, data: [0; 16] };
            copy.data[..count].copy_from_slice(data);
            let unwritten = (written.contains(&0) as u32) << lane;
            self.check_written(warp.index, block, pc, unwritten, &addresses, "global");
            self.trace(
                warp.index,
                block,
                pc,
                group.allocation,
                &addresses,
                1 << lane,
                wide,
                Use::Read,
                Order::default(),
            );
            // Until then nobody may read what is to be overwritten.
            block.shared.written[copy.to as usize..copy.to as usize + bytes].fill(0);
            pending.push(copy);
        }
        if reading != 0 {
            self.counters.load_requests += 1;
            self.counters.load_bytes += wide * reading.count_ones() as u64;
            self.counters.load_sectors += sectors(&addresses, reading, wide);
        }
        if let Some(group) = warp.copies.last_mut() {
            group.extend(pending);
        }
    }
    /// Lets the copies of all but the last committed groups arrive.
    pub(super) fn finish_copies(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, keep: usize, mask: u32) {
        // The last list is of copies that are not committed; waiting for all takes those too.
        let groups = if keep == 0 { warp.copies.len() } else { warp.copies.len().saturating_sub(1 + keep) };
        let mut copies = std::mem::take(&mut warp.copies);
        for group in &mut copies[..groups] {
            for copy in group.iter().filter(|copy| mask >> copy.lane & 1 == 1) {
                let mut to = [0; LANES];
                to[copy.lane as usize] = copy.to as u64;
                if self.enter_shared(warp, block, pc, &to, 1 << copy.lane, copy.bytes as u64, Use::Write) {
                    let range = copy.to as usize..copy.to as usize + copy.bytes as usize;
                    block.shared.data[range.clone()].copy_from_slice(&copy.data[..copy.bytes as usize]);
                    block.shared.written[range].fill(1);
                }
            }
            group.retain(|copy| mask >> copy.lane & 1 == 0);
        }
        copies.drain(..copies.iter().take_while(|group| group.is_empty()).count().min(copies.len().saturating_sub(1)));
        warp.copies = copies;
    }
}

/// Bytes of memory to a lane's registers.
#[inline(always)]
fn read(bytes: &[u8], access: Access, to: &[u16; 4], lane: usize, warp: &mut Warp) {
    #[inline(always)]
    fn sized<const SIZE: usize>(bytes: &[u8], access: Access, to: &[u16; 4], lane: usize, warp: &mut Warp) {
        for (part, register) in bytes.as_chunks::<SIZE>().0.iter().zip(to) {
            let mut value = [0; 8];
            value[..SIZE].copy_from_slice(part);
            let value = extend(u64::from_le_bytes(value), access.ty);
            warp.registers.set(Slot { bank: access.bank, index: *register }, lane, value);
        }
    }
    match access.size() {
        1 => sized::<1>(bytes, access, to, lane, warp),
        2 => sized::<2>(bytes, access, to, lane, warp),
        4 => sized::<4>(bytes, access, to, lane, warp),
        _ => sized::<8>(bytes, access, to, lane, warp),
    }
}
/// A lane's registers to bytes of memory.
#[inline(always)]
fn write(bytes: &mut [u8], access: Access, from: &[u16; 4], lane: usize, warp: &Warp) {
    #[inline(always)]
    fn sized<const SIZE: usize>(bytes: &mut [u8], access: Access, from: &[u16; 4], lane: usize, warp: &Warp) {
        for (part, register) in bytes.as_chunks_mut::<SIZE>().0.iter_mut().zip(from) {
            let value = warp.registers.get(Slot { bank: access.bank, index: *register }, lane).to_le_bytes();
            part.copy_from_slice(&value[..SIZE]);
        }
    }
    match access.size() {
        1 => sized::<1>(bytes, access, from, lane, warp),
        2 => sized::<2>(bytes, access, from, lane, warp),
        4 => sized::<4>(bytes, access, from, lane, warp),
        _ => sized::<8>(bytes, access, from, lane, warp),
    }
}
