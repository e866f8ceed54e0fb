//! Atomics on global and shared memory, lane after lane.

use super::block::BlockState;
use super::grid::Worker;
use super::number::{BF16, F16, Rounding, bfloat, exact, half, narrow};
use super::program::{Access, AtomicOp};
use super::races::Use;
use super::registers::Slot;
use super::warp::Warp;
use super::{LANES, lanes};
use crate::control::Fault;
use crate::ptx::syntax::{Space, Type};

/// Whether the device has an atomic of this type.
pub(super) fn supports(op: AtomicOp, ty: Type) -> bool {
    use AtomicOp::*;
    use Type::*;
    match op {
        Add => matches!(ty, U32 | S32 | U64 | S64 | F32 | F64 | F16 | F16x2 | Bf16 | Bf16x2),
        Min | Max => matches!(ty, U32 | S32 | U64 | S64),
        And | Or | Xor => matches!(ty, B32 | B64),
        Exchange => matches!(ty, B32 | B64),
        CompareAndSwap => matches!(ty, B16 | B32 | B64),
        Increment | Decrement => ty == U32,
    }
}

/// What memory holds after an atomic; `with` is the operand, `new` the second one of a compare-and-swap.
fn updated(op: AtomicOp, ty: Type, old: u64, with: u64, new: u64) -> u64 {
    let (low, low_with) = (old as u32, with as u32);
    let halves = |one: fn(u32, u32) -> u32| (one(low, low_with) | one(low >> 16, low_with >> 16) << 16) as u64;
    let add_f16 = |a: u32, b: u32| narrow(exact::add(half(a) as f64, half(b) as f64), F16, Rounding::Nearest);
    let add_bf16 = |a: u32, b: u32| {
        narrow(exact::add(bfloat(a & 0xffff) as f64, bfloat(b & 0xffff) as f64), BF16, Rounding::Nearest)
    };
    match (op, ty) {
        (AtomicOp::Add, Type::F32) => (f32::from_bits(low) + f32::from_bits(low_with)).to_bits() as u64,
        (AtomicOp::Add, Type::F64) => (f64::from_bits(old) + f64::from_bits(with)).to_bits(),
        (AtomicOp::Add, Type::F16) => add_f16(low, low_with) as u64,
        (AtomicOp::Add, Type::Bf16) => add_bf16(low, low_with) as u64,
        (AtomicOp::Add, Type::F16x2) => halves(add_f16),
        (AtomicOp::Add, Type::Bf16x2) => halves(add_bf16),
        (AtomicOp::Add, _) => old.wrapping_add(with),
        (AtomicOp::Min, Type::S32) => (low as i32).min(low_with as i32) as u32 as u64,
        (AtomicOp::Max, Type::S32) => (low as i32).max(low_with as i32) as u32 as u64,
        (AtomicOp::Min, Type::S64) => (old as i64).min(with as i64) as u64,
        (AtomicOp::Max, Type::S64) => (old as i64).max(with as i64) as u64,
        (AtomicOp::Min, _) => old.min(with),
        (AtomicOp::Max, _) => old.max(with),
        (AtomicOp::And, _) => old & with,
        (AtomicOp::Or, _) => old | with,
        (AtomicOp::Xor, _) => old ^ with,
        (AtomicOp::Exchange, _) => with,
        (AtomicOp::CompareAndSwap, _) => {
            if old == with {
                new
            } else {
                old
            }
        }
        (AtomicOp::Increment, _) => {
            if old >= with {
                0
            } else {
                old + 1
            }
        }
        (AtomicOp::Decrement, _) => {
            if old == 0 || old > with {
                with
            } else {
                old - 1
            }
        }
    }
}

impl Worker<'_> {
    #[expect(clippy::too_many_arguments, reason = "they are the parts of an access")]
    pub(super) fn atomic(
        &mut self,
        warp: &mut Warp,
        block: &mut BlockState,
        pc: u32,
        access: Access,
        op: AtomicOp,
        returns: bool,
        mask: u32,
    ) {
        let i = &self.code[pc as usize];
        let mut addresses = self.addresses(warp, i);
        for (space, part) in Self::spaces(access.space, &mut addresses, mask).into_iter().filter(|(_, part)| *part != 0)
        {
            self.atomic_in(warp, block, pc, Access { space, ..access }, op, returns, &addresses, part);
        }
    }
    #[expect(clippy::too_many_arguments, reason = "they are the parts of an access")]
    fn atomic_in(
        &mut self,
        warp: &mut Warp,
        block: &mut BlockState,
        pc: u32,
        access: Access,
        op: AtomicOp,
        returns: bool,
        addresses: &[u64; LANES],
        mask: u32,
    ) {
        let i = &self.code[pc as usize];
        let size = access.size();
        if !self.is_aligned(warp.index, block, pc, addresses, mask, size as u64) {
            return;
        }
        let value = |warp: &Warp, index: u16, lane: usize| {
            let bits = if index == super::registers::NONE {
                0
            } else {
                warp.registers.get(Slot { bank: access.bank, index }, lane)
            };
            bits & (u64::MAX >> (64 - 8 * size))
        };
        let apply = |warp: &mut Warp, data: &mut [u8], lane: usize| {
            let mut old = [0; 8];
            old[..size].copy_from_slice(data);
            let old = u64::from_le_bytes(old);
            let new = updated(op, access.ty, old, value(warp, i.from[1], lane), value(warp, i.from[2], lane));
            data.copy_from_slice(&new.to_le_bytes()[..size]);
            if returns {
                warp.registers.set(Slot { bank: access.bank, index: i.to[0] }, lane, old);
            }
        };
        let mut unwritten = 0;
        match access.space {
            Space::Shared => {
                if !self.enter_shared(warp, block, pc, addresses, mask, size as u64, Use::Atomic) {
                    return;
                }
                for lane in lanes(mask) {
                    let at = addresses[lane] as usize;
                    let shared = &mut block.shared;
                    unwritten |= (shared.written[at..at + size].contains(&0) as u32) << lane;
                    apply(warp, &mut shared.data[at..at + size], lane);
                    shared.written[at..at + size].fill(1);
                }
                self.check_atomic(warp.index, block, pc, op, unwritten, addresses, "shared");
            }
            Space::Global => {
                self.counters.atomic_requests += 1;
                self.counters.atomic_lanes += mask.count_ones() as u64;
                for lane in lanes(mask) {
                    let Some(allocation) = self.allocation(warp.index, block, pc, addresses, lane, size as u64) else {
                        return;
                    };
                    let (data, written) = allocation.at(addresses[lane]);
                    // SAFETY: `allocation` found these bytes inside, and the slices are gone before anything else touches them.
                    let (data, written) = unsafe {
                        (std::slice::from_raw_parts_mut(data, size), std::slice::from_raw_parts_mut(written, size))
                    };
                    unwritten |= (written.contains(&0) as u32) << lane;
                    apply(warp, data, lane);
                    written.fill(1);
                    self.trace(
                        warp.index,
                        block,
                        pc,
                        allocation,
                        addresses,
                        1 << lane,
                        size as u64,
                        Use::Atomic,
                        access.order,
                    );
                }
                self.check_atomic(warp.index, block, pc, op, unwritten, addresses, "global");
            }
            _ => {
                let address = addresses[Self::first_lane(mask)];
                self.fault(
                    Fault::OutOfBounds,
                    block,
                    warp.index,
                    pc,
                    mask,
                    Some(address),
                    "an atomic on local memory".into(),
                );
            }
        }
    }
    /// An exchange reads nothing that matters.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of an access")]
    fn check_atomic(
        &mut self,
        warp: u32,
        block: &BlockState,
        pc: u32,
        op: AtomicOp,
        unwritten: u32,
        addresses: &[u64; LANES],
        space: &str,
    ) {
        if op != AtomicOp::Exchange {
            self.check_written(warp, block, pc, unwritten, addresses, space);
        }
    }
}
