//! How a head is cut into rows, runs and threads: from the shape and, where samples are taken in chunks, from how many the cache of
//! the device holds. So the order of every sum is the same from run to run; and of plans without chunks, from device to device.

use super::params::VoxelParams;
use super::skeleton;
use super::text::Kernel;
use crate::plan::Head;
use crate::problem::{Layout, Target};

/// Threads of a block.
pub(super) const THREADS: u32 = 256;
/// Threads of a warp.
pub(super) const WARP: u32 = 32;
/// Values that one thread adds up in single precision.
const VALUES_OF_RUN: u64 = 64;
/// Rows that a pass should have at least, so that a large device is busy.
const ROWS_WANTED: u64 = 1024;
/// Fewer rounds than this are hardly worth the tree that ends a run; but so many rows come first.
const ROUNDS_MIN: u64 = 4;
const ROWS_MIN: u64 = 256;
/// Partial sums of all rows may take this much memory.
const ROW_BYTES: u64 = 2 << 20;
/// Most classes of a thread: the skeletons have no more slots.
const SLOTS_MAX: u32 = 16;
/// Most classes of a thread of four voxels; and where a warp would otherwise read parts of sectors. With more than these, some plans
/// have more values than there are registers.
const SLOTS_OF_FOUR: u32 = 8;
const SLOTS_FOR_SECTORS: u32 = 10;
/// Registers that the classes of a thread may take: their sums, and for each voxel z, p or e, and g where it is no label. Whole
/// sectors are worth more.
const REGISTERS: u32 = 144;
const REGISTERS_FOR_SECTORS: u32 = 176;
/// Bytes that memory is read by.
const SECTOR: u64 = 32;
/// Sums that go through the shared memory of a block together; `BATCH` of `kernels/cuda/sums.cuh`.
pub(super) const BATCH: u32 = 8;
/// Shared memory of the exchange of sums.
const SCRATCH_BYTES: u32 = 16 << 10;
/// Rows and elements of all samples that one block may take one row after the other. The first row costs nothing: it would be one
/// block's anyway. A second waits for memory and for the tree of its sums twice, some 2 µs, and every 1000 elements of it take about
/// 1 µs; the two launches that are saved, some 2 µs each.
const ONE_BLOCK_ROWS: u64 = 2;
const ONE_BLOCK_ELEMENTS: u64 = 4096;
/// Most blocks in y and z.
const GRID_SIDE: u64 = 65_535;

/// How a head is laid over the device.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    /// Voxels of a thread at once: 4, or 1.
    pub(super) width: u32,
    /// Whether the classes of a voxel lie side by side; with one class either layout is planar.
    pub(super) interleaved: bool,
    /// Threads that share a voxel, and classes of each.
    pub(super) team: u32,
    pub(super) slots: u32,
    /// Whether the classes of a warp's voxels go through shared memory; and how many elements a thread then moves at once.
    pub(super) staged: bool,
    pub(super) stage_width: u32,
    /// How many of its classes a thread then takes from shared memory at once.
    pub(super) stage_own: u32,
    /// Numbers that are left out in shared memory after so many voxels of a tile.
    pub(super) stage_pad: u32,
    pub(super) stage_period: u32,
    /// Sums per class: moments and hard counts.
    pub(super) sums: u32,
    classes: u32,
    voxels: u64,
    samples: u64,
    rounds: u64,
    runs: u64,
    rows: u64,
}

impl Geometry {
    /// How a head is cut, where `at_once` of its samples are launched together.
    pub(super) fn new(head: &Head, at_once: u64) -> Geometry {
        let problem = &head.problem;
        let (samples, voxels) = (problem.shape.samples() as u64, problem.shape.voxels());
        let classes = problem.shape.classes() as u32;
        let interleaved = problem.layout == Layout::Interleaved && classes > 1;
        let sums = head.moments.len() as u32 + if problem.hard_counts { 3 } else { 0 };
        // Of a value of each class: itself, p, g where it is no label, and the made maps that pixel terms of every class read.
        // What terms of more than two maps keep at the same time is more than the maps.
        let made = if head.own_class { 0 } else { head.maps.iter().filter(|map| !map.is_shared()).count() as u32 };
        let values = if matches!(problem.target, Target::Dense(_)) { 3 } else { 2 } + made + 2 * made.saturating_sub(2);
        let team_of = |width: u32, most: u32, registers: u32| {
            let fits = |slots: u32| slots <= most && slots * (sums + values * width) <= registers;
            (0..=THREADS.ilog2()).map(|k| 1 << k).find(|&team| fits(classes.div_ceil(team)))
        };
        // The teams of a warp read four voxels each of one plane.
        let whole_sectors = |team: u32| u64::from(WARP / team * 4) * problem.prediction.size() >= SECTOR;
        let by_four = !interleaved && head.cost_matrix.is_none() && voxels.is_multiple_of(4);
        let (width, team) = match team_of(4, SLOTS_OF_FOUR, REGISTERS).filter(|_| by_four) {
            Some(team) if team <= WARP && !whole_sectors(team) => {
                (4, team_of(4, SLOTS_FOR_SECTORS, REGISTERS_FOR_SECTORS).unwrap_or(team))
            }
            Some(team) => (4, team),
            None => (1, team_of(1, SLOTS_MAX, REGISTERS).unwrap_or(THREADS)),
        };
        let slots = classes.div_ceil(team);
        // Two or four classes are one load of a thread; a team of a warp reads side by side as it is.
        let staged = interleaved && team < WARP && ![2, 4].contains(&classes);
        let stage_own =
            if team == 1 { [4, 2].into_iter().find(|n| classes.is_multiple_of(*n)).unwrap_or(1) } else { 1 };
        // The banks that a voxel begins at are multiples of this, and come again after as many voxels as it takes to meet all; what
        // a voxel reads at once fills a part of that distance, and those of the next round are moved behind it.
        let distance = 1 << classes.trailing_zeros().min(WARP.ilog2());
        let together = team.max(stage_own);
        let stage_period = WARP / distance;
        let stage_pad = if distance > together && WARP / team.min(WARP) > stage_period { together } else { 0 };
        // The first element of each tile and of each sample must be aligned, and what moves at once lie together.
        let of_warp = u64::from((WARP / team.min(WARP)) * classes);
        let divides = |w: &u32| {
            [of_warp, voxels * u64::from(classes), stage_pad.into()].iter().all(|n| n.is_multiple_of(u64::from(*w)))
        };
        let stage_width = if staged { [4, 2].into_iter().find(divides).unwrap_or(1) } else { 1 };
        let voxels_of_round = u64::from(THREADS / team * width);
        let loads = voxels.div_ceil(voxels_of_round);
        let wanted = (ROWS_WANTED / at_once).max(1);
        let rounds = loads.div_ceil(wanted).max(ROUNDS_MIN.min(loads * at_once / ROWS_MIN));
        let rounds = rounds.clamp(1, VALUES_OF_RUN / u64::from(width));
        let row = u64::from(classes * sums + 2);
        let most = (ROW_BYTES / (samples * row * 8)).max(1);
        let runs = loads.div_ceil(rounds * most);
        let rows = loads.div_ceil(rounds * runs);
        Geometry {
            width,
            interleaved,
            team,
            slots,
            staged,
            stage_width,
            stage_own,
            stage_pad,
            stage_period,
            sums,
            classes,
            voxels,
            samples,
            rounds,
            runs,
            rows,
        }
    }

    /// Whether a thread reads the classes of an interleaved voxel by one load.
    pub(super) fn is_one_load(&self) -> bool {
        self.interleaved && !self.staged && self.team == 1
    }
    /// Bits of a lane's number below those that tell the members of a team apart: neighbours are the same member of
    /// neighbouring teams where voxels lie side by side, and the other way round where classes do.
    pub(super) fn member_shift(&self) -> u32 {
        if self.interleaved || self.team >= WARP { 0 } else { (WARP / self.team).ilog2() }
    }
    /// Elements of the voxels of a warp.
    pub(super) fn tile(&self) -> u32 {
        WARP / self.team.min(WARP) * self.classes
    }
    /// Whether one block does as well as a launch for each stage: where it has no more to do than a block of each, or little more.
    pub(super) fn is_one_block(&self) -> bool {
        let (rows, elements) = (self.samples * self.rows, self.samples * u64::from(self.classes) * self.voxels);
        let is_small = rows <= ONE_BLOCK_ROWS && elements <= ONE_BLOCK_ELEMENTS;
        (rows == 1 || is_small) && skeleton::has_one_block(self)
    }
    /// Rows of partial sums of a sample.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
    /// Sums of a row: moments and hard counts per class, and two counts of voxels.
    pub(super) fn row(&self) -> u64 {
        u64::from(self.classes * self.sums + 2)
    }
    /// Blocks for so many samples.
    pub(super) fn grid(&self, samples: u64) -> [u32; 3] {
        let y = samples.min(GRID_SIDE);
        [self.rows as u32, y as u32, samples.div_ceil(y) as u32]
    }
    /// Threads of a block.
    pub(super) fn threads(&self) -> u32 {
        THREADS
    }
    /// Elements that the address of a buffer with one element per voxel and class must be a multiple of.
    pub(super) fn class_alignment(&self) -> u64 {
        u64::from(match self.interleaved {
            false => self.width,
            true if self.is_one_load() => self.classes,
            true => self.stage_width,
        })
    }
    /// Elements that the address of a buffer with one element per voxel must be a multiple of.
    pub(super) fn voxel_alignment(&self) -> u64 {
        u64::from(self.width)
    }
    /// Batches of sums that the threads of a block exchange together.
    pub(super) fn batches_at_once(&self) -> u32 {
        let batches = self.sums_of_thread().div_ceil(BATCH);
        (SCRATCH_BYTES / self.batch_bytes()).clamp(1, batches)
    }
    /// Sums of a thread: those of its classes, and two counts of voxels.
    pub(super) fn sums_of_thread(&self) -> u32 {
        self.slots * self.sums + 2
    }
    fn batch_bytes(&self) -> u32 {
        BATCH * 4 * (THREADS / WARP) * self.team.min(WARP)
    }
    /// Dynamic shared memory of a block.
    pub(super) fn shared_bytes(&self, kernel: Kernel) -> u32 {
        let stage = if self.staged { THREADS / WARP * self.stage_numbers() * 4 } else { 0 };
        let exchange = if self.team > WARP { EXCHANGE_BYTES } else { 0 };
        let scratch = if kernel.sums() { self.batches_at_once() * self.batch_bytes() } else { 0 };
        // A team of several warps stages nothing, and sums are exchanged when no voxel is at hand.
        scratch.max(stage).max(exchange)
    }
    /// Numbers of a warp's tile in shared memory.
    pub(super) fn stage_numbers(&self) -> u32 {
        // The next warp's begins where four can be moved at once.
        (self.tile() + (WARP / self.team.min(WARP)).div_ceil(self.stage_period) * self.stage_pad).next_multiple_of(4)
    }
    /// The numbers of a launch over all samples; addresses are the caller's to fill in.
    pub(super) fn params(&self) -> VoxelParams {
        VoxelParams {
            voxels: self.voxels,
            samples: self.samples as u32,
            rows_of_sample: self.rows as u32,
            runs: self.runs as u32,
            rounds: self.rounds as u32,
            ..VoxelParams::default()
        }
    }
}

/// Shared memory in which the warps of a team exchange what each has added up: four sums of 8 warps.
const EXCHANGE_BYTES: u32 = 4 * 4 * (THREADS / WARP);
