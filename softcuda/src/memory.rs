//! Device memory: addresses of its own, exact bounds, and a shadow that knows which bytes were written and by whom.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};

/// The first address of device memory.
const BASE: u64 = 0x7_0000_0000;
/// What `cuMemAlloc` aligns to.
const ALIGNMENT: u64 = 512;
/// With this variable, memory has the addresses that the host has for it, so that a program's own code can stand in for kernels that
/// are not there. Then addresses are used again, and what the program writes itself is not known to have been written.
const HOST_ADDRESSES_VARIABLE: &str = "SOFTCUDA_HOST_ADDRESSES";
/// Bytes between two allocations that belong to none.
const RED_ZONE: u64 = 4096;
/// What memory holds before anything writes to it.
const GARBAGE: u8 = 0xA5;
/// The context of memory that is mapped, which belongs to none.
pub(crate) const NO_CONTEXT: usize = 0;
/// What reservations, physical memory and mappings are multiples of.
pub(crate) const GRANULARITY: u64 = 2 << 20;
/// Freed ranges that are remembered, to tell a use after free from a wrong address.
const FREED_KEPT: usize = 4096;

/// A block of device memory. Kernels of several threads may use it at the same time, so its bytes are behind raw pointers.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) base: u64,
    pub(crate) len: u64,
    /// The context that made it; [`NO_CONTEXT`] of a mapping.
    pub(crate) context: usize,
    /// Whether any context and the host may use it; here the host does so by copies alone.
    pub(crate) managed: bool,
    data: *mut u8,
    /// One byte for each byte of data: whether it was written.
    written: *mut u8,
    /// Who wrote and who read each granule of the race checker, from the first launch on that needs to know.
    cells: OnceLock<Cells>,
}

/// The race checker's memory: a cell for each four bytes.
#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) writes: Box<[AtomicU32]>,
    pub(crate) reads: Box<[AtomicU32]>,
}

// SAFETY: the pointers are to memory that the allocation owns until it is dropped. What races on the bytes themselves is a kernel's
// or a program's error, as on a device, and changes no address or size.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Allocation {
    fn layout(len: u64) -> Option<Layout> {
        Layout::from_size_align(usize::try_from(len).ok()?.max(1), ALIGNMENT as usize).ok()
    }
    fn new(base: u64, len: u64, context: usize, managed: bool) -> Option<Allocation> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout's size is not zero.
        let (data, written) = unsafe { (alloc(layout), alloc_zeroed(layout)) };
        let allocation = Allocation { base, len, context, managed, data, written, cells: OnceLock::new() };
        if data.is_null() || written.is_null() {
            return None;
        }
        // SAFETY: `data` has `len` bytes.
        unsafe { data.write_bytes(GARBAGE, len as usize) };
        Some(allocation)
    }
    pub(crate) fn end(&self) -> u64 {
        self.base + self.len
    }
    /// Whether `len` bytes from an address on lie inside.
    #[inline]
    pub(crate) fn contains(&self, address: u64, len: u64) -> bool {
        address >= self.base && len <= self.len && address - self.base <= self.len - len
    }
    /// The pointers to the data and the written marks of an address inside.
    #[inline]
    fn at(&self, address: u64) -> (*mut u8, *mut u8) {
        let offset = (address - self.base) as usize;
        (self.data.wrapping_add(offset), self.written.wrapping_add(offset))
    }
    /// Bytes from an address on, and their written marks.
    ///
    /// # Panics
    /// Where they do not lie inside.
    #[inline]
    pub(crate) fn bytes(&self, address: u64, len: usize) -> (&[u8], &[u8]) {
        assert!(self.contains(address, len as u64));
        let (data, written) = self.at(address);
        // SAFETY: so many bytes lie inside, and the allocation outlives the borrow.
        unsafe { (std::slice::from_raw_parts(data, len), std::slice::from_raw_parts(written, len)) }
    }
    /// Changes bytes from an address on, and their written marks.
    ///
    /// # Panics
    /// Where they do not lie inside.
    #[inline]
    pub(crate) fn change(&self, address: u64, len: usize, change: impl FnOnce(&mut [u8], &mut [u8])) {
        assert!(self.contains(address, len as u64));
        let (data, written) = self.at(address);
        // SAFETY: so many bytes lie inside, and both slices are gone when this returns.
        let (data, written) =
            unsafe { (std::slice::from_raw_parts_mut(data, len), std::slice::from_raw_parts_mut(written, len)) };
        change(data, written);
    }
    pub(crate) fn cells(&self) -> &Cells {
        self.cells.get_or_init(|| {
            let granules = self.len.div_ceil(4) as usize;
            Cells { writes: zeroed(granules), reads: zeroed(granules) }
        })
    }
    fn forget_accesses(&self) {
        if let Some(cells) = self.cells.get() {
            cells.writes.iter().chain(&cells.reads).for_each(|cell| cell.store(0, Ordering::Relaxed));
        }
    }
}

/// Zeros that cost nothing until they are touched.
fn zeroed(count: usize) -> Box<[AtomicU32]> {
    let zeros = vec![0u32; count].into_boxed_slice();
    // SAFETY: `AtomicU32` has the size, alignment and bit validity of `u32`, and the box is the only owner.
    unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [AtomicU32]) }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let Some(layout) = Self::layout(self.len) else { return };
        for pointer in [self.data, self.written] {
            if !pointer.is_null() {
                // SAFETY: made by `new` with this layout, and owned alone.
                unsafe { dealloc(pointer, layout) };
            }
        }
    }
}

/// All allocations at one moment, by address. A launch keeps the one that it began with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Map(Vec<Arc<Allocation>>);

impl Map {
    /// The allocation in which `len` bytes from an address on lie, and its number for [`Map::get`].
    pub(crate) fn find(&self, address: u64, len: u64) -> Option<(usize, &Arc<Allocation>)> {
        let at = self.0.partition_point(|allocation| allocation.base <= address).checked_sub(1)?;
        self.0[at].contains(address, len).then(|| (at, &self.0[at]))
    }
    pub(crate) fn get(&self, at: usize) -> Option<&Arc<Allocation>> {
        self.0.get(at)
    }
}

/// The memory of the device.
#[derive(Debug)]
pub(crate) struct Memory {
    map: RwLock<State>,
    /// Held for reading by launches, for writing while the race checker starts anew.
    epoch: RwLock<()>,
    next_stamp: AtomicU32,
    /// Whether memory has the addresses that the host has for it.
    host_addresses: bool,
}

#[derive(Debug)]
struct State {
    map: Arc<Map>,
    next: u64,
    bytes: u64,
    peak: u64,
    freed: VecDeque<(u64, u64)>,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        let state = State { map: Arc::default(), next: BASE, bytes: 0, peak: 0, freed: VecDeque::new() };
        let host_addresses = std::env::var_os(HOST_ADDRESSES_VARIABLE).is_some();
        Memory { map: RwLock::new(state), epoch: RwLock::new(()), next_stamp: AtomicU32::new(1), host_addresses }
    }
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.map.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
    fn change(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.map.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
    pub(crate) fn map(&self) -> Arc<Map> {
        self.read().map.clone()
    }
    /// Allocates for a context, if that many bytes are left of `limit`. Addresses are never used twice, but where they are the host's.
    pub(crate) fn allocate(&self, len: u64, context: usize, limit: u64) -> Option<u64> {
        self.allocate_as(len, context, limit, false)
    }
    /// As [`Memory::allocate`], managed or not.
    pub(crate) fn allocate_as(&self, len: u64, context: usize, limit: u64, managed: bool) -> Option<u64> {
        let mut state = self.change();
        if len > limit.saturating_sub(state.bytes) {
            return None;
        }
        let mut allocation = Allocation::new(state.next, len, context, managed)?;
        if self.host_addresses {
            allocation.base = allocation.data as u64;
        } else {
            state.next = (allocation.base + len + RED_ZONE).next_multiple_of(ALIGNMENT);
        }
        let base = allocation.base;
        state.bytes += len;
        state.peak = state.peak.max(state.bytes);
        let at = state.map.0.partition_point(|other| other.base < base);
        Arc::make_mut(&mut state.map).0.insert(at, Arc::new(allocation));
        Some(base)
    }
    /// Addresses that nothing else will have.
    pub(crate) fn reserve(&self, len: u64) -> u64 {
        let mut state = self.change();
        let base = state.next.next_multiple_of(GRANULARITY);
        state.next = (base + len + RED_ZONE).next_multiple_of(ALIGNMENT);
        base
    }
    /// Maps memory at reserved addresses, if nothing is mapped there and that many bytes are left of `limit`.
    pub(crate) fn map_at(&self, base: u64, len: u64, limit: u64) -> Option<()> {
        let mut state = self.change();
        let at = state.map.0.partition_point(|allocation| allocation.end() <= base);
        let overlaps = state.map.0.get(at).is_some_and(|allocation| allocation.base < base + len);
        if overlaps || len > limit.saturating_sub(state.bytes) {
            return None;
        }
        let allocation = Arc::new(Allocation::new(base, len, NO_CONTEXT, false)?);
        state.bytes += len;
        state.peak = state.peak.max(state.bytes);
        Arc::make_mut(&mut state.map).0.insert(at, allocation);
        Some(())
    }
    /// Frees the allocation that begins at an address; whether there was one.
    pub(crate) fn free(&self, base: u64) -> bool {
        self.remove(base, false)
    }
    /// Unmaps the mapping that begins at an address; whether there was one.
    pub(crate) fn unmap(&self, base: u64) -> bool {
        self.remove(base, true)
    }
    fn remove(&self, base: u64, mapped: bool) -> bool {
        let mut state = self.change();
        let Ok(at) = state.map.0.binary_search_by_key(&base, |allocation| allocation.base) else { return false };
        if (state.map.0[at].context == NO_CONTEXT) != mapped {
            return false;
        }
        let allocation = Arc::make_mut(&mut state.map).0.remove(at);
        state.bytes -= allocation.len;
        if state.freed.len() == FREED_KEPT {
            state.freed.pop_front();
        }
        state.freed.push_back((allocation.base, allocation.end()));
        true
    }
    pub(crate) fn free_all_of(&self, context: usize) {
        let bases: Vec<u64> = self.map().0.iter().filter(|a| a.context == context).map(|a| a.base).collect();
        for base in bases {
            self.free(base);
        }
    }
    /// Whether an address was part of an allocation that is gone.
    pub(crate) fn was_freed(&self, address: u64) -> bool {
        self.read().freed.iter().any(|&(base, end)| (base..end).contains(&address))
    }
    /// Copies between addresses of the device and the host: an address of the device is one inside an allocation. `None` where a
    /// range reaches beyond its allocation, or is neither.
    pub(crate) fn copy(&self, to: u64, from: u64, bytes: usize) -> Option<()> {
        if bytes == 0 {
            return Some(());
        }
        let map = self.map();
        let side = |address: u64| match map.find(address, bytes as u64) {
            Some((_, allocation)) => Some(Some(allocation)),
            // Nothing of the host lies among the addresses of the device.
            None if address != 0 && !(BASE..self.read().next).contains(&address) => Some(None),
            None => None,
        };
        let (to_device, from_device) = (side(to)?, side(from)?);
        let to_data = to_device.map_or(to as *mut u8, |allocation| allocation.at(to).0);
        let from_data = from_device.map_or(from as *const u8, |allocation| allocation.at(from).0.cast_const());
        // SAFETY: each side lies inside an allocation, or is a pointer of the caller's, who says that so many bytes are there.
        unsafe { from_data.copy_to(to_data, bytes) };
        if let Some(allocation) = to_device {
            let written = allocation.at(to).1;
            match from_device {
                // SAFETY: as many marks as bytes, inside their allocations.
                Some(source) => unsafe { source.at(from).1.copy_to(written, bytes) },
                // SAFETY: as above.
                None => unsafe { written.write_bytes(1, bytes) },
            }
        }
        Some(())
    }
    /// Fills memory of the device with a pattern, again and again. `None` where it reaches beyond an allocation.
    pub(crate) fn fill(&self, to: u64, pattern: &[u8], count: usize) -> Option<()> {
        let bytes = pattern.len().checked_mul(count)?;
        if bytes == 0 {
            return Some(());
        }
        let map = self.map();
        map.find(to, bytes as u64)?.1.change(to, bytes, |data, written| {
            data.chunks_exact_mut(pattern.len()).for_each(|chunk| chunk.copy_from_slice(pattern));
            written.fill(1);
        });
        Some(())
    }
    /// Writes bytes of the host.
    pub(crate) fn write(&self, to: u64, bytes: &[u8]) -> Option<()> {
        self.copy(to, bytes.as_ptr() as u64, bytes.len())
    }
    /// How many allocations there are, their bytes, and the most bytes at once.
    pub(crate) fn usage(&self) -> (u64, u64, u64) {
        let state = self.read();
        (state.map.0.len() as u64, state.bytes, state.peak)
    }
    pub(crate) fn reset_peak(&self) {
        let mut state = self.change();
        state.peak = state.bytes;
    }

    /// Numbers for `count` writers of a launch, unused by any other launch whose traces are still in the cells; and the guard that
    /// keeps them so.
    pub(crate) fn stamps(&self, count: u32, most: u32) -> (RwLockReadGuard<'_, ()>, u32) {
        loop {
            let guard = self.epoch.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            let taken = self.next_stamp.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                next.checked_add(count).filter(|end| *end <= most)
            });
            if let Ok(first) = taken {
                return (guard, first);
            }
            drop(guard);
            let _alone = self.epoch.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            if self.next_stamp.load(Ordering::Relaxed).checked_add(count).is_none_or(|end| end > most) {
                self.map().0.iter().for_each(|allocation| allocation.forget_accesses());
                self.next_stamp.store(1, Ordering::Relaxed);
            }
        }
    }
}
