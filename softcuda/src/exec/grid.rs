//! A launch: blocks in an order that a seed decides, on one thread of the host or several.

use super::block::Block;
use super::program::{Instruction, Program};
use super::races::{self, Traces};
use crate::control::{Counters, Fault, Report, Settings};
use crate::memory::{Map, Memory};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Blocks of a launch that are interleaved where its blocks communicate or a seed asks for it.
const RESIDENT: usize = 8;
/// Instructions of warps that a block executes before another has its turn: of a launch in order, and of one with a seed.
const TURN_LONG: u64 = 1 << 22;
const TURN_SHORT: u64 = 1 << 12;
/// Reports of a launch; later ones are dropped.
const REPORTS_MOST: usize = 64;

thread_local! {
    /// The memory of blocks that ended, for those of the next launch.
    static POOL: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Everything that a launch needs.
pub(crate) struct Job<'a> {
    pub(crate) program: &'a Program,
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) dynamic_shared: u32,
    /// The bytes of the kernel's parameters.
    pub(crate) parameters: &'a [u8],
    pub(crate) memory: &'a Memory,
    pub(crate) map: &'a Map,
    pub(crate) settings: &'a Settings,
    pub(crate) multiprocessors: u32,
    /// All blocks run at the same time; the address of what they meet at.
    pub(crate) cooperative: bool,
    pub(crate) grid_workspace: u64,
}

impl Job<'_> {
    pub(super) fn threads(&self) -> u32 {
        self.block.iter().product()
    }
    fn blocks(&self) -> u64 {
        self.grid.iter().map(|extent| *extent as u64).product()
    }
}

/// What came of a launch.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) counters: Counters,
    /// Instructions of warps at each position of the program.
    pub(crate) executed: Vec<u64>,
    pub(crate) reports: Vec<Report>,
}

/// Runs a launch to its end, or to the first fault that ends it.
pub(crate) fn run(job: &Job) -> Outcome {
    let blocks = job.blocks();
    let communicates = job.program.communicates || job.cooperative;
    let wanted = races::stamps_wanted(blocks, communicates).filter(|_| job.settings.check_races);
    // Held to the end, so that the stamps stay this launch's own.
    let stamps = wanted.map(|wanted| (job.memory.stamps(wanted, races::STAMPS_MOST), wanted));
    let traces = || stamps.as_ref().map(|((_, first), wanted)| Traces::new(*first, *wanted, blocks));

    let order = Order::new(blocks, job.settings.schedule_seed);
    let (next, stop, executed) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let worker = || Worker {
        job,
        code: &job.program.code,
        counters: Counters::default(),
        executed: vec![0; job.program.code.len()],
        threads: 0,
        instructions: 0,
        uncounted: 0,
        hints: vec![0; job.program.code.len()],
        reports: Vec::new(),
        traces: traces(),
        ended: false,
        stop: &stop,
        launch_instructions: &executed,
    };
    let threads = if communicates || job.settings.schedule_seed != 0 { 1 } else { job.settings.host_threads.max(1) };
    let mut outcomes = Vec::new();
    if threads == 1 {
        let mut worker = worker();
        worker.run(&order, &next, communicates);
        outcomes.push(worker.finish());
    } else {
        std::thread::scope(|scope| {
            let run = || {
                let mut worker = worker();
                worker.run(&order, &next, false);
                worker.finish()
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            outcomes.extend(handles.into_iter().filter_map(|handle| handle.join().ok()));
        });
    }
    let mut outcome = Outcome { executed: vec![0; job.program.code.len()], ..Outcome::default() };
    for part in outcomes {
        outcome.counters.add(&part.counters);
        outcome.executed.iter_mut().zip(&part.executed).for_each(|(sum, count)| *sum += count);
        for report in part.reports {
            let known = outcome.reports.iter().any(|known| (known.line, known.fault) == (report.line, report.fault));
            if !known {
                outcome.reports.push(report);
            }
        }
    }
    outcome
}

/// A permutation of the numbers of blocks.
struct Order {
    blocks: u64,
    seed: u64,
    half_bits: u32,
}

impl Order {
    fn new(blocks: u64, seed: u64) -> Order {
        let bits = (64 - blocks.leading_zeros()).max(2);
        Order { blocks, seed, half_bits: bits.div_ceil(2) }
    }
    fn block(&self, at: u64) -> u64 {
        if self.seed == 0 {
            return at;
        }
        // A Feistel network permutes the next power of four; numbers beyond the grid are sent round again.
        let mut value = at;
        loop {
            let mask = (1 << self.half_bits) - 1;
            let (mut left, mut right) = (value >> self.half_bits, value & mask);
            for round in 0..4 {
                (left, right) = (right, left ^ mix(self.seed ^ right ^ round << 40) & mask);
            }
            value = left << self.half_bits | right;
            if value < self.blocks {
                return value;
            }
        }
    }
}

/// A hash of 64 bits (the finaliser of SplitMix64).
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Where an instruction is executed, as reports say it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) block: [u32; 3],
    pub(super) warp: u32,
    pub(super) pc: u32,
}

/// A thread of the host that runs blocks of a launch.
pub(super) struct Worker<'j> {
    pub(super) job: &'j Job<'j>,
    pub(super) code: &'j [Instruction],
    pub(super) counters: Counters,
    /// Instructions of warps at each position, and of threads in all.
    pub(super) executed: Vec<u64>,
    pub(super) threads: u64,
    /// Instructions of warps up to the last one's turn.
    pub(super) instructions: u64,
    /// What of them the launch's count does not hold yet.
    uncounted: u64,
    /// The allocation that each instruction used last.
    pub(super) hints: Vec<u32>,
    reports: Vec<Report>,
    pub(super) traces: Option<Traces>,
    ended: bool,
    stop: &'j AtomicBool,
    launch_instructions: &'j AtomicU64,
}

impl Worker<'_> {
    fn run(&mut self, order: &Order, next: &AtomicU64, communicates: bool) {
        let job = self.job;
        let seed = job.settings.schedule_seed;
        let resident = match (job.cooperative, communicates || seed != 0) {
            (true, _) => order.blocks as usize,
            (false, true) => RESIDENT,
            (false, false) => 1,
        };
        let turn = if seed == 0 && !job.cooperative { TURN_LONG } else { TURN_SHORT };
        let mut running: Vec<Block> = Vec::new();
        let mut ended = POOL.take();
        let mut turns = 0u64;
        loop {
            while running.len() < resident {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= order.blocks {
                    break;
                }
                let mut block = ended.pop().unwrap_or_default();
                let number = order.block(at);
                block.start(job, number);
                if let Some(traces) = &self.traces {
                    block.state.writer = traces.writer(number);
                }
                self.counters.blocks += 1;
                running.push(block);
            }
            if running.is_empty() || self.stop.load(Ordering::Relaxed) {
                break;
            }
            turns += 1;
            // Without a seed the oldest block goes first, and the others when it waits for them.
            let at = if seed == 0 { 0 } else { mix(seed ^ turns) as usize % running.len() };
            let share = if seed == 0 { turn } else { 1 + mix(seed.rotate_left(32) ^ turns) % turn };
            let done = self.run_block(&mut running[at], share);
            if self.ended {
                self.stop.store(true, Ordering::Relaxed);
                break;
            }
            let block = running.remove(at);
            if done { ended.push(block) } else { running.push(block) }
        }
        ended.truncate(RESIDENT);
        POOL.set(ended);
    }
    fn finish(mut self) -> Outcome {
        self.counters.warp_instructions = self.executed.iter().sum();
        self.counters.thread_instructions = self.threads;
        Outcome { counters: self.counters, executed: self.executed, reports: self.reports }
    }

    /// The warp that has its turn: in order, or shuffled by the seed.
    pub(super) fn turn(&self, block: u64, turn: usize, warps: usize) -> usize {
        match self.job.settings.schedule_seed {
            0 => turn,
            seed => (turn + mix(seed ^ block << 20) as usize % warps) % warps,
        }
    }
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }
    /// Adds what a warp executed in its turn.
    pub(super) fn count(&mut self, executed: u64) {
        self.instructions += executed;
        self.uncounted += executed;
    }
    /// Whether the launch has executed more instructions than it may.
    pub(super) fn is_too_long(&mut self) -> bool {
        let more = std::mem::take(&mut self.uncounted);
        self.launch_instructions.fetch_add(more, Ordering::Relaxed) + more > self.job.settings.instruction_limit
    }

    /// Reports a fault, once for each instruction and kind.
    #[cold]
    pub(super) fn fault(&mut self, fault: Fault, place: Place, lanes: u32, address: Option<u64>, message: String) {
        let i = &self.code[place.pc as usize];
        self.ended |= fault.is_fatal();
        let known = self.reports.iter().any(|report| (report.line, report.fault) == (i.line, fault));
        if known || self.reports.len() >= REPORTS_MOST {
            return;
        }
        self.reports.push(Report {
            fault,
            kernel: self.job.program.name.clone(),
            line: i.line,
            opcode: self.job.program.opcodes[i.opcode as usize].clone(),
            block: place.block,
            warp: place.warp,
            lanes,
            address,
            message,
        });
    }
}
