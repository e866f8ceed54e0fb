//! A block: its warps take turns, and barriers let them go on together.

use super::grid::{Job, Place, Worker};
use super::program::*;
use super::races::Writer;
use super::registers::{Bank, NONE, Slot};
use super::shared::Shared;
use super::uses::{GlobalUses, Moment};
use super::warp::{Split, State, Warp};
use super::{FULL, LANES};
use crate::control::Fault;

/// Barriers of a block.
const BARRIERS: usize = 16;
/// Instructions that a warp executes before the next one has its turn.
const SHARE: u32 = 1 << 14;

#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) warps: Vec<Warp>,
    pub(super) state: BlockState,
}

#[derive(Debug, Default)]
pub(super) struct BlockState {
    pub(super) index: [u32; 3],
    pub(super) number: u64,
    pub(super) shared: Shared,
    /// Barriers that it passed, plus one.
    pub(super) epoch: u32,
    /// Fences of its threads.
    pub(super) fences: u32,
    pub(super) global_uses: GlobalUses,
    /// Threads that arrived without waiting.
    arrived: [u32; BARRIERS],
    pub(super) writer: Writer,
}

impl BlockState {
    /// The moment of a use of shared memory, which barriers order.
    pub(super) fn moment(&self, warp: &Warp) -> Moment {
        Moment { block_epoch: self.epoch, warp_epoch: warp.epoch, warp: warp.index as u16 }
    }
    /// The moment of a use of global memory. A fence may be half of what orders two threads, so it counts as a barrier: that
    /// misses races and invents none.
    pub(super) fn global_moment(&self, warp: &Warp) -> Moment {
        Moment { block_epoch: self.epoch + self.fences, ..self.moment(warp) }
    }
    pub(super) fn place(&self, warp: u32, pc: u32) -> Place {
        Place { block: self.index, warp, pc }
    }
    pub(super) fn arrive(&mut self, barrier: u32, threads: u32) {
        self.arrived[barrier as usize % BARRIERS] += threads;
    }
}

impl Block {
    /// Makes the block with a number of the grid ready to run, in the memory of one that ended.
    pub(super) fn start(&mut self, job: &Job, number: u64) {
        let program = job.program;
        let [x, y, _] = job.grid.map(u64::from);
        let index = [number % x, number / x % y, number / x / y].map(|at| at as u32);
        let threads = job.threads();
        self.warps.resize_with(threads.div_ceil(LANES as u32) as usize, Warp::default);
        for (at, warp) in self.warps.iter_mut().enumerate() {
            warp.start(job, index, number, at as u32, threads);
        }
        let state = &mut self.state;
        state.index = index;
        state.number = number;
        state.shared.clear(program.dynamic_base() + job.dynamic_shared as usize, job.settings.check_races);
        state.epoch = 1;
        state.fences = 0;
        state.global_uses.clear();
        state.arrived = [0; BARRIERS];
    }
}

impl Warp {
    fn start(&mut self, job: &Job, block: [u32; 3], number: u64, index: u32, threads: u32) {
        let program = job.program;
        let registers = &mut self.registers;
        registers.reserve(program.preds, program.words, program.longs);
        for &(Slot { bank, index }, value) in &program.constants {
            match bank {
                Bank::Pred => registers.preds[index as usize] = if value == 1 { FULL } else { 0 },
                Bank::Word => registers.words[index as usize] = [value as u32; LANES],
                Bank::Long => registers.longs[index as usize] = [value; LANES],
            }
        }
        let size = job.block;
        let first = index * LANES as u32;
        for &(register, special) in &program.specials {
            registers.words[register as usize] = std::array::from_fn(|lane| {
                let thread = first + lane as u32;
                match special {
                    Special::Thread(0) => thread % size[0],
                    Special::Thread(1) => thread / size[0] % size[1],
                    Special::Thread(_) => thread / size[0] / size[1],
                    Special::BlockSize(axis) => size[axis],
                    Special::Block(axis) => block[axis],
                    Special::GridSize(axis) => job.grid[axis],
                    Special::Lane => lane as u32,
                    Special::Warp => index,
                    Special::Warps => threads.div_ceil(LANES as u32),
                    Special::Multiprocessor => (number % job.multiprocessors as u64) as u32,
                    Special::Multiprocessors => job.multiprocessors,
                    Special::LanesEqual => 1 << lane,
                    Special::LanesBelow => (1 << lane) - 1,
                    Special::LanesUpTo => u32::MAX >> (31 - lane),
                    Special::LanesAbove => !(u32::MAX >> (31 - lane)),
                    Special::LanesFrom => u32::MAX << lane,
                    Special::SharedTotal => program.dynamic_base() as u32 + job.dynamic_shared,
                    Special::SharedDynamic => job.dynamic_shared,
                    Special::GridWorkspaceHigh => (job.grid_workspace >> 32) as u32,
                    Special::GridWorkspaceLow => job.grid_workspace as u32,
                    Special::Zero => 0,
                }
            });
        }
        self.index = index;
        self.lanes = FULL >> (LANES as u32 - (threads - first).min(LANES as u32));
        self.alive = self.lanes;
        self.epoch = 1;
        self.splits.clear();
        self.splits.push(Split { pc: 0, mask: self.lanes, state: State::Ready });
        self.local.clear();
        self.local.resize(program.local_bytes * LANES, 0xA5);
        self.local_written.clear();
        self.local_written.resize(program.local_bytes * LANES, 0);
        self.copies.clear();
    }
}

/// Splits of a block that wait at a barrier.
#[derive(Default)]
struct Waiting {
    threads: u32,
    /// Warp and split.
    splits: Vec<(usize, usize)>,
}

impl Worker<'_> {
    /// Runs a block until it ends, or has used about so many instructions; whether it ended.
    pub(super) fn run_block(&mut self, block: &mut Block, share: u64) -> bool {
        let until = self.instructions.saturating_add(share);
        loop {
            let mut progress = false;
            for turn in 0..block.warps.len() {
                let at = self.turn(block.state.number, turn, block.warps.len());
                let Block { warps, state } = block;
                progress |= self.run_warp(&mut warps[at], state, SHARE);
                if self.is_over() {
                    return true;
                }
            }
            progress |= self.release_barriers(block);
            if block.warps.iter().all(|warp| warp.splits.is_empty()) {
                return true;
            }
            if !progress && !self.force(block) {
                self.deadlock(block);
                return true;
            }
            if self.is_too_long() {
                self.time_out(block);
                return true;
            }
            if self.instructions >= until {
                return false;
            }
        }
    }

    /// Lets the threads go on whose barriers are complete; whether any was.
    fn release_barriers(&mut self, block: &mut Block) -> bool {
        let mut waiting: [Waiting; BARRIERS] = Default::default();
        let mut any = false;
        for (at, warp) in block.warps.iter().enumerate() {
            for (place, split) in warp.splits.iter().enumerate() {
                if let State::Barrier(number) = split.state {
                    let barrier = &mut waiting[number as usize % BARRIERS];
                    barrier.threads += split.mask.count_ones();
                    barrier.splits.push((at, place));
                    any = true;
                }
            }
        }
        if !any {
            return false;
        }
        let mut released = false;
        for (number, barrier) in waiting.iter().enumerate() {
            let Some(&(at, place)) = barrier.splits.first() else { continue };
            let i = &self.code[block.warps[at].splits[place].pc as usize];
            let here = barrier.threads + block.state.arrived[number];
            let alive: u32 = block.warps.iter().map(|warp| warp.alive.count_ones()).sum();
            let wanted = match i.from[1] {
                NONE => alive,
                register => {
                    let lane = block.warps[at].splits[place].mask.trailing_zeros() as usize;
                    block.warps[at].registers.words[register as usize][lane]
                }
            };
            if here < wanted {
                continue;
            }
            self.check_barrier(block, barrier, here, wanted, i.from[1] == NONE);
            self.pass_barrier(block, barrier);
            block.state.arrived[number] = 0;
            released = true;
        }
        if released {
            for warp in &mut block.warps {
                warp.merge();
            }
        }
        released
    }
    fn check_barrier(&mut self, block: &Block, barrier: &Waiting, here: u32, wanted: u32, whole_block: bool) {
        if !self.job.settings.check_synchronisation {
            return;
        }
        for &(at, place) in &barrier.splits {
            let warp = &block.warps[at];
            let Split { pc, mask, .. } = warp.splits[place];
            let Op::Barrier { aligned, .. } = self.code[pc as usize].op else { continue };
            let ended = warp.lanes & !warp.alive;
            let message = if aligned && mask != warp.alive {
                format!("the lanes {:#010x} of the warp are elsewhere", warp.alive & !mask)
            } else if whole_block && ended != 0 {
                format!("the lanes {ended:#010x} of the warp have ended")
            } else if here > wanted {
                format!("{here} threads at a barrier for {wanted}")
            } else {
                continue;
            };
            self.fault(Fault::DivergentBarrier, block.state.place(warp.index, pc), mask, None, message);
        }
        if whole_block
            && let Some(ended) = block.warps.iter().find(|warp| warp.alive == 0)
            && let Some(&(at, place)) = barrier.splits.first()
        {
            let (pc, mask) = (block.warps[at].splits[place].pc, block.warps[at].splits[place].mask);
            let message = format!("warp {} of the block has ended", ended.index);
            self.fault(Fault::DivergentBarrier, block.state.place(at as u32, pc), mask, None, message);
        }
    }
    fn pass_barrier(&mut self, block: &mut Block, barrier: &Waiting) {
        let mut votes = 0;
        for &(at, place) in &barrier.splits {
            let warp = &block.warps[at];
            let Split { pc, mask, .. } = warp.splits[place];
            if let Op::Barrier { reduce: Some(_), negated, .. } = self.code[pc as usize].op {
                let bits = warp.registers.preds[self.code[pc as usize].from[2] as usize];
                votes += (mask & if negated { !bits } else { bits }).count_ones();
            }
        }
        for &(at, place) in &barrier.splits {
            let warp = &mut block.warps[at];
            let split = &mut warp.splits[place];
            let i = &self.code[split.pc as usize];
            let truth = |holds: bool| if holds { FULL } else { 0 };
            match i.op {
                Op::Barrier { reduce: Some(Reduction::And), .. } => {
                    warp.registers.set_pred(i.to[0], split.mask, truth(votes == barrier.threads));
                }
                Op::Barrier { reduce: Some(Reduction::Or), .. } => {
                    warp.registers.set_pred(i.to[0], split.mask, truth(votes > 0));
                }
                Op::Barrier { reduce: Some(_), .. } => warp.registers.set_words(i.to[0], split.mask, &[votes; LANES]),
                _ => {}
            }
            (split.pc, split.state) = (split.pc + 1, State::Ready);
            warp.epoch += 1;
        }
        block.state.epoch += 1;
        self.counters.barriers += 1;
    }
    /// Lets lanes go on that wait for others of their warp which do not come; whether there are any.
    fn force(&mut self, block: &mut Block) -> bool {
        let mut any = false;
        for split in block.warps.iter_mut().flat_map(|warp| &mut warp.splits) {
            if split.state == State::Lanes {
                split.state = State::Forced;
                any = true;
            }
        }
        any
    }
    fn deadlock(&mut self, block: &Block) {
        for warp in &block.warps {
            for split in &warp.splits {
                let State::Barrier(number) = split.state else { continue };
                let alive: u32 = block.warps.iter().map(|warp| warp.alive.count_ones()).sum();
                let waiting: u32 =
                    block.warps.iter().flat_map(|warp| &warp.splits).map(|split| split.mask.count_ones()).sum();
                let message = format!(
                    "barrier {number} is never complete: {waiting} of {alive} threads of the block wait, at this barrier or others"
                );
                self.fault(Fault::Deadlock, block.state.place(warp.index, split.pc), split.mask, None, message);
                return;
            }
        }
    }
    fn time_out(&mut self, block: &Block) {
        let warps = block.warps.iter();
        let Some((warp, split)) = warps.flat_map(|warp| warp.splits.iter().map(move |split| (warp, split))).next()
        else {
            return;
        };
        let message = format!("the launch has executed {} instructions of warps", self.job.settings.instruction_limit);
        self.fault(Fault::TimedOut, block.state.place(warp.index, split.pc), split.mask, None, message);
    }
}
