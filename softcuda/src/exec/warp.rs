//! A warp: which lanes are where, and one instruction after the other.
//!
//! Lanes that part form splits, each with a position of its own. The split with the lowest position runs until it meets another, and
//! then they go on together: the order of the text is the order of reconvergence.

use super::atomic::Atomic;
use super::block::BlockState;
use super::grid::Worker;
use super::program::*;
use super::registers::{Bank, NONE, Registers, Slot};
use super::shared::{LOCAL_WINDOW, SHARED_WINDOW};
use super::transfer::PendingCopy;
use super::{FULL, LANES, lanes};
use crate::control::Fault;
use crate::ptx::syntax::Space;

/// Instructions after which a split lets another go ahead: lanes may wait in a loop for others of their own warp.
const PATIENCE: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// At a barrier of the block, with this number.
    Barrier(u32),
    /// At an instruction of the whole warp, for lanes that are elsewhere.
    Lanes,
    /// As `Ready`, past waiting for lanes that do not come.
    Forced,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub(super) pc: u32,
    pub(super) mask: u32,
    pub(super) state: State,
}

#[derive(Debug, Default)]
pub(super) struct Warp {
    pub(super) index: u32,
    pub(super) registers: Registers,
    pub(super) splits: Vec<Split>,
    /// Lanes that the block has, and those that have not ended.
    pub(super) lanes: u32,
    pub(super) alive: u32,
    /// Barriers of its own that it passed.
    pub(super) epoch: u32,
    /// Local memory of each lane, one after the other, and which bytes were written.
    pub(super) local: Vec<u8>,
    pub(super) local_written: Vec<u8>,
    /// Groups of copies under way; the last is not committed.
    pub(super) copies: Vec<Vec<PendingCopy>>,
}

/// Where the lanes of a split go after an instruction.
pub(super) enum Flow {
    Next,
    Jump(u32),
    /// These lanes go there; the others are at the last position.
    Part(u32, u32, u32),
    /// These lanes wait here, the others go on.
    Wait(u32, State),
    /// These lanes end.
    End(u32),
}

impl Warp {
    /// Lanes of a split for which the guard of an instruction holds.
    #[inline(always)]
    fn active(&self, i: &Instruction, mask: u32) -> u32 {
        if i.guard == NONE {
            return mask;
        }
        let bits = self.registers.preds[i.guard as usize];
        mask & if i.guard_negated { !bits } else { bits }
    }
    /// The split to run: the lowest position, or the one after `than` where that has run for long.
    fn next_split(&self, than: Option<u32>) -> Option<usize> {
        let ready = |split: &&Split| matches!(split.state, State::Ready | State::Forced);
        let lowest = |least: u32| {
            let candidates = self.splits.iter().enumerate().filter(|(_, split)| ready(split) && split.pc >= least);
            candidates.min_by_key(|(_, split)| split.pc).map(|(at, _)| at)
        };
        than.and_then(|than| lowest(than + 1)).or_else(|| lowest(0))
    }
    /// Joins splits that are at the same place. Those that wait there try again, together.
    pub(super) fn merge(&mut self) {
        let mut at = 0;
        while at < self.splits.len() {
            let mut other = at + 1;
            while other < self.splits.len() {
                if self.splits[other].pc == self.splits[at].pc {
                    let joined = self.splits.swap_remove(other);
                    self.splits[at].mask |= joined.mask;
                    self.splits[at].state = State::Ready;
                } else {
                    other += 1;
                }
            }
            at += 1;
        }
    }
}

impl Worker<'_> {
    /// Runs a warp until it waits, ends or has used its share; whether it did anything.
    pub(super) fn run_warp(&mut self, warp: &mut Warp, block: &mut BlockState, share: u32) -> bool {
        let mut left = share;
        let mut ran_long = None;
        while let Some(at) = warp.next_split(ran_long.take()) {
            if left == 0 || self.is_over() {
                break;
            }
            let Split { mut pc, mask, state } = warp.splits[at];
            let mut forced = state == State::Forced;
            let mut patience = PATIENCE;
            let flow = loop {
                let i = &self.code[pc as usize];
                let active = warp.active(i, mask);
                self.executed[pc as usize] += 1;
                self.threads += active.count_ones() as u64;
                left = left.saturating_sub(1);
                patience = patience.saturating_sub(1);
                let flow = self.step(warp, block, pc, active, std::mem::take(&mut forced));
                match flow {
                    Flow::Next => pc += 1,
                    Flow::Jump(target) if active == mask => pc = target,
                    Flow::Jump(target) if active != 0 => break Flow::Part(target, active, pc + 1),
                    Flow::Jump(_) => pc += 1,
                    Flow::Wait(0, _) | Flow::End(0) => pc += 1,
                    other => break other,
                }
                if warp.splits.len() > 1 {
                    let meets = warp.splits.iter().enumerate().any(|(other, split)| {
                        other != at && (split.pc == pc || (split.pc < pc && split.state == State::Ready))
                    });
                    if meets || patience == 0 {
                        ran_long = (patience == 0).then_some(pc);
                        break Flow::Next;
                    }
                }
                if left == 0 || self.is_over() {
                    break Flow::Next;
                }
            };
            let split = &mut warp.splits[at];
            (split.pc, split.state) = (pc, State::Ready);
            match flow {
                Flow::Part(target, away, rest) => {
                    self.counters.divergent_branches += 1;
                    split.mask &= !away;
                    split.pc = rest;
                    warp.splits.push(Split { pc: target, mask: away, state: State::Ready });
                }
                Flow::Wait(waiting, state) => {
                    (split.mask, split.state) = (waiting, state);
                    if waiting != mask {
                        warp.splits.push(Split { pc: pc + 1, mask: mask & !waiting, state: State::Ready });
                    }
                }
                Flow::End(ended) => {
                    warp.alive &= !ended;
                    split.mask &= !ended;
                    split.pc = pc + 1;
                    if split.mask == 0 {
                        warp.splits.swap_remove(at);
                    }
                }
                Flow::Next | Flow::Jump(_) => {}
            }
            if warp.splits.len() > 1 {
                warp.merge();
            }
        }
        self.count((share - left) as u64);
        left < share
    }

    /// Executes one instruction for the active lanes.
    #[inline(always)]
    fn step(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, active: u32, forced: bool) -> Flow {
        let code = self.code;
        let i = &code[pc as usize];
        if active == 0 {
            return Flow::Next;
        }
        match i.op {
            Op::Lanewise(run) => run(&mut warp.registers, i, active),
            Op::Branch { target } => return Flow::Jump(target),
            Op::Compare { compare, combine, negated } => {
                let holds = compare(&warp.registers, i);
                let mut other = if i.from[2] == NONE { 0 } else { warp.registers.preds[i.from[2] as usize] };
                if negated {
                    other = !other;
                }
                let joined = |holds: u32| match combine {
                    Combine::None => holds,
                    Combine::And => holds & other,
                    Combine::Or => holds | other,
                    Combine::Xor => holds ^ other,
                };
                warp.registers.set_pred(i.to[0], active, joined(holds));
                warp.registers.set_pred(i.to[1], active, joined(!holds));
            }
            Op::Load(access) => self.load(warp, block, pc, access, active),
            Op::Store(access) => self.store(warp, block, pc, access, active),
            Op::Copy(Bank::Word) => {
                let values = warp.registers.words[i.from[0] as usize];
                warp.registers.set_words(i.to[0], active, &values);
            }
            Op::Copy(Bank::Long) => {
                let values = warp.registers.longs[i.from[0] as usize];
                warp.registers.set_longs(i.to[0], active, &values);
            }
            _ => return self.step_rarely(warp, block, pc, active, forced),
        }
        Flow::Next
    }

    /// The instructions that are not worth a place in the loop.
    #[inline(never)]
    fn step_rarely(&mut self, warp: &mut Warp, block: &mut BlockState, pc: u32, active: u32, forced: bool) -> Flow {
        let code = self.code;
        let i = &code[pc as usize];
        let registers = &mut warp.registers;
        match i.op {
            Op::Logic { logic, negated } => {
                let read = |registers: &Registers, at: usize| match i.from[at] {
                    NONE => 0,
                    index => registers.preds[index as usize] ^ if negated[at] { FULL } else { 0 },
                };
                let (a, b) = (read(registers, 0), read(registers, 1));
                let bits = match logic {
                    Logic::Copy => a,
                    Logic::Not => !a,
                    Logic::And => a & b,
                    Logic::Or => a | b,
                    Logic::Xor => a ^ b,
                };
                registers.set_pred(i.to[0], active, bits);
            }
            Op::Set { compare, truth } => {
                let holds = compare(registers, i);
                let values = std::array::from_fn(|lane| if holds >> lane & 1 == 1 { truth } else { 0 });
                registers.set_words(i.to[0], active, &values);
            }
            Op::Pack { element, count, whole } => {
                let bits = 8 * element as u32;
                let bank = if element > 4 { Bank::Long } else { Bank::Word };
                for lane in lanes(active) {
                    let part =
                        |at: usize| registers.get(Slot { bank, index: i.from[at] }, lane) & (u64::MAX >> (64 - bits));
                    let value = (0..count as usize).fold(0, |value, at| value | part(at) << (bits * at as u32));
                    registers.set(Slot { bank: whole, index: i.to[0] }, lane, value);
                }
            }
            Op::Unpack { element, count, whole } => {
                let bits = 8 * element as u32;
                let bank = if element > 4 { Bank::Long } else { Bank::Word };
                for lane in lanes(active) {
                    let value = registers.get(Slot { bank: whole, index: i.from[0] }, lane);
                    for at in 0..count as usize {
                        let part = value >> (bits * at as u32) & (u64::MAX >> (64 - bits));
                        registers.set(Slot { bank, index: i.to[at] }, lane, part);
                    }
                }
            }
            Op::Convert { conversion, to, from } => {
                for lane in lanes(active) {
                    let value = conversion.apply(registers.get(Slot { bank: from, index: i.from[0] }, lane));
                    registers.set(Slot { bank: to, index: i.to[0] }, lane, value);
                }
            }
            Op::ConvertPair(conversion) => {
                let bank = Bank::Word;
                for lane in lanes(active) {
                    let half = |at: usize| conversion.apply(registers.get(Slot { bank, index: i.from[at] }, lane));
                    let value = half(0) << 16 | half(1) & 0xffff;
                    registers.set(Slot { bank, index: i.to[0] }, lane, value);
                }
            }
            Op::Window { base, to_generic } => {
                let addresses = registers.longs[i.from[0] as usize];
                let moved = addresses
                    .map(|address| if to_generic { address.wrapping_add(base) } else { address.wrapping_sub(base) });
                registers.set_longs(i.to[0], active, &moved);
            }
            Op::IsSpace(space) => {
                let mut bits = 0;
                for (lane, address) in registers.longs[i.from[0] as usize].iter().enumerate() {
                    let found = match *address {
                        0..SHARED_WINDOW => Space::Global,
                        SHARED_WINDOW..LOCAL_WINDOW => Space::Shared,
                        _ => Space::Local,
                    };
                    bits |= ((found == space) as u32) << lane;
                }
                registers.set_pred(i.to[0], active, bits);
            }
            Op::Atomic { access, op, returns } => self.atomic(warp, block, pc, Atomic { access, op, returns }, active),
            Op::CopyAsync { bytes, offset } => self.copy_async(warp, block, pc, bytes, offset, active),
            Op::CopyCommit => warp.copies.push(Vec::new()),
            Op::CopyWait { groups } => self.finish_copies(warp, block, pc, groups as usize, active),
            Op::Fence { wide } => self.fence(block, wide),
            Op::BranchIndexed { table } => {
                let targets = &self.job.program.tables[table as usize];
                let index = registers.words[i.from[0] as usize];
                let first = index[active.trailing_zeros() as usize];
                let alike =
                    lanes(active).filter(|lane| index[*lane] == first).fold(0u32, |mask, lane| mask | 1 << lane);
                // The lanes that go elsewhere come back to this instruction without these.
                let Some(&target) = targets.get(first as usize) else {
                    let message = format!("index {first} of {} targets", targets.len());
                    self.fault(Fault::Trap, block.place(warp.index, pc), alike, None, message);
                    return Flow::Next;
                };
                return if alike == active { Flow::Jump(target) } else { Flow::Part(target, alike, pc) };
            }
            Op::Barrier { waits, .. } => {
                let number = registers.words[i.from[0] as usize][active.trailing_zeros() as usize];
                if waits {
                    return Flow::Wait(active, State::Barrier(number));
                }
                block.arrive(number, active.count_ones());
            }
            Op::WarpBarrier => {
                let members = registers.words[i.from[0] as usize];
                if let Some(flow) = self.gather(warp, block, pc, &members, active, forced) {
                    return flow;
                }
                warp.epoch += 1;
            }
            Op::Shuffle { .. } | Op::Vote { .. } | Op::Reduce { .. } => {
                let synchronised = match i.op {
                    Op::Shuffle { synchronised, .. } | Op::Vote { synchronised, .. } => synchronised,
                    _ => true,
                };
                if synchronised {
                    let members = registers.words[i.from[3] as usize];
                    if let Some(flow) = self.gather(warp, block, pc, &members, active, forced) {
                        return flow;
                    }
                }
                self.exchange(warp, block, pc, active);
            }
            Op::ActiveMask => registers.set_words(i.to[0], active, &[active; LANES]),
            Op::Clock(Bank::Long) => {
                let now = self.instructions;
                registers.set_longs(i.to[0], active, &[now; LANES]);
            }
            Op::Clock(_) => {
                let now = self.instructions as u32;
                registers.set_words(i.to[0], active, &[now; LANES]);
            }
            Op::Exit => return Flow::End(active),
            Op::Trap => self.fault(Fault::Trap, block.place(warp.index, pc), active, None, "the kernel trapped".into()),
            Op::Copy(Bank::Pred) | Op::Nothing => {}
            Op::Lanewise(_) | Op::Branch { .. } | Op::Compare { .. } | Op::Load(_) | Op::Store(_) | Op::Copy(_) => {
                unreachable!("handled by `step`")
            }
        }
        Flow::Next
    }

    /// Brings the lanes together that a mask names: `None` where they are, else they wait.
    fn gather(
        &mut self,
        warp: &Warp,
        block: &BlockState,
        pc: u32,
        members: &[u32; LANES],
        active: u32,
        forced: bool,
    ) -> Option<Flow> {
        let named = members[active.trailing_zeros() as usize];
        let uniform = lanes(active).all(|lane| members[lane] == named);
        if uniform && named == active {
            return None;
        }
        let elsewhere = named & warp.alive & !active;
        if !forced && uniform && elsewhere != 0 && active & !named == 0 {
            return Some(Flow::Wait(active, State::Lanes));
        }
        if self.job.settings.check_synchronisation {
            let message = if !uniform {
                "the lanes pass different masks".to_string()
            } else if active & !named != 0 {
                format!("the mask {named:#010x} leaves out lanes that execute it")
            } else if named & !warp.lanes != 0 {
                format!("the mask {named:#010x} names lanes that the block does not have")
            } else if elsewhere != 0 {
                format!("the mask {named:#010x} names lanes that do not come: {elsewhere:#010x}")
            } else {
                format!("the mask {named:#010x} names lanes that have ended: {:#010x}", named & !warp.alive)
            };
            self.fault(Fault::WarpMask, block.place(warp.index, pc), active, None, message);
        }
        None
    }

    /// Shuffles, votes, matches and reductions among the active lanes.
    fn exchange(&mut self, warp: &mut Warp, block: &BlockState, pc: u32, active: u32) {
        let code = self.code;
        let i = &code[pc as usize];
        match i.op {
            Op::Shuffle { mode, .. } => {
                self.counters.shuffles += 1;
                let read = |at: usize| warp.registers.words[i.from[at] as usize];
                let (values, by, clamp) = (read(0), read(1), read(2));
                let (mut results, mut valid, mut absent) = (values, 0u32, 0u32);
                for lane in lanes(active) {
                    let (source, within) = shuffle_source(mode, lane as u32, by[lane], clamp[lane]);
                    results[lane] = values[source as usize];
                    valid |= (within as u32) << lane;
                    absent |= ((active >> source & 1 == 0) as u32) << lane;
                }
                if absent != 0 && self.job.settings.check_synchronisation {
                    let message = "a lane takes the value of one that does not take part".to_string();
                    self.fault(Fault::WarpMask, block.place(warp.index, pc), absent, None, message);
                }
                warp.registers.set_words(i.to[0], active, &results);
                warp.registers.set_pred(i.to[1], active, valid);
            }
            Op::Vote { vote: vote @ (Vote::MatchAny | Vote::MatchAll), bank, .. } => {
                let value = |lane: usize| warp.registers.get(Slot { bank, index: i.from[0] }, lane);
                let equal = |lane: usize| {
                    lanes(active)
                        .filter(|other| value(*other) == value(lane))
                        .fold(0u32, |mask, other| mask | 1 << other)
                };
                let mut results = [0; LANES];
                lanes(active).for_each(|lane| results[lane] = equal(lane));
                if vote == Vote::MatchAll {
                    let all = results[active.trailing_zeros() as usize] == active;
                    results = [if all { active } else { 0 }; LANES];
                    warp.registers.set_pred(i.to[1], active, if all { FULL } else { 0 });
                }
                warp.registers.set_words(i.to[0], active, &results);
            }
            Op::Vote { vote, negated, .. } => {
                let bits = warp.registers.preds[i.from[0] as usize] ^ if negated { FULL } else { 0 };
                let votes = bits & active;
                let holds = match vote {
                    Vote::All => votes == active,
                    Vote::Any => votes != 0,
                    Vote::Uniform => votes == active || votes == 0,
                    _ => return warp.registers.set_words(i.to[0], active, &[votes; LANES]),
                };
                warp.registers.set_pred(i.to[0], active, if holds { FULL } else { 0 });
            }
            Op::Reduce { reduction, signed } => {
                let values = warp.registers.words[i.from[0] as usize];
                let taken = lanes(active).map(|lane| values[lane]);
                let result = match reduction {
                    Reduction::And => taken.fold(u32::MAX, |a, b| a & b),
                    Reduction::Or => taken.fold(0, |a, b| a | b),
                    Reduction::Xor => taken.fold(0, |a, b| a ^ b),
                    Reduction::Min if signed => taken.map(|v| v as i32).min().unwrap_or(0) as u32,
                    Reduction::Max if signed => taken.map(|v| v as i32).max().unwrap_or(0) as u32,
                    Reduction::Min => taken.min().unwrap_or(0),
                    Reduction::Max => taken.max().unwrap_or(0),
                    _ => taken.fold(0, u32::wrapping_add),
                };
                warp.registers.set_words(i.to[0], active, &[result; LANES]);
            }
            _ => unreachable!("only instructions of the whole warp exchange"),
        }
    }
}

/// The lane from which another takes its value, and whether it lies within the segment; if not, it keeps its own.
fn shuffle_source(mode: Shuffle, lane: u32, by: u32, clamp: u32) -> (u32, bool) {
    let (by, segment, limit) = (by & 31, clamp >> 8 & 31, clamp & 31);
    let top = (lane & segment) | (limit & !segment);
    let (source, within) = match mode {
        Shuffle::Up => (lane.wrapping_sub(by), lane as i32 - by as i32 >= top as i32),
        Shuffle::Down => (lane + by, lane + by <= top),
        Shuffle::Butterfly => (lane ^ by, (lane ^ by) <= top),
        Shuffle::Index => {
            let source = (lane & segment) | (by & !segment);
            (source, source <= top)
        }
    };
    if within { (source, true) } else { (lane, false) }
}
