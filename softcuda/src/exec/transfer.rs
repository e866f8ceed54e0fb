//! Loads, stores and copies of a warp, once their requests are found to be in order.

use super::block::BlockState;
use super::grid::Worker;
use super::program::{Access, Order};
use super::races::Use;
use super::registers::{Bank, NONE, Slot};
use super::request::{Request, is_counted};
use super::warp::Warp;
use super::{FULL, LANES, lanes};
use crate::ptx::syntax::{Space, Type};

/// A copy from global to shared memory that is under way.
#[derive(Debug)]
pub(super) struct PendingCopy {
    lane: u8,
    to: u32,
    bytes: u8,
    data: [u8; 16],
}

impl Worker<'_> {
    pub(super) fn load(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, access: Access, mask: u32) {
        let i = &self.code[pc as usize];
        let mut request = Request::new(block.place(warp.index, pc), i, warp, mask, access.bytes());
        for (space, part) in request.split(access.space).into_iter().filter(|(_, part)| *part != 0) {
            request.mask = part;
            if !self.is_aligned(&request) {
                return;
            }
            let access = Access { space, ..access };
            match space {
                Space::Shared => self.load_shared(warp, block, access, &request),
                Space::Local => self.load_local(warp, access, &request),
                Space::Param => self.load_parameter(warp, access, &request),
                _ => self.load_global(warp, block, access, &request),
            }
        }
    }
    fn load_shared(&mut self, warp: &mut Warp, block: &mut BlockState, access: Access, request: &Request) {
        if !self.enter_shared(warp, block, request, Use::Read) {
            return;
        }
        let (to, shared) = (self.code[request.place.pc as usize].to, &block.shared);
        let mut unwritten = 0;
        for lane in lanes(request.mask) {
            let range = request.at(lane)..request.at(lane) + access.bytes();
            unwritten |= (shared.written[range.clone()].contains(&0) as u32) << lane;
            read(&shared.data[range], access, &to, lane, warp);
        }
        self.check_written(request, unwritten, "shared");
    }
    fn load_local(&mut self, warp: &mut Warp, access: Access, request: &Request) {
        let size = self.job.program.local_bytes;
        self.counters.local_requests += 1;
        if !self.is_inside(request, size, "local") {
            return;
        }
        let to = self.code[request.place.pc as usize].to;
        let local = std::mem::take(&mut warp.local);
        let mut unwritten = 0;
        for lane in lanes(request.mask) {
            let at = lane * size + request.at(lane);
            unwritten |= (warp.local_written[at..at + access.bytes()].contains(&0) as u32) << lane;
            read(&local[at..at + access.bytes()], access, &to, lane, warp);
        }
        warp.local = local;
        self.check_written(request, unwritten, "local");
    }
    fn load_parameter(&mut self, warp: &mut Warp, access: Access, request: &Request) {
        let parameters = self.job.parameters;
        if self.is_inside(request, parameters.len(), "parameter") {
            let to = self.code[request.place.pc as usize].to;
            for lane in lanes(request.mask) {
                read(&parameters[request.at(lane)..][..access.bytes()], access, &to, lane, warp);
            }
        }
    }
    fn load_global(&mut self, warp: &mut Warp, block: &mut BlockState, access: Access, request: &Request) {
        let to = &self.code[request.place.pc as usize].to;
        if is_counted(access) {
            self.counters.load_requests += 1;
            self.counters.load_bytes += request.bytes * request.mask.count_ones() as u64;
            self.counters.load_sectors += request.sectors();
        }
        let is_dense = request.is_dense();
        let mut left = request.mask;
        while left != 0 {
            let Some(group) = self.group(request, left, "read") else { return };
            left &= !group.mask;
            let mut unwritten = 0;
            if is_dense && group.mask == FULL {
                let (data, written) = group.allocation.bytes(request.addresses[0], LANES * access.bytes());
                read_dense(data, access, to, warp);
                if self.job.settings.check_initialised && written.contains(&0) {
                    for (lane, written) in written.chunks_exact(access.bytes()).enumerate() {
                        unwritten |= (written.contains(&0) as u32) << lane;
                    }
                }
            } else {
                for lane in lanes(group.mask) {
                    let (data, written) = group.allocation.bytes(request.addresses[lane], access.bytes());
                    unwritten |= (written.contains(&0) as u32) << lane;
                    read(data, access, to, lane, warp);
                }
            }
            self.check_written(request, unwritten, "global");
            if is_counted(access) {
                self.trace(warp, block, request, &group, Use::Read, access.order);
            }
        }
    }

    pub(super) fn store(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, access: Access, mask: u32) {
        let i = &self.code[pc as usize];
        let mut request = Request::new(block.place(warp.index, pc), i, warp, mask, access.bytes());
        for (space, part) in request.split(access.space).into_iter().filter(|(_, part)| *part != 0) {
            request.mask = part;
            if !self.is_aligned(&request) {
                return;
            }
            match space {
                Space::Shared => self.store_shared(warp, block, access, &request),
                Space::Local => self.store_local(warp, access, &request),
                _ => self.store_global(warp, block, access, &request),
            }
        }
    }
    fn store_shared(&mut self, warp: &mut Warp, block: &mut BlockState, access: Access, request: &Request) {
        if !self.enter_shared(warp, block, request, Use::Write) {
            return;
        }
        let from = self.code[request.place.pc as usize].to;
        for lane in lanes(request.mask) {
            let range = request.at(lane)..request.at(lane) + access.bytes();
            write(&mut block.shared.data[range.clone()], access, &from, lane, warp);
            block.shared.written[range].fill(1);
        }
    }
    fn store_local(&mut self, warp: &mut Warp, access: Access, request: &Request) {
        let size = self.job.program.local_bytes;
        self.counters.local_requests += 1;
        if !self.is_inside(request, size, "local") {
            return;
        }
        let from = self.code[request.place.pc as usize].to;
        let mut local = std::mem::take(&mut warp.local);
        for lane in lanes(request.mask) {
            let at = lane * size + request.at(lane);
            write(&mut local[at..at + access.bytes()], access, &from, lane, warp);
            warp.local_written[at..at + access.bytes()].fill(1);
        }
        warp.local = local;
    }
    fn store_global(&mut self, warp: &mut Warp, block: &mut BlockState, access: Access, request: &Request) {
        let from = &self.code[request.place.pc as usize].to;
        self.counters.store_requests += 1;
        self.counters.store_bytes += request.bytes * request.mask.count_ones() as u64;
        self.counters.store_sectors += request.sectors();
        let is_dense = request.is_dense();
        let mut left = request.mask;
        while left != 0 {
            let Some(group) = self.group(request, left, "write") else { return };
            left &= !group.mask;
            if is_dense && group.mask == FULL {
                group.allocation.change(request.addresses[0], LANES * access.bytes(), |data, written| {
                    for (lane, data) in data.chunks_exact_mut(access.bytes()).enumerate() {
                        write(data, access, from, lane, warp);
                    }
                    written.fill(1);
                });
            } else {
                for lane in lanes(group.mask) {
                    group.allocation.change(request.addresses[lane], access.bytes(), |data, written| {
                        write(data, access, from, lane, warp);
                        written.fill(1);
                    });
                }
            }
            self.trace(warp, block, request, &group, Use::Write, access.order);
        }
    }

    /// Starts a copy from global to shared memory: the bytes are read now and arrive when they are waited for.
    pub(super) fn copy_async(
        &mut self,
        warp: &mut Warp,
        block: &mut BlockState,
        pc: u32,
        bytes: u8,
        offset: i32,
        mask: u32,
    ) {
        let i = &self.code[pc as usize];
        let place = block.place(warp.index, pc);
        let from = Request::new(place, i, warp, mask, bytes as usize);
        let mut to = Request { place, addresses: [0; LANES], mask, bytes: bytes as u64 };
        for (address, base) in to.addresses.iter_mut().zip(&warp.registers.words[i.from[1] as usize]) {
            *address = base.wrapping_add_signed(offset) as u64;
        }
        let fits =
            self.is_aligned(&from) && self.is_aligned(&to) && self.is_inside(&to, block.shared.data.len(), "shared");
        if !fits {
            return;
        }
        let mut pending = Vec::new();
        for lane in lanes(mask) {
            let len = match i.from[2] {
                NONE => bytes,
                register => warp.registers.words[register as usize][lane].min(bytes as u32) as u8,
            } as usize;
            let mut copy = PendingCopy { lane: lane as u8, to: to.addresses[lane] as u32, bytes, data: [0; 16] };
            if len > 0 {
                let one = Request { place, addresses: from.addresses, mask: 1 << lane, bytes: len as u64 };
                let Some(group) = self.group(&one, one.mask, "read") else { return };
                let (data, written) = group.allocation.bytes(one.addresses[lane], len);
                copy.data[..len].copy_from_slice(data);
                self.check_written(&one, (written.contains(&0) as u32) << lane, "global");
                self.trace(warp, block, &one, &group, Use::Read, Order::default());
            }
            // Until the copy arrives, nobody may read what it overwrites.
            block.shared.written[to.at(lane)..][..bytes as usize].fill(0);
            pending.push(copy);
        }
        self.counters.load_requests += 1;
        self.counters.load_bytes += from.bytes * mask.count_ones() as u64;
        self.counters.load_sectors += from.sectors();
        if warp.copies.is_empty() {
            warp.copies.push(Vec::new());
        }
        if let Some(group) = warp.copies.last_mut() {
            group.extend(pending);
        }
    }
    /// Lets the copies of all but the last `keep` committed groups arrive; with none to keep, those that are not committed too.
    pub(super) fn finish_copies(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, keep: usize, mask: u32) {
        let mut groups = std::mem::take(&mut warp.copies);
        // The last list is of copies that are not committed.
        let arriving = if keep == 0 { groups.len() } else { groups.len().saturating_sub(1 + keep) };
        let place = block.place(warp.index, pc);
        for group in &mut groups[..arriving] {
            for copy in group.iter().filter(|copy| mask >> copy.lane & 1 == 1) {
                let len = copy.bytes as usize;
                let mut to = Request { place, addresses: [0; LANES], mask: 1 << copy.lane, bytes: len as u64 };
                to.addresses[copy.lane as usize] = copy.to as u64;
                if self.enter_shared(warp, block, &to, Use::Write) {
                    block.shared.data[copy.to as usize..][..len].copy_from_slice(&copy.data[..len]);
                    block.shared.written[copy.to as usize..][..len].fill(1);
                }
            }
            group.retain(|copy| mask >> copy.lane & 1 == 0);
        }
        let ended = groups.iter().take_while(|group| group.is_empty()).count();
        groups.drain(..ended.min(groups.len().saturating_sub(1)));
        warp.copies = groups;
    }
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
/// The bytes of all lanes, one after the other. Words, the most frequent, go register by register.
fn read_dense(bytes: &[u8], access: Access, to: &[u16; 4], warp: &mut Warp) {
    let count = access.count as usize;
    if access.bank != Bank::Word || access.size() != 4 {
        for (lane, bytes) in bytes.chunks_exact(access.bytes()).enumerate() {
            read(bytes, access, to, lane, warp);
        }
        return;
    }
    for (part, register) in to.iter().take(count).enumerate().filter(|(_, register)| **register != NONE) {
        let values = bytes.as_chunks::<4>().0.iter().skip(part).step_by(count);
        for (word, bytes) in warp.registers.words[*register as usize].iter_mut().zip(values) {
            *word = u32::from_le_bytes(*bytes);
        }
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
