//! Atomics on global and shared memory, lane after lane.

use super::block::BlockState;
use super::grid::Worker;
use super::lanes;
use super::number::{BF16, F16, Rounding, bfloat, exact, half, narrow};
use super::program::{Access, AtomicOp, Instruction};
use super::races::Use;
use super::registers::{NONE, Slot};
use super::request::Request;
use super::warp::Warp;
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

/// An atomic instruction.
#[derive(Clone, Copy)]
pub(super) struct Atomic {
    pub(super) access: Access,
    pub(super) op: AtomicOp,
    pub(super) returns: bool,
}

impl Worker<'_> {
    pub(super) fn atomic(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, atomic: Atomic, mask: u32) {
        let i = &self.code[pc as usize];
        let mut request = Request::new(block.place(warp.index, pc), i, warp, mask, atomic.access.bytes());
        for (space, part) in request.split(atomic.access.space).into_iter().filter(|(_, part)| *part != 0) {
            request.mask = part;
            if !self.is_aligned(&request) {
                return;
            }
            match space {
                Space::Shared => self.atomic_shared(warp, block, atomic, &request),
                Space::Global => self.atomic_global(warp, block, atomic, &request),
                _ => self.fault(Fault::OutOfBounds, request.place, part, None, "an atomic on local memory".into()),
            }
        }
    }
    fn atomic_shared(&mut self, warp: &mut Warp, block: &mut BlockState, atomic: Atomic, request: &Request) {
        if !self.enter_shared(warp, block, request, Use::Atomic) {
            return;
        }
        let i = &self.code[request.place.pc as usize];
        let (size, shared, mut unwritten) = (atomic.access.size(), &mut block.shared, 0);
        for lane in lanes(request.mask) {
            let range = request.at(lane)..request.at(lane) + size;
            unwritten |= (shared.written[range.clone()].contains(&0) as u32) << lane;
            atomic.apply(&mut shared.data[range.clone()], i, lane, warp);
            shared.written[range].fill(1);
        }
        self.check_atomic(request, atomic, unwritten, "shared");
    }
    fn atomic_global(&mut self, warp: &mut Warp, block: &mut BlockState, atomic: Atomic, request: &Request) {
        let i = &self.code[request.place.pc as usize];
        self.counters.atomic_requests += 1;
        self.counters.atomic_lanes += request.mask.count_ones() as u64;
        let mut unwritten = 0;
        for lane in lanes(request.mask) {
            let Some(group) = self.group(request, 1 << lane, "use") else { return };
            group.allocation.change(request.addresses[lane], atomic.access.size(), |data, written| {
                unwritten |= (written.contains(&0) as u32) << lane;
                atomic.apply(data, i, lane, warp);
                written.fill(1);
            });
            self.trace(warp, block, request, &group, Use::Atomic, atomic.access.order);
        }
        self.check_atomic(request, atomic, unwritten, "global");
    }
    /// An exchange reads nothing that matters.
    fn check_atomic(&mut self, request: &Request, atomic: Atomic, unwritten: u32, space: &str) {
        if atomic.op != AtomicOp::Exchange {
            self.check_written(request, unwritten, space);
        }
    }
}

impl Atomic {
    /// Changes the bytes of one lane, and sets its register to what they were.
    fn apply(self, data: &mut [u8], i: &Instruction, lane: usize, warp: &mut Warp) {
        let Atomic { access, op, returns } = self;
        let size = access.size();
        let operand = |warp: &Warp, index: u16| match index {
            NONE => 0,
            index => warp.registers.get(Slot { bank: access.bank, index }, lane) & (u64::MAX >> (64 - 8 * size)),
        };
        let mut old = [0; 8];
        old[..size].copy_from_slice(data);
        let old = u64::from_le_bytes(old);
        let new = updated(op, access.ty, old, operand(warp, i.from[1]), operand(warp, i.from[2]));
        data.copy_from_slice(&new.to_le_bytes()[..size]);
        if returns {
            warp.registers.set(Slot { bank: access.bank, index: i.to[0] }, lane, old);
        }
    }
}
