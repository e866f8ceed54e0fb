//! What a test and the loaded driver say to each other.
//!
//! A test links this crate and the driver is the same crate as a shared library: each has statics of its own. So everything
//! goes through one exported function, [`INTERFACE_SYMBOL`], which returns a table of functions of the loaded library.

use std::ffi::c_void;
use std::fmt;

/// The exported function of the driver that returns its [`Interface`].
pub(crate) const INTERFACE_SYMBOL: &str = "softcuda_interface";
/// Grows whenever a type of this file changes, so that a stale library is refused.
pub(crate) const INTERFACE_VERSION: u32 = 2;

/// How the driver behaves towards the thread of the host that sets it. [`Settings::default`] is what each thread starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Reports reads of bytes that nothing wrote: global, shared and local memory. Default: true.
    pub check_initialised: bool,
    /// Reports races in shared memory, and in global memory between blocks of a launch. Default: true.
    pub check_races: bool,
    /// With [`Settings::check_races`], also races in global memory between threads of one block. Default: false.
    pub check_block_races: bool,
    /// Reports divergent barriers and wrong masks of warp-wide instructions. Default: true.
    pub check_synchronisation: bool,
    /// The order of blocks and warps: 0 is by index, one block after the other; any other value shuffles both and interleaves
    /// several blocks. Default: 0.
    pub schedule_seed: u64,
    /// Threads of the host that run the blocks of a launch, where the kernel has no atomics on global memory: results are the
    /// same for any number. Default: 1.
    pub host_threads: u32,
    /// Bytes of device memory. Default: 8 GiB.
    pub memory_bytes: u64,
    /// As `cuDriverGetVersion` reports it, `1000·major + 10·minor`: decides which PTX is refused as too new. Default: 12000.
    pub driver_version: u32,
    /// The compute capability, `10·major + minor`. Default: 90.
    pub compute_capability: u32,
    /// A launch that executes more instructions of warps than this is ended, as a kernel that hangs. Default: 2^36.
    pub instruction_limit: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            check_initialised: true,
            check_races: true,
            check_block_races: false,
            check_synchronisation: true,
            schedule_seed: 0,
            host_threads: 1,
            memory_bytes: 8 << 30,
            driver_version: 12000,
            compute_capability: 90,
            instruction_limit: 1 << 36,
        }
    }
}

/// A call that is to fail on purpose, as [`Driver::fail_next`](crate::Driver::fail_next) arranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Failure {
    /// An allocation answers `CUDA_ERROR_OUT_OF_MEMORY`.
    Allocation,
    /// A launch is refused with `CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES`; the context stays usable.
    Launch,
    /// A launch is accepted and fails while it runs: `CUDA_ERROR_LAUNCH_FAILED` from then on, as after a fault of the kernel.
    Execution,
    /// A module is refused with `CUDA_ERROR_INVALID_PTX`.
    Module,
}

/// What kind of fault a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub enum Fault {
    /// An access outside of every allocation, or of the block's shared or the thread's local memory. Ends the launch.
    OutOfBounds,
    /// An access to memory that was freed. Ends the launch.
    UseAfterFree,
    /// An address that is no multiple of the access's size. Ends the launch.
    Misaligned,
    /// A read of bytes that nothing wrote.
    Uninitialised,
    /// Two threads of a block use shared memory without a barrier between them.
    SharedRace,
    /// Two blocks of a launch, or two threads of a block, use global memory with nothing that orders them.
    GlobalRace,
    /// A barrier that not all threads of a warp, or of the block, reach together.
    DivergentBarrier,
    /// A warp-wide instruction whose mask names lanes that do not take part, or leaves out the executing one.
    WarpMask,
    /// A read through the read-only path of bytes that this launch writes.
    ReadOnlyWritten,
    /// No thread of the launch can go on. Ends the launch.
    Deadlock,
    /// The kernel executed `trap`. Ends the launch.
    Trap,
    /// More instructions than [`Settings::instruction_limit`]. Ends the launch.
    TimedOut,
}

impl Fault {
    /// Whether the real device would end the launch and poison the context.
    pub fn is_fatal(self) -> bool {
        use Fault::*;
        matches!(self, OutOfBounds | UseAfterFree | Misaligned | Deadlock | Trap | TimedOut)
    }
}

/// A fault that a checker found; one per instruction and kind of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What kind of fault it is.
    pub fault: Fault,
    /// The kernel's entry name.
    pub kernel: String,
    /// The line of the PTX text, counted from one.
    pub line: u32,
    /// The instruction, as its PTX opcode.
    pub opcode: String,
    /// The block's index in the grid.
    pub block: [u32; 3],
    /// The warp of the block.
    pub warp: u32,
    /// A mask of the warp's lanes that are at fault.
    pub lanes: u32,
    /// The address, where there is one.
    pub address: Option<u64>,
    /// What went wrong, with its numbers.
    pub message: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.block;
        write!(f, "{:?}: {} in {}, PTX line {} ({}), ", self.fault, self.message, self.kernel, self.line, self.opcode)?;
        write!(f, "block ({x}, {y}, {z}), warp {}, lanes {:#010x}", self.warp, self.lanes)?;
        match self.address {
            Some(address) => write!(f, ", address {address:#x}"),
            None => Ok(()),
        }
    }
}

/// What a launch did. Sums over its blocks, the same for every schedule of a kernel whose work does not depend on the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Blocks that ran.
    pub blocks: u64,
    /// Instructions of warps, predicated-off ones included.
    pub warp_instructions: u64,
    /// Instructions of threads: active lanes alone.
    pub thread_instructions: u64,
    /// Branches at which the lanes of a warp part.
    pub divergent_branches: u64,
    /// Loads from global memory: requests of warps.
    pub load_requests: u64,
    /// Bytes that lanes asked for in loads.
    pub load_bytes: u64,
    /// Distinct sectors of 32 bytes, counted for each request of a load.
    pub load_sectors: u64,
    /// Stores to global memory: requests of warps.
    pub store_requests: u64,
    /// Bytes that lanes stored.
    pub store_bytes: u64,
    /// Distinct sectors of 32 bytes, counted for each request of a store.
    pub store_sectors: u64,
    /// Atomics on global memory: requests of warps.
    pub atomic_requests: u64,
    /// Lanes of atomics.
    pub atomic_lanes: u64,
    /// Accesses to shared memory: requests of warps.
    pub shared_requests: u64,
    /// Passes over the banks that these take.
    pub shared_wavefronts: u64,
    /// The passes that they would take without any conflict of banks.
    pub shared_wavefronts_ideal: u64,
    /// Accesses to local memory: requests of warps.
    pub local_requests: u64,
    /// Barriers that a block passed.
    pub barriers: u64,
    /// Shuffles of warps.
    pub shuffles: u64,
}

impl Counters {
    /// Adds another launch's, or block's.
    pub fn add(&mut self, other: &Counters) {
        self.blocks += other.blocks;
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        self.divergent_branches += other.divergent_branches;
        self.load_requests += other.load_requests;
        self.load_bytes += other.load_bytes;
        self.load_sectors += other.load_sectors;
        self.store_requests += other.store_requests;
        self.store_bytes += other.store_bytes;
        self.store_sectors += other.store_sectors;
        self.atomic_requests += other.atomic_requests;
        self.atomic_lanes += other.atomic_lanes;
        self.shared_requests += other.shared_requests;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_wavefronts_ideal += other.shared_wavefronts_ideal;
        self.local_requests += other.local_requests;
        self.barriers += other.barriers;
        self.shuffles += other.shuffles;
    }
    /// Bytes used per byte of the sectors that loads moved: 1 where every request is dense and aligned.
    pub fn load_efficiency(&self) -> f64 {
        self.load_bytes as f64 / (32 * self.load_sectors) as f64
    }
    /// The same of stores.
    pub fn store_efficiency(&self) -> f64 {
        self.store_bytes as f64 / (32 * self.store_sectors) as f64
    }
}

/// A launch that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel's entry name.
    pub kernel: String,
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block along each axis.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// The stream's handle.
    pub stream: u64,
    /// Whether a graph launched it.
    pub from_graph: bool,
    /// What it did.
    pub counters: Counters,
    /// Instructions of warps by PTX opcode, the most executed first.
    pub opcodes: Vec<(String, u64)>,
}

/// How many objects of each kind are alive: for tests of leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Census {
    /// Contexts, the primary one included.
    pub contexts: u64,
    /// Allocations of device memory, the variables of modules included.
    pub allocations: u64,
    /// Their bytes.
    pub allocated_bytes: u64,
    /// The most bytes that were allocated at once since the last reset of any thread.
    pub peak_bytes: u64,
    /// Streams that were made.
    pub streams: u64,
    /// Events.
    pub events: u64,
    /// Modules.
    pub modules: u64,
    /// Graphs, those that can be launched included.
    pub graphs: u64,
}

/// Which threads of the host a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) enum Whose {
    /// The calling one.
    Thread,
    /// All of the process.
    Process,
}

/// The functions of the loaded driver. Rust types pass through it by reference: both sides are the same build of this crate, which
/// `build` and `version` prove before anything else is touched.
#[repr(C)]
pub(crate) struct Interface {
    pub(crate) version: u32,
    /// The sizes of the types that pass, as a second witness of the same build.
    pub(crate) layout: u64,
    pub(crate) settings: extern "C" fn(&mut Settings),
    pub(crate) configure: extern "C" fn(&Settings),
    pub(crate) reset: extern "C" fn(),
    pub(crate) fail_next: extern "C" fn(Failure, u32),
    pub(crate) census: extern "C" fn(&mut Census),
    pub(crate) launches: extern "C" fn(Whose, visit: extern "C" fn(*mut c_void, &Launch), context: *mut c_void),
    pub(crate) reports: extern "C" fn(Whose, visit: extern "C" fn(*mut c_void, &Report), context: *mut c_void),
    pub(crate) log: extern "C" fn(visit: extern "C" fn(*mut c_void, &String), context: *mut c_void),
}

/// The value of [`Interface::layout`] for this build.
pub(crate) const LAYOUT: u64 = (size_of::<Interface>()
    + 1000 * size_of::<Settings>()
    + 1_000_000 * size_of::<Counters>()
    + 1_000_000_000 * size_of::<Launch>()
    + 1_000_000_000_000 * size_of::<Report>()) as u64;
